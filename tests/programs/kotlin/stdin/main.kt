fun main(args: Array<String>) {
    generateSequence(::readLine).forEach(::println)
}
