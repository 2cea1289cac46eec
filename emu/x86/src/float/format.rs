//! The formats, and what stands in them (SDM 1 "Floating-Point Data Types").

use super::Exact;

/// A format, or the part of one that results are rounded to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Format {
    /// Bits of the significand, the integer bit among them.
    pub precision: u32,
    /// The largest exponent of a number; the smallest of a normal one is one less its negative.
    pub max_exponent: i32,
}

impl Format {
    /// binary32.
    pub const SINGLE: Format = Format { precision: 24, max_exponent: 127 };
    /// binary64.
    pub const DOUBLE: Format = Format { precision: 53, max_exponent: 1023 };
    /// The 80-bit format.
    pub const EXTENDED: Format = Format { precision: 64, max_exponent: 16383 };

    /// The smallest exponent of a normal number.
    pub fn min_exponent(self) -> i32 {
        1 - self.max_exponent
    }
}

/// What an encoding means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value {
    /// Zero.
    Zero,
    /// A finite number that is not zero.
    Finite(Exact),
    /// Infinity.
    Infinity,
    /// A NaN, quiet or signalling.
    Nan {
        /// Its first bit of fraction is set.
        quiet: bool,
    },
    /// An 80-bit encoding that no unit since the 387 accepts: unnormal, pseudo-infinity, pseudo-NaN.
    Unsupported,
}

/// A number in a format, with its encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Number {
    /// Its sign bit.
    pub negative: bool,
    /// What it is.
    pub value: Value,
    /// Its encoding has the smallest exponent and is not zero: a denormal or pseudo-denormal.
    pub denormal: bool,
}

/// A finite number from its significand (as an integer) and the exponent of that integer's last bit.
fn finite(negative: bool, significand: u64, last: i32) -> Value {
    let shift = significand.leading_zeros();
    let exact = Exact {
        negative,
        exponent: last + 63 - shift as i32,
        significand: (significand as u128) << (64 + shift),
    };
    Value::Finite(exact)
}

/// Splits an encoding of `format` (single or double precision).
pub fn unpack(bits: u64, format: Format) -> Number {
    let fraction_bits = format.precision - 1;
    let exponent_mask = (2 * format.max_exponent + 1) as u64;
    let sign_at = if format == Format::SINGLE { 31 } else { 63 };
    let negative = bits >> sign_at & 1 != 0;
    let exponent = bits >> fraction_bits & exponent_mask;
    let fraction = bits & ((1 << fraction_bits) - 1);
    let last_of_smallest = format.min_exponent() - fraction_bits as i32;
    let value = match (exponent, fraction) {
        (0, 0) => Value::Zero,
        (0, _) => finite(negative, fraction, last_of_smallest),
        (e, 0) if e == exponent_mask => Value::Infinity,
        (e, _) if e == exponent_mask => Value::Nan { quiet: fraction >> (fraction_bits - 1) != 0 },
        (e, _) => finite(negative, fraction | 1 << fraction_bits, last_of_smallest + e as i32 - 1),
    };
    Number { negative, value, denormal: exponent == 0 && fraction != 0 }
}

/// Splits an 80-bit encoding.
pub fn unpack80(bits: u128) -> Number {
    let negative = bits >> 79 & 1 != 0;
    let exponent = (bits >> 64 & 0x7fff) as i32;
    let significand = bits as u64;
    let integer = significand >> 63 != 0;
    let last_of_smallest = Format::EXTENDED.min_exponent() - 63;
    let value = match exponent {
        0 if significand == 0 => Value::Zero,
        0 => finite(negative, significand, last_of_smallest),
        _ if !integer => Value::Unsupported,
        0x7fff if significand << 1 == 0 => Value::Infinity,
        0x7fff => Value::Nan { quiet: significand >> 62 & 1 != 0 },
        _ => finite(negative, significand, last_of_smallest + exponent - 1),
    };
    Number { negative, value, denormal: exponent == 0 && significand != 0 }
}

