import shapes.Square

object Main {
  def main(args: Array[String]): Unit = {
    println(Square.area(7))
  }
}
