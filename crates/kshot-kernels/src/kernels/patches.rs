//! Sums and products of the inputs that a window sees, over all of its positions.

use crate::kernels::epilogue::{Pixels, active_gradient};
use crate::simd::Simd;

/// Taps per side of a register tile.
const TILE: usize = 3;

/// The planes of one image, one per input channel, and the windows over them.
#[derive(Clone, Copy, Debug)]
pub struct Planes {
    /// Rows of window positions.
    pub rows: usize,
    /// Columns of window positions.
    pub columns: usize,
    /// Side of the window.
    pub kernel: usize,
    /// Number of planes.
    pub channels: usize,
    /// Floats from a row of a plane to the next, and from a plane to the next.
    pub strides: (usize, usize),
}

impl Planes {
    /// Taps of a window, `[kernel, kernel, channels]`.
    pub fn taps(&self) -> usize {
        self.kernel * self.kernel * self.channels
    }

    /// Where a tap lies, from the window's first element.
    #[inline(always)]
    fn offset(&self, tap: usize) -> usize {
        let (window, channel) = (tap / self.channels, tap % self.channels);
        channel * self.strides.1 + window / self.kernel * self.strides.0 + window % self.kernel
    }
}

/// Adds to `sums[t]` the sum of tap `t`, and to `products[t * taps + u]` for `t <= u` that of the product of taps `t`
/// and `u`, over all positions of the window.
///
/// # Safety
/// `x` is valid for all planes, `sums` for `taps` and `products` for `taps²` numbers.
#[inline(always)]
pub unsafe fn correlate<S: Simd>(s: S, planes: &Planes, x: *const f32, sums: *mut f64, products: *mut f64) {
    let taps = planes.taps();
    for t in (0..taps).step_by(TILE) {
        for u in (t..taps).step_by(TILE) {
            let (mut at_t, mut at_u) = ([0; TILE], [0; TILE]);
            for k in 0..TILE {
                // A last tile of fewer taps repeats its last one, and nobody reads the result.
                at_t[k] = planes.offset((t + k).min(taps - 1));
                at_u[k] = planes.offset((u + k).min(taps - 1));
            }
            let mut tile = [[s.zero(); TILE]; TILE];
            let mut line = [s.zero(); TILE];
            for i in 0..planes.rows {
                for j in (0..planes.columns).step_by(S::LANES) {
                    let count = (planes.columns - j).min(S::LANES);
                    // SAFETY: position `i, j` and the `count - 1` after it, each tap within the planes.
                    unsafe {
                        let x = x.add(i * planes.strides.0 + j);
                        let (mut left, mut right) = ([s.zero(); TILE], [s.zero(); TILE]);
                        for k in 0..TILE {
                            left[k] = load(s, x.add(at_t[k]), count);
                            right[k] = load(s, x.add(at_u[k]), count);
                        }
                        for k in 0..TILE {
                            line[k] = s.add(line[k], left[k]);
                            for l in 0..TILE {
                                tile[k][l] = s.mul_add(left[k], right[l], tile[k][l]);
                            }
                        }
                    }
                }
            }
            for k in 0..TILE.min(taps - t) {
                if t == u {
                    // SAFETY: `t + k < taps`.
                    unsafe { *sums.add(t + k) += total(s, line[k]) };
                }
                for l in 0..TILE.min(taps - u) {
                    // SAFETY: `t + k` and `u + l` are below `taps`.
                    unsafe { *products.add((t + k) * taps + u + l) += total(s, tile[k][l]) };
                }
            }
        }
    }
}

/// `count` floats, the other lanes 0.
///
/// # Safety
/// `from` is valid for reading `count` floats.
#[inline(always)]
unsafe fn load<S: Simd>(s: S, from: *const f32, count: usize) -> S::V {
    // SAFETY: the caller's.
    unsafe {
        if count == S::LANES {
            s.load(from)
        } else {
            s.load_part(from, count)
        }
    }
}

/// Sum over the lanes.
#[inline(always)]
fn total<S: Simd>(s: S, value: S::V) -> f64 {
    let mut lanes = [0.0f32; 16];
    // SAFETY: there are at most 16 lanes.
    unsafe { s.store(lanes.as_mut_ptr(), value) };
    lanes.iter().map(|lane| f64::from(*lane)).sum()
}

/// Windows of a convolution's output and the taps behind each of its pixels.
#[derive(Clone, Copy, Debug)]
pub struct Winners {
    /// Rows and columns of pool windows, or of pixels without a pool.
    pub size: (usize, usize),
    /// Whether each is a 2×2 window, with one winner.
    pub pool: bool,
    /// Side of the convolution's window.
    pub kernel: usize,
    /// Input channels.
    pub channels: usize,
    /// Floats from one row of the input to the next; its pixels are dense.
    pub x_row: usize,
}

