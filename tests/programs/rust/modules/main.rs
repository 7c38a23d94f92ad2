mod square;

fn main() {
    println!("{}", square::area(7));
}
