//! Prints docs/coverage.md: `cargo run -p pagewalk-x86 --example coverage > docs/coverage.md`.

mod document;

fn main() {
    print!("{}", document::document());
}
