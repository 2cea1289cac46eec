//! Expected values are those of SDM 3A "Advanced Programmable Interrupt Controller (APIC)".

use super::*;

const NOW: Ticks = Ticks(0);

/// Enabled by software, spurious vector FFh.
fn enabled() -> LocalApic {
    let mut apic = LocalApic::new(0);
    apic.write(SVR, 0x1ff, NOW);
    apic
}

fn fixed(vector: u8, level: bool) -> Message {
    Message { destination: Destination::Physical(0), delivery: Delivery::Fixed, vector, level }
}

#[test]
fn after_reset_it_is_on_but_disabled_by_software_and_all_is_masked() {
    let mut apic = LocalApic::new(0);
    assert!(apic.is_on());
    assert_eq!(apic.frame(), Some(0xfee00));
    assert_eq!(apic.read(SVR, NOW), 0xff);
    assert_eq!(apic.read(DFR, NOW), u32::MAX);
    assert_eq!(apic.read(VERSION, NOW), 0x0005_0014);
    for offset in [ID, TPR, PPR, LDR, ESR, ICR_LOW, ICR_HIGH, INITIAL_COUNT, CURRENT_COUNT, DIVIDE] {
        assert_eq!(apic.read(offset, NOW), 0, "{offset:#x}");
    }
    for entry in 0..6 {
        assert_eq!(apic.read(LVT + 0x10 * entry, NOW), 0x1_0000);
        apic.write(LVT + 0x10 * entry, 0x30, NOW);
        assert_eq!(apic.read(LVT + 0x10 * entry, NOW), 0x1_0030, "masks stay set while disabled");
    }
    assert!(!apic.accept(&fixed(0x40, false)), "fixed interrupts are not taken");
    assert!(apic.accept(&Message { delivery: Delivery::Nmi, ..fixed(0, false) }) && apic.take_nmi());
}

#[test]
fn a_higher_class_interrupts_a_lower_one_and_eoi_ends_the_highest() {
    let mut apic = enabled();
    apic.accept(&fixed(0x41, false));
    apic.accept(&fixed(0x45, false));
    apic.accept(&fixed(0x52, false));
    assert_eq!(apic.acknowledge(), 0x52);
    assert_eq!(apic.read(PPR, NOW), 0x50);
    assert_eq!(apic.pending(), None, "a lower class waits");
    apic.accept(&fixed(0x5f, false));
    assert_eq!(apic.pending(), None, "and so does the same class");
    apic.accept(&fixed(0x60, false));
    assert_eq!(apic.acknowledge(), 0x60);
    assert_eq!(apic.read(ISR + 0x20, NOW), 1 << 0x12);
    assert_eq!(apic.read(ISR + 0x30, NOW), 1);
    apic.write(EOI, 0, NOW);
    assert_eq!(apic.read(PPR, NOW), 0x50);
    apic.write(EOI, 0, NOW);
    assert_eq!(apic.acknowledge(), 0x5f);
    assert_eq!(apic.read(IRR + 0x20, NOW), 1 << 1 | 1 << 5);
}

#[test]
fn the_task_priority_holds_back_its_class_and_those_below() {
    let mut apic = enabled();
    apic.write(TPR, 0x4f, NOW);
    apic.accept(&fixed(0x4f, false));
    assert_eq!((apic.pending(), apic.read(PPR, NOW)), (None, 0x4f));
    apic.write(TPR, 0x3f, NOW);
    assert_eq!(apic.pending(), Some(Pending::Vector));
    apic.acknowledge();
    assert_eq!(apic.read(PPR, NOW), 0x40);
}

#[test]
fn an_interrupt_that_the_priority_takes_back_is_spurious_and_not_in_service() {
    let mut apic = enabled();
    apic.accept(&fixed(0x41, false));
    apic.write(TPR, 0xf0, NOW);
    assert_eq!(apic.acknowledge(), 0xff);
    assert_eq!(apic.isr, Vectors::default());
    assert_eq!(apic.read(IRR + 0x20, NOW), 2);
}

