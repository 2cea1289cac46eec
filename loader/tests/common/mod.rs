//! Small images built by hand, word by word, and reading of what the loader made of them.
#![allow(dead_code, reason = "each test file uses its own part")]

use pagewalk_loader::{
    Boot, MemoryKind, MemoryMap, MemoryRegion, Module, Place, Plan, Refusal, Request, Start, plan,
};

/// A PC with 16 MiB, as firmware reports it.
pub fn pc() -> MemoryMap {
    let region = |base, len, kind| MemoryRegion { base, len, kind };
    MemoryMap::new(vec![
        region(0, 0x9_fc00, MemoryKind::Available),
        region(0x9_fc00, 0x400, MemoryKind::Reserved),
        region(0xf_0000, 0x1_0000, MemoryKind::Reserved),
        region(0x10_0000, 0xf0_0000, MemoryKind::Available),
        region(0xfffc_0000, 0x4_0000, MemoryKind::Reserved),
    ])
}

pub fn request(image: &[u8]) -> Request<'_> {
    Request { image, name: "kernel", boot: Boot::Auto, command_line: "", modules: &[], memory: pc() }
}

pub fn planned(image: &[u8]) -> Plan {
    plan(&request(image)).unwrap_or_else(|refusal| panic!("{refusal}"))
}

pub fn planned_with(image: &[u8], command_line: &str, modules: &[Module]) -> Plan {
    plan(&Request { command_line, modules, ..request(image) }).unwrap_or_else(|refusal| panic!("{refusal}"))
}

pub fn refused(image: &[u8]) -> Refusal {
    plan(&request(image)).expect_err("this image should be refused")
}

pub fn refused_as(image: &[u8], boot: Boot) -> Refusal {
    plan(&Request { boot, ..request(image) }).expect_err("this image should be refused")
}

#[track_caller]
pub fn assert_refused(refusal: &Refusal, found: &str, offset: u64) {
    assert!(refusal.found.contains(found), "{refusal}");
    assert_eq!(refusal.offset, Some(offset), "{refusal}");
}

pub fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub fn set_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

pub fn set_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

// --- ELF32 --------------------------------------------------------------------------------------------------------

pub const PT_LOAD: u32 = 1;
pub const PT_INTERP: u32 = 3;
pub const PT_NOTE: u32 = 4;

#[derive(Clone)]
pub struct Segment {
    pub kind: u32,
    pub vaddr: u32,
    pub paddr: u32,
    pub data: Vec<u8>,
    pub memsz: u32,
    pub align: u32,
}

/// A PT_LOAD segment with the same virtual and physical address.
pub fn load(addr: u32, data: &[u8], memsz: u32) -> Segment {
    Segment { kind: PT_LOAD, vaddr: addr, paddr: addr, data: data.to_vec(), memsz, align: 0x1000 }
}

/// A Xen note in a PT_NOTE segment of its own.
pub fn xen_note(kind: u32, desc: &[u8]) -> Segment {
    let mut data = words(&[4, desc.len() as u32, kind]);
    data.extend(b"Xen\0");
    data.extend(desc);
    Segment { kind: PT_NOTE, vaddr: 0, paddr: 0, memsz: data.len() as u32, data, align: 4 }
}

