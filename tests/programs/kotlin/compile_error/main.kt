fun main(args: Array<String>) {
    val n: Int = "seven"
}