/// Taps per register tile of [`gather`].
const GATHER: usize = 9;

/// `dw[t, o] += Σ g[o] x[winner of o, tap t]` and `sums[o] += Σ g[o]`, where `g` is `dout` times the activation's
/// derivative, over all windows.
///
/// # Safety
/// `x` is valid for what the windows see, `codes` and `dout` as in [`epilogue::reduce`](super::epilogue::reduce),
/// `dw` for `taps * channels` and `sums` for `channels` floats, where `channels` are those of `pixels`.
#[inline(always)]
pub unsafe fn gather<S: Simd>(
    s: S,
    (winners, pixels): (&Winners, &Pixels),
    x: *const f32,
    (codes, dout): (*const u8, *const f32),
    (dw, sums): (*mut f32, *mut f32),
) {
    let taps = winners.kernel * winners.kernel * winners.channels;
    let vectors = pixels.channels / S::LANES;
    for first in (0..taps).step_by(GATHER) {
        let mut v = 0;
        while v < vectors {
            let at = v * S::LANES;
            // SAFETY: channels `at ..` and taps `first ..`, as the caller vouches for them.
            unsafe {
                if S::COLUMNS >= 4 && vectors - v >= 2 {
                    gather_tile::<S, 2>(s, (winners, pixels), (first, at), x, (codes, dout), (dw, sums));
                    v += 2;
                } else {
                    gather_tile::<S, 1>(s, (winners, pixels), (first, at), x, (codes, dout), (dw, sums));
                    v += 1;
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn gather_tile<S: Simd, const C: usize>(
    s: S,
    (winners, pixels): (&Winners, &Pixels),
    (first, at): (usize, usize),
    x: *const f32,
    (codes, dout): (*const u8, *const f32),
    (dw, sums): (*mut f32, *mut f32),
) {
    let taps = winners.kernel * winners.kernel * winners.channels;
    let mut offsets = [0; GATHER];
    for (k, offset) in offsets.iter_mut().enumerate() {
        // A last tile of fewer taps repeats its last one, and doesn't store the result.
        let tap = (first + k).min(taps - 1);
        let (window, channel) = (tap / winners.channels, tap % winners.channels);
        let (row, column) = (window / winners.kernel, window % winners.kernel);
        *offset = row * winners.x_row + column * winners.channels + channel;
    }
    let (step, candidates) = if winners.pool { (2, 4) } else { (1, 1) };
    let mut tile = [[s.zero(); C]; GATHER];
    let mut line = [s.zero(); C];
    for i in 0..winners.size.0 {
        for j in 0..winners.size.1 {
            let (mut gradient, mut winner) = ([s.zero(); C], [s.zero(); C]);
            for c in 0..C {
                let place = (i * winners.size.1 + j, at + c * S::LANES);
                // SAFETY: pixel and channels are within the maps.
                (gradient[c], winner[c]) = unsafe { active_gradient(s, pixels, codes, dout, place) };
                line[c] = s.add(line[c], gradient[c]);
            }
            for k in 0..candidates {
                let mut here = [s.zero(); C];
                for c in 0..C {
                    here[c] = s.select(s.equal(winner[c], s.splat(k as f32)), gradient[c], s.zero());
                }
                let (row, column) = (step * i + k / 2, step * j + k % 2);
                for t in 0..GATHER {
                    let offset = row * winners.x_row + column * winners.channels + offsets[t];
                    // SAFETY: tap `t` of a pixel of the convolution's output.
                    let value = s.splat(unsafe { *x.add(offset) });
                    for c in 0..C {
                        tile[t][c] = s.mul_add(value, here[c], tile[t][c]);
                    }
                }
            }
        }
    }
    for c in 0..C {
        let column = at + c * S::LANES;
        for t in 0..GATHER.min(taps - first) {
            // SAFETY: tap `first + t` and these channels.
            unsafe { accumulate(s, dw.add((first + t) * pixels.channels + column), tile[t][c]) };
        }
        if first == 0 {
            // SAFETY: these channels.
            unsafe { accumulate(s, sums.add(column), line[c]) };
        }
    }
}

/// `to += value`
///
/// # Safety
/// `to` is valid for reading and writing a vector.
#[inline(always)]
unsafe fn accumulate<S: Simd>(s: S, to: *mut f32, value: S::V) {
    // SAFETY: the caller's.
    unsafe { s.store(to, s.add(s.load(to), value)) }
}
