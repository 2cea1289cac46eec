//! Every opcode of 16- and 32-bit code has a body, is #UD on every model, or stands here.

#[path = "../examples/coverage/document.rs"]
mod document;

use document::{Status, codes, left_out, status};
use iced_x86::Code;

#[test]
fn every_integer_code_has_a_body() {
    let missing: Vec<Code> =
        codes().filter(|&code| status(code) == Status::Unimplemented && left_out(code).is_none()).collect();
    assert!(missing.is_empty(), "without a body: {missing:?}");
}

#[test]
fn the_committed_coverage_page_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/coverage.md");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == document::document(),
        "docs/coverage.md is stale: cargo run -p pagewalk-x86 --example coverage > docs/coverage.md"
    );
}
