//! The end of a block in one go with what comes before it: for a convolution whose output nobody else reads.

use super::direct::{Conv, tile};
use crate::simd::Simd;

/// What follows a convolution whose output nobody else reads.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// Whether a 2×2 pool follows, of which the convolution has whole windows.
    pub pool: bool,
    /// Factor on the negative side of the activation.
    pub slope: f32,
    /// Floats per pixel of the output, at most the convolution's channels.
    pub channels: usize,
    /// Floats from one row of the output to the next.
    pub row: usize,
}

impl Ending {
    /// Writes the activation of `z` to channels `at ..` of the pixel at `out`.
    ///
    /// # Safety
    /// `out` is valid for the pixel's channels; those of `z` beyond them aren't written.
    #[inline(always)]
    unsafe fn put<S: Simd>(&self, s: S, out: *mut f32, at: usize, z: S::V) {
        let low = if self.slope == 0.0 {
            s.zero()
        } else {
            s.mul(s.splat(self.slope), z)
        };
        let value = s.select(s.less_equal(z, s.zero()), low, z);
        // SAFETY: the caller's.
        unsafe {
            if at + S::LANES <= self.channels {
                s.store(out.add(at), value);
            } else if at < self.channels {
                s.store_part(out.add(at), value, self.channels - at);
            }
        }
    }
}

/// The greatest of a window, or NaN where it holds one.
#[inline(always)]
fn greatest<S: Simd>(s: S, [a, b, c, d]: [S::V; 4]) -> S::V {
    let nan = s.or(s.either_nan(a, b), s.either_nan(c, d));
    s.select(nan, s.splat(f32::NAN), s.max(s.max(a, b), s.max(c, d)))
}

/// `out = pool(activation(convolution + shift))`; the convolution never leaves the registers. With `codes` (else null)
/// also what [`super::epilogue`] calls a code, for each element of a dense map of all channels.
///
/// # Safety
/// `x` and `w` as in [`super::direct::convolve`], with dense pixels; `shift` is valid for `out_channels` floats, `out` for what
/// `ending` says and `codes`, where it isn't null, for a byte per channel of each of its pixels.
#[inline(always)]
pub unsafe fn convolve_and_end<S: Simd>(
    s: S,
    (conv, ending): (&Conv, &Ending),
    (x, w, shift): (*const f32, *const f32, *const f32),
    codes: *mut u8,
    out: *mut f32,
) {
    debug_assert!(conv.x_strides.1 == conv.channels);
    let all = Place {
        conv,
        ending,
        x,
        w,
        shift,
        codes,
        out,
        channel: 0,
    };
    if ending.pool && (conv.kernel, conv.channels) == (3, 1) {
        // SAFETY: the caller's.
        unsafe {
            if codes.is_null() {
                end_single::<S, false>(s, all);
            } else {
                end_single::<S, true>(s, all);
            }
        }
        return;
    }
    let vectors = conv.out_channels / S::LANES;
    let mut v = 0;
    while v < vectors {
        let two = vectors - v >= 2;
        let place = Place {
            // SAFETY: the columns `v * LANES ..` are within `out_channels`.
            w: unsafe { w.add(v * S::LANES) },
            // SAFETY: likewise.
            shift: unsafe { shift.add(v * S::LANES) },
            channel: v * S::LANES,
            ..all
        };
        // SAFETY: the caller's.
        unsafe {
            match (ending.pool, two, codes.is_null()) {
                (true, true, true) => end_columns::<S, 4, 2, false>(s, place),
                (true, true, false) => end_columns::<S, 4, 2, true>(s, place),
                (true, false, true) => end_columns::<S, 4, 1, false>(s, place),
                (true, false, false) => end_columns::<S, 4, 1, true>(s, place),
                (false, true, true) => end_columns::<S, 1, 2, false>(s, place),
                (false, true, false) => end_columns::<S, 1, 2, true>(s, place),
                (false, false, true) => end_columns::<S, 1, 1, false>(s, place),
                (false, false, false) => end_columns::<S, 1, 1, true>(s, place),
            }
        }
        v += if two { 2 } else { 1 };
    }
}

/// Where a tile of [`convolve_and_end`] reads and writes.
#[derive(Clone, Copy)]
struct Place<'a> {
    conv: &'a Conv,
    ending: &'a Ending,
    x: *const f32,
    /// From the tile's first channel on.
    w: *const f32,
    shift: *const f32,
    codes: *mut u8,
    out: *mut f32,
    channel: usize,
}

