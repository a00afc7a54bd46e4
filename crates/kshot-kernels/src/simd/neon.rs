//! 4 lanes, 32 registers. Part of every 64-bit ARM machine.

use std::arch::aarch64::*;

use super::Simd;

/// Proof that the machine has NEON.
#[derive(Clone, Copy)]
pub struct Neon(());

impl Neon {
    /// # Safety
    /// The machine has NEON.
    #[inline(always)]
    pub unsafe fn new() -> Self {
        Self(())
    }
}

/// An intrinsic whose only condition is that the machine has NEON.
macro_rules! have {
    ($call:expr) => {
        // SAFETY: `self` exists only where the machine has NEON, see `Neon::new`.
        unsafe { $call }
    };
}

impl Simd for Neon {
    type V = float32x4_t;
    type M = uint32x4_t;
    const LANES: usize = 4;
    const COLUMNS: usize = 4;

    #[inline(always)]
    fn splat(self, value: f32) -> float32x4_t {
        have!(vdupq_n_f32(value))
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> float32x4_t {
        // SAFETY: NEON is there, and the caller vouches for the pointer.
        unsafe { vld1q_f32(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: float32x4_t) {
        // SAFETY: as in `load`.
        unsafe { vst1q_f32(to, value) }
    }
    #[inline(always)]
    unsafe fn load_codes(self, from: *const u8) -> float32x4_t {
        // SAFETY: the caller vouches for 4 bytes; the loads are from the stack.
        unsafe {
            let codes = from.cast::<[u8; 4]>().read().map(f32::from);
            vld1q_f32(codes.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn store_codes(self, to: *mut u8, value: float32x4_t) {
        // SAFETY: the caller vouches for 4 bytes; the stores are to the stack.
        unsafe {
            let mut lanes = [0.0f32; 4];
            vst1q_f32(lanes.as_mut_ptr(), value);
            to.cast::<[u8; 4]>().write(lanes.map(|v| v as u8));
        }
    }
    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        have!(vaddq_f32(a, b))
    }
    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        have!(vsubq_f32(a, b))
    }
    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        have!(vmulq_f32(a, b))
    }
    #[inline(always)]
    fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        have!(vdivq_f32(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        have!(vfmaq_f32(c, a, b))
    }
    #[inline(always)]
    fn neg_mul_add(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        have!(vfmsq_f32(c, a, b))
    }
    #[inline(always)]
    fn greater(self, a: float32x4_t, b: float32x4_t) -> uint32x4_t {
        have!(vcgtq_f32(a, b))
    }
    #[inline(always)]
    fn less_equal(self, a: float32x4_t, b: float32x4_t) -> uint32x4_t {
        have!(vcleq_f32(a, b))
    }
    #[inline(always)]
    fn equal(self, a: float32x4_t, b: float32x4_t) -> uint32x4_t {
        have!(vceqq_f32(a, b))
    }
    #[inline(always)]
    fn is_nan(self, a: float32x4_t) -> uint32x4_t {
        have!(vmvnq_u32(vceqq_f32(a, a)))
    }
    #[inline(always)]
    fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        have!(vmaxq_f32(a, b))
    }
    #[inline(always)]
    fn or(self, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        have!(vorrq_u32(a, b))
    }
    #[inline(always)]
    fn and_not(self, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        have!(vbicq_u32(a, b))
    }
    #[inline(always)]
    fn select(self, mask: uint32x4_t, yes: float32x4_t, no: float32x4_t) -> float32x4_t {
        have!(vbslq_f32(mask, yes, no))
    }
}
