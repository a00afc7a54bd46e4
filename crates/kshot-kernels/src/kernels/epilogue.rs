//! What surrounds the convolution: statistics, pool, norm, activation, and their gradients.
//!
//! A *code* is a byte per output element: the number 0 to 3 of the pixel that won its pool window, plus 4
//! where the activation is on its positive side.

use crate::simd::Simd;

/// Mean and sum of squared differences from it, per channel, over the pixels of one image.
///
/// # Safety
/// `y` is valid for `rows * columns * channels` floats, `mean` and `squares` for `channels`.
#[inline(always)]
pub unsafe fn moments<S: Simd>(
    s: S,
    (rows, columns, channels): (usize, usize, usize),
    y: *const f32,
    mean: *mut f32,
    squares: *mut f32,
) {
    let count = s.splat(1.0 / (rows * columns) as f32);
    for at in (0..channels).step_by(S::LANES) {
        // SAFETY: `at + LANES <= channels`, and pixels run over `rows * columns`.
        unsafe {
            let y = y.add(at);
            let mut sum = s.zero();
            for i in 0..rows {
                let mut row = [s.zero(); 2];
                for j in 0..columns / 2 {
                    let y = y.add((i * columns + 2 * j) * channels);
                    row[0] = s.add(row[0], s.load(y));
                    row[1] = s.add(row[1], s.load(y.add(channels)));
                }
                if columns % 2 == 1 {
                    row[0] = s.add(row[0], s.load(y.add((i * columns + columns - 1) * channels)));
                }
                sum = s.add(sum, s.add(row[0], row[1]));
            }
            let centre = s.mul(sum, count);
            let mut sum = s.zero();
            for i in 0..rows {
                let mut row = [s.zero(); 2];
                for j in 0..columns / 2 {
                    let y = y.add((i * columns + 2 * j) * channels);
                    let (a, b) = (s.sub(s.load(y), centre), s.sub(s.load(y.add(channels)), centre));
                    row[0] = s.mul_add(a, a, row[0]);
                    row[1] = s.mul_add(b, b, row[1]);
                }
                if columns % 2 == 1 {
                    let a = s.sub(s.load(y.add((i * columns + columns - 1) * channels)), centre);
                    row[0] = s.mul_add(a, a, row[0]);
                }
                sum = s.add(sum, s.add(row[0], row[1]));
            }
            s.store(mean.add(at), centre);
            s.store(squares.add(at), sum);
        }
    }
}

/// Per channel the mean of the second map and the sum over the pixels of `(first - mean of first) (second - mean)`.
///
/// # Safety
/// Both maps are valid for `rows * columns * channels` floats, `first_mean` and both results for `channels`.
#[inline(always)]
pub unsafe fn products<S: Simd>(
    s: S,
    (rows, columns, channels): (usize, usize, usize),
    (first, second): (*const f32, *const f32),
    first_mean: *const f32,
    (mean, products): (*mut f32, *mut f32),
) {
    let count = s.splat(1.0 / (rows * columns) as f32);
    for at in (0..channels).step_by(S::LANES) {
        // SAFETY: `at + LANES <= channels`, and pixels run over `rows * columns`.
        unsafe {
            let mut sum = s.zero();
            for i in 0..rows {
                let mut row = s.zero();
                for j in 0..columns {
                    row = s.add(row, s.load(second.add((i * columns + j) * channels + at)));
                }
                sum = s.add(sum, row);
            }
            let (centre, first_centre) = (s.mul(sum, count), s.load(first_mean.add(at)));
            let mut sum = s.zero();
            for i in 0..rows {
                let mut row = s.zero();
                for j in 0..columns {
                    let from = (i * columns + j) * channels + at;
                    let a = s.sub(s.load(first.add(from)), first_centre);
                    let b = s.sub(s.load(second.add(from)), centre);
                    row = s.mul_add(a, b, row);
                }
                sum = s.add(sum, row);
            }
            s.store(mean.add(at), centre);
            s.store(products.add(at), sum);
        }
    }
}

/// A pool of whole 2×2 windows over a map of `channels` channels.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    /// Windows below each other.
    pub rows: usize,
    /// Windows beside each other.
    pub columns: usize,
    /// A multiple of 16; floats from one pixel to the next.
    pub channels: usize,
    /// Floats from one row of the map to the next.
    pub y_row: usize,
}

impl Pool {
    /// Offset in the map of the first pixel of window `i, j`.
    #[inline(always)]
    fn first(&self, i: usize, j: usize) -> usize {
        2 * i * self.y_row + 2 * j * self.channels
    }