/// A symbol: name, value, size, st_info (type), st_shndx.
pub type Sym = (&'static str, u32, u32, u8, u16);

#[derive(Clone, Default)]
pub struct ElfBuilder {
    pub entry: u32,
    pub segments: Vec<Segment>,
    pub symbols: Option<Vec<Sym>>,
}

/// Where the first program header is.
pub const PHOFF: usize = 52;
/// The section headers of [`ElfBuilder`]: null, .text, .symtab, .strtab, .shstrtab.
pub const SECTIONS: u32 = 5;

impl ElfBuilder {
    pub fn build(&self) -> Vec<u8> {
        let mut file = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        // e_type ET_EXEC, e_machine EM_386; e_version, e_entry, e_phoff, e_shoff, e_flags
        file.extend(words(&[0x0003_0002, 1, self.entry, PHOFF as u32, 0, 0]));
        for half in [52, 32, self.segments.len() as u16, 40, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        let table = file.len();
        file.resize(table + 32 * self.segments.len(), 0);
        for (index, segment) in self.segments.iter().enumerate() {
            file.resize(file.len().next_multiple_of(16), 0);
            let (offset, filesz) = (file.len() as u32, segment.data.len() as u32);
            let Segment { kind, vaddr, paddr, memsz, align, .. } = *segment;
            let header = words(&[kind, offset, vaddr, paddr, filesz, memsz, 7, align]);
            file[table + 32 * index..][..32].copy_from_slice(&header);
            file.extend(&segment.data);
        }
        if let Some(symbols) = &self.symbols {
            add_sections(&mut file, symbols);
        }
        file
    }
}

fn add_sections(file: &mut Vec<u8>, symbols: &[Sym]) {
    let names = b"\0.text\0.symtab\0.strtab\0.shstrtab\0";
    let mut strings = vec![0];
    let mut table = vec![0; 16];
    for &(name, value, size, info, section) in symbols {
        table.extend(words(&[strings.len() as u32, value, size]));
        table.extend([info, 0]);
        table.extend(section.to_le_bytes());
        strings.extend(name.as_bytes());
        strings.push(0);
    }
    let mut append = |bytes: &[u8]| {
        file.resize(file.len().next_multiple_of(4), 0);
        let at = file.len() as u32;
        file.extend(bytes);
        (at, bytes.len() as u32)
    };
    let (symtab, symtab_len) = append(&table);
    let (strtab, strtab_len) = append(&strings);
    let (shstrtab, shstrtab_len) = append(names);
    // sh_name, sh_type, sh_flags, sh_addr, sh_offset, sh_size, sh_link, sh_info, sh_addralign, sh_entsize
    let headers = [
        [0; 10],
        [1, 1, 6, 0x10_0000, 0x100, 0x10, 0, 0, 4, 0],
        [7, 2, 0, 0, symtab, symtab_len, 3, 1, 4, 16],
        [15, 3, 0, 0, strtab, strtab_len, 0, 0, 1, 0],
        [23, 3, 0, 0, shstrtab, shstrtab_len, 0, 0, 1, 0],
    ];
    let (shoff, _) =
        append(&headers.concat().iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>());
    set_u32(file, 0x20, shoff);
    set_u16(file, 0x30, SECTIONS as u16);
    set_u16(file, 0x32, 4);
}

// --- Multiboot headers --------------------------------------------------------------------------------------------

/// A Multiboot 1 header: flags, and what follows the checksum.
pub fn header1(flags: u32, rest: &[u32]) -> Vec<u8> {
    let mut header = words(&[0x1bad_b002, flags, 0_u32.wrapping_sub(0x1bad_b002).wrapping_sub(flags)]);
    header.extend(words(rest));
    header
}

/// A Multiboot 2 header of these tags (type, flags, contents), with the end tag added.
pub fn header2(tags: &[(u16, u16, &[u32])]) -> Vec<u8> {
    let mut body = Vec::new();
    for &(kind, flags, contents) in tags.iter().chain(&[(0, 0, &[][..])]) {
        body.extend(kind.to_le_bytes());
        body.extend(flags.to_le_bytes());
        body.extend((8 + 4 * contents.len() as u32).to_le_bytes());
        body.extend(words(contents));
        body.resize(body.len().next_multiple_of(8), 0);
    }
    let len = 16 + body.len() as u32;
    let mut header = words(&[0xe852_50d6, 0, len, 0_u32.wrapping_sub(0xe852_50d6).wrapping_sub(len)]);
    header.extend(body);
    header
}

/// A kernel of one segment at 1 MiB that begins with `header`, with code behind it, and a page of bss.
pub fn elf_kernel(header: &[u8]) -> ElfBuilder {
    let mut data = header.to_vec();
    data.resize(0x100, 0x90);
    ElfBuilder { entry: 0x10_0080, segments: vec![load(0x10_0000, &data, 0x1800)], symbols: None }
}

// --- Reading a plan -----------------------------------------------------------------------------------------------

/// The guest's view of the memory that a plan fills.
pub struct Guest<'a>(pub &'a Plan);

impl Guest<'_> {
    #[track_caller]
    pub fn bytes(&self, at: u32, len: usize) -> Vec<u8> {
        let start = u64::from(at);
        let holds = |place: &&Place| place.at <= start && start + len as u64 <= place.end();
        let place =
            self.0.places.iter().find(holds).unwrap_or_else(|| panic!("nothing is loaded at {at:#x}"));
        let mut bytes = place.data.clone();
        bytes.resize((place.end() - place.at) as usize, 0);
        bytes[(start - place.at) as usize..][..len].to_vec()
    }

    #[track_caller]
    pub fn u32(&self, at: u32) -> u32 {
        u32::from_le_bytes(self.bytes(at, 4).try_into().unwrap())
    }

    #[track_caller]
    pub fn u64(&self, at: u32) -> u64 {
        u64::from_le_bytes(self.bytes(at, 8).try_into().unwrap())
    }

    #[track_caller]
    pub fn string(&self, at: u32) -> String {
        let mut text = Vec::new();
        for at in at.. {
            match self.bytes(at, 1)[0] {
                0 => break,
                byte => text.push(byte),
            }
        }
        String::from_utf8(text).unwrap()
    }
}

/// EIP, EAX and EBX of a protected-mode start; every other register but ESP must be zero.
#[track_caller]
pub fn protected(plan: &Plan) -> (u32, u32, u32) {
    match plan.start {
        Start::Protected { eip, eax, ebx, ecx: 0, edx: 0, esi: 0, edi: 0, ebp: 0, .. } => (eip, eax, ebx),
        other => panic!("{other:?}"),
    }
}

/// What holds for every plan: places in RAM, in order, not overlapping; an entry point that is loaded.
pub fn assert_sound(plan: &Plan, memory: &MemoryMap) {
    let mut places: Vec<_> = plan.places.iter().map(|place| (place.at, place.end())).collect();
    places.sort_unstable();
    for pair in places.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "{places:x?}");
    }
    let ram = memory.available();
    for place in &plan.places {
        assert!(place.at < place.end(), "{place:?}");
        assert!(ram.iter().any(|ram| ram.start <= place.at && place.end() <= ram.end), "{place:?}");
    }
    let loaded = |at: u64| places.iter().any(|&(start, end)| start <= at && at < end);
    match plan.start {
        Start::Reset => assert!(!plan.roms.is_empty()),
        Start::Real { cs, ip, .. } => assert!(loaded(u64::from(cs) * 16 + u64::from(ip))),
        Start::Linux { eip, esi, gdt } => {
            assert!([eip, esi, gdt].into_iter().all(|at| loaded(u64::from(at))), "{:x?}", plan.start);
        }
        Start::Protected { eip, ebx, .. } => {
            assert!(loaded(u64::from(eip)) && (ebx == 0 || loaded(u64::from(ebx))))
        }
    }
    assert!(plan.symbols.is_sorted_by_key(|symbol| symbol.value));
}
