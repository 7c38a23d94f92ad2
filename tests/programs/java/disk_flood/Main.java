import java.io.FileOutputStream;

public class Main {
    public static void main(String[] args) throws Exception {
        try (FileOutputStream file = new FileOutputStream("flood")) {
            for (;;) file.write(new byte[100_000]);
        }
    }
}
