object Main {
  def main(args: Array[String]): Unit = {
    while (true) Thread.sleep(3600000)
  }
}
