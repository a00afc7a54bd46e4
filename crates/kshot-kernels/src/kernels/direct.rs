//! Direct convolution and its weight gradient: register tiles of pixels (or taps) by channels.

use crate::simd::Simd;

/// Rows of a register tile.
const TILE: usize = 6;

/// Start and size of tile `index` when `count` is split into `parts` of nearly equal size.
#[inline(always)]
pub(super) fn tile(count: usize, parts: usize, index: usize) -> (usize, usize) {
    let (size, larger) = (count / parts, count % parts);
    (
        index * size + index.min(larger),
        size + usize::from(index < larger),
    )
}

/// A convolution of some rows of one image that already carries its padding.
#[derive(Clone, Copy, Debug)]
pub struct Conv {
    /// Output rows to compute.
    pub rows: usize,
    /// Output columns.
    pub columns: usize,
    /// Side of the window.
    pub kernel: usize,
    /// Input channels that are summed over.
    pub channels: usize,
    /// Floats from an input row to the next, and from an input pixel to the next.
    pub x_strides: (usize, usize),
    /// Output channels, a multiple of 16: also the floats from one row of the weight to the next.
    pub out_channels: usize,
    /// Floats from an output row to the next, and from an output pixel to the next.
    pub y_strides: (usize, usize),
}

/// `y[i, j, o] = Σ x[i + a, j + b, c] w[a, b, c, o]`
///
/// # Safety
/// `x`, `w` and `y` are valid for all that `conv` describes: `x` for `rows + kernel - 1` rows of `columns +
/// kernel - 1` pixels, `w` for `kernel² * channels * out_channels` floats, `y` for `rows` by `columns`
/// pixels of `out_channels`.
#[inline(always)]
pub unsafe fn convolve<S: Simd>(s: S, conv: &Conv, x: *const f32, w: *const f32, y: *mut f32) {
    let vectors = conv.out_channels / S::LANES;
    let mut v = 0;
    while v < vectors {
        let at = v * S::LANES;
        // SAFETY: the columns `at ..` of `w` and `y` are within `out_channels`.
        unsafe {
            if S::COLUMNS == 4 && (S::WHOLE_TILES || vectors - v >= 4) {
                convolve_columns::<S, 4>(s, conv, x, w.add(at), y.add(at));
                v += 4;
            } else if S::COLUMNS == 2 || vectors - v >= 2 {
                convolve_columns::<S, 2>(s, conv, x, w.add(at), y.add(at));
                v += 2;
            } else {
                convolve_columns::<S, 1>(s, conv, x, w.add(at), y.add(at));
                v += 1;
            }
        }
    }
}

