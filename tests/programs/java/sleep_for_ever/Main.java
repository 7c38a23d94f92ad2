public class Main {
    public static void main(String[] args) throws Exception {
        for (;;) Thread.sleep(3_600_000);
    }
}
