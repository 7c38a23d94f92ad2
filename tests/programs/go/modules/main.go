package main

import (
	"fmt"
	"example.com/corpus/shapes"
)

func main() {
	fmt.Println(shapes.Area(side))
}