#[test]
fn the_end_of_a_level_is_told_and_that_of_an_edge_is_not() {
    let mut apic = enabled();
    apic.accept(&fixed(0x41, true));
    assert_eq!(apic.read(TMR + 0x20, NOW), 2);
    apic.acknowledge();
    assert_eq!(apic.write(EOI, 0, NOW).ended, Some(0x41));
    apic.accept(&fixed(0x41, false));
    apic.acknowledge();
    assert_eq!(apic.write(EOI, 0, NOW), Effects::default());
    assert_eq!(apic.write(EOI, 0, NOW), Effects::default(), "nothing is in service");
}

#[test]
fn a_one_shot_timer_interrupts_once_after_count_times_divisor_ticks() {
    for (divide, by) in [(0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (10, 128), (11, 1)] {
        let mut apic = enabled();
        apic.write(DIVIDE, divide, NOW);
        apic.write(LVT, 0x31, NOW);
        apic.write(INITIAL_COUNT, 100, NOW);
        let end = Ticks(100 * by * CLOCK_NS);
        assert_eq!(apic.tick(NOW), Some(end));
        assert_eq!(apic.read(CURRENT_COUNT, Ticks(end.0 / 2)), 50);
        assert_eq!(apic.tick(Ticks(end.0 - 1)), Some(end));
        assert_eq!(apic.pending(), None);
        assert_eq!(apic.tick(end), None);
        assert_eq!(apic.acknowledge(), 0x31);
        assert_eq!((apic.read(CURRENT_COUNT, end), apic.read(INITIAL_COUNT, end)), (0, 100));
    }
}

#[test]
fn a_periodic_timer_starts_over_and_a_count_of_zero_stops_it() {
    let mut apic = enabled();
    apic.write(DIVIDE, 0xb, NOW);
    apic.write(LVT, 0x2_0031, NOW);
    apic.write(INITIAL_COUNT, 1000, NOW);
    assert_eq!(apic.tick(Ticks(10_000)), Some(Ticks(20_000)));
    assert_eq!(apic.acknowledge(), 0x31);
    apic.write(EOI, 0, Ticks(10_000));
    assert_eq!(apic.tick(Ticks(45_000)), Some(Ticks(50_000)), "missed ends are one interrupt");
    assert_eq!(apic.read(CURRENT_COUNT, Ticks(45_000)), 500);
    apic.write(INITIAL_COUNT, 0, Ticks(45_000));
    assert_eq!((apic.tick(Ticks(60_000)), apic.read(CURRENT_COUNT, Ticks(60_000))), (None, 0));
}

#[test]
fn a_masked_timer_counts_without_interrupting() {
    let mut apic = enabled();
    apic.write(LVT, 0x1_0031, NOW);
    apic.write(INITIAL_COUNT, 1000, NOW);
    assert_eq!(apic.read(CURRENT_COUNT, Ticks(10_000)), 500);
    assert_eq!(apic.tick(Ticks(30_000)), None);
    apic.write(LVT, 0x31, Ticks(30_000));
    assert_eq!(apic.pending(), None);
}

#[test]
fn ext_int_on_lint0_passes_the_8259a_whatever_the_task_priority() {
    let mut apic = enabled();
    apic.set_pin(0, true);
    assert_eq!(apic.pending(), None, "masked");
    apic.write(TPR, 0xff, NOW);
    apic.write(LVT + 0x30, 0x8700, NOW);
    assert_eq!(apic.pending(), Some(Pending::ExtInt));
    apic.set_pin(0, false);
    assert_eq!(apic.pending(), None);
}

#[test]
fn lint1_is_nmi_by_edge() {
    let mut apic = enabled();
    apic.write(LVT + 0x40, 0x8400, NOW);
    apic.set_pin(1, true);
    assert!(apic.take_nmi());
    apic.set_pin(1, true);
    assert!(!apic.take_nmi());
}

#[test]
fn a_fixed_level_on_lint0_has_remote_irr_until_its_end() {
    let mut apic = enabled();
    apic.write(LVT + 0x30, 0x8050, NOW);
    apic.set_pin(0, true);
    assert_eq!(apic.read(LVT + 0x30, NOW), 0xc050);
    assert_eq!(apic.acknowledge(), 0x50);
    apic.write(EOI, 0, NOW);
    assert_eq!(apic.acknowledge(), 0x50, "the level is still there");
    apic.set_pin(0, false);
    apic.write(EOI, 0, NOW);
    assert_eq!((apic.pending(), apic.read(LVT + 0x30, NOW)), (None, 0x8050));
}

#[test]
fn without_the_enable_bit_of_its_base_lint0_is_intr() {
    let mut apic = enabled();
    apic.accept(&fixed(0x41, false));
    apic.set_base(LOCAL_OFF);
    assert_eq!((apic.is_on(), apic.frame(), apic.pending()), (false, None, None));
    apic.set_pin(0, true);
    assert_eq!(apic.pending(), Some(Pending::ExtInt));
    apic.set_base(0x1234_5800);
    assert_eq!(apic.frame(), Some(0x12345));
    assert_eq!(apic.read(SVR, NOW), 0xff, "as after power-up");
}

const LOCAL_OFF: u64 = 0xfee0_0100;

#[test]
fn errors_show_after_a_write_and_are_counted_from_then_on() {
    let mut apic = enabled();
    apic.write(LVT + 0x50, 0xfe, NOW);
    apic.accept(&fixed(0x0f, false));
    assert_eq!(apic.read(ESR, NOW), 0);
    apic.write(ESR, 0, NOW);
    assert_eq!(apic.read(ESR, NOW), 0x40);
    assert_eq!(apic.acknowledge(), 0xfe);
    apic.write(ICR_LOW, 0x4_0005, NOW);
    apic.read(0x3f0, NOW);
    apic.write(ESR, 0, NOW);
    assert_eq!(apic.read(ESR, NOW), 0xa0);
    apic.write(ESR, 0, NOW);
    assert_eq!(apic.read(ESR, NOW), 0);
}

#[test]
fn the_command_register_sends_to_ids_logical_destinations_and_shorthands() {
    let mut apic = enabled();
    let mut send = |high: u32, low: u32| {
        apic.write(ICR_HIGH, high, NOW);
        apic.write(ICR_LOW, low, NOW).send.map(|message| (message.destination, message.delivery))
    };
    assert_eq!(send(0x0300_0000, 0x4041), Some((Destination::Physical(3), Delivery::Fixed)));
    assert_eq!(send(0x0300_0000, 0x4841), Some((Destination::Logical(3), Delivery::Fixed)));
    assert_eq!(send(0, 0x4_4041), Some((Destination::Myself, Delivery::Fixed)));
    assert_eq!(send(0, 0x8_4041), Some((Destination::All, Delivery::Fixed)));
    assert_eq!(send(0, 0xc_4500), Some((Destination::Others, Delivery::Init)));
    assert_eq!(send(0, 0xc_8500), None, "INIT level de-assert");
    assert_eq!(send(0, 0xc_4609), Some((Destination::Others, Delivery::StartUp)));
    assert_eq!(apic.read(ICR_LOW, NOW), 0xc_4609, "sent at once");
}

#[test]
fn logical_destinations_are_bits_in_the_flat_model_and_clusters_in_the_other() {
    let mut apic = enabled();
    apic.write(LDR, 0x0400_0000, NOW);
    let meant = |apic: &LocalApic, mask| apic.is_meant(Destination::Logical(mask), None);
    assert!(meant(&apic, 0x04) && meant(&apic, 0x0c) && meant(&apic, 0xff) && !meant(&apic, 0x03));
    apic.write(DFR, 0x0fff_ffff, NOW);
    apic.write(LDR, 0x2400_0000, NOW);
    assert!(meant(&apic, 0x24) && meant(&apic, 0x2f) && meant(&apic, 0xff));
    assert!(!meant(&apic, 0x14) && !meant(&apic, 0x23));
    assert!(
        apic.is_meant(Destination::Physical(0), None) && apic.is_meant(Destination::Physical(0xff), None)
    );
    assert!(!apic.is_meant(Destination::Physical(1), None));
    assert!(!apic.is_meant(Destination::Others, Some(0)) && apic.is_meant(Destination::Myself, Some(0)));
}
