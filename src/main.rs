//! The `braindrill` command.

fn main() {
    braindrill::sandbox::launch_if_asked();
}
