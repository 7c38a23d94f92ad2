package main

import (
	"os"
)

func main() {
	file, _ := os.Create("flood")
	for {
		if _, err := file.Write(make([]byte, 100000)); err != nil {
			panic(err)
		}
	}
}
