//! Rounding to a format (SDM 1 "Rounding", "Numeric Overflow Exception", "Numeric Underflow Exception").

use super::Exact;
use super::exception::{OE, PE, UE};
use super::format::{Format, infinity, infinity80, pack, pack80};

/// The rounding control.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rounding {
    /// To nearest, ties to even.
    Nearest,
    /// Towards minus infinity.
    Down,
    /// Towards plus infinity.
    Up,
    /// Towards zero.
    Zero,
}

impl Rounding {
    /// From the two bits of RC.
    pub fn from_control(rc: u32) -> Rounding {
        match rc & 3 {
            0 => Rounding::Nearest,
            1 => Rounding::Down,
            2 => Rounding::Up,
            _ => Rounding::Zero,
        }
    }

    /// Whether a number goes up in magnitude: `half` and `below` are what stands in the first bit lost and whether any
    /// other is set; `odd` is the last bit kept.
    pub fn increments(self, negative: bool, odd: bool, half: bool, below: bool) -> bool {
        match self {
            Rounding::Nearest => half && (below || odd),
            Rounding::Down => negative && (half || below),
            Rounding::Up => !negative && (half || below),
            Rounding::Zero => false,
        }
    }
}

/// A number rounded to a format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rounded {
    /// Its sign.
    pub negative: bool,
    /// Its exponent, within the format's range unless it is infinite.
    pub exponent: i32,
    /// The significand, left-aligned; the integer bit is clear in denormals; 0 for zero.
    pub significand: u64,
    /// It overflowed to infinity.
    pub infinite: bool,
    /// OE, UE and PE as the masked response reports them: UE only together with PE.
    pub exceptions: u16,
    /// Tiny: it would have been smaller than the smallest normal number if the exponent had no bounds (tininess is detected
    /// after rounding). What an unmasked underflow goes by.
    pub tiny: bool,
    /// The magnitude went up.
    pub up: bool,
    /// The format's.
    format: Format,
}

/// What is left of a significand in `precision` bits, left-aligned, with one more than 64 bits' room for the carry.
fn cut(significand: u128, precision: u32, rounding: Rounding, negative: bool) -> (u128, bool, bool) {
    let lost = 128 - precision;
    let kept = if lost == 128 { 0 } else { significand >> lost };
    let half = significand >> (lost - 1) & 1 != 0;
    let below = significand & ((1 << (lost - 1)) - 1) != 0;
    let up = rounding.increments(negative, kept & 1 != 0, half, below);
    (kept + up as u128, up, half || below)
}

/// Rounds to the format's precision alone, as if exponents had no bounds: significand (left-aligned), exponent, whether
/// it went up, and whether it is inexact. What unmasked overflow and underflow deliver goes by it.
pub fn round_unbounded(value: Exact, precision: u32, rounding: Rounding) -> (u64, i32, bool, bool) {
    let (kept, up, inexact) = cut(value.significand, precision, rounding, value.negative);
    let carried = kept >> precision != 0;
    let kept = if carried { kept >> 1 } else { kept };
    ((kept << (64 - precision)) as u64, value.exponent + carried as i32, up, inexact)
}

/// Rounds to a format with all exceptions masked.
pub fn round(value: Exact, format: Format, rounding: Rounding) -> Rounded {
    let negative = value.negative;
    let (significand, exponent, up, inexact) = round_unbounded(value, format.precision, rounding);
    let tiny = exponent < format.min_exponent();
    let mut rounded = Rounded {
        negative,
        exponent,
        significand,
        infinite: false,
        exceptions: if inexact { PE } else { 0 },
        tiny,
        up,
        format,
    };
    if exponent > format.max_exponent {
        rounded.exceptions = OE | PE;
        rounded.infinite = match rounding {
            Rounding::Nearest => true,
            Rounding::Down => negative,
            Rounding::Up => !negative,
            Rounding::Zero => false,
        };
        rounded.up = rounded.infinite;
        rounded.exponent = format.max_exponent;
        rounded.significand = u64::MAX << (64 - format.precision);
    } else if tiny || value.exponent < format.min_exponent() {
        // fewer bits are left the smaller it is
        let missing = (format.min_exponent() - value.exponent) as u32;
        let (kept, up, inexact) = if missing > format.precision {
            // not even the first bit lost is the number's first
            let up = rounding.increments(negative, false, false, true);
            (up as u128, up, true)
        } else {
            cut(value.significand, format.precision - missing, rounding, negative)
        };
        rounded.significand = (kept << (64 - format.precision)) as u64;
        rounded.exponent = format.min_exponent();
        rounded.up = up;
        rounded.exceptions = match (inexact, tiny) {
            (true, true) => UE | PE,
            (true, false) => PE,
            (false, _) => 0,
        };
    }
    rounded
}