#[inline(always)]
unsafe fn convolve_columns<S: Simd, const C: usize>(
    s: S,
    conv: &Conv,
    x: *const f32,
    w: *const f32,
    y: *mut f32,
) {
    let parts = conv.columns.div_ceil(TILE);
    for i in 0..conv.rows {
        for part in 0..parts {
            let (j, size) = tile(conv.columns, parts, part);
            // SAFETY: pixels `j .. j + size` of row `i` are among those that the caller vouches for.
            unsafe {
                let x = x.add(i * conv.x_strides.0 + j * conv.x_strides.1);
                let y = y.add(i * conv.y_strides.0 + j * conv.y_strides.1);
                match size {
                    1 => convolve_tile::<S, 1, C>(s, conv, x, w, y),
                    2 => convolve_tile::<S, 2, C>(s, conv, x, w, y),
                    3 => convolve_tile::<S, 3, C>(s, conv, x, w, y),
                    4 => convolve_tile::<S, 4, C>(s, conv, x, w, y),
                    5 => convolve_tile::<S, 5, C>(s, conv, x, w, y),
                    _ => convolve_tile::<S, 6, C>(s, conv, x, w, y),
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn convolve_tile<S: Simd, const R: usize, const C: usize>(
    s: S,
    conv: &Conv,
    x: *const f32,
    w: *const f32,
    y: *mut f32,
) {
    let mut sums = [[s.zero(); C]; R];
    // SAFETY: all indices lie within what `convolve` asks its caller for.
    unsafe {
        for a in 0..conv.kernel {
            for b in 0..conv.kernel {
                let x = x.add(a * conv.x_strides.0 + b * conv.x_strides.1);
                let w = w.add((a * conv.kernel + b) * conv.channels * conv.out_channels);
                for c in 0..conv.channels {
                    let mut weight = [s.zero(); C];
                    for (k, weight) in weight.iter_mut().enumerate() {
                        *weight = s.load(w.add(c * conv.out_channels + k * S::LANES));
                    }
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let value = s.splat(*x.add(r * conv.x_strides.1 + c));
                        for k in 0..C {
                            sums[k] = s.mul_add(value, weight[k], sums[k]);
                        }
                    }
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (k, sum) in sums.iter().enumerate() {
                s.store(y.add(r * conv.y_strides.1 + k * S::LANES), *sum);
            }
        }
    }
}

/// `dw[a, b, c, o] += Σ x[i + a, j + b, c] dy[i, j, o]` over the rows and columns of `conv`; `dy` has the
/// strides `y_strides`.
///
/// # Safety
/// As [`convolve`], with `dw` in the place of `w` and valid for writing.
#[inline(always)]
pub unsafe fn weight_gradient<S: Simd>(s: S, conv: &Conv, x: *const f32, dy: *const f32, dw: *mut f32) {
    let vectors = conv.out_channels / S::LANES;
    // Tall and narrow: less of `dy` is read for each product, and the part of it that all tiles share stays in the
    // cache.
    let tall = S::TALL_TILE > 0 && conv.channels >= S::TALL_TILE;
    let mut v = 0;
    while v < vectors {
        let at = v * S::LANES;
        // SAFETY: the columns `at ..` of `dw` and `dy` are within `out_channels`.
        unsafe {
            if tall && vectors - v >= 2 {
                gradient_windows(s, conv, x, dy.add(at), dw.add(at));
                v += 2;
            } else if S::COLUMNS == 4 && (S::WHOLE_TILES || vectors - v >= 4) {
                gradient_columns::<S, 4>(s, conv, x, dy.add(at), dw.add(at));
                v += 4;
            } else if S::COLUMNS == 2 || vectors - v >= 2 {
                gradient_columns::<S, 2>(s, conv, x, dy.add(at), dw.add(at));
                v += 2;
            } else {
                gradient_columns::<S, 1>(s, conv, x, dy.add(at), dw.add(at));
                v += 1;
            }
        }
    }
}

/// Two vectors of columns in tall tiles, none of which spans two places of the window.
#[inline(always)]
unsafe fn gradient_windows<S: Simd>(s: S, conv: &Conv, x: *const f32, dy: *const f32, dw: *mut f32) {
    let parts = conv.channels.div_ceil(S::TALL_TILE);
    for window in 0..conv.kernel * conv.kernel {
        let at = window / conv.kernel * conv.x_strides.0 + window % conv.kernel * conv.x_strides.1;
        for part in 0..parts {
            let (c, size) = tile(conv.channels, parts, part);
            // SAFETY: rows `c .. c + size` of the window's part of `dw` are among those that the caller vouches for.
            unsafe {
                let x = x.add(at + c);
                let dw = dw.add((window * conv.channels + c) * conv.out_channels);
                // At least `TALL_TILE` channels in the fewest parts: each has half of a whole tile or more.
                match size.min(S::TALL_TILE) {
                    3 => gradient_tall::<S, 3>(s, conv, x, dy, dw),
                    4 => gradient_tall::<S, 4>(s, conv, x, dy, dw),
                    5 => gradient_tall::<S, 5>(s, conv, x, dy, dw),
                    6 => gradient_tall::<S, 6>(s, conv, x, dy, dw),
                    7 => gradient_tall::<S, 7>(s, conv, x, dy, dw),
                    8 => gradient_tall::<S, 8>(s, conv, x, dy, dw),
                    9 => gradient_tall::<S, 9>(s, conv, x, dy, dw),
                    10 => gradient_tall::<S, 10>(s, conv, x, dy, dw),
                    11 => gradient_tall::<S, 11>(s, conv, x, dy, dw),
                    12 => gradient_tall::<S, 12>(s, conv, x, dy, dw),
                    13 => gradient_tall::<S, 13>(s, conv, x, dy, dw),
                    _ => gradient_tall::<S, 14>(s, conv, x, dy, dw),
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn gradient_tall<S: Simd, const R: usize>(
    s: S,
    conv: &Conv,
    x: *const f32,
    dy: *const f32,
    dw: *mut f32,
) {
    let mut sums = [[s.zero(); 2]; R];
    // SAFETY: all indices lie within what `weight_gradient` asks its caller for.
    unsafe {
        for i in 0..conv.rows {
            for j in 0..conv.columns {
                let x = x.add(i * conv.x_strides.0 + j * conv.x_strides.1);
                let dy = dy.add(i * conv.y_strides.0 + j * conv.y_strides.1);
                let gradient = [s.load(dy), s.load(dy.add(S::LANES))];
                for (r, sums) in sums.iter_mut().enumerate() {
                    let value = s.splat(*x.add(r));
                    for (sum, gradient) in sums.iter_mut().zip(gradient) {
                        *sum = s.mul_add(value, gradient, *sum);
                    }
                }
            }
        }
        add_tile(s, conv, &sums, dw);
    }
}

/// Adds the sums of a tile to rows and columns of `dw`.
#[inline(always)]
unsafe fn add_tile<S: Simd, const R: usize, const C: usize>(
    s: S,
    conv: &Conv,
    sums: &[[S::V; C]; R],
    dw: *mut f32,
) {
    for (r, sums) in sums.iter().enumerate() {
        for (k, sum) in sums.iter().enumerate() {
            // SAFETY: the tile lies within what `weight_gradient` asks its caller for.
            unsafe {
                let to = dw.add(r * conv.out_channels + k * S::LANES);
                s.store(to, s.add(s.load(to), *sum));
            }
        }
    }
}

#[inline(always)]
unsafe fn gradient_columns<S: Simd, const C: usize>(
    s: S,
    conv: &Conv,
    x: *const f32,
    dy: *const f32,
    dw: *mut f32,
) {
    let taps = conv.kernel * conv.kernel * conv.channels;
    let parts = taps.div_ceil(TILE);
    for part in 0..parts {
        let (tap, size) = tile(taps, parts, part);
        // SAFETY: rows `tap .. tap + size` of `dw` are among those that the caller vouches for.
        unsafe {
            let dw = dw.add(tap * conv.out_channels);
            match size {
                1 => gradient_tile::<S, 1, C>(s, conv, tap, x, dy, dw),
                2 => gradient_tile::<S, 2, C>(s, conv, tap, x, dy, dw),
                3 => gradient_tile::<S, 3, C>(s, conv, tap, x, dy, dw),
                4 => gradient_tile::<S, 4, C>(s, conv, tap, x, dy, dw),
                5 => gradient_tile::<S, 5, C>(s, conv, tap, x, dy, dw),
                _ => gradient_tile::<S, 6, C>(s, conv, tap, x, dy, dw),
            }
        }
    }
}

#[inline(always)]
unsafe fn gradient_tile<S: Simd, const R: usize, const C: usize>(
    s: S,
    conv: &Conv,
    tap: usize,
    x: *const f32,
    dy: *const f32,
    dw: *mut f32,
) {
    let mut offsets = [0; R];
    for (r, offset) in offsets.iter_mut().enumerate() {
        let (window, c) = ((tap + r) / conv.channels, (tap + r) % conv.channels);
        *offset = window / conv.kernel * conv.x_strides.0 + window % conv.kernel * conv.x_strides.1 + c;
    }
    let mut sums = [[s.zero(); C]; R];
    // SAFETY: all indices lie within what `weight_gradient` asks its caller for.
    unsafe {
        for i in 0..conv.rows {
            for j in 0..conv.columns {
                let x = x.add(i * conv.x_strides.0 + j * conv.x_strides.1);
                let dy = dy.add(i * conv.y_strides.0 + j * conv.y_strides.1);
                let mut gradient = [s.zero(); C];
                for (k, gradient) in gradient.iter_mut().enumerate() {
                    *gradient = s.load(dy.add(k * S::LANES));
                }
                for r in 0..R {
                    let value = s.splat(*x.add(offsets[r]));
                    for k in 0..C {
                        sums[r][k] = s.mul_add(value, gradient[k], sums[r][k]);
                    }
                }
            }
        }
        add_tile(s, conv, &sums, dw);
    }
}
