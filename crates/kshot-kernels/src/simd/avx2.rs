//! 8 lanes, 16 registers, fused multiply-add.

use std::arch::x86_64::*;

use super::Simd;

/// Proof that the machine has AVX2 and FMA.
#[derive(Clone, Copy)]
pub struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The machine has AVX2 and FMA.
    #[inline(always)]
    pub unsafe fn new() -> Self {
        Self(())
    }
}

/// An intrinsic whose only condition is that the machine has AVX2 and FMA.
macro_rules! have {
    ($call:expr) => {
        // SAFETY: `self` exists only where the machine has AVX2 and FMA, see `Avx2::new`.
        unsafe { $call }
    };
}

impl Simd for Avx2 {
    type V = __m256;
    type M = __m256;
    const LANES: usize = 8;
    const COLUMNS: usize = 2;
    const TALL_TILE: usize = 6;

    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        have!(_mm256_set1_ps(value))
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m256 {
        // SAFETY: AVX2 is there, and the caller vouches for the pointer.
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: __m256) {
        // SAFETY: as in `load`.
        unsafe { _mm256_storeu_ps(to, value) }
    }
    #[inline(always)]
    unsafe fn load_codes(self, from: *const u8) -> __m256 {
        // SAFETY: as in `load`; 8 bytes are read.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn store_codes(self, to: *mut u8, value: __m256) {
        // SAFETY: as in `load`; 8 bytes are written.
        unsafe {
            let words = _mm256_cvtps_epi32(value);
            let (low, high) = (
                _mm256_castsi256_si128(words),
                _mm256_extracti128_si256::<1>(words),
            );
            let halves = _mm_packus_epi32(low, high);
            _mm_storel_epi64(to.cast(), _mm_packus_epi16(halves, halves));
        }
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        have!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        have!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        have!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        have!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        have!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn neg_mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        have!(_mm256_fnmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn greater(self, a: __m256, b: __m256) -> __m256 {
        have!(_mm256_cmp_ps::<_CMP_GT_OQ>(a, b))
    }
    #[inline(always)]
    fn less_equal(self, a: __m256, b: __m256) -> __m256 {
        have!(_mm256_cmp_ps::<_CMP_LE_OQ>(a, b))
    }
    #[inline(always)]
    fn equal(self, a: __m256, b: __m256) -> __m256 {
        have!(_mm256_cmp_ps::<_CMP_EQ_OQ>(a, b))
    }
    #[inline(always)]
    fn is_nan(self, a: __m256) -> __m256 {
        have!(_mm256_cmp_ps::<_CMP_UNORD_Q>(a, a))
    }
    #[inline(always)]
    fn either_nan(self, a: __m256, b: __m256) -> __m256 {
        have!(_mm256_cmp_ps::<_CMP_UNORD_Q>(a, b))
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        have!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn or(self, a: __m256, b: __m256) -> __m256 {
        have!(_mm256_or_ps(a, b))
    }
    #[inline(always)]
    fn and_not(self, a: __m256, b: __m256) -> __m256 {
        have!(_mm256_andnot_ps(b, a))
    }
    #[inline(always)]
    fn select(self, mask: __m256, yes: __m256, no: __m256) -> __m256 {
        have!(_mm256_blendv_ps(no, yes, mask))
    }
}
