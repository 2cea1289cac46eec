//! Power management: the ACPI registers of Intel's 82371AB (PIIX4, 290562-001, "Power Management I/O Registers") and its
//! APM ports.
//!
//! Left out: device monitors, throttling, SMI and sleep states but soft off: other sleep types only set the wake status.
//! There is no SMM; the values that QEMU's firmware tells for the APM control port ([`ACPI_ENABLE`], [`ACPI_DISABLE`])
//! switch the SCI here at once, as they do there.

use crate::device::{IrqLine, PortDevice, Timed};
use pagewalk_x86::bus::Ticks;
use serde::{Deserialize, Serialize};

/// How many ports there are.
pub const PORTS: u16 = 64;
/// The chip's offset of the APM control port; the APM status port follows.
pub const APM: u16 = 0x40;
/// Written to the APM control port: ACPI mode, the SCI goes to the interrupt controllers.
pub const ACPI_ENABLE: u8 = 0xf1;
/// Written to the APM control port: legacy mode.
pub const ACPI_DISABLE: u8 = 0xf0;
/// SUS_TYP of soft off (S5).
pub const SOFT_OFF: u8 = 0;

/// PMSTS.
pub const STATUS: u16 = 0x00;
/// PMEN.
pub const ENABLE: u16 = 0x02;
/// PMCNTRL.
pub const CONTROL: u16 = 0x04;
/// PMTMR.
pub const TIMER: u16 = 0x08;
/// GPSTS, with GPEN after it.
pub const GENERAL: u16 = 0x0c;
const GENERAL_ENABLE: u16 = 0x0e;

/// The timer's overflow, also in PMEN.
const TIMER_OVERFLOW: u16 = 1 << 0;
/// Released global lock, also in PMEN.
const GLOBAL: u16 = 1 << 5;
/// The power button, also in PMEN.
const POWER_BUTTON: u16 = 1 << 8;
/// The clock's alarm, also in PMEN.
const CLOCK: u16 = 1 << 10;
/// Resumed from sleep.
const RESUMED: u16 = 1 << 15;
const EVENTS: u16 = TIMER_OVERFLOW | GLOBAL | POWER_BUTTON | CLOCK;

const SCI_ENABLE: u16 = 1 << 0;
const BIOS_RELEASE: u16 = 1 << 2;
const SUSPEND: u16 = 1 << 13;
const SUSPEND_TYPE: u16 = 10;
/// SCI_EN, BRLD_EN_BM, SUS_TYP; GBL_RLS and SUS_EN read as zero.
const CONTROL_KEPT: u16 = 0x1c03;

/// The timer has 24 bits; its highest one changes every 2.3 seconds.
const TIMER_MASK: u64 = 0xff_ffff;
const HALF: u64 = 1 << 23;
/// 3.579545 MHz.
const TIMER_HZ: u128 = 3_579_545;
const SECOND: u128 = 1_000_000_000;

/// The power management registers.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Power {
    /// The SCI.
    pub irq: IrqLine,
    status: u16,
    enable: u16,
    control: u16,
    general_enable: u16,
    apm: [u8; 2],
    /// How many times bit 23 of the timer had changed when that was last looked at.
    halves: u64,
    off: bool,
}

fn timer_at(now: Ticks) -> u64 {
    (u128::from(now.0) * TIMER_HZ / SECOND) as u64
}

impl Power {
    /// The chip at power-on.
    pub fn new() -> Power {
        Power::default()
    }

    /// The reset line.
    pub fn reset(&mut self) {
        let mut irq = self.irq;
        irq.set(false);
        *self = Power { irq, halves: self.halves, ..Power::default() };
    }

    /// The power button is pressed.
    pub fn press_button(&mut self) {
        self.status |= POWER_BUTTON;
        self.settle();
    }

    /// Whether the guest has switched the machine off; asking clears it.
    pub fn take_off(&mut self) -> bool {
        std::mem::take(&mut self.off)
    }

    /// Whether the timer will interrupt by itself.
    pub fn could_interrupt(&self) -> bool {
        self.enable & TIMER_OVERFLOW != 0 && self.control & SCI_ENABLE != 0
    }

    fn settle(&mut self) {
        self.irq.set(self.control & SCI_ENABLE != 0 && self.status & self.enable & EVENTS != 0);
    }

    fn word(&self, offset: u16) -> u16 {
        match offset {
            STATUS => self.status,
            ENABLE => self.enable,
            CONTROL => self.control,
            GENERAL_ENABLE => self.general_enable,
            _ => 0,
        }
    }

    fn write_control(&mut self, value: u16) {
        self.control = value & CONTROL_KEPT;
        if value & BIOS_RELEASE != 0 {
            self.status |= GLOBAL;
        }
        if value & SUSPEND != 0 {
            let kind = (value >> SUSPEND_TYPE) as u8 & 7;
            if kind == SOFT_OFF {
                self.off = true;
            } else {
                self.status |= RESUMED;
            }
        }
    }
}

impl PortDevice for Power {
    fn read8(&mut self, offset: u16, now: Ticks) -> u8 {
        self.tick(now);
        match offset {
            TIMER..=0x0b => ((timer_at(now) & TIMER_MASK) >> (8 * (offset - TIMER))) as u8,
            APM..=0x41 => self.apm[usize::from(offset - APM)],
            _ => self.word(offset & !1).to_le_bytes()[usize::from(offset & 1)],
        }
    }

