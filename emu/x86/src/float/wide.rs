//! Arithmetic with 128 bits of significand, nearly exact: each operation loses less than two units in the last of them.
//! The transcendental functions are made of it. All constants are computed here, from integers, when pagewalk is compiled.

use super::Exact;

/// The upper half of the product: both factors and the product as multiples of 2^-128.
pub const fn product(a: u128, b: u128) -> u128 {
    const LOW: u128 = u64::MAX as u128;
    let (ah, al, bh, bl) = (a >> 64, a & LOW, b >> 64, b & LOW);
    let (x, y) = (ah * bl, al * bh);
    let middle = ((al * bl) >> 64) + (x & LOW) + (y & LOW);
    ah * bh + (x >> 64) + (y >> 64) + (middle >> 64)
}

/// The quotient of two numbers as a multiple of 2^-128: `dividend` is less than `divisor`, whose first bit is set.
const fn quotient(dividend: u128, divisor: u128) -> u128 {
    let (high, rest) = digit(dividend, divisor);
    let (low, _) = digit(rest, divisor);
    (high as u128) << 64 | low as u128
}

/// The next 64 bits of a quotient and the rest, by the first 64 bits of the divisor (Knuth's algorithm D, one digit).
const fn digit(dividend: u128, divisor: u128) -> (u64, u128) {
    let (high, low) = (divisor >> 64, divisor & u64::MAX as u128);
    let mut guess = dividend / high;
    if guess > u64::MAX as u128 {
        guess = u64::MAX as u128;
    }
    // what the first half leaves; from 2^64 on no guess is too large
    let mut rest = dividend - guess * high;
    while rest >> 64 == 0 && rest << 64 < guess * low {
        guess -= 1;
        rest += high;
    }
    (guess as u64, (rest << 64).wrapping_sub(guess * low))
}

impl Exact {
    /// A number of 128 bits from any that is not 0, times 2^(`exponent` - 127).
    pub const fn wide_of(negative: bool, exponent: i32, significand: u128) -> Exact {
        let shift = significand.leading_zeros();
        Exact { negative, exponent: exponent - shift as i32, significand: significand << shift }
    }

    /// The product.
    pub const fn wide_times(self, other: Exact) -> Exact {
        let exponent = self.exponent + other.exponent + 1;
        Exact::wide_of(
            self.negative != other.negative,
            exponent,
            product(self.significand, other.significand),
        )
    }

    /// The quotient.
    pub const fn wide_over(self, divisor: Exact) -> Exact {
        let negative = self.negative != divisor.negative;
        let exponent = self.exponent - divisor.exponent;
        if self.significand < divisor.significand {
            return Exact::wide_of(negative, exponent - 1, quotient(self.significand, divisor.significand));
        }
        let rest = quotient(self.significand - divisor.significand, divisor.significand);
        Exact { negative, exponent, significand: 1 << 127 | rest >> 1 }
    }

    /// The sum; where it is nothing, the least number that could be meant.
    pub const fn wide_plus(self, other: Exact) -> Exact {
        let (large, small) = if self.exponent > other.exponent
            || self.exponent == other.exponent && self.significand >= other.significand
        {
            (self, other)
        } else {
            (other, self)
        };
        let distance = (large.exponent - small.exponent) as u32;
        let shifted = if distance < 128 { small.significand >> distance } else { 0 };
        if large.negative != small.negative {
            let difference = large.significand - shifted;
            return Exact::wide_of(large.negative, large.exponent, difference | (difference == 0) as u128);
        }
        match large.significand.checked_add(shifted) {
            Some(significand) => Exact { significand, ..large },
            None => Exact {
                exponent: large.exponent + 1,
                significand: 1 << 127 | large.significand.wrapping_add(shifted) >> 1,
                ..large
            },
        }
    }

    /// Its magnitude as a multiple of 2^-128; it is less than 1.
    pub const fn fraction(self) -> u128 {
        let shift = -1 - self.exponent;
        if shift < 128 { self.significand >> shift } else { 0 }
    }

    /// Marks it as not exact.
    pub const fn inexact(self) -> Exact {
        Exact { significand: self.significand | 1, ..self }
    }
}

/// `scale` times the arctangent (whose series alternates) or artanh of `1 / inverse`, as a multiple of 2^-128.
const fn inverse_series(inverse: u128, scale: u128, is_alternating: bool) -> u128 {
    let mut power = (u128::MAX / inverse) * scale;
    let (mut sum, mut n) = (power, 1);
    while power != 0 {
        power /= inverse * inverse;
        let term = power / (2 * n + 1);
        if is_alternating && n % 2 == 1 {
            sum -= term;
        } else {
            sum += term;
        }
        n += 1;
    }
    sum
}

/// ln 2 = 2 artanh(1/3).
pub const LN_2: Exact = Exact::wide_of(false, -1, inverse_series(3, 2, false));
/// 2 / ln 2: what makes a logarithm to base 2 of an artanh.
pub const TWO_BY_LN_2: Exact = Exact { negative: false, exponent: 1, significand: 1 << 127 }.wide_over(LN_2);
/// pi / 4 = 4 arctan(1/5) - arctan(1/239) (Machin).
pub const QUARTER_PI: Exact =
    Exact::wide_of(false, -1, inverse_series(5, 4, true) - inverse_series(239, 1, true));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn any(random: &mut Random) -> Exact {
        let significand = (random.bits() as u128) << 64 | random.bits() as u128 | 1 << 127;
        Exact { negative: random.bits() & 1 != 0, exponent: (random.bits() % 9) as i32 - 4, significand }
    }

    fn near(a: Exact, b: Exact) -> bool {
        let difference = a.wide_plus(b.negated());
        difference.exponent < a.exponent - 120
    }

    #[test]
    fn products_and_quotients_undo_each_other_and_so_do_sums() {
        let mut random = Random::new(5);
        for _ in 0..200_000 {
            let (a, b) = (any(&mut random), any(&mut random));
            assert!(near(a.wide_times(b).wide_over(b), a), "{a:x?} {b:x?}");
            assert!(near(a.wide_over(b).wide_times(b), a), "{a:x?} {b:x?}");
            let sum = a.wide_plus(b).wide_plus(b.negated());
            assert!(sum.wide_plus(a.negated()).exponent < a.exponent.max(b.exponent) - 120, "{a:x?} {b:x?}");
        }
        // quotients whose first guess is too large
        let one = Exact { negative: false, exponent: 0, significand: 1 << 127 };
        let two = Exact { significand: u128::MAX >> 1 | 1 << 127, ..one };
        assert!(near(two.wide_over(two), one));
        let awkward = Exact { significand: 1 << 127 | u64::MAX as u128, ..one };
        assert!(near(awkward.wide_over(two).wide_times(two), awkward));
    }

    /// The first hexadecimal digits as they are found in tables of constants.
    #[test]
    fn constants_are_those_of_the_tables() {
        assert_eq!(QUARTER_PI.significand >> 16, 0xc90f_daa2_2168_c234_c4c6_628b_80dc);
        assert_eq!(LN_2.significand >> 16, 0xb172_17f7_d1cf_79ab_c9e3_b398_03f2);
        assert_eq!(TWO_BY_LN_2.significand >> 16, 0xb8aa_3b29_5c17_f0bb_be87_fed0_691d);
        assert_eq!((QUARTER_PI.exponent, LN_2.exponent, TWO_BY_LN_2.exponent), (-1, -1, 1));
    }
}
