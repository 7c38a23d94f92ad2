fun main(args: Array<String>) {
    throw IllegalStateException("nobody catches this")
}
