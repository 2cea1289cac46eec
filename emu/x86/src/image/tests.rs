use super::*;
use crate::control::CR4_PSE;
use crate::fault::Stop;
use crate::flat::{FlatBus, Start, processor};
use crate::mmu::tlb::{FlushCause, Geometry};

type Flat = Processor<FlatBus, ()>;

/// A loop that calls into the next page, reads and writes, with paging on: page 0 to 3 lead to themselves.
fn looping() -> Flat {
    let code = [
        0x8b, 0x05, 0x00, 0x30, 0x00, 0x00, // mov eax, [0x3000]
        0x40, // inc eax
        0x89, 0x05, 0x00, 0x30, 0x00, 0x00, // mov [0x3000], eax
        0x0f, 0xc7, 0xf3, // rdrand ebx
        0xeb, 0xee, // jmp to the beginning
    ];
    // the second instruction lies across two pages
    let mut flat = processor(Start::Flat32, &code, 0x0ffa - 6, 0x1_0000);
    let table: Vec<u8> = (0..4u32).flat_map(|page| (page << 12 | 7).to_le_bytes()).collect();
    flat.cpu.bus.ram_mut().write(0x8000, &0x9007u32.to_le_bytes());
    flat.cpu.bus.ram_mut().write(0x9000, &table);
    flat.cpu.load_cr3(0x8000, FlushCause::MovCr3).unwrap();
    flat.cpu.load_cr0(CR0_PE | CR0_PG).unwrap();
    flat
}

/// The processor again, by way of bytes, on a bus on which nothing has been decoded.
fn again(flat: &Flat) -> Flat {
    let bytes = postcard::to_stdvec(&flat.image().unwrap()).unwrap();
    let image: Image = postcard::from_bytes(&bytes).unwrap();
    let mut bus = FlatBus::new(0x1_0000);
    bus.ram_mut().write(0, flat.cpu.bus.ram().bytes());
    let FlatBus { outputs, input, interrupt, .. } = flat.cpu.bus.clone();
    (bus.outputs, bus.input, bus.interrupt) = (outputs, input, interrupt);
    Processor::revive(image, bus, ()).unwrap()
}

#[test]
fn a_processor_goes_on_from_its_image_wherever_it_was_taken() {
    let mut whole = looping();
    assert_eq!(whole.run(200), Stop::Limit);
    for at in 1..60 {
        let mut first = looping();
        first.run(at);
        let mut second = again(&first);
        // what follows from the state is made anew, and must be as it was
        assert_eq!(second.cpu.paging, first.cpu.paging);
        assert_eq!((second.cpu.class, second.cpu.counter_row), (first.cpu.class, first.cpu.counter_row));
        let page = |flat: &Flat| {
            flat.cpu
                .fetch_page
                .map(|page| (Fetched::from(page), page.spot.offset().map(|offset| offset & !0xfff)))
        };
        assert_eq!(page(&second), page(&first));
        second.run(200);
        assert_eq!(second.cpu.state, whole.cpu.state, "at {at}");
        assert!(second.cpu.tlb == whole.cpu.tlb, "the TLB at {at}");
        assert!(second.cpu.bus.ram().bytes() == whole.cpu.bus.ram().bytes(), "memory at {at}");
    }
}

#[test]
fn an_image_that_no_processor_leaves_is_refused_by_the_name_of_the_part() {
    let mut flat = looping();
    flat.run(50);
    let refused = |change: &dyn Fn(&mut Image)| {
        let mut image = flat.image().unwrap();
        change(&mut image);
        Processor::revive(image, flat.cpu.bus.clone(), ()).err().map(|damaged| damaged.0)
    };
    assert_eq!(refused(&|_| ()), None);
    assert_eq!(refused(&|image| image.model.push('!')), Some("the processor's model"));
    assert_eq!(refused(&|image| image.hidden = u64::MAX), Some("the processor's model"));
    assert_eq!(refused(&|image| image.state.cpl = 4), Some("the privilege level"));
    assert_eq!(refused(&|image| image.state.cr0 = CR0_PG), Some("CR0"));
    assert_eq!(refused(&|image| image.state.cr4 = 1 << 31), Some("CR4"));
    assert_eq!(refused(&|image| image.state.cr4 = CR4_PSE), None);
    assert_eq!(refused(&|image| image.state.mxcsr = 1 << 31), Some("MXCSR"));
    assert_eq!(refused(&|image| image.state.retired = u64::MAX), Some("the clock"));
    assert_eq!(refused(&|image| image.deliveries.truncate(255)), Some("the count of exceptions"));
    let page = Fetched { linear: 1, phys: Phys(0) };
    assert_eq!(refused(&|image| image.fetch_page = Some(page)), Some("the page of the instructions"));
    assert_eq!(
        refused(&|image| image.tlb.counters.walks = u64::MAX),
        Some("the TLB's counters"),
        "no run makes as many walks"
    );
}

#[test]
fn every_byte_of_an_image_may_be_wrong() {
    let mut flat = looping();
    flat.run(50);
    let bytes = postcard::to_stdvec(&flat.image().unwrap()).unwrap();
    let mut taken = 0;
    for at in 0..bytes.len() {
        for flip in [1, 0x80, 0xff] {
            let mut wrong = bytes.clone();
            wrong[at] ^= flip;
            let Ok(image) = postcard::from_bytes::<Image>(&wrong) else { continue };
            let Ok(mut flat) = Processor::revive(image, flat.cpu.bus.clone(), ()) else { continue };
            taken += 1;
            // far from the end of time, it may come to anything but a panic
            flat.run(flat.cpu.retired.saturating_add(200));
        }
    }
    assert!(taken > 100, "{taken} images were taken: too few to say anything");
}

#[test]
fn a_tlb_of_another_shape_is_refused() {
    let shape = |entries: u32, ways: u32| Geometry { entries, ways, ..Geometry::default() };
    for (geometry, part) in [(shape(3, 1), "the TLB's geometry"), (shape(128, 4), "the TLB's size")] {
        let image = Image { tlb: wrong_shape(geometry), ..looping().image().unwrap() };
        let refused = Processor::revive(image, FlatBus::new(0x1000), ()).err();
        assert_eq!(refused, Some(Damaged(part)));
    }
}

/// A TLB that says that it has another shape than it has.
fn wrong_shape(geometry: Geometry) -> Tlb {
    let bytes = postcard::to_stdvec(&Tlb::new(Geometry::default())).unwrap();
    let shape = postcard::to_stdvec(&Geometry::default()).unwrap().len();
    let other = postcard::to_stdvec(&geometry).unwrap();
    postcard::from_bytes(&[&other, &bytes[shape..]].concat()).unwrap()
}
