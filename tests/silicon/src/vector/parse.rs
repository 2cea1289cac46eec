//! Reads vectors. Every error names file, line and column, what is wrong and what could stand there.

use std::collections::BTreeMap;
use std::path::Path;

use crate::case::{End, SEGMENTS};
use crate::world::{CODE, Descriptor, Kind, PAGE, PAGES, Rights};

use super::names::{BYTES, DWORDS, EXCEPTIONS, FLAGS, FpuPart, KINDS, LETTERS, PLACES, WORDS, ldt_selector};
use super::{AT, Bits, Expected, State, Vector};

/// What is wrong with a line.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{file}:{line}:{column}: {what}")]
pub struct ParseError {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// One sentence.
    pub what: String,
}

/// Reads all vectors of a file.
pub fn parse_file(path: &Path) -> anyhow::Result<Vec<Vector>> {
    use anyhow::Context;
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(parse(&text, &path.display().to_string())?)
}

/// Reads vectors; `file` is for errors.
pub fn parse(text: &str, file: &str) -> Result<Vec<Vector>, ParseError> {
    let mut vectors = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let mut scanner = Scanner { line, at: 0 };
        scanner.skip_blanks();
        if scanner.peek().is_none_or(|c| c == '#') {
            continue;
        }
        let place = format!("{file}:{}", n + 1);
        vectors.push(vector(&mut scanner, place).map_err(|wrong| ParseError {
            file: file.to_string(),
            line: n + 1,
            column: line[..wrong.at].chars().count() + 1,
            what: wrong.what,
        })?);
    }
    Ok(vectors)
}

struct Wrong {
    at: usize,
    what: String,
}

type Parsed<T> = Result<T, Wrong>;

struct Scanner<'a> {
    line: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        &self.line[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip_blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn wrong<T>(&self, what: impl Into<String>) -> Parsed<T> {
        Err(Wrong { at: self.at, what: what.into() })
    }

    fn take(&mut self, literal: &str) -> bool {
        let there = self.rest().starts_with(literal);
        if there {
            self.at += literal.len();
        }
        there
    }

    fn expect(&mut self, literal: &str) -> Parsed<()> {
        if self.take(literal) { Ok(()) } else { self.wrong(format!("'{literal}' should stand here")) }
    }

    /// Letters, digits and underscores.
    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// What stands between here and `close`, which is passed.
    fn until(&mut self, close: char) -> Parsed<&'a str> {
        let rest = self.rest();
        match rest.find(close) {
            Some(end) => {
                self.at += end + close.len_utf8();
                Ok(&rest[..end])
            }
            None => self.wrong(format!("there is no '{close}' that closes this")),
        }
    }
}

/// Hexadecimal bytes in brackets.
fn bytes(scanner: &mut Scanner) -> Parsed<Vec<u8>> {
    let start = scanner.at;
    scanner.expect("[")?;
    let inside = scanner.until(']')?;
    inside
        .split_whitespace()
        .map(|byte| match u8::from_str_radix(byte, 16) {
            Ok(value) if byte.len() == 2 => Ok(value),
            _ => Err(Wrong { at: start, what: format!("'{byte}' is no byte of two hexadecimal digits") }),
        })
        .collect()
}

fn number(word: &str) -> Option<u128> {
    match word.strip_prefix("0x") {
        Some(digits) if !digits.starts_with('+') => u128::from_str_radix(digits, 16).ok(),
        _ if word.starts_with(|c: char| c.is_ascii_digit()) => word.parse().ok(),
        _ => None,
    }
}

/// Numbers and names, added or subtracted.
fn value(scanner: &mut Scanner, start: u32) -> Parsed<u128> {
    let mut sum: u128 = 0;
    let mut subtract = scanner.take("-");
    loop {
        let at = scanner.at;
        let word = scanner.word();
        let term = number(word)
            .or_else(|| PLACES.iter().find(|(name, _)| *name == word).map(|&(_, value)| value as u128))
            .or_else(|| ldt_selector(word).map(u128::from))
            .or_else(|| (word == "start").then_some(start as u128));
        let Some(term) = term else {
            return Err(Wrong { at, what: format!("'{word}' is no number and no name of a place") });
        };
        sum = if subtract { sum.wrapping_sub(term) } else { sum.wrapping_add(term) };
        subtract = scanner.take("-");
        if !subtract && !scanner.take("+") {
            return Ok(sum);
        }
    }
}

