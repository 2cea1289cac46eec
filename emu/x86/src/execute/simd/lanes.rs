//! Registers as lanes: the low bits of a `u128` (an MMX register is its low half) taken as equal parts.

/// A part of a register.
pub trait Lane: Copy + Default {
    /// Size in bytes.
    const BYTES: usize;
    /// Lane number `n` of a register.
    fn get(bytes: &[u8; 16], n: usize) -> Self;
    /// Replaces lane number `n`.
    fn put(self, bytes: &mut [u8; 16], n: usize);
}

macro_rules! lane {
    ($($t:ty)*) => {$(
        impl Lane for $t {
            const BYTES: usize = size_of::<$t>();
            #[inline(always)]
            fn get(bytes: &[u8; 16], n: usize) -> $t {
                let mut own = [0; size_of::<$t>()];
                own.copy_from_slice(&bytes[n * Self::BYTES..][..Self::BYTES]);
                <$t>::from_le_bytes(own)
            }
            #[inline(always)]
            fn put(self, bytes: &mut [u8; 16], n: usize) {
                bytes[n * Self::BYTES..][..Self::BYTES].copy_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}
lane!(u8 i8 u16 i16 u32 i32 u64 i64);

/// Lane number `n` of `value`.
#[inline(always)]
pub fn lane<L: Lane>(value: u128, n: usize) -> L {
    L::get(&value.to_le_bytes(), n)
}

/// `value` with lane number `n` replaced.
#[inline(always)]
pub fn with_lane<L: Lane>(value: u128, n: usize, lane: L) -> u128 {
    let mut bytes = value.to_le_bytes();
    lane.put(&mut bytes, n);
    u128::from_le_bytes(bytes)
}

/// Lanes from a function of their number; `bytes` of them in all.
#[inline(always)]
pub fn build<L: Lane>(bytes: usize, f: impl Fn(usize) -> L) -> u128 {
    let mut out = [0; 16];
    for n in 0..bytes / L::BYTES {
        f(n).put(&mut out, n);
    }
    u128::from_le_bytes(out)
}

/// Each lane by itself.
#[inline(always)]
pub fn map<L: Lane, R: Lane>(value: u128, f: impl Fn(L) -> R) -> u128 {
    let value = value.to_le_bytes();
    build(16, |n| f(L::get(&value, n)))
}

/// Each lane of one with the same lane of the other.
#[inline(always)]
pub fn zip<L: Lane, R: Lane>(a: u128, b: u128, f: impl Fn(L, L) -> R) -> u128 {
    let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
    build(16, |n| f(L::get(&a, n), L::get(&b, n)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_numbered_from_the_low_end() {
        let value = 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100;
        assert_eq!(lane::<u16>(value, 1), 0x0302);
        assert_eq!(lane::<u64>(value, 1), 0x0f0e_0d0c_0b0a_0908);
        assert_eq!(with_lane(0, 2, 0x1234u16), 0x1234_0000_0000);
        assert_eq!(zip(value, value, |a: u8, b: u8| a.wrapping_sub(b)), 0);
        assert_eq!(build(8, |n| n as u32 + 1), 0x2_0000_0001);
    }
}