/// The encoding in single or double precision of a finite number that is exact in it: `significand` is left-aligned.
pub fn pack(negative: bool, exponent: i32, significand: u64, format: Format) -> u64 {
    let fraction_bits = format.precision - 1;
    let sign = (negative as u64) << if format == Format::SINGLE { 31 } else { 63 };
    if significand == 0 {
        return sign;
    }
    // a denormal comes with the smallest exponent and its integer bit clear
    let biased = (exponent - format.min_exponent() + (significand >> 63) as i32) as u64;
    let fraction = (significand << 1) >> (64 - fraction_bits);
    sign | biased << fraction_bits | fraction
}

/// The same in 80 bits.
pub fn pack80(negative: bool, exponent: i32, significand: u64) -> u128 {
    let sign = (negative as u128) << 79;
    if significand == 0 {
        return sign;
    }
    let biased = (exponent - Format::EXTENDED.min_exponent() + (significand >> 63) as i32) as u128;
    sign | biased << 64 | significand as u128
}

/// Infinity in single or double precision.
pub fn infinity(negative: bool, format: Format) -> u64 {
    let sign = (negative as u64) << if format == Format::SINGLE { 31 } else { 63 };
    sign | ((2 * format.max_exponent + 1) as u64) << (format.precision - 1)
}

/// Infinity in 80 bits.
pub fn infinity80(negative: bool) -> u128 {
    (negative as u128) << 79 | 0x7fff_8000_0000_0000_0000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(number: Number) -> Exact {
        match number.value {
            Value::Finite(exact) => exact,
            other => panic!("{other:?} is not finite"),
        }
    }

    #[test]
    fn numbers_of_all_formats_come_back_as_they_went() {
        for value in [1.0, -1.5, f32::MAX, f32::MIN_POSITIVE, f32::MIN_POSITIVE / 8.0, f32::from_bits(1)] {
            let number = exact(unpack(value.to_bits() as u64, Format::SINGLE));
            let denormal = number.exponent < Format::SINGLE.min_exponent();
            let down = if denormal { Format::SINGLE.min_exponent() - number.exponent } else { 0 };
            let packed = pack(
                number.negative,
                number.exponent + down,
                (number.significand >> 64) as u64 >> down,
                Format::SINGLE,
            );
            assert_eq!(packed, value.to_bits() as u64);
            let wide = exact(unpack((value as f64).to_bits(), Format::DOUBLE));
            assert_eq!((wide.exponent, wide.significand), (number.exponent, number.significand));
        }
    }

    #[test]
    fn eighty_bit_encodings_are_told_apart_as_the_manual_tabulates() {
        // SDM 1 table "Unsupported Double Extended-Precision Floating-Point Encodings and Pseudo-Denormals"
        let value = |bits: u128| unpack80(bits).value;
        assert_eq!(value(0x7fff_8000_0000_0000_0000), Value::Infinity);
        assert_eq!(value(0x7fff_0000_0000_0000_0000), Value::Unsupported);
        assert_eq!(value(0x7fff_4000_0000_0000_0000), Value::Unsupported);
        assert_eq!(value(0x7fff_c000_0000_0000_0000), Value::Nan { quiet: true });
        assert_eq!(value(0x7fff_8000_0000_0000_0001), Value::Nan { quiet: false });
        assert_eq!(value(0x0001_4000_0000_0000_0000), Value::Unsupported);
        assert_eq!(exact(unpack80(0x3fff_8000_0000_0000_0000)).exponent, 0);
        // a pseudo-denormal is the smallest normal number
        let pseudo = unpack80(0x0000_8000_0000_0000_0000);
        assert!(pseudo.denormal);
        assert_eq!(pseudo.value, unpack80(0x0001_8000_0000_0000_0000).value);
        assert!(!unpack80(0x0001_8000_0000_0000_0000).denormal);
    }
}