/// A value of at most `bits` bits; negative ones are taken in two's complement.
fn value_of(scanner: &mut Scanner, bits: u32, start: u32) -> Parsed<u128> {
    let at = scanner.at;
    let value = value(scanner, start)?;
    let mask = if bits == 128 { u128::MAX } else { (1 << bits) - 1 };
    let is_negative = value >> 127 != 0 && (value | mask) == u128::MAX;
    if value & !mask != 0 && !is_negative {
        return Err(Wrong { at, what: format!("this does not fit in {bits} bits") });
    }
    Ok(value & mask)
}

fn vector(scanner: &mut Scanner, place: String) -> Parsed<Vector> {
    let code_at = scanner.at;
    let code = bytes(scanner)?;
    if code.is_empty() {
        return Err(Wrong { at: code_at, what: "there is no byte of code here".to_string() });
    }
    scanner.skip_blanks();
    scanner.expect("\"")?;
    let text = scanner.until('"')?.to_string();
    let mut vector =
        Vector { place, code, text, at: AT, before: State::default(), ldt: BTreeMap::new(), expected: None };
    loop {
        scanner.skip_blanks();
        let at = scanner.at;
        if scanner.peek().is_none_or(|c| c == '#') && !is_exception(scanner) {
            break;
        }
        if scanner.take("=>") {
            if vector.expected.is_some() {
                return Err(Wrong { at, what: "there is a '=>' already".to_string() });
            }
            vector.expected = Some(Expected {
                end: End::Fell,
                eip: None,
                cr2: None,
                state: State::default(),
                unchanged: false,
            });
            check_code(&vector, code_at)?;
            continue;
        }
        let start = start_of(&vector);
        match &mut vector.expected {
            None => before(scanner, &mut vector, start)?,
            Some(expected) => behind(scanner, expected, start)?,
        }
        if !scanner.peek().is_none_or(char::is_whitespace) {
            return scanner.wrong("a blank should stand here");
        }
    }
    check_code(&vector, code_at)?;
    Ok(vector)
}

/// `#GP` and the like, not the start of a comment.
fn is_exception(scanner: &Scanner) -> bool {
    scanner.rest().strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
}

/// EIP of the first byte.
fn start_of(vector: &Vector) -> u32 {
    let world = vector.world();
    let base = vector.before.selectors[1]
        .and_then(|selector| world.descriptor(selector))
        .map_or(0, |descriptor| descriptor.base);
    vector.at.wrapping_sub(base)
}

/// The first byte must be there; what lies behind the pages is not.
fn check_code(vector: &Vector, at: usize) -> Parsed<()> {
    if !(CODE..CODE + 2 * PAGE).contains(&vector.at) {
        let what = format!("the code must begin from {CODE:#x} to {:#x}", CODE + 2 * PAGE - 1);
        return Err(Wrong { at, what });
    }
    Ok(())
}

/// One thing before `=>`.
fn before(scanner: &mut Scanner, vector: &mut Vector, start: u32) -> Parsed<()> {
    let at = scanner.at;
    let rest = scanner.rest();
    if rest.starts_with("at=") {
        scanner.expect("at=")?;
        vector.at = value_of(scanner, 32, start)? as u32;
        return Ok(());
    }
    if rest.starts_with("ldt") {
        let name = scanner.word();
        scanner.expect("=")?;
        let Some(selector) = ldt_selector(name) else {
            return Err(Wrong { at, what: format!("'{name}' is no entry of the LDT: ldt0 to ldt8191") });
        };
        let descriptor = descriptor(scanner, start)?;
        if vector.ldt.insert((selector >> 3) as usize, descriptor).is_some() {
            return Err(Wrong { at, what: format!("{name} is listed twice") });
        }
        return Ok(());
    }
    if !state(scanner, &mut vector.before, start)? {
        return scanner.wrong(format!("{} is nothing that a vector can start with", quote(rest)));
    }
    Ok(())
}

/// One thing behind `=>`.
fn behind(scanner: &mut Scanner, expected: &mut Expected, start: u32) -> Parsed<()> {
    let at = scanner.at;
    let rest = scanner.rest();
    if scanner.take("#") {
        if expected.end != End::Fell {
            return Err(Wrong { at, what: "there is an exception already".to_string() });
        }
        let name = scanner.word();
        let Some(&(_, vector, has_code)) = EXCEPTIONS.iter().find(|(known, _, _)| *known == name) else {
            return Err(Wrong { at, what: format!("'#{name}' is no exception") });
        };
        let mut code = 0;
        if has_code {
            scanner.expect("(")?;
            code = value_of(scanner, 32, start)? as u32;
            scanner.expect(")")?;
        }
        expected.end = End::Fault { vector, code, cr2: 0 };
    } else if scanner.take("eip=") {
        expected.eip = Some(value_of(scanner, 32, start)? as u32);
    } else if scanner.take("cr2=") {
        expected.cr2 = Some(value_of(scanner, 32, start)? as u32);
    } else if scanner.take("unchanged") {
        expected.unchanged = true;
    } else if !state(scanner, &mut expected.state, start)? {
        return scanner.wrong(format!("{} is nothing that a vector can end with", quote(rest)));
    }
    Ok(())
}