    /// Offset of pixel `k` of a window from its first.
    #[inline(always)]
    fn offset(&self, k: usize) -> usize {
        k / 2 * self.y_row + k % 2 * self.channels
    }
}

/// For each window the pixel with the largest `sign * y` (the first NaN, else the first of the largest):
/// its `y` into `pooled`, its number into `codes`.
///
/// # Safety
/// `y` is valid for `2 rows` by `2 columns` pixels, `pooled` and `codes` for `rows * columns` of them, `sign`
/// for `channels`.
#[inline(always)]
pub unsafe fn pool<S: Simd>(
    s: S,
    pool: &Pool,
    y: *const f32,
    sign: *const f32,
    pooled: *mut f32,
    codes: *mut u8,
) {
    for i in 0..pool.rows {
        for j in 0..pool.columns {
            for at in (0..pool.channels).step_by(S::LANES) {
                let to = (i * pool.columns + j) * pool.channels + at;
                // SAFETY: window `i, j` and channels `at .. at + LANES` are within the maps.
                unsafe {
                    let y = y.add(pool.first(i, j) + at);
                    let sign = s.load(sign.add(at));
                    let mut best = s.load(y);
                    let mut best_key = s.mul(sign, best);
                    let mut code = s.zero();
                    for k in 1..4 {
                        let value = s.load(y.add(pool.offset(k)));
                        let key = s.mul(sign, value);
                        let larger = s.or(s.greater(key, best_key), s.is_nan(key));
                        let wins = s.and_not(larger, s.is_nan(best_key));
                        best = s.select(wins, value, best);
                        best_key = s.select(wins, key, best_key);
                        code = s.select(wins, s.splat(k as f32), code);
                    }
                    s.store(pooled.add(to), best);
                    s.store_codes(codes.add(to), code);
                }
            }
        }
    }
}

/// For each window the value of the map at the window's winner.
///
/// # Safety
/// As [`pool()`], with `codes` read.
#[inline(always)]
pub unsafe fn pick<S: Simd>(s: S, pool: &Pool, y: *const f32, codes: *const u8, picked: *mut f32) {
    for i in 0..pool.rows {
        for j in 0..pool.columns {
            for at in (0..pool.channels).step_by(S::LANES) {
                let to = (i * pool.columns + j) * pool.channels + at;
                // SAFETY: window `i, j` and channels `at .. at + LANES` are within the maps.
                unsafe {
                    let y = y.add(pool.first(i, j) + at);
                    let winner = s.load_codes(codes.add(to));
                    let mut value = s.load(y);
                    for k in 1..4 {
                        let here = s.equal(winner, s.splat(k as f32));
                        value = s.select(here, s.load(y.add(pool.offset(k))), value);
                    }
                    s.store(picked.add(to), value);
                }
            }
        }
    }
}

/// Pixels of an output map: `channels` (a multiple of 16) inside the crate, `out_channels` outside.
#[derive(Clone, Copy, Debug)]
pub struct Pixels {
    /// Rows of the map.
    pub rows: usize,
    /// Columns of the map.
    pub columns: usize,
    /// Floats (or codes) per pixel inside the crate.
    pub channels: usize,
    /// Floats per pixel of what the caller holds.
    pub out_channels: usize,
    /// Factor on the negative side of the activation.
    pub slope: f32,
}

/// `out = activation(scale * y + shift)`, and the activation's side into `codes`, added to what is there if
/// `keep_codes`, else in its place.
///
/// # Safety
/// `y` and `codes` are valid for `rows * columns * channels`, `out` for `rows * columns * out_channels`,
/// `scale` and `shift` for `channels`.
#[inline(always)]
pub unsafe fn finish<S: Simd>(
    s: S,
    pixels: &Pixels,
    y: *const f32,
    (scale, shift): (*const f32, *const f32),
    (codes, keep_codes): (*mut u8, bool),
    out: *mut f32,
) {
    let (zero, four, slope) = (s.zero(), s.splat(4.0), s.splat(pixels.slope));
    let relu = pixels.slope == 0.0;
    for pixel in 0..pixels.rows * pixels.columns {
        for at in (0..pixels.channels).step_by(S::LANES) {
            let from = pixel * pixels.channels + at;
            // SAFETY: `pixel` and the channels `at .. at + LANES` are within the maps; of the last vector only
            // the channels below `out_channels` are written to `out`.
            unsafe {
                let z = s.mul_add(s.load(scale.add(at)), s.load(y.add(from)), s.load(shift.add(at)));
                let negative = s.less_equal(z, zero);
                let low = if relu { zero } else { s.mul(slope, z) };
                let value = s.select(negative, low, z);
                let side = s.select(negative, zero, four);
                let code = if keep_codes {
                    s.add(s.load_codes(codes.add(from)), side)
                } else {
                    side
                };
                s.store_codes(codes.add(from), code);
                let to = out.add(pixel * pixels.out_channels + at);
                if at + S::LANES <= pixels.out_channels {
                    s.store(to, value);
                } else if at < pixels.out_channels {
                    s.store_part(to, value, pixels.out_channels - at);
                }
            }
        }
    }
}

