//! The `braindrill` command.

fn main() {}