/// The first word of what is left, for errors.
fn quote(rest: &str) -> String {
    format!("'{}'", rest.split_whitespace().next().unwrap_or(""))
}

/// A register, flag, selector, part of memory or of the FXSAVE image; false if it is none.
fn state(scanner: &mut Scanner, state: &mut State, start: u32) -> Parsed<bool> {
    let at = scanner.at;
    let twice = |name: &str| Wrong { at, what: format!("{name} is listed twice") };
    if scanner.take("mem[") {
        let address = value_of(scanner, 32, start)? as u32;
        scanner.expect("]=")?;
        let bytes = bytes(scanner)?;
        if !lies_in_pages(address, bytes.len()) {
            let what = format!("there is no memory for all of these bytes at {address:#x}");
            return Err(Wrong { at, what });
        }
        state.memory.push((address, bytes));
        return Ok(true);
    }
    let name = scanner.word();
    if !scanner.take("=") {
        scanner.at = at;
        return Ok(false);
    }
    let set = |bits: &mut Bits, mask: u32, value: u32| {
        let is_new = bits.mask & mask == 0;
        *bits = Bits { mask: bits.mask | mask, value: bits.value | value };
        if is_new { Ok(true) } else { Err(twice(name)) }
    };
    let position = |names: &[&str]| names.iter().position(|known| *known == name);
    if let Some(n) = position(&DWORDS) {
        set(&mut state.regs[n], u32::MAX, value_of(scanner, 32, start)? as u32)
    } else if let Some(n) = position(&WORDS) {
        set(&mut state.regs[n], 0xffff, value_of(scanner, 16, start)? as u32)
    } else if let Some(n) = position(&BYTES) {
        let shift = n / 4 * 8;
        set(&mut state.regs[n % 4], 0xff << shift, (value_of(scanner, 8, start)? as u32) << shift)
    } else if name == "flags" {
        let (mask, value) = letters(scanner)?;
        set(&mut state.flags, mask, value)
    } else if let Some(&(_, flag)) = FLAGS.iter().find(|(known, _)| *known == name) {
        let value = value_of(scanner, 1, start)?;
        set(&mut state.flags, flag, if value == 1 { flag } else { 0 })
    } else if let Some(n) = position(&SEGMENTS) {
        let value = value_of(scanner, 16, start)? as u16;
        state.selectors[n].replace(value).map_or(Ok(true), |_| Err(twice(name)))
    } else if let Some(part) = FpuPart::by_name(name) {
        let value = value_of(scanner, part.length as u32 * 8, start)?;
        state.fpu.push((part, value));
        Ok(true)
    } else {
        scanner.at = at;
        Ok(false)
    }
}

fn lies_in_pages(address: u32, length: usize) -> bool {
    (0..length as u32).all(|n| {
        let at = address.wrapping_add(n);
        PAGES.iter().any(|&(page, rights)| at.wrapping_sub(page) < PAGE && rights != Rights::None)
    })
}

/// Flags by their letters: which, and their values.
fn letters(scanner: &mut Scanner) -> Parsed<(u32, u32)> {
    let at = scanner.at;
    let (mut mask, mut value) = (0, 0);
    for letter in scanner.word().chars() {
        let Some((_, flag)) = LETTERS.iter().find(|(known, _)| *known == letter.to_ascii_uppercase()) else {
            let what = format!("'{letter}' is no flag; there are OSZAPC, in capital letters for 1");
            return Err(Wrong { at, what });
        };
        mask |= flag;
        value |= if letter.is_ascii_uppercase() { *flag } else { 0 };
    }
    Ok((mask, value))
}

