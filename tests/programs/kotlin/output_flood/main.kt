fun main(args: Array<String>) {
    while (true) println("x".repeat(1000))
}
