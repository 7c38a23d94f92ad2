object Main {
  def main(args: Array[String]): Unit = {
    println(42)
    sys.exit(1)
  }
}
