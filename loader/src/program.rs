//! Telling a program for Linux from a kernel: both are ELF32 executables.

use goblin::elf::Elf;
use goblin::elf::header::{ELFOSABI_LINUX, EM_386, ET_DYN, ET_EXEC};

use crate::refusal::{Cause, Refusal};

/// The note in which the C library says for which system a program is: name, type, and the word that means Linux.
const ABI_TAG: (&str, u32, [u8; 4]) = ("GNU", 1, [0; 4]);

/// Whether an image is a program for 32-bit Linux that says so itself: by its header's OS ABI, by the C library's note, or by
/// asking for a program interpreter.
///
/// # Errors
/// One that is dynamically linked: there would be no libraries for it.
pub fn is_linux_program(image: &[u8]) -> Result<bool, Refusal> {
    if !image.starts_with(b"\x7fELF\x01") {
        return Ok(false);
    }
    let Ok(elf) = Elf::parse(image) else { return Ok(false) };
    if elf.header.e_machine != EM_386 || !matches!(elf.header.e_type, ET_EXEC | ET_DYN) {
        return Ok(false);
    }
    if let Some(interpreter) = elf.interpreter {
        let found = format!("a dynamically linked Linux program, which wants {interpreter}");
        let accepted = "there are no libraries for it where it runs: link it statically (cc -m32 -static)";
        return Err(Refusal::new(Cause::Unsupported, found, accepted));
    }
    let (name, kind, linux) = ABI_TAG;
    let noted = elf.iter_note_headers(image).is_some_and(|notes| {
        notes.flatten().any(|note| note.name == name && note.n_type == kind && note.desc.starts_with(&linux))
    });
    Ok(noted || elf.header.e_ident[7] == ELFOSABI_LINUX)
}