/// `C` vectors of channels of windows of `P` pixels.
#[inline(always)]
unsafe fn end_columns<S: Simd, const P: usize, const C: usize, const CODES: bool>(s: S, place: Place<'_>) {
    let side = if P == 4 { 2 } else { 1 };
    let conv = place.conv;
    let (rows, columns) = (conv.rows / side, conv.columns / side);
    // As many windows side by side as the registers hold sums.
    let wide = match (P, S::COLUMNS) {
        (4, 4) => 3,
        (4, _) => 1,
        (_, 4) => 6,
        _ => 5,
    };
    let parts = columns.div_ceil(wide);
    for i in 0..rows {
        for part in 0..parts {
            let (j, size) = tile(columns, parts, part);
            let first = i * columns + j;
            // SAFETY: windows `j .. j + size` of row `i` are among those that the caller vouches for.
            unsafe {
                let tile = Place {
                    x: place.x.add(side * (i * conv.x_strides.0 + j * conv.x_strides.1)),
                    codes: if CODES {
                        place.codes.add(first * conv.out_channels + place.channel)
                    } else {
                        place.codes
                    },
                    out: place.out.add(i * place.ending.row + j * place.ending.channels),
                    ..place
                };
                match size {
                    1 => end_tile::<S, 1, P, C, CODES>(s, tile),
                    2 if wide >= 2 => end_tile::<S, 2, P, C, CODES>(s, tile),
                    3 if wide >= 3 => end_tile::<S, 3, P, C, CODES>(s, tile),
                    4 if wide >= 4 => end_tile::<S, 4, P, C, CODES>(s, tile),
                    5 if wide >= 5 => end_tile::<S, 5, P, C, CODES>(s, tile),
                    6 if wide >= 6 => end_tile::<S, 6, P, C, CODES>(s, tile),
                    _ => unreachable!("tiles are at most `wide`"),
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn end_tile<S: Simd, const W: usize, const P: usize, const C: usize, const CODES: bool>(
    s: S,
    place: Place<'_>,
) {
    let Place {
        conv, x, w, shift, ..
    } = place;
    let (kernel, run) = (conv.kernel, conv.kernel * conv.channels);
    let mut sums = [[[s.zero(); C]; P]; W];
    // SAFETY: all indices lie within what `convolve_and_end` asks its caller for; of the last vector only the channels
    // below `ending.channels` are written to `out`.
    unsafe {
        for a in 0..kernel {
            let (x, w) = (x.add(a * conv.x_strides.0), w.add(a * run * conv.out_channels));
            let mut t = 0;
            // Half as many addresses, for which few registers leave little else to do meanwhile.
            while S::COLUMNS < 4 && t + 2 <= run {
                add_products::<S, W, P, C, 2>(s, conv, (x.add(t), w.add(t * conv.out_channels)), &mut sums);
                t += 2;
            }
            while t < run {
                add_products::<S, W, P, C, 1>(s, conv, (x.add(t), w.add(t * conv.out_channels)), &mut sums);
                t += 1;
            }
        }
        for k in 0..C {
            let shift = s.load(shift.add(k * S::LANES));
            for (j, window) in sums.iter().enumerate() {
                if P == 4 {
                    let window = [window[0][k], window[1 % P][k], window[2 % P][k], window[3 % P][k]];
                    end_window::<S, CODES>(s, place, (j, k), window, shift);
                } else {
                    end_value::<S, CODES>(s, place, (j, k), s.add(window[0][k], shift), s.zero());
                }
            }
        }
    }
}

/// Adds the products of `T` numbers of each pixel, from `x` on, and as many rows of the weight: of two at a time, whose pixels
/// have one address.
#[inline(always)]
unsafe fn add_products<S: Simd, const W: usize, const P: usize, const C: usize, const T: usize>(
    s: S,
    conv: &Conv,
    (x, w): (*const f32, *const f32),
    sums: &mut [[[S::V; C]; P]; W],
) {
    let mut weight = [[s.zero(); C]; T];
    // SAFETY: the caller's, as in `end_tile`.
    unsafe {
        for (t, weight) in weight.iter_mut().enumerate() {
            for (k, weight) in weight.iter_mut().enumerate() {
                *weight = s.load(w.add(t * conv.out_channels + k * S::LANES));
            }
        }
        for (j, window) in sums.iter_mut().enumerate() {
            for (p, sums) in window.iter_mut().enumerate() {
                let (down, right) = if P == 4 { (p / 2, 2 * j + p % 2) } else { (0, j) };
                let x = x.add(down * conv.x_strides.0 + right * conv.x_strides.1);
                for (t, weight) in weight.iter().enumerate() {
                    let value = s.splat(*x.add(t));
                    for k in 0..C {
                        sums[k] = s.mul_add(value, weight[k], sums[k]);
                    }
                }
            }
        }
    }
}

/// Whole windows of a convolution of one channel, the first layer of grey images: a vector's nine weights stay in registers
/// from one end of a row to the other.
#[inline(always)]
unsafe fn end_single<S: Simd, const CODES: bool>(s: S, place: Place<'_>) {
    let Place { conv, ending, .. } = place;
    let (rows, columns, x_row) = (conv.rows / 2, conv.columns / 2, conv.x_strides.0);
    for i in 0..rows {
        for channel in (0..conv.out_channels).step_by(S::LANES) {
            // SAFETY: all windows and channels that the caller of `convolve_and_end` vouches for.
            unsafe {
                let row = Place {
                    x: place.x.add(2 * i * x_row),
                    codes: if CODES {
                        place.codes.add(i * columns * conv.out_channels + channel)
                    } else {
                        place.codes
                    },
                    out: place.out.add(i * ending.row),
                    channel,
                    ..place
                };
                let mut weight = [s.zero(); 9];
                for (tap, weight) in weight.iter_mut().enumerate() {
                    *weight = s.load(place.w.add(tap * conv.out_channels + channel));
                }
                let shift = s.load(place.shift.add(channel));
                for j in 0..columns {
                    let mut sums = [s.zero(); 4];
                    // Each pixel is read once and used at once for all sums that it is part of.
                    for r in 0..4 {
                        let x = row.x.add(r * x_row + 2 * j);
                        let x = [
                            s.splat(*x),
                            s.splat(*x.add(1)),
                            s.splat(*x.add(2)),
                            s.splat(*x.add(3)),
                        ];
                        for down in 0..2 {
                            if r >= down && r < down + 3 {
                                let a = 3 * (r - down);
                                for b in 0..3 {
                                    sums[2 * down] = s.mul_add(x[b], weight[a + b], sums[2 * down]);
                                    sums[2 * down + 1] =
                                        s.mul_add(x[b + 1], weight[a + b], sums[2 * down + 1]);
                                }
                            }
                        }
                    }
                    end_window::<S, CODES>(s, row, (j, 0), sums, shift);
                }
            }
        }
    }
}

/// Pool and all after it, for the tile's window `j` and vector `k`.
#[inline(always)]
unsafe fn end_window<S: Simd, const CODES: bool>(
    s: S,
    place: Place<'_>,
    at: (usize, usize),
    window: [S::V; 4],
    shift: S::V,
) {
    let (mut best, mut code) = (window[0], s.zero());
    if CODES {
        for (p, value) in window.into_iter().enumerate().skip(1) {
            let larger = s.or(s.greater(value, best), s.is_nan(value));
            let wins = s.and_not(larger, s.is_nan(best));
            best = s.select(wins, value, best);
            code = s.select(wins, s.splat(p as f32), code);
        }
    } else {
        best = greatest(s, window);
    }
    // SAFETY: the caller's.
    unsafe { end_value::<S, CODES>(s, place, at, s.add(best, shift), code) }
}

/// The activation of `z`, and its side added to the winner's number.
#[inline(always)]
unsafe fn end_value<S: Simd, const CODES: bool>(
    s: S,
    place: Place<'_>,
    (j, k): (usize, usize),
    z: S::V,
    winner: S::V,
) {
    // SAFETY: the tile's window (or pixel) `j` and its vector `k` of channels.
    unsafe {
        if CODES {
            let side = s.select(s.less_equal(z, s.zero()), s.zero(), s.splat(4.0));
            let to = place.codes.add(j * place.conv.out_channels + k * S::LANES);
            s.store_codes(to, s.add(winner, side));
        }
        let pixel = place.out.add(j * place.ending.channels);
        place.ending.put(s, pixel, place.channel + k * S::LANES, z);
    }
}

/// `out = pool(activation(y + shift))` of a map of `channels` channels, for an answer that nothing is asked of afterwards.
///
/// # Safety
/// `y` is a dense map of `rows` by `columns` pixels of the output, or of twice as many in both directions (where `y_row` says
/// how far apart its rows are) with a pool; `shift` is valid for `channels` floats, `out` for what `ending` says.
#[inline(always)]
pub unsafe fn answer<S: Simd>(
    s: S,
    ((rows, columns), ending): ((usize, usize), &Ending),
    (y, y_row, channels): (*const f32, usize, usize),
    shift: *const f32,
    out: *mut f32,
) {
    let step = if ending.pool { 2 } else { 1 };
    for i in 0..rows {
        for at in (0..channels).step_by(S::LANES) {
            // SAFETY: `at + LANES <= channels`; pixels are within the maps.
            unsafe {
                let shift = s.load(shift.add(at));
                for j in 0..columns {
                    let y = y.add(step * (i * y_row + j * channels) + at);
                    let mut value = s.load(y);
                    if ending.pool {
                        let below = y.add(y_row);
                        let rest = (
                            s.load(y.add(channels)),
                            s.load(below),
                            s.load(below.add(channels)),
                        );
                        value = greatest(s, [value, rest.0, rest.1, rest.2]);
                    }
                    let pixel = out.add(i * ending.row + j * ending.channels);
                    ending.put(s, pixel, at, s.add(value, shift));
                }
            }
        }
    }
}
