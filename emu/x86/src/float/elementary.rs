//! Sine, cosine, tangent, arctangent, powers of two and logarithms to base 2 (SDM 1 "Trigonometric Instructions",
//! "Logarithmic, Exponential, and Scale"), to about 120 bits, so that rounding them to 64 is right but in one case of 2^50.
//!
//! Every argument is brought near 0, where its Taylor series is short; the series gives a factor near 1 as a fraction of 128
//! bits, and the argument times that factor keeps its relative precision however small it is.

use super::Exact;
use super::wide::{LN_2, QUARTER_PI, TWO_BY_LN_2, product};

/// 1 as a fraction with one bit before the point.
const ONE: u128 = 1 << 127;

/// Terms of each series.
const TERMS: usize = 28;

/// 1 / n!, as multiples of 2^-128, for n from 2.
const FACTORIALS: [u128; TERMS + 3] = {
    let mut table = [u128::MAX / 2 + 1; TERMS + 3];
    let mut n = 1;
    while n < table.len() {
        table[n] = table[n - 1] / (n as u128 + 2);
        n += 1;
    }
    table
};

/// 1 / (2n + 1), for n from 1.
const ODD: [u128; TERMS] = {
    let mut table = [0; TERMS];
    let mut n = 0;
    while n < table.len() {
        table[n] = u128::MAX / (2 * n as u128 + 3);
        n += 1;
    }
    table
};

/// `z (c0 + z (c1 + z (c2 ...)))`, or with alternating signs `z (c0 - z (c1 - ...))`.
fn series(z: u128, coefficients: impl DoubleEndedIterator<Item = u128>, is_alternating: bool) -> u128 {
    coefficients.rev().fold(0, |sum, coefficient| {
        product(z, if is_alternating { coefficient - sum } else { coefficient + sum })
    })
}

/// A factor of 1 plus or minus a series, never exactly 1.
fn scaled(argument: Exact, series: u128, is_less: bool) -> Exact {
    let distance = (series >> 1).max(1);
    let factor = if is_less { ONE - distance } else { ONE + distance };
    let factor = Exact::wide_of(false, 0, factor);
    let scaled = argument.wide_times(factor);
    if is_less || (scaled.exponent, scaled.significand) > (argument.exponent, argument.significand) {
        scaled.inexact()
    } else {
        argument.inexact()
    }
}

/// The sine and cosine of an angle within pi / 4 of 0.
fn circle(angle: Exact) -> (Exact, Exact) {
    let fraction = angle.fraction();
    let z = product(fraction, fraction);
    const PAIRS: usize = 14;
    let odd = series(z, FACTORIALS[1..].iter().copied().step_by(2).take(PAIRS), true);
    let even = series(z, FACTORIALS.iter().copied().step_by(2).take(PAIRS), true);
    let one = Exact { negative: false, exponent: 0, significand: ONE };
    (scaled(angle, odd, true), scaled(one, even, true))
}

/// An angle reduced to within pi / 4 of 0, and in which quarter of the circle it was: by a pi of 66 bits, as Intel's and AMD's
/// processors have it (SDM 1 "Approximation of Pi"). `None` if it is 2^63 or more.
fn reduce(angle: Exact) -> Option<(Exact, u64)> {
    /// pi / 2 as a multiple of 2^-65.
    const HALF_PI: u128 = QUARTER_PI.significand >> 62;
    if angle.exponent >= 63 {
        return None;
    }
    if angle.exponent < -1 {
        return Some((angle, 0));
    }
    let number = (angle.significand >> 64) << (angle.exponent + 2);
    let (mut quarter, mut rest, mut negative) = (number / HALF_PI, number % HALF_PI, angle.negative);
    if rest > HALF_PI / 2 {
        rest = HALF_PI - rest;
        negative = !negative;
        quarter += 1;
    }
    let quarter = if angle.negative { quarter.wrapping_neg() } else { quarter };
    // never nothing: the odd HALF_PI has more bits than any angle
    Some((Exact::wide_of(negative, 62, rest | (rest == 0) as u128), quarter as u64 & 3))
}

/// Sine and cosine; `None` if the angle is out of range.
pub fn sine_and_cosine(angle: Exact) -> Option<(Exact, Exact)> {
    let (angle, quarter) = reduce(angle)?;
    let (sine, cosine) = circle(angle);
    Some(match quarter {
        0 => (sine, cosine),
        1 => (cosine, sine.negated()),
        2 => (sine.negated(), cosine.negated()),
        _ => (cosine.negated(), sine),
    })
}

/// Tangent; `None` if the angle is out of range.
pub fn tangent(angle: Exact) -> Option<Exact> {
    let (rest, quarter) = reduce(angle)?;
    if quarter == 0 && rest.exponent < -40 {
        // a quotient might be nothing but the angle
        let fraction = rest.fraction();
        return Some(scaled(rest, product(product(fraction, fraction), ODD[0]), false));
    }
    let (sine, cosine) = circle(rest);
    let tangent = if quarter & 1 == 0 { sine.wide_over(cosine) } else { cosine.wide_over(sine).negated() };
    Some(tangent.inexact())
}

/// 2^x - 1, for x from -1 to 1.
pub fn power_of_two_less_one(x: Exact) -> Exact {
    if x.exponent >= 0 {
        let exponent = if x.negative { -1 } else { 0 };
        return Exact { exponent, ..x };
    }
    let y = x.wide_times(LN_2);
    scaled(y, series(y.fraction(), FACTORIALS.iter().copied().take(TERMS), y.negative), y.negative)
}

