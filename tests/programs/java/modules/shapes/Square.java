package shapes;

public class Square {
    public static int area(int side) {
        return side * side;
    }
}
