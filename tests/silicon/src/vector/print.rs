//! Writes vectors, in the notation that [`super::parse`] reads.

use std::fmt;

use crate::case::{End, SEGMENTS};
use crate::world::{Descriptor, Kind};

use super::names::{self, BYTES, DWORDS, FLAGS, KINDS, LETTERS, WORDS, plain, selector_value, value};
use super::{AT, Bits, STATUS, State, Vector};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

fn register(f: &mut fmt::Formatter<'_>, n: usize, bits: Bits) -> fmt::Result {
    let part = |mask: u32| bits.mask & mask == mask;
    if part(u32::MAX) {
        return write!(f, " {}={}", DWORDS[n], value(bits.value));
    }
    if part(0xffff) {
        return write!(f, " {}={}", WORDS[n], plain(bits.value & 0xffff));
    }
    if n < 4 && part(0xff) {
        write!(f, " {}={}", BYTES[n], plain(bits.value & 0xff))?;
    }
    if n < 4 && part(0xff00) {
        write!(f, " {}={}", BYTES[n + 4], plain(bits.value >> 8 & 0xff))?;
    }
    Ok(())
}

fn flags(f: &mut fmt::Formatter<'_>, flags: Bits) -> fmt::Result {
    if flags.mask & STATUS != 0 {
        write!(f, " flags=")?;
        for (letter, _) in LETTERS.iter().filter(|(_, flag)| flags.mask & flag != 0).map(|&(letter, flag)| {
            (if flags.value & flag != 0 { letter } else { letter.to_ascii_lowercase() }, flag)
        }) {
            write!(f, "{letter}")?;
        }
    }
    for (name, flag) in FLAGS.iter().filter(|(_, flag)| flags.mask & flag & !STATUS != 0) {
        write!(f, " {name}={}", (flags.value & flag != 0) as u32)?;
    }
    Ok(())
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, bits) in self.regs.into_iter().enumerate() {
            register(f, n, bits)?;
        }
        flags(f, self.flags)?;
        for (name, selector) in SEGMENTS.iter().zip(self.selectors) {
            if let Some(selector) = selector {
                write!(f, " {name}={}", selector_value(selector))?;
            }
        }
        for (at, bytes) in &self.memory {
            write!(f, " mem[{}]=[{}]", value(*at), hex(bytes))?;
        }
        for (part, value) in &self.fpu {
            write!(f, " {part}={value:#x}")?;
        }
        Ok(())
    }
}

fn descriptor(f: &mut fmt::Formatter<'_>, n: usize, d: &Descriptor) -> fmt::Result {
    let kind = KINDS.iter().find(|(_, kind)| *kind == d.kind).map_or("", |(name, _)| name);
    write!(f, " ldt{n}={{{kind}{}", if d.big { 32 } else { 16 })?;
    write!(f, " base={} limit={}", value(d.base), plain(d.limit))?;
    let right = if matches!(d.kind, Kind::Code | Kind::Conforming) { " execonly" } else { " readonly" };
    for (word, applies) in [(" pages", d.pages), (right, !d.access), (" absent", !d.present)] {
        f.write_str(if applies { word } else { "" })?;
    }
    f.write_str("}")
}

impl fmt::Display for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] \"{}\"", hex(&self.code), self.text)?;
        if self.at != AT {
            write!(f, " at={}", value(self.at))?;
        }
        write!(f, "{}", self.before)?;
        for (n, entry) in &self.ldt {
            descriptor(f, *n, entry)?;
        }
        let Some(expected) = &self.expected else { return Ok(()) };
        f.write_str(" =>")?;
        if expected.end != End::Fell {
            write!(f, " {}", names::end(expected.end))?;
        }
        if let Some(cr2) = expected.cr2 {
            write!(f, " cr2={}", value(cr2))?;
        }
        if let Some(eip) = expected.eip {
            write!(f, " eip={}", self.eip(eip))?;
        }
        write!(f, "{}", expected.state)?;
        if expected.unchanged {
            f.write_str(" unchanged")?;
        }
        Ok(())
    }
}

impl Vector {
    /// EIP, by its distance from the first byte where that is small.
    fn eip(&self, eip: u32) -> String {
        let start = self.start();
        match (eip.wrapping_sub(start), start.wrapping_sub(eip)) {
            (0, _) => "start".to_string(),
            (ahead @ 1..0x1000, _) => format!("start+{}", plain(ahead)),
            (_, back @ 1..0x1000) => format!("start-{}", plain(back)),
            _ => value(eip),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::vector::parse;

    #[test]
    fn what_is_printed_is_what_was_read() {
        for line in [
            r#"[00 d8] "add al,bl" eax=0x7f bx=0x201 flags=osZ df=1 => al=0x80 flags=OSzApc"#,
            r#"[66 50] "push ax" at=code+0xffe ax=0x1234 esp=stack+2 => esp=stack mem[stack]=[34 12]"#,
            r#"[8e d8] "mov ds,ax" ax=0xf ldt1={data32 base=data limit=0xfff pages readonly absent} => #NP(0xc) unchanged"#,
            r#"[50] "push ax" sp=0 cs=ldt0 ss=ldt1 ldt0={code16 base=code limit=0x1fff execonly} ldt1={down16 base=data-0x10 limit=0} => #SS(0) eip=start"#,
            r#"[8b 07] "mov eax,[edi]" edi=data+0x3000 => #PF(4) cr2=data+0x3000 eip=start"#,
            r#"[d9 e8] "fld1" fcw=0x37f => ftw=0x80 st0=0x3fff8000000000000000"#,
        ] {
            assert_eq!(parse(line, "x").unwrap()[0].to_string(), line);
        }
    }
}