/// The logarithm to base 2 of (1 + s) / (1 - s): 2 / ln 2 times artanh s; s is within 0.18 of 0.
fn logarithm_of_ratio(s: Exact) -> Exact {
    let fraction = s.fraction();
    let artanh = scaled(s, series(product(fraction, fraction), ODD.iter().copied(), false), false);
    artanh.wide_times(TWO_BY_LN_2).inexact()
}

/// The logarithm to base 2 of a positive number; `None` if it is 0.
pub fn logarithm(x: Exact) -> Option<Exact> {
    /// The square root of 2, near enough to halve the work.
    const MIDDLE: u128 = 0xb504_f333 << 96;
    let up = x.significand > MIDDLE;
    let significand = Exact { negative: false, exponent: -(up as i32), ..x };
    let whole = Exact::from_integer(x.exponent as i64 + up as i64);
    if x.significand == ONE {
        return whole;
    }
    let one = Exact { negative: false, exponent: 0, significand: ONE };
    let s = significand.wide_plus(one.negated()).wide_over(significand.wide_plus(one));
    let fraction = logarithm_of_ratio(s);
    Some(whole.map_or(fraction, |whole| whole.wide_plus(fraction).inexact()))
}

/// The logarithm to base 2 of 1 + x; x is more than -1 and not 0.
pub fn logarithm_of_one_more(x: Exact) -> Exact {
    let one = Exact { negative: false, exponent: 0, significand: ONE };
    if x.exponent < -2 {
        let two = Exact { exponent: 1, ..one };
        return logarithm_of_ratio(x.wide_over(x.wide_plus(two)));
    }
    // exact as long as 1 has a place among the 128 bits; and else it makes no difference
    logarithm(x.wide_plus(one)).unwrap_or(x)
}

/// arctan(k / 8) for k from 1, by Euler's series: the sum of t_n with t_0 = k 8 / (64 + k^2) and
/// t_(n+1) = t_n * 2n / (2n + 1) * k^2 / (64 + k^2).
const ARCTANGENTS: [Exact; 8] = {
    let mut table = [QUARTER_PI; 8];
    let mut k = 1;
    while k < 8 {
        let hypotenuse = 64 + k * k;
        // every term loses less than 2^-120
        let mut term = u128::MAX / hypotenuse * (8 * k);
        let (mut sum, mut n) = (0u128, 1);
        while term != 0 {
            sum += term;
            term = term / (2 * n + 1) * (2 * n);
            term = term / hypotenuse * (k * k);
            n += 1;
        }
        table[k as usize - 1] = Exact::wide_of(false, -1, sum);
        k += 1;
    }
    table
};

/// The angle of the point (x, y) at the origin, from -pi to pi.
pub fn arctangent(y: Exact, x: Exact) -> Exact {
    let is_steep = (y.exponent, y.significand) > (x.exponent, x.significand);
    let (large, small) = if is_steep { (y, x) } else { (x, y) };
    let (large, small) = (Exact { negative: false, ..large }, Exact { negative: false, ..small });
    let angle = first_octant(small, large);
    let angle = match (is_steep, x.negative) {
        (false, false) => angle,
        (false, true) => Exact { exponent: 1, ..QUARTER_PI }.wide_plus(angle.negated()),
        (true, false) => Exact { exponent: 0, ..QUARTER_PI }.wide_plus(angle.negated()),
        (true, true) => Exact { exponent: 0, ..QUARTER_PI }.wide_plus(angle),
    };
    Exact { negative: y.negative, ..angle }.inexact()
}

/// arctan(small / large), of positive numbers.
fn first_octant(small: Exact, large: Exact) -> Exact {
    let distance = large.exponent - small.exponent;
    let (a, b) = (small.significand >> 64, large.significand >> 64);
    // the eighth nearest to the quotient
    let nearest = if distance > 5 { 0 } else { (a * 16 + (b << distance)) / (b << (distance + 1)) };
    if nearest == 0 {
        return arctangent_near_zero(small.wide_over(large));
    }
    // arctan(a / b) = arctan(k / 8) + arctan((8 a - k b) / (8 b + k a))
    let b = b << distance;
    let base = ARCTANGENTS[(nearest as usize - 1).min(7)];
    let (more, less) = (8 * a, nearest * b);
    if more == less {
        return base;
    }
    let rest = Exact::wide_of(more < less, 127, more.abs_diff(less));
    let whole = Exact::wide_of(false, 127, 8 * b + nearest * a);
    base.wide_plus(arctangent_near_zero(rest.wide_over(whole)))
}

/// Of a number within 1/16 of 0.
fn arctangent_near_zero(u: Exact) -> Exact {
    const SHORT: usize = 16;
    let fraction = u.fraction();
    scaled(u, series(product(fraction, fraction), ODD.iter().copied().take(SHORT), true), true)
}

/// An angle that is a number of quarters of pi.
pub fn quarters_of_pi(count: u128) -> Exact {
    QUARTER_PI.wide_times(Exact::wide_of(false, 127, count.max(1))).inexact()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_are_reduced_by_a_pi_of_66_bits() {
        // Hardware: AMD EPYC; the 64-bit number next to pi has the sine -2^-64 there
        let pi = Exact { negative: false, exponent: 1, significand: 0xc90f_daa2_2168_c235 << 64 };
        let (sine, _) = sine_and_cosine(pi).unwrap();
        assert_eq!((sine.negative, sine.exponent), (true, -65));
        assert!(sine.significand > u128::MAX - 16);
        assert!(sine_and_cosine(Exact { exponent: 63, ..pi }).is_none());
    }
}
