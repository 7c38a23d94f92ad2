import shapes.area

fun main(args: Array<String>) {
    println(area(7))
}
