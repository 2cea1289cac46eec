//! The native runner itself: cases whose outcome the manual leaves no doubt about.

use pagewalk_silicon::case::{Case, End, Outcome};
use pagewalk_silicon::native::Native;
use pagewalk_silicon::world::{
    CODE, DATA, Descriptor, FLAT_CODE, FLAT_DATA, Kind, PAGE, STACK, World, selector,
};

fn world() -> World {
    let data = Descriptor {
        base: DATA,
        limit: 0xfff,
        pages: false,
        big: true,
        kind: Kind::Data,
        access: true,
        present: true,
    };
    let code = Descriptor { base: CODE, limit: 0x1fff, big: false, kind: Kind::Code, ..data };
    World {
        seed: 1,
        ldt: vec![
            data,
            code,
            Descriptor { present: false, ..data },
            Descriptor { base: STACK, limit: 0x1fff, big: false, ..data },
            Descriptor { access: false, ..data },
            Descriptor { limit: 0xff, kind: Kind::ExpandDown, big: false, ..data },
        ],
    }
}

fn case(code: &[u8]) -> Case {
    let mut selectors = [FLAT_DATA; 6];
    selectors[1] = FLAT_CODE;
    Case {
        at: CODE + 0x100,
        code: code.to_vec(),
        regs: [1, 2, 3, 4, STACK + 0x1000, 6, 7, DATA],
        selectors,
        ..Case::default()
    }
}

/// `None` where there is no oracle, which is said.
fn native() -> Option<Native> {
    match Native::new(&world()) {
        Ok(native) => Some(native),
        Err(error) => {
            println!("not run: {error:#}");
            None
        }
    }
}

fn run(native: &mut Native, case: &Case) -> Outcome {
    native.run(std::slice::from_ref(case)).unwrap().remove(0)
}

fn fault(vector: u8, code: u32, cr2: u32) -> End {
    End::Fault { vector, code, cr2 }
}

#[test]
fn instructions_do_what_the_manual_says() {
    let Some(mut native) = native() else { return };
    let add = case(&[0x01, 0xd0]); // add eax, edx
    let outcome = run(&mut native, &add);
    assert_eq!((outcome.end, outcome.regs[0], outcome.regs[4]), (End::Fell, 4, STACK + 0x1000));
    assert_eq!((outcome.eip, outcome.eflags & 0x8d5, outcome.selectors), (CODE + 0x102, 0, add.selectors));
    assert_eq!(outcome.written, vec![]);

    let carry = Case { regs: [0xffff_ffff, 0, 1, 0, 0x1234, 0, 0, 0], ..add.clone() };
    let outcome = run(&mut native, &carry);
    assert_eq!((outcome.regs[0], outcome.eflags & 0x8d5, outcome.regs[4]), (0, 0x55, 0x1234));

    // a store across two pages: mov [edi], eax
    let store = Case {
        memory: vec![(DATA + PAGE - 2, vec![0xff; 4])],
        regs: [0x4433_2211, 0, 0, 0, 0, 0, 0, DATA + PAGE - 2],
        ..case(&[0x89, 0x07])
    };
    let outcome = run(&mut native, &store);
    assert_eq!(outcome.written, vec![(DATA + PAGE - 2, vec![0x11, 0x22, 0x33, 0x44])]);
    assert_eq!(run(&mut native, &add).written, vec![], "nothing is left of the case before");

    // push eax on a 16-bit stack: only SP moves, and wraps
    let mut push = case(&[0x50]);
    push.selectors[2] = selector(3);
    push.regs[4] = 0xabcd_1000;
    let outcome = run(&mut native, &push);
    assert_eq!((outcome.regs[4], outcome.written.len()), (0xabcd_0ffc, 1));

    // 16-bit code: inc ax
    let mut narrow = case(&[0x40]);
    narrow.selectors[1] = selector(1);
    narrow.regs[0] = 0x1234_ffff;
    let outcome = run(&mut native, &narrow);
    assert_eq!((outcome.end, outcome.regs[0], outcome.eip), (End::Fell, 0x1234_0000, 0x101));
    assert_eq!(outcome.selectors[1], selector(1));

    // mov ds, ax
    let mut load = case(&[0x8e, 0xd8]);
    load.regs[0] = selector(0) as u32;
    assert_eq!(run(&mut native, &load).selectors[3], selector(0));
}

