//! Instructions as text, by iced-x86.

use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};

/// The instruction in `bytes`, which stands at `eip`.
pub fn disassemble(bytes: &[u8], eip: u32, is_32bit: bool) -> String {
    if bytes.is_empty() {
        return "(no byte of it can be read)".into();
    }
    let mut decoder =
        Decoder::with_ip(if is_32bit { 32 } else { 16 }, bytes, eip as u64, DecoderOptions::NONE);
    let instruction = decoder.decode();
    if instruction.is_invalid() {
        return format!("(not an instruction: {})", hex(bytes));
    }
    let mut formatter = IntelFormatter::new();
    let options = formatter.options_mut();
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_uppercase_hex(false);
    options.set_space_after_operand_separator(true);
    let mut out = String::new();
    formatter.format(&instruction, &mut out);
    out
}

/// Bytes as two-digit hex, separated by spaces.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_shown_as_addresses() {
        assert_eq!(disassemble(&[0xeb, 0xfe], 0x10_0000, true), "jmp short 0x00100000");
        assert_eq!(disassemble(&[0x0f, 0xff], 0, true), "(not an instruction: 0f ff)");
    }
}