/// `{data32 base=data limit=0xfff readonly}`.
fn descriptor(scanner: &mut Scanner, start: u32) -> Parsed<Descriptor> {
    scanner.expect("{")?;
    let at = scanner.at;
    let kind_and_size = scanner.word();
    let size = kind_and_size.get(kind_and_size.len().saturating_sub(2)..).unwrap_or("");
    let kind = kind_and_size.strip_suffix(size).unwrap_or("");
    let (Some(&(_, kind)), "16" | "32") = (KINDS.iter().find(|(name, _)| *name == kind), size) else {
        let what = format!(
            "'{kind_and_size}' is no kind of segment; there are data, down, code and conforming, with 16 or 32 behind"
        );
        return Err(Wrong { at, what });
    };
    let mut descriptor = Descriptor {
        base: 0,
        limit: 0xf_ffff,
        pages: false,
        big: size == "32",
        kind,
        access: true,
        present: true,
    };
    let is_code = matches!(kind, Kind::Code | Kind::Conforming);
    loop {
        scanner.skip_blanks();
        if scanner.take("}") {
            return Ok(descriptor);
        }
        let at = scanner.at;
        match scanner.word() {
            "base" => {
                scanner.expect("=")?;
                descriptor.base = value_of(scanner, 32, start)? as u32;
            }
            "limit" => {
                scanner.expect("=")?;
                descriptor.limit = value_of(scanner, 20, start)? as u32;
            }
            "pages" => descriptor.pages = true,
            "absent" => descriptor.present = false,
            "readonly" if !is_code => descriptor.access = false,
            "execonly" if is_code => descriptor.access = false,
            other => {
                let right = if is_code { "execonly" } else { "readonly" };
                let what = format!(
                    "'{other}' is no property of such a segment; there are base=, limit=, pages, absent and {right}"
                );
                return Err(Wrong { at, what });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::Filling;
    use crate::world::DATA;

    fn wrong(line: &str) -> String {
        parse(line, "stack.ins").unwrap_err().to_string()
    }

    #[test]
    fn a_line_says_what_stands_in_it() {
        let line = r#"[00 d8] "add al,bl" al=0x7f bl=1 ecx=data+2 df=1 => al=0x80 flags=OSzApc # carries into bit 7"#;
        let vectors = parse(&format!("# a comment\n\n{line}\n"), "add.ins").unwrap();
        let [vector] = &vectors[..] else { panic!("{vectors:?}") };
        assert_eq!((vector.place.as_str(), vector.code.as_slice()), ("add.ins:3", &[0x00, 0xd8][..]));
        assert_eq!(vector.before.regs[0], Bits { mask: 0xff, value: 0x7f });
        assert_eq!(vector.before.regs[1], Bits::all(DATA + 2));
        assert_eq!(vector.before.flags, Bits { mask: 0x400, value: 0x400 });
        let expected = vector.expected.as_ref().unwrap();
        assert_eq!(expected.state.flags, Bits { mask: 0x8d5, value: 0x890 });
        assert_eq!(vector.case(Filling::Noise).regs[0] & 0xff, 0x7f);
    }

    #[test]
    fn faults_segments_and_memory_are_listed() {
        let line = r#"[a1 00 00 00 00] "mov eax,[0]" ds=ldt2 mem[data]=[01 02] ldt2={down16 base=data limit=0xff readonly} => #GP(0) unchanged"#;
        let vector = parse(line, "x").unwrap().remove(0);
        let descriptor = vector.ldt[&2];
        assert_eq!((descriptor.kind, descriptor.big, descriptor.access), (Kind::ExpandDown, false, false));
        assert_eq!(vector.world().ldt.len(), 3);
        let expected = vector.expected.unwrap();
        assert_eq!(expected.end, End::Fault { vector: 13, code: 0, cr2: 0 });
        assert!(expected.unchanged);
    }

    #[test]
    fn errors_name_file_line_and_what_is_wrong() {
        assert_eq!(
            wrong("\n[90] \"nop\" eaz=1 =>"),
            "stack.ins:2:12: 'eaz=1' is nothing that a vector can start with"
        );
        assert_eq!(wrong("[9g] \"nop\""), "stack.ins:1:1: '9g' is no byte of two hexadecimal digits");
        assert_eq!(wrong("[90] nop"), "stack.ins:1:6: '\"' should stand here");
        assert_eq!(wrong("[90] \"nop\" al=1 eax=1"), "stack.ins:1:17: eax is listed twice");
        assert_eq!(wrong("[90] \"nop\" al=0x100"), "stack.ins:1:15: this does not fit in 8 bits");
        assert_eq!(wrong("[90] \"nop\" => #GG"), "stack.ins:1:15: '#GG' is no exception");
        assert_eq!(wrong("[90] \"nop\" => #GP"), "stack.ins:1:18: '(' should stand here");
        assert!(wrong("[90] \"nop\" mem[0]=[00]").ends_with("no memory for all of these bytes at 0x0"));
        assert!(wrong("[90] \"nop\" ldt0={text32}").contains("'text32' is no kind of segment"));
        assert!(wrong("[90] \"nop\" at=0").contains("the code must begin from"));
        assert!(wrong("[90] \"nop\" flags=Q").contains("'Q' is no flag"));
    }
}
