//! One small set of vector operations, so that every kernel is written once.
//!
//! A type that implements [`Simd`] is a token: whoever holds one has made sure that the machine has
//! the instructions behind it, so its arithmetic is safe to call. Everything is inlined into the entry
//! points of [`crate::dispatch`], which are compiled with those instructions switched on.

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
#[cfg(target_arch = "aarch64")]
pub mod neon;
pub mod portable;

/// Vectors of `LANES` floats. `LANES` divides 16.
///
/// Channels lie across the lanes, and buffers inside the crate hold a multiple of 16 channels.
pub trait Simd: Copy {
    /// `LANES` floats.
    type V: Copy;
    /// `LANES` truth values.
    type M: Copy;
    /// Floats per vector.
    const LANES: usize;
    /// Vectors side by side in the register tile of the products.
    const COLUMNS: usize;
    /// Whether 16 channels, of which there are always a multiple, fill whole register tiles.
    const WHOLE_TILES: bool = Self::LANES * Self::COLUMNS == 16;
    /// Most rows, up to 14, of the direct weight gradient's tiles of 2 vectors: as the registers allow; 0 for none.
    const TALL_TILE: usize = 0;
    /// Whether the unrolled transforms of edge tiles are worth their code.
    const UNROLLED_EDGES: bool = false;

    /// All lanes 0.
    #[inline(always)]
    fn zero(self) -> Self::V {
        self.splat(0.0)
    }
    /// All lanes `value`.
    fn splat(self, value: f32) -> Self::V;
    /// Reads `LANES` floats.
    ///
    /// # Safety
    /// `from` is valid for reading `LANES` floats, of any alignment.
    unsafe fn load(self, from: *const f32) -> Self::V;
    /// Writes `LANES` floats.
    ///
    /// # Safety
    /// `to` is valid for writing `LANES` floats, of any alignment.
    unsafe fn store(self, to: *mut f32, value: Self::V);
    /// Reads `LANES` bytes as floats.
    ///
    /// # Safety
    /// `from` is valid for reading `LANES` bytes.
    unsafe fn load_codes(self, from: *const u8) -> Self::V;
    /// Writes lanes that hold whole numbers 0 to 255 as bytes.
    ///
    /// # Safety
    /// `to` is valid for writing `LANES` bytes.
    unsafe fn store_codes(self, to: *mut u8, value: Self::V);
    /// `a + b`
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once where the machine can.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `c - a * b`, rounded once where the machine can.
    fn neg_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a > b`, false where either is NaN.
    fn greater(self, a: Self::V, b: Self::V) -> Self::M;
    /// `a <= b`, false where either is NaN.
    fn less_equal(self, a: Self::V, b: Self::V) -> Self::M;
    /// `a == b`, false where either is NaN.
    fn equal(self, a: Self::V, b: Self::V) -> Self::M;
    /// Whether `a` is NaN.
    fn is_nan(self, a: Self::V) -> Self::M;
    /// Whether `a` or `b` is NaN.
    #[inline(always)]
    fn either_nan(self, a: Self::V, b: Self::V) -> Self::M {
        self.or(self.is_nan(a), self.is_nan(b))
    }
    /// The greater of both; anything where either is NaN.
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        self.select(self.greater(a, b), a, b)
    }
    /// `a or b`
    fn or(self, a: Self::M, b: Self::M) -> Self::M;
    /// `a and not b`
    fn and_not(self, a: Self::M, b: Self::M) -> Self::M;
    /// `yes` where the mask is true, else `no`.
    fn select(self, mask: Self::M, yes: Self::V, no: Self::V) -> Self::V;

    /// Reads `count <= LANES` floats, the others are 0.
    ///
    /// # Safety
    /// `from` is valid for reading `count` floats.
    #[inline(always)]
    unsafe fn load_part(self, from: *const f32, count: usize) -> Self::V {
        let mut lanes = [0.0f32; 16];
        // SAFETY: the caller vouches for `count` floats, and `count <= LANES <= 16`.
        unsafe {
            std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count.min(Self::LANES));
            self.load(lanes.as_ptr())
        }
    }

    /// Writes the first `count <= LANES` floats.
    ///
    /// # Safety
    /// `to` is valid for writing `count` floats.
    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, value: Self::V, count: usize) {
        let mut lanes = [0.0f32; 16];
        // SAFETY: the caller vouches for `count` floats, and `count <= LANES <= 16`.
        unsafe {
            self.store(lanes.as_mut_ptr(), value);
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, count.min(Self::LANES));
        }
    }
}
