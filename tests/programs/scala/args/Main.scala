object Main {
  def main(args: Array[String]): Unit = {
    for (argument <- args) println(s"[$argument]")
  }
}
