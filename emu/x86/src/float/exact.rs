//! Finite numbers, and the four operations and the square root on them, exact or nearly so.

use rustc_apfloat::ieee::{IeeeFloat, Semantics};
use rustc_apfloat::{Float, Round, Status, StatusAnd};

/// A finite number that is not zero: `(-1)^negative * significand * 2^(exponent - 127)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exact {
    /// Its sign.
    pub negative: bool,
    /// Exponent of the integer bit.
    pub exponent: i32,
    /// The significand with the integer bit in bit 127. If the number has more bits than are kept, bit 0 is set (it is
    /// "sticky"), which no rounding to 64 bits can tell from the number itself.
    pub significand: u128,
}

/// Room for the sum, product, quotient or root of two numbers of 64 bits with two bits to spare, and for any exponent.
struct Wide;

impl Semantics for Wide {
    const BITS: usize = 1 + 20 + PRECISION - 1;
    const EXP_BITS: usize = 20;
}

const PRECISION: usize = 104;
type Float104 = IeeeFloat<Wide>;

impl Exact {
    /// Of numbers that came from a format; results of operations may have lost their last bits to the sticky one.
    fn wide(self) -> Float104 {
        let fraction = self.significand << 1 >> (129 - PRECISION);
        let exponent = (self.exponent + (1 << 19) - 1) as u128;
        Float104::from_bits(
            (self.negative as u128) << (Wide::BITS - 1) | exponent << (PRECISION - 1) | fraction,
        )
    }

    /// `None` for zero.
    fn from_wide(result: StatusAnd<Float104>) -> Option<Exact> {
        if result.value.is_zero() {
            return None;
        }
        let bits = result.value.to_bits();
        let exponent = (bits >> (PRECISION - 1)) as i32 & ((1 << Wide::EXP_BITS) - 1);
        let sticky = result.status.contains(Status::INEXACT) as u128;
        Some(Exact {
            negative: bits >> (Wide::BITS - 1) != 0,
            exponent: exponent - ((1 << 19) - 1),
            significand: 1 << 127 | bits << (129 - PRECISION) >> 1 | sticky,
        })
    }

    /// The sum; `None` if it is zero, whose sign depends on the rounding.
    pub fn plus(self, other: Exact) -> Option<Exact> {
        Exact::from_wide(self.wide().add_r(other.wide(), Round::TowardZero))
    }

    /// The product.
    pub fn times(self, other: Exact) -> Exact {
        let product = (self.significand >> 64) * (other.significand >> 64);
        let shift = product.leading_zeros();
        Exact {
            negative: self.negative != other.negative,
            exponent: self.exponent + other.exponent + 1 - shift as i32,
            significand: product << shift,
        }
    }

    /// The quotient.
    pub fn over(self, divisor: Exact) -> Exact {
        let quotient = self.wide().div_r(divisor.wide(), Round::TowardZero);
        Exact::from_wide(quotient).unwrap_or(self)
    }

    /// The square root of its absolute value.
    pub fn square_root(self) -> Exact {
        // bit by bit, as by hand: two more bits of the number make one more bit of the root; 96 of them and whether there
        // is a remainder are more than any rounding asks for
        let odd = self.exponent & 1 != 0;
        let number = (self.significand >> 64) << if odd { 64 } else { 63 };
        let mut root: u128 = 0;
        let mut remainder: u128 = 0;
        for step in 0..96 {
            let pair = if step < 64 { number >> (126 - 2 * step) & 3 } else { 0 };
            remainder = remainder << 2 | pair;
            let trial = root << 2 | 1;
            root <<= 1;
            if remainder >= trial {
                remainder -= trial;
                root |= 1;
            }
        }
        let shift = root.leading_zeros();
        let sticky = (remainder != 0) as u128;
        Exact { negative: false, exponent: self.exponent >> 1, significand: root << shift | sticky }
    }

    /// The number with its sign changed.
    pub fn negated(self) -> Exact {
        Exact { negative: !self.negative, ..self }
    }

    /// An integer; `None` for 0.
    pub fn from_integer(value: i64) -> Option<Exact> {
        let magnitude = value.unsigned_abs();
        let shift = magnitude.leading_zeros();
        (magnitude != 0).then(|| Exact {
            negative: value < 0,
            exponent: 63 - shift as i32,
            significand: (magnitude as u128) << (64 + shift),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::float::format::{Value, unpack};
    use crate::float::{Format, Rounding, round};

    fn exact(value: f64) -> Exact {
        match unpack(value.to_bits(), Format::DOUBLE).value {
            Value::Finite(exact) => exact,
            other => panic!("{value} is {other:?}"),
        }
    }

    fn nearest(value: Exact) -> f64 {
        f64::from_bits(round(value, Format::DOUBLE, Rounding::Nearest).double())
    }

    /// The host's arithmetic is the oracle: IEEE 754 leaves no choice.
    #[test]
    fn the_four_operations_and_the_root_are_those_of_the_host() {
        let mut random = crate::random::Random::new(1);
        for _ in 0..200_000 {
            let mut operand = || {
                let bits = random.bits();
                // exponents near each other, so that sums are no foregone conclusion
                f64::from_bits(bits & !(0x7ff << 52) | (1023 - 60 + bits % 121) << 52)
            };
            let (a, b) = (operand(), operand());
            let (x, y) = (exact(a), exact(b));
            match x.plus(y) {
                Some(sum) => assert_eq!(nearest(sum), a + b, "{a:e} + {b:e}"),
                None => assert_eq!(a + b, 0.0),
            }
            assert_eq!(nearest(x.times(y)), a * b, "{a:e} * {b:e}");
            assert_eq!(nearest(x.over(y)), a / b, "{a:e} / {b:e}");
            assert_eq!(nearest(x.square_root()), a.abs().sqrt(), "root of {a:e}");
        }
    }
}
