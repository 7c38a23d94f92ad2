use std::io::Write;

fn main() {
    let mut file = std::fs::File::create("flood").unwrap();
    loop {
        file.write_all(&[0; 100_000]).unwrap();
    }
}
