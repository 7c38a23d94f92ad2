import java.util.ArrayList;
import java.util.List;

public class Main {
    public static void main(String[] args) throws Exception {
        List<byte[]> hoard = new ArrayList<>();
        for (;;) hoard.add(new byte[1 << 20]);
    }
}
