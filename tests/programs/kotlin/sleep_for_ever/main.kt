fun main(args: Array<String>) {
    while (true) Thread.sleep(3_600_000)
}
