package shapes

fun area(side: Int): Int = side * side
