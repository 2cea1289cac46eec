//! Telling a program for Linux from a kernel: both are ELF32 executables.

use goblin::elf::Elf;
use goblin::elf::header::{EI_OSABI, ELFOSABI_LINUX, EM_386, ET_DYN, ET_EXEC};

use crate::refusal::{Cause, Refusal};

/// The note in which the C library says for which system a program is: name, type, and the word that means Linux (System V ABI,
/// Linux extensions, "Note Sections").
const ABI_TAG: (&str, u32, [u8; 4]) = ("GNU", 1, [0; 4]);

/// Whether an image is a program for 32-bit Linux.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinuxProgram {
    /// It is none.
    No,
    /// It may be one, or a kernel: an executable for 32-bit x86 that does not say for which system it is.
    Perhaps,
    /// It says so itself: by its header's OS ABI or by the C library's note.
    Yes,
}

/// Tells whether an image is a program for 32-bit Linux.
///
/// # Errors
/// One that is dynamically linked: where it would run there are no libraries for it.
pub fn linux_program(image: &[u8], name: &str) -> Result<LinuxProgram, Refusal> {
    if !image.starts_with(b"\x7fELF\x01") {
        return Ok(LinuxProgram::No);
    }
    let Ok(elf) = Elf::parse(image) else { return Ok(LinuxProgram::No) };
    if elf.header.e_machine != EM_386 || !matches!(elf.header.e_type, ET_EXEC | ET_DYN) {
        return Ok(LinuxProgram::No);
    }
    if let Some(interpreter) = elf.interpreter {
        let found = format!("a dynamically linked Linux program, which wants {interpreter}");
        let accepted = "there are no libraries where it would run: link it statically (gcc -m32 -static)";
        return Err(Refusal::new(Cause::Unsupported, found, accepted).of(name));
    }
    let (owner, kind, linux) = ABI_TAG;
    let noted = elf.iter_note_headers(image).is_some_and(|notes| {
        notes.flatten().any(|note| {
            note.name.trim_end_matches('\0') == owner && note.n_type == kind && note.desc.starts_with(&linux)
        })
    });
    let says = noted || elf.header.e_ident[EI_OSABI] == ELFOSABI_LINUX;
    Ok(if says { LinuxProgram::Yes } else { LinuxProgram::Perhaps })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF32 executable with one program header of this type and content.
    fn elf(os_abi: u8, machine: u16, segment: u32, content: &[u8]) -> Vec<u8> {
        let mut image = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, os_abi];
        image.resize(16, 0);
        image.extend(2u16.to_le_bytes());
        image.extend(machine.to_le_bytes());
        // version, entry, program headers, section headers, flags
        image.extend([1u32, 0x1000, 52, 0, 0].map(u32::to_le_bytes).concat());
        // sizes of header and program header, their number, section headers
        image.extend([52u16, 32, 1, 40, 0, 0].map(u16::to_le_bytes).concat());
        let size = content.len() as u32;
        image.extend([segment, 84, 0, 0, size, size, 4, 4].map(u32::to_le_bytes).concat());
        image.extend(content);
        image
    }

    const NOTE: u32 = 4;
    const INTERPRETER: u32 = 3;
    const UNUSED: u32 = 0;

    /// The C library's note for this system.
    fn tag(system: u32) -> Vec<u8> {
        let mut note = [4u32, 16, 1].map(u32::to_le_bytes).concat();
        note.extend(b"GNU\0");
        note.extend([system, 3, 2, 0].map(u32::to_le_bytes).concat());
        note
    }

    #[test]
    fn a_program_is_known_by_its_librarys_note_or_its_headers_system() {
        use LinuxProgram::{No, Perhaps, Yes};
        for (image, expected) in [
            (elf(0, EM_386, NOTE, &tag(0)), Yes),
            // for the Hurd
            (elf(0, EM_386, NOTE, &tag(1)), Perhaps),
            (elf(ELFOSABI_LINUX, EM_386, UNUSED, &[]), Yes),
            // a kernel, say
            (elf(0, EM_386, UNUSED, &[]), Perhaps),
            // for another processor
            (elf(ELFOSABI_LINUX, 62, UNUSED, &[]), No),
            (elf(ELFOSABI_LINUX, EM_386, NOTE, &tag(0))[..60].to_vec(), No),
            (b"\x7fELF\x01".to_vec(), No),
            (Vec::new(), No),
        ] {
            assert_eq!(linux_program(&image, "x"), Ok(expected), "{image:02x?}");
        }
    }

    #[test]
    fn one_that_wants_libraries_is_refused_with_what_to_do() {
        let refusal =
            linux_program(&elf(0, EM_386, INTERPRETER, b"/lib/ld-linux.so.2\0"), "tool").unwrap_err();
        let text = refusal.to_string();
        assert!(text.contains("tool"), "{text}");
        assert!(text.contains("/lib/ld-linux.so.2") && text.contains("-static"), "{text}");
    }
}
