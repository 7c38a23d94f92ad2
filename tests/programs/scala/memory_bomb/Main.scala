object Main {
  def main(args: Array[String]): Unit = {
    var hoard = List.empty[Array[Byte]]
    while (true) hoard ::= new Array[Byte](1 << 20)
  }
}