#[test]
fn faults_come_with_vector_error_code_and_address() {
    let Some(mut native) = native() else { return };
    let read = |at: u32| Case { regs: [0, 0, 0, 0, 0, 0, 0, at], ..case(&[0x8b, 0x07]) };
    let write = |at: u32| Case { regs: [0, 0, 0, 0, 0, 0, 0, at], ..case(&[0x89, 0x07]) };
    let segment = |code: &[u8], n: usize, which: usize, at: u32| {
        let mut case = case(code);
        case.selectors[which] = selector(n);
        case.regs[7] = at;
        case
    };
    let load_of = |value: u16| Case { regs: [value as u32, 0, 0, 0, 0, 0, 0, 0], ..case(&[0x8e, 0xd8]) };
    let cases = [
        (case(&[0xf6, 0xf5]), fault(0, 0, 0)), // div ch, of 0
        (read(DATA - 4), fault(14, 4, DATA - 4)),
        (write(DATA - 1), fault(14, 6, DATA - 1)),
        (write(DATA + 2 * PAGE - 2), fault(14, 7, DATA + 2 * PAGE)),
        (read(DATA + 3 * PAGE + 8), fault(14, 4, DATA + 3 * PAGE + 8)),
        (read(DATA + 3 * PAGE - 1), fault(14, 4, DATA + 3 * PAGE)),
        (segment(&[0x8b, 0x07], 0, 3, 0xffd), fault(13, 0, 0)), // beyond the limit
        (segment(&[0x89, 0x07], 4, 3, 0), fault(13, 0, 0)),     // read-only
        (segment(&[0x8b, 0x07], 5, 3, 0xff), fault(13, 0, 0)),  // below an expand-down segment
        (load_of(selector(2)), fault(11, selector(2) as u32 & 0xfffc, 0)),
        (load_of(selector(60)), fault(13, selector(60) as u32 & 0xfffc, 0)),
        (segment(&[0x55], 0, 2, 0), fault(12, 0, 0)), // push ebp beyond a stack of 4 KiB
        (case(&[0xcc]), fault(3, 0, 0)),
        (Case { eflags: 0x800, ..case(&[0xce]) }, fault(4, 0, 0)),
        (case(&[0xcd, 0x21]), fault(13, 0x21 * 8 + 2, 0)),
        (case(&[0x0f, 0x0b]), fault(6, 0, 0)),
        (case(&[0xf0, 0x89, 0x07]), fault(6, 0, 0)), // lock mov
        (case(&[0xf4]), fault(13, 0, 0)),            // hlt
        (Case { eflags: 0x4_0000, ..read(DATA + 1) }, fault(17, 0, 0)),
        (Case { at: CODE + 2 * PAGE - 2, ..case(&[0x90, 0x90]) }, fault(14, 0x14, CODE + 2 * PAGE)),
    ];
    for (case, expected) in cases {
        let mut case = case;
        if case.selectors[2] != FLAT_DATA {
            case.regs[4] = 0x2000;
        }
        let outcome = run(&mut native, &case);
        assert_eq!(outcome.end, expected, "{:02x?}", case.code);
        if expected != fault(14, 0x14, CODE + 2 * PAGE) {
            assert_eq!(outcome.regs, case.regs, "{:02x?}", case.code);
        }
        assert_eq!(outcome.written, vec![], "{:02x?}", case.code);
    }
}

