fun main(args: Array<String>) {
    val hoard = mutableListOf<ByteArray>()
    while (true) hoard.add(ByteArray(1 shl 20))
}
