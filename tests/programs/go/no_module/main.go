package main

func main() { println(area(7)) }