#[test]
fn an_endless_loop_ends_and_the_next_case_is_itself() {
    let Some(mut native) = native() else { return };
    let cases = [case(&[0xeb, 0xfe]), case(&[0x01, 0xd0])];
    let outcomes = native.run(&cases).unwrap();
    assert_eq!((outcomes[0].end, outcomes[1].end), (End::Endless, End::Fell));
    assert_eq!(outcomes[1].regs[0], 4);
}

#[test]
fn a_traced_case_starts_with_every_flag_and_selector_it_asks_for() {
    let Some(mut native) = native() else { return };
    let trap = Case { eflags: 0x100, ..case(&[0x40]) };
    let outcome = run(&mut native, &trap);
    assert_eq!((outcome.end, outcome.regs[0], outcome.eip), (fault(1, 0, 0), 2, CODE + 0x101));

    // push eax on a 16-bit stack, with null selectors, and all of ID, AC, NT, OF, DF, TF, SF, ZF, AF, PF, CF
    let mut push = Case { eflags: 0x24_4dd5, ..case(&[0x50]) };
    push.selectors = [0, FLAT_CODE, selector(3), 3, 1, 2];
    push.regs[4] = 0xabcd_1000;
    let outcome = run(&mut native, &push);
    assert_eq!((outcome.end, outcome.eip, outcome.eflags), (fault(1, 0, 0), CODE + 0x101, 0x24_4fd7));
    assert_eq!((outcome.regs[4], outcome.selectors), (0xabcd_0ffc, push.selectors));
    assert_eq!(outcome.written.len(), 1);

    // 16-bit code without a stack to speak of
    let mut narrow = Case { eflags: 0x4100, ..case(&[0x40]) };
    narrow.selectors = [0, selector(1), selector(5), selector(0), selector(4), 0];
    let outcome = run(&mut native, &narrow);
    assert_eq!((outcome.end, outcome.eip, outcome.eflags), (fault(1, 0, 0), 0x101, 0x4302));
    assert_eq!(outcome.selectors, narrow.selectors);

    // TF set by POPF traps behind the instruction after it: by then control is behind the case
    let popf = Case { regs: [0x302, 0, 0, 0, STACK + 0x1000, 0, 0, 0], ..case(&[0x50, 0x9d]) };
    let outcome = run(&mut native, &popf);
    assert_eq!((outcome.end, outcome.regs[4]), (fault(1, 0, 0), STACK + 0x1000));
}

#[test]
fn flags_that_disturb_the_runner_come_through_it() {
    let Some(mut native) = native() else { return };
    for eflags in [0x400, 0x4000, 0x4_0000, 0x20_0000, 0x24_4cd5] {
        let mut plain = Case { eflags, ..case(&[0x90]) };
        let mut int3 = Case { eflags, ..case(&[0xcc]) };
        for stack in [FLAT_DATA, selector(3)] {
            plain.selectors[2] = stack;
            int3.selectors[2] = stack;
            plain.regs[4] = 0xfeed_0001;
            int3.regs[4] = 0xfeed_0001;
            let outcomes = native.run(&[plain.clone(), int3.clone(), plain.clone()]).unwrap();
            for (outcome, end) in outcomes.iter().zip([End::Fell, fault(3, 0, 0), End::Fell]) {
                assert_eq!((outcome.end, outcome.eflags), (end, eflags | 0x202), "{eflags:x}");
                assert_eq!((outcome.regs, outcome.selectors), (plain.regs, plain.selectors), "{eflags:x}");
            }
        }
    }
}

#[test]
fn limits_of_code_segments_are_kept() {
    let Some(mut native) = native() else { return };
    // jmp to the last byte of the segment: INT3 there; one further, #GP(0) before it (SDM 2A "JMP")
    let jump = |distance: u8| {
        let mut case = Case { at: CODE + 0x1fc0, ..case(&[0xeb, distance]) };
        case.selectors[1] = selector(1);
        case
    };
    let last = run(&mut native, &jump(0x3d));
    assert_eq!((last.end, last.eip), (fault(3, 0, 0), 0x2000));
    let beyond = run(&mut native, &jump(0x3e));
    assert_eq!((beyond.end, beyond.eip), (fault(13, 0, 0), 0x1fc0));
}