/// `out = derivative of the activation * (a * y + b * t + c)`, with the activation's side from `codes`.
///
/// # Safety
/// `y`, `t` and `codes` are valid for `rows * columns * channels`, `out` for `rows * columns * out_channels`, `a`, `b`
/// and `c` for `channels`.
#[inline(always)]
pub unsafe fn finish_tangent<S: Simd>(
    s: S,
    pixels: &Pixels,
    (y, t): (*const f32, *const f32),
    (a, b, c): (*const f32, *const f32, *const f32),
    codes: *const u8,
    out: *mut f32,
) {
    let slope = s.splat(pixels.slope);
    for pixel in 0..pixels.rows * pixels.columns {
        for at in (0..pixels.channels).step_by(S::LANES) {
            let from = pixel * pixels.channels + at;
            // SAFETY: as in `finish`.
            unsafe {
                let value = s.mul_add(s.load(b.add(at)), s.load(t.add(from)), s.load(c.add(at)));
                let value = s.mul_add(s.load(a.add(at)), s.load(y.add(from)), value);
                let positive = s.greater(s.load_codes(codes.add(from)), s.splat(3.5));
                let low = if pixels.slope == 0.0 {
                    s.zero()
                } else {
                    s.mul(slope, value)
                };
                let value = s.select(positive, value, low);
                let to = out.add(pixel * pixels.out_channels + at);
                if at + S::LANES <= pixels.out_channels {
                    s.store(to, value);
                } else if at < pixels.out_channels {
                    s.store_part(to, value, pixels.out_channels - at);
                }
            }
        }
    }
}

/// The output's gradient times the activation's derivative, and the number of the winning pixel.
///
/// # Safety
/// As in [`reduce`], for channels `at .. at + LANES` of `pixel`.
#[inline(always)]
pub(super) unsafe fn active_gradient<S: Simd>(
    s: S,
    pixels: &Pixels,
    codes: *const u8,
    dout: *const f32,
    (pixel, at): (usize, usize),
) -> (S::V, S::V) {
    // SAFETY: the caller's; of the last vector only the channels below `out_channels` are read from `dout`.
    unsafe {
        let from = dout.add(pixel * pixels.out_channels + at);
        let gradient = if at + S::LANES <= pixels.out_channels {
            s.load(from)
        } else if at < pixels.out_channels {
            s.load_part(from, pixels.out_channels - at)
        } else {
            s.zero()
        };
        let code = s.load_codes(codes.add(pixel * pixels.channels + at));
        let positive = s.greater(code, s.splat(3.5));
        let low = if pixels.slope == 0.0 {
            s.zero()
        } else {
            s.mul(s.splat(pixels.slope), gradient)
        };
        (
            s.select(positive, gradient, low),
            s.select(positive, s.sub(code, s.splat(4.0)), code),
        )
    }
}

/// Per channel the sums of `g` and of `g * (y - mean)`, where `g` is `dout` times the activation's derivative
/// and `y` is the map that [`finish`] read.
///
/// # Safety
/// `codes` and `y` are valid for `rows * columns * channels`, `dout` for `rows * columns * out_channels`,
/// `mean` and both `sums` for `channels`.
#[inline(always)]
pub unsafe fn reduce<S: Simd>(
    s: S,
    pixels: &Pixels,
    (codes, y): (*const u8, *const f32),
    dout: *const f32,
    mean: *const f32,
    sums: (*mut f32, *mut f32),
) {
    for at in (0..pixels.channels).step_by(S::LANES) {
        // SAFETY: pixels run over `rows * columns` and channels over `channels`.
        unsafe {
            let mean = s.load(mean.add(at));
            let (mut sum, mut dot) = (s.zero(), s.zero());
            for i in 0..pixels.rows {
                let (mut row_sum, mut row_dot) = (s.zero(), s.zero());
                for j in 0..pixels.columns {
                    let pixel = i * pixels.columns + j;
                    let (gradient, _) = active_gradient(s, pixels, codes, dout, (pixel, at));
                    let centred = s.sub(s.load(y.add(pixel * pixels.channels + at)), mean);
                    row_sum = s.add(row_sum, gradient);
                    row_dot = s.mul_add(gradient, centred, row_dot);
                }
                (sum, dot) = (s.add(sum, row_sum), s.add(dot, row_dot));
            }
            s.store(sums.0.add(at), sum);
            s.store(sums.1.add(at), dot);
        }
    }
}

