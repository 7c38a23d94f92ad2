fun main(args: Array<String>) {
    println(42)
    kotlin.system.exitProcess(1)
}
