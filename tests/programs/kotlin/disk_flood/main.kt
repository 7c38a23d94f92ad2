fun main(args: Array<String>) {
    java.io.FileOutputStream("flood").use { file ->
        while (true) file.write(ByteArray(100_000))
    }
}
