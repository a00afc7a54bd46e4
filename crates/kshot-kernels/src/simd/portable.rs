//! Arrays of 8 floats, for any machine; what the compiler makes of them is its affair.

use super::Simd;

/// Needs nothing of the machine.
#[derive(Clone, Copy)]
pub struct Portable;

type V = [f32; 8];

#[inline(always)]
fn zip(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    let mut out = a;
    for (a, b) in out.iter_mut().zip(b) {
        *a = f(*a, b);
    }
    out
}

#[inline(always)]
fn compare(a: V, b: V, f: impl Fn(f32, f32) -> bool) -> [bool; 8] {
    let mut out = [false; 8];
    for (o, (a, b)) in out.iter_mut().zip(a.into_iter().zip(b)) {
        *o = f(a, b);
    }
    out
}

impl Simd for Portable {
    type V = V;
    type M = [bool; 8];
    const LANES: usize = 8;
    const COLUMNS: usize = 2;

    #[inline(always)]
    fn splat(self, value: f32) -> V {
        [value; 8]
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> V {
        // SAFETY: the caller vouches for 8 floats; no alignment is asked for.
        unsafe { from.cast::<V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: V) {
        // SAFETY: as in `load`.
        unsafe { to.cast::<V>().write_unaligned(value) }
    }
    #[inline(always)]
    unsafe fn load_codes(self, from: *const u8) -> V {
        // SAFETY: the caller vouches for 8 bytes.
        unsafe { from.cast::<[u8; 8]>().read() }.map(f32::from)
    }
    #[inline(always)]
    unsafe fn store_codes(self, to: *mut u8, value: V) {
        // SAFETY: the caller vouches for 8 bytes.
        unsafe { to.cast::<[u8; 8]>().write(value.map(|v| v as u8)) }
    }
    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn mul_add(self, a: V, b: V, c: V) -> V {
        zip(zip(a, b, |a, b| a * b), c, |ab, c| ab + c)
    }
    #[inline(always)]
    fn neg_mul_add(self, a: V, b: V, c: V) -> V {
        zip(zip(a, b, |a, b| a * b), c, |ab, c| c - ab)
    }
    #[inline(always)]
    fn greater(self, a: V, b: V) -> [bool; 8] {
        compare(a, b, |a, b| a > b)
    }
    #[inline(always)]
    fn less_equal(self, a: V, b: V) -> [bool; 8] {
        compare(a, b, |a, b| a <= b)
    }
    #[inline(always)]
    fn equal(self, a: V, b: V) -> [bool; 8] {
        compare(a, b, |a, b| a == b)
    }
    #[inline(always)]
    fn is_nan(self, a: V) -> [bool; 8] {
        a.map(f32::is_nan)
    }
    #[inline(always)]
    fn or(self, a: [bool; 8], b: [bool; 8]) -> [bool; 8] {
        std::array::from_fn(|i| a[i] | b[i])
    }
    #[inline(always)]
    fn and_not(self, a: [bool; 8], b: [bool; 8]) -> [bool; 8] {
        std::array::from_fn(|i| a[i] & !b[i])
    }
    #[inline(always)]
    fn select(self, mask: [bool; 8], yes: V, no: V) -> V {
        std::array::from_fn(|i| if mask[i] { yes[i] } else { no[i] })
    }
}