#[test]
fn floating_point_images_come_and_go() {
    let Some(mut native) = native() else { return };
    let mut image = Box::new([0; 512]);
    image[..2].copy_from_slice(&0x37fu16.to_le_bytes());
    image[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
    for (n, byte) in image[160..288].iter_mut().enumerate() {
        *byte = n as u8 + 1;
    }
    // mov ds, edx; fld1: falls through, is traced, meets INT3
    let mut fld1 = Case { fpu: Some(image.clone()), ..case(&[0x8e, 0xda, 0xd9, 0xe8]) };
    fld1.regs[2] = selector(0) as u32;
    let mut traced = Case { eflags: 0x100, code: vec![0xd9, 0xe8], ..fld1.clone() };
    traced.selectors[3] = selector(0);
    let int3 = Case { code: vec![0x8e, 0xda, 0xd9, 0xe8, 0xcc], ..fld1.clone() };
    let outcomes = native.run(&[fld1, traced, int3]).unwrap();
    for (outcome, end) in outcomes.iter().zip([End::Fell, fault(1, 0, 0), fault(3, 0, 0)]) {
        assert_eq!((outcome.end, outcome.selectors[3]), (end, selector(0)));
        let after = outcome.fpu.as_ref().unwrap();
        assert_eq!(after[..4], [0x7f, 3, 0, 0x38], "TOP is 7");
        assert_eq!(after[4], 0x80, "R7 is not empty");
        assert_eq!(after[24..28], image[24..28], "MXCSR");
        assert_eq!(after[32..42], [0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f]);
        assert_eq!(after[160..288], image[160..288], "XMM0 to XMM7");
    }
}

#[test]
fn unmasked_floating_point_exceptions_are_faults_with_their_status() {
    let Some(mut native) = native() else { return };
    let mut image = Box::new([0; 512]);
    image[..2].copy_from_slice(&0x37bu16.to_le_bytes());
    image[24..28].copy_from_slice(&0x1d80u32.to_le_bytes());
    image[160..164].copy_from_slice(&1f32.to_le_bytes());
    // divss xmm0, xmm1, of 0, with ZM clear: #XM, ZE set, XMM0 as it was (SDM 3A "Interrupt 19")
    let single = Case { fpu: Some(image.clone()), ..case(&[0xf3, 0x0f, 0x5e, 0xc1]) };
    let outcome = run(&mut native, &single);
    assert_eq!((outcome.end, outcome.eip), (fault(19, 0, 0), CODE + 0x100));
    let after = outcome.fpu.unwrap();
    assert_eq!((&after[24..28], &after[160..164]), (&0x1d84u32.to_le_bytes()[..], &image[160..164]));
    // fld1; fldz; fdivp; fwait, with ZM clear: #MF at FWAIT, ZE, ES and B set (SDM 3A "Interrupt 16")
    let code = [0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9, 0x9b];
    let outcome = run(&mut native, &Case { code: code.to_vec(), ..single.clone() });
    assert_eq!((outcome.end, outcome.eip), (fault(16, 0, 0), CODE + 0x106));
    assert_eq!(outcome.fpu.unwrap()[2..4], 0xb084u16.to_le_bytes());
    // what is pending when the case ends is seen, and meets no other case
    let outcome = run(&mut native, &Case { code: code[..6].to_vec(), ..single });
    assert_eq!((outcome.end, &outcome.fpu.unwrap()[2..4]), (End::Fell, &0xb084u16.to_le_bytes()[..]));
    assert_eq!(run(&mut native, &case(&[0x9b])).end, End::Fell);
}

#[test]
fn a_tick_of_the_timer_does_not_show() {
    let Some(mut native) = native() else { return };
    // inc dword [edi]; loop: a millisecond or so, 200 times
    let mut slow = Case { memory: vec![(DATA, vec![0; 4])], ..case(&[0xff, 0x07, 0xe2, 0xfc]) };
    slow.regs[1] = 0x8_0000;
    slow.selectors[5] = selector(0);
    for outcome in native.run(&vec![slow; 200]).unwrap() {
        assert_eq!((outcome.end, outcome.regs[1]), (End::Fell, 0));
        assert_eq!(outcome.written, [(DATA + 2, vec![8])]);
    }
}

#[test]
fn what_is_not_a_case_is_refused_by_name() {
    let Some(mut native) = native() else { return };
    for eflags in [0, 0x100] {
        for which in [0, 3, 4, 5] {
            let mut absent = Case { eflags, ..case(&[0x90]) };
            absent.selectors[which] = selector(2);
            let error = native.run(&[case(&[0x90]), absent]).unwrap_err();
            let text = format!("{error:#}");
            assert!(text.contains("cannot be loaded") && text.contains("code: [90]"), "{text}");
        }
    }
    assert_eq!(run(&mut native, &case(&[0x90])).end, End::Fell, "a new runner is there");
}

#[test]
fn no_case_reaches_the_kernel() {
    let Some(mut native) = native() else { return };
    // exit_group, write, getpid, by INT 80h
    for call in [252, 4, 20] {
        let exit = Case { regs: [call, 1, 1, 0, STACK, 0, 0, 0], ..case(&[0xcd, 0x80]) };
        assert_eq!(run(&mut native, &exit).end, fault(0x80, 0, 0), "{call}");
        // SYSCALL and SYSENTER: what one maker's processors have the other's do not
        for code in [[0x0f, 0x05], [0x0f, 0x34]] {
            let end = run(&mut native, &Case { code: code.to_vec(), ..exit.clone() }).end;
            assert!([fault(0x80, 0, 0), fault(6, 0, 0)].contains(&end), "{end:?}");
        }
    }
}

#[test]
#[ignore = "measures"]
fn how_fast_it_is() {
    let Some(mut native) = native() else { return };
    let mut image = Box::new([0; 512]);
    (image[0], image[1], image[24], image[25]) = (0x7f, 3, 0x80, 0x1f);
    let kinds = [
        ("add eax, edx", case(&[0x01, 0xd0])),
        ("mov [edi], eax", case(&[0x89, 0x07])),
        ("... with 4 patches of memory", {
            let memory = (0..4).map(|n| (DATA + 0x123 + 0x400 * n, vec![0; 8])).collect();
            Case { memory, ..case(&[0x89, 0x07]) }
        }),
        ("fld1", Case { fpu: Some(image), ..case(&[0xd9, 0xe8]) }),
        ("int3", case(&[0xcc])),
        ("hlt: #GP", case(&[0xf4])),
        ("mov eax, [0]: #PF", case(&[0xa1, 0, 0, 0, 0])),
        ("ud2: #UD", case(&[0x0f, 0x0b])),
        ("inc eax, traced", Case { eflags: 0x100, ..case(&[0x40]) }),
    ];
    // processor time, of the runner and of this thread: others may keep the processors busy
    let runner = std::fs::read_to_string("/proc/thread-self/children").unwrap();
    let nanoseconds = |of: &str| -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{of}/schedstat")).unwrap();
        text.split_whitespace().next().unwrap().parse().unwrap()
    };
    let times = || [nanoseconds(runner.trim()), nanoseconds("thread-self")];
    for (name, one) in kinds {
        let cases = vec![one; 10_000];
        let mut best = [f64::INFINITY; 2];
        for _ in 0..8 {
            let start = times();
            assert_eq!(native.run(&cases).unwrap().len(), cases.len());
            let end = times();
            best = [0, 1].map(|n| best[n].min((end[n] - start[n]) / cases.len() as f64));
        }
        println!("{name:30} {:7.0} ns a case natively, {:5.0} ns here", best[0], best[1]);
    }
}