impl Rounded {
    /// The encoding in single precision, or in double.
    pub fn double(&self) -> u64 {
        if self.infinite {
            infinity(self.negative, self.format)
        } else {
            pack(self.negative, self.exponent, self.significand, self.format)
        }
    }

    /// The encoding in 80 bits, whatever the precision.
    pub fn extended(&self) -> u128 {
        if self.infinite {
            infinity80(self.negative)
        } else {
            pack80(self.negative, self.exponent, self.significand)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::float::format::{Value, unpack};

    /// The host's conversion from double to single is the oracle.
    #[test]
    fn doubles_become_singles_as_on_the_host() {
        let mut random = crate::random::Random::new(2);
        for n in 0..500_000u64 {
            let bits = random.bits();
            // half of them around where singles begin and end to be normal
            let exponent = if n % 2 == 0 { 1023 - 160 + bits % 60 } else { 1023 + 100 + bits % 40 };
            let double = f64::from_bits(bits & !(0x7ff << 52) | exponent << 52);
            let Value::Finite(exact) = unpack(double.to_bits(), Format::DOUBLE).value else { continue };
            let single = round(exact, Format::SINGLE, Rounding::Nearest);
            assert_eq!(single.double(), (double as f32).to_bits() as u64, "{double:e}");
            assert_eq!(single.exceptions & PE != 0, double as f32 as f64 != double, "{double:e}");
        }
    }

    #[test]
    fn directed_roundings_enclose_and_tell_the_way() {
        // 1 + 2^-30 in single precision
        let value = Exact { negative: false, exponent: 0, significand: 1 << 127 | 1 << 97 };
        for (rounding, negative, bits, up) in [
            (Rounding::Nearest, false, 0x3f80_0000, false),
            (Rounding::Down, false, 0x3f80_0000, false),
            (Rounding::Up, false, 0x3f80_0001, true),
            (Rounding::Zero, false, 0x3f80_0000, false),
            (Rounding::Down, true, 0xbf80_0001, true),
            (Rounding::Up, true, 0xbf80_0000, false),
        ] {
            let rounded = round(Exact { negative, ..value }, Format::SINGLE, rounding);
            assert_eq!((rounded.double(), rounded.up, rounded.exceptions), (bits, up, PE));
        }
    }

    #[test]
    fn tininess_is_found_after_rounding() {
        // all ones below the smallest normal single: rounds up to it, and is not tiny
        let value = Exact { negative: false, exponent: -127, significand: u128::MAX };
        let rounded = round(value, Format::SINGLE, Rounding::Nearest);
        assert_eq!((rounded.double(), rounded.tiny, rounded.exceptions), (0x0080_0000, false, PE));
        // one bit less than what 24 bits can hold just below: tiny before and after
        let value = Exact { negative: false, exponent: -127, significand: 0xffff_ff00 << 96 | 1 << 95 };
        let rounded = round(value, Format::SINGLE, Rounding::Zero);
        assert_eq!((rounded.tiny, rounded.exceptions), (true, UE | PE));
    }

    #[test]
    fn overflow_goes_where_the_rounding_points() {
        let value = Exact { negative: false, exponent: 128, significand: 1 << 127 };
        for (rounding, bits) in [
            (Rounding::Nearest, 0x7f80_0000),
            (Rounding::Up, 0x7f80_0000),
            (Rounding::Down, 0x7f7f_ffff),
            (Rounding::Zero, 0x7f7f_ffff),
        ] {
            let rounded = round(value, Format::SINGLE, rounding);
            assert_eq!((rounded.double(), rounded.exceptions), (bits, OE | PE));
        }
    }
}
