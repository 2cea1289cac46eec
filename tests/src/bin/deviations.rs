//! Writes docs/qemu-deviations.md to standard output.

fn main() {
    print!("{}", pagewalk_tests::known::page());
}