    fn write8(&mut self, offset: u16, value: u8, now: Ticks) {
        self.tick(now);
        let shift = 8 * (offset & 1);
        let wide = u16::from(value) << shift;
        let merged = |old: u16| old & !(0xff << shift) | wide;
        match offset & !1 {
            // set bits are cleared by writing ones
            STATUS => self.status &= !wide,
            ENABLE => self.enable = merged(self.enable) & EVENTS,
            // GBL_RLS is in the lower byte, SUS_EN in the upper: a byte does what it holds
            CONTROL => self.write_control(merged(self.control)),
            GENERAL_ENABLE => self.general_enable = merged(self.general_enable),
            APM => {
                self.apm[usize::from(offset & 1)] = value;
                match (offset, value) {
                    (APM, ACPI_ENABLE) => self.control |= SCI_ENABLE,
                    (APM, ACPI_DISABLE) => self.control &= !SCI_ENABLE,
                    _ => {}
                }
            }
            _ => {}
        }
        self.settle();
    }
}

impl Timed for Power {
    fn tick(&mut self, now: Ticks) -> Option<Ticks> {
        let halves = timer_at(now) / HALF;
        if halves != self.halves {
            self.halves = halves;
            self.status |= TIMER_OVERFLOW;
            self.settle();
        }
        let next = u128::from(halves + 1) * u128::from(HALF) * SECOND;
        self.could_interrupt().then(|| Ticks(next.div_ceil(TIMER_HZ) as u64))
    }
}

#[cfg(test)]
mod tests {
    //! Expected values are those of the 82371AB's data sheet (290562-001).

    use super::*;

    const NOW: Ticks = Ticks(0);

    fn word(power: &mut Power, offset: u16, now: Ticks) -> u16 {
        u16::from_le_bytes([power.read8(offset, now), power.read8(offset + 1, now)])
    }

    fn put(power: &mut Power, offset: u16, value: u16, now: Ticks) {
        for (at, byte) in (offset..).zip(value.to_le_bytes()) {
            power.write8(at, byte, now);
        }
    }

    #[test]
    fn the_timer_counts_3_579545_million_a_second_in_24_bits() {
        let mut power = Power::new();
        let mut read = |now| u32::from_le_bytes([8, 9, 10, 11].map(|at| power.read8(at, now)));
        assert_eq!(read(Ticks(1_000_000_000)), 3_579_545);
        assert_eq!(read(Ticks(10_000_000_000)), 35_795_450 & 0xff_ffff);
    }

    #[test]
    fn a_change_of_the_timers_highest_bit_interrupts_if_enabled() {
        let mut power = Power::new();
        assert_eq!(power.tick(NOW), None);
        put(&mut power, ENABLE, 0xffff, NOW);
        assert_eq!(word(&mut power, ENABLE, NOW), 0x0521);
        put(&mut power, CONTROL, 1, NOW);
        let at = power.tick(NOW).unwrap();
        assert_eq!((timer_at(at), timer_at(Ticks(at.0 - 1))), (HALF, HALF - 1));
        assert!(power.tick(at).unwrap() > at);
        assert!(power.irq.level());
        assert_eq!(word(&mut power, STATUS, at), 1);
        put(&mut power, STATUS, 1, at);
        assert!(!power.irq.level());
    }

    #[test]
    fn soft_off_is_sleep_type_0_with_the_enable_bit() {
        let mut power = Power::new();
        put(&mut power, CONTROL, 0x0001, NOW);
        assert!(!power.take_off());
        put(&mut power, CONTROL, 0x2401, NOW);
        assert!(!power.take_off(), "another sleep type");
        assert_eq!(word(&mut power, STATUS, NOW), 0x8000);
        assert_eq!(word(&mut power, CONTROL, NOW), 0x0401, "the enable bit reads as zero");
        put(&mut power, CONTROL, 0x2001, NOW);
        assert!(power.take_off() && !power.take_off());
    }

    #[test]
    fn the_power_button_pulls_the_sci_once_acpi_is_enabled() {
        let mut power = Power::new();
        put(&mut power, ENABLE, 0x0100, NOW);
        power.press_button();
        assert!(!power.irq.level());
        power.write8(APM, ACPI_ENABLE, NOW);
        assert_eq!((power.irq.level(), word(&mut power, CONTROL, NOW)), (true, 1));
        power.write8(APM, ACPI_DISABLE, NOW);
        assert!(!power.irq.level());
    }

    #[test]
    fn releasing_the_global_lock_tells_the_other_side() {
        let mut power = Power::new();
        put(&mut power, CONTROL, 0x0004, NOW);
        assert_eq!((word(&mut power, STATUS, NOW), word(&mut power, CONTROL, NOW)), (0x20, 0));
        put(&mut power, STATUS, 0x8020, NOW);
        assert_eq!(word(&mut power, STATUS, NOW), 0);
    }

    #[test]
    fn what_is_not_there_reads_as_zero() {
        let mut power = Power::new();
        for offset in [0x06, 0x0c, 0x10, 0x14, 0x20, 0x3f] {
            power.write8(offset, 0xff, NOW);
            assert_eq!(power.read8(offset, NOW), 0, "{offset:#x}");
        }
        put(&mut power, GENERAL_ENABLE, 0x1234, NOW);
        assert_eq!(word(&mut power, GENERAL_ENABLE, NOW), 0x1234);
        power.write8(APM + 1, 0x55, NOW);
        assert_eq!(power.read8(APM + 1, NOW), 0x55);
    }
}
