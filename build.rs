//! Has the pages embedded anew when they were built anew (`src/api/ui.rs`).

fn main() {
    println!("cargo::rerun-if-changed=ui/dist");
}
