package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Println(42)
	os.Exit(1)
}