/// Where the gradient of the convolution's output is to be put, and how it follows from the rest:
/// `dy = a * g + b * y + c` with `g` the gradient that arrives at the winner of each window, else 0.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// Rows of the convolution's output.
    pub rows: usize,
    /// Columns of the convolution's output.
    pub columns: usize,
    /// Whether a pool follows.
    pub pool: bool,
    /// Floats from one row of `dy` to the next.
    pub dy_row: usize,
    /// Whether to add to what `dy` holds.
    pub add: bool,
    /// `a`, `b`, `c` per channel; without `b` and `c` there is no norm, and `y` isn't read.
    pub factors: (*const f32, Option<(*const f32, *const f32)>),
}

impl Spread {
    /// Writes or adds one vector of `dy`.
    ///
    /// # Safety
    /// `to` is valid for reading and writing a vector.
    #[inline(always)]
    unsafe fn put<S: Simd>(&self, s: S, to: *mut f32, value: S::V) {
        // SAFETY: the caller's.
        unsafe { s.store(to, if self.add { s.add(s.load(to), value) } else { value }) }
    }

    /// `b * y + c` for channels `at .. at + LANES` of pixel `i, j`, 0 without a norm.
    ///
    /// # Safety
    /// As in [`spread`].
    #[inline(always)]
    unsafe fn affine<S: Simd>(
        &self,
        s: S,
        y: *const f32,
        channels: usize,
        (i, j, at): (usize, usize, usize),
    ) -> S::V {
        match self.factors.1 {
            // SAFETY: the caller's.
            Some((b, c)) => unsafe {
                let y = s.load(y.add((i * self.columns + j) * channels + at));
                s.mul_add(s.load(b.add(at)), y, s.load(c.add(at)))
            },
            None => s.zero(),
        }
    }
}

/// Fills `dy`, see [`Spread`].
///
/// # Safety
/// `y` (with a norm) is valid for `rows * columns * channels` floats, `dy` for `rows` rows of stride `dy_row`,
/// the factors for `channels`; `codes` and `dout` as in [`reduce`].
#[inline(always)]
pub unsafe fn spread<S: Simd>(
    s: S,
    (spread, pixels): (&Spread, &Pixels),
    (codes, y): (*const u8, *const f32),
    dout: *const f32,
    dy: *mut f32,
) {
    let channels = pixels.channels;
    for at in (0..channels).step_by(S::LANES) {
        // SAFETY: rows, columns and channels stay within what the caller vouches for.
        unsafe {
            let a = s.load(spread.factors.0.add(at));
            for i in 0..pixels.rows {
                for j in 0..pixels.columns {
                    let place = (i * pixels.columns + j, at);
                    let (gradient, winner) = active_gradient(s, pixels, codes, dout, place);
                    let gradient = s.mul(a, gradient);
                    if spread.pool {
                        for k in 0..4 {
                            let here = s.equal(winner, s.splat(k as f32));
                            let value = s.select(here, gradient, s.zero());
                            let (i, j) = (2 * i + k / 2, 2 * j + k % 2);
                            let value = s.add(value, spread.affine(s, y, channels, (i, j, at)));
                            spread.put(s, dy.add(i * spread.dy_row + j * channels + at), value);
                        }
                    } else {
                        let value = s.add(gradient, spread.affine(s, y, channels, (i, j, at)));
                        spread.put(s, dy.add(i * spread.dy_row + j * channels + at), value);
                    }
                }
            }
            if spread.pool {
                // An odd last column and row are seen by no window.
                let (even_rows, even_columns) = (2 * pixels.rows, 2 * pixels.columns);
                for i in 0..spread.rows {
                    let first = if i < even_rows { even_columns } else { 0 };
                    for j in first..spread.columns {
                        let value = spread.affine(s, y, channels, (i, j, at));
                        spread.put(s, dy.add(i * spread.dy_row + j * channels + at), value);
                    }
                }
            }
        }
    }
}
