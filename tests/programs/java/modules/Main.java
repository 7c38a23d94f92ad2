import shapes.Square;

public class Main {
    public static void main(String[] args) throws Exception {
        System.out.println(Square.area(7));
    }
}
