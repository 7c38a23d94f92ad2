fn main() {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    loop {
        hoard.push(vec![1u8; 1 << 20]);
        // Or the optimizer may see that nobody reads what is kept.
        if hoard[hoard.len() / 2][hoard.len()] != 1 {
            println!("{}", hoard.len());
        }
    }
}
