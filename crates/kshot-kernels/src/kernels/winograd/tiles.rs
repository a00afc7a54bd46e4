//! The transforms of whole tiles, of weights, and of all tiles of an image.

use super::line::{Four, Scheme, Six, input, input_adjoint, output, output_adjoint, weight, weight_adjoint};
use super::{POINTS, Tiles, Tiling, USED, panel};

/// Points per axis of F(4×4, 3×3).
const FOUR: usize = Tiles::Four.points();
use crate::simd::Simd;

/// Calls `$run(sizes, ..)` with the sizes of a tile: as constants where these are the common ones, so that the
/// compiler unrolls what follows.
macro_rules! for_sizes {
    (six: $sizes:expr, $run:ident($($arg:expr),*)) => {
        match $sizes {
            (6, 6) => $run::<S, Six>((6, 6), $($arg),*),
            (6, 2) if S::UNROLLED_EDGES => $run::<S, Six>((6, 2), $($arg),*),
            (2, 6) if S::UNROLLED_EDGES => $run::<S, Six>((2, 6), $($arg),*),
            (2, 2) if S::UNROLLED_EDGES => $run::<S, Six>((2, 2), $($arg),*),
            sizes => $run::<S, Six>(sizes, $($arg),*),
        }
    };
    ($sizes:expr, $run:ident($($arg:expr),*)) => {
        match $sizes {
            (4, 4) => $run::<S, Four>((4, 4), $($arg),*),
            (4, 3) if S::UNROLLED_EDGES => $run::<S, Four>((4, 3), $($arg),*),
            (3, 4) if S::UNROLLED_EDGES => $run::<S, Four>((3, 4), $($arg),*),
            (3, 3) if S::UNROLLED_EDGES => $run::<S, Four>((3, 3), $($arg),*),
            (4, 2) if S::UNROLLED_EDGES => $run::<S, Four>((4, 2), $($arg),*),
            (2, 4) if S::UNROLLED_EDGES => $run::<S, Four>((2, 4), $($arg),*),
            (2, 2) if S::UNROLLED_EDGES => $run::<S, Four>((2, 2), $($arg),*),
            sizes => $run::<S, Four>(sizes, $($arg),*),
        }
    };
}
/// Points per axis.
#[inline(always)]
const fn points<P: Scheme>() -> usize {
    if P::C.is_some() { 8 } else { 6 }
}

/// `U = G g Gᵀ` for the input channels `from .. to` and all output channels; `g` is `[3, 3, c_in, c_out]`.
///
/// # Safety
/// `g` is valid for `9 * c_in * c_out` floats, `u` for [`Tiling::u_len`], of which only these input channels' are written.
/// Both channel counts are multiples of 16, and `to` is at most `c_in`.
#[inline(always)]
pub unsafe fn transform_weight<S: Simd>(
    s: S,
    tiles: Tiles,
    channels: (usize, usize),
    inputs: (usize, usize),
    g: *const f32,
    u: *mut f32,
) {
    // SAFETY: the caller's.
    unsafe {
        match tiles {
            Tiles::Four => transform_weight_of::<S, Four>(s, tiles.points(), channels, inputs, g, u),
            Tiles::Six => transform_weight_of::<S, Six>(s, tiles.points(), channels, inputs, g, u),
        }
    }
}

#[inline(always)]
unsafe fn transform_weight_of<S: Simd, P: Scheme>(
    s: S,
    n: usize,
    channels: (usize, usize),
    (from, to): (usize, usize),
    g: *const f32,
    u: *mut f32,
) {
    for c in from..to {
        for o in (0..channels.1).step_by(S::LANES) {
            let mut rows = [[s.zero(); POINTS]; 3];
            for (a, row) in rows.iter_mut().enumerate() {
                let mut taps = [s.zero(); 3];
                for (b, tap) in taps.iter_mut().enumerate() {
                    // SAFETY: tap `a, b` of channels `c` and `o .. o + LANES`.
                    *tap = unsafe { s.load(g.add(((a * 3 + b) * channels.0 + c) * channels.1 + o)) };
                }
                *row = weight::<S, P>(s, taps);
            }
            for j in 0..n {
                let column = weight::<S, P>(s, [rows[0][j], rows[1][j], rows[2][j]]);
                for (i, value) in column.into_iter().enumerate().take(n) {
                    // SAFETY: a panel is a whole number of vectors wide, so these lanes are in one row of it.
                    unsafe { s.store(u.add(panel(i * n + j, channels, c, o)), value) };
                }
            }
        }
    }
}

/// `g = Gᵀ u G`, the adjoint of [`transform_weight`].
///
/// # Safety
/// As [`transform_weight`], with `g` written and `u` read.
#[inline(always)]
pub unsafe fn transform_weight_adjoint<S: Simd>(s: S, channels: (usize, usize), u: *const f32, g: *mut f32) {
    for c in 0..channels.0 {
        for o in (0..channels.1).step_by(S::LANES) {
            let mut rows = [[s.zero(); 3]; FOUR];
            for (i, row) in rows.iter_mut().enumerate() {
                let mut line = [s.zero(); POINTS];
                for (j, value) in line.iter_mut().enumerate().take(FOUR) {
                    // SAFETY: as in `transform_weight`.
                    *value = unsafe { s.load(u.add(panel(i * FOUR + j, channels, c, o))) };
                }
                *row = weight_adjoint(s, line);
            }
            for b in 0..3 {
                let mut column = [s.zero(); POINTS];
                for (i, value) in column.iter_mut().enumerate().take(FOUR) {
                    *value = rows[i][b];
                }
                for (a, value) in weight_adjoint(s, column).into_iter().enumerate() {
                    // SAFETY: tap `a, b` of channels `c` and `o .. o + LANES`.
                    unsafe { s.store(g.add(((a * 3 + b) * channels.0 + c) * channels.1 + o), value) };
                }
            }
        }
    }
}

/// `V = Bᵀ d B` for all tiles of image number `image` of the block.
///
/// # Safety
/// `x`, with rows `x_row` floats apart and dense pixels, is valid for the output's size and two more rows and
/// columns; `v` for [`Tiling::v_len`]; `image` is less than the tiling's number of images.
#[inline(always)]
pub unsafe fn transform_input<S: Simd>(
    s: S,
    tiling: &Tiling,
    image: usize,
    (x, x_row): (*const f32, usize),
    v: *mut f32,
) {
    for ty in 0..tiling.y.tiles() {
        let places = tiling.places(0, image, ty);
        for tx in 0..tiling.x.tiles() {
            let sizes = (tiling.y.outputs(ty), tiling.x.outputs(tx));
            // SAFETY: the tile's first element, and its row in `v`.
            unsafe {
                let x = x.add(tiling.y.whole * (ty * x_row + tx * tiling.channels.0));
                let v = v.add(tx * tiling.channels.0);
                if tiling.tiles == Tiles::Six {
                    for_sizes!(six: sizes, input_tile(s, tiling.channels.0, (x, x_row), &places, v));
                } else {
                    for_sizes!(sizes, input_tile(s, tiling.channels.0, (x, x_row), &places, v));
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn input_tile<S: Simd, P: Scheme>(
    (size_y, size_x): (usize, usize),
    s: S,
    channels: usize,
    (x, x_row): (*const f32, usize),
    places: &[usize; POINTS * POINTS],
    v: *mut f32,
) {
    let n = points::<P>();
    for c in (0..channels).step_by(S::LANES) {
        let mut rows = [[s.zero(); POINTS]; POINTS];
        for (i, row) in rows.iter_mut().enumerate().take(size_y + 2) {
            let mut line = [s.zero(); POINTS];
            for (j, value) in line.iter_mut().enumerate().take(size_x + 2) {
                // SAFETY: a tile of `m` outputs reads `m + 2` rows and columns.
                *value = unsafe { s.load(x.add(i * x_row + j * channels + c)) };
            }
            *row = input::<S, P>(s, size_x, line);
        }
        for j in USED[size_x] {
            let mut column = [s.zero(); POINTS];
            for (i, value) in column.iter_mut().enumerate() {
                *value = rows[i][*j];
            }
            let column = input::<S, P>(s, size_y, column);
            for i in USED[size_y] {
                // SAFETY: the points in use have a row for this tile.
                unsafe { s.store(v.add(places[i * n + j] + c), column[*i]) };
            }
        }
    }
}

/// Adds `dd = B dV Bᵀ` of all tiles of image number `image` to `dx`.
///
/// # Safety
/// As [`transform_input`], with `dx` read and written and `v` read.
#[inline(always)]
pub unsafe fn transform_input_adjoint<S: Simd>(
    s: S,
    tiling: &Tiling,
    image: usize,
    v: *const f32,
    (dx, dx_row): (*mut f32, usize),
) {
    for ty in 0..tiling.y.tiles() {
        let places = tiling.places(0, image, ty);
        for tx in 0..tiling.x.tiles() {
            let sizes = (tiling.y.outputs(ty), tiling.x.outputs(tx));
            // SAFETY: the tile's first element, and its row in `v`.
            unsafe {
                let dx = dx.add(4 * (ty * dx_row + tx * tiling.channels.0));
                let v = v.add(tx * tiling.channels.0);
                for_sizes!(
                    sizes,
                    input_adjoint_tile(s, tiling.channels.0, &places, v, (dx, dx_row))
                );
            }
        }
    }
}

#[inline(always)]
unsafe fn input_adjoint_tile<S: Simd, P: Scheme>(
    (size_y, size_x): (usize, usize),
    s: S,
    channels: usize,
    places: &[usize; POINTS * POINTS],
    v: *const f32,
    (dx, dx_row): (*mut f32, usize),
) {
    let n = points::<P>();
    for c in (0..channels).step_by(S::LANES) {
        let mut columns = [[s.zero(); POINTS]; POINTS];
        for j in USED[size_x] {
            let mut column = [s.zero(); POINTS];
            for i in USED[size_y] {
                // SAFETY: the points in use have a row for this tile.
                column[*i] = unsafe { s.load(v.add(places[i * n + j] + c)) };
            }
            columns[*j] = input_adjoint(s, size_y, column);
        }
        for i in 0..size_y + 2 {
            let mut line = [s.zero(); POINTS];
            for j in USED[size_x] {
                line[*j] = columns[*j][i];
            }
            let line = input_adjoint(s, size_x, line);
            for (j, value) in line.into_iter().enumerate().take(size_x + 2) {
                // SAFETY: a tile of `m` outputs covers `m + 2` rows and columns of the input.
                unsafe {
                    let to = dx.add(i * dx_row + j * channels + c);
                    s.store(to, s.add(s.load(to), value));
                }
            }
        }
    }
}

/// `Y = Aᵀ M A` for all tiles of image number `image` of the block.
///
/// # Safety
/// `m` is valid for [`Tiling::m_len`]; `y`, with rows `y_row` floats apart and dense pixels, for the output's
/// size; `image` is less than the tiling's number of images.
#[inline(always)]
pub unsafe fn transform_output<S: Simd>(
    s: S,
    tiling: &Tiling,
    image: usize,
    m: *const f32,
    (y, y_row): (*mut f32, usize),
) {
    for ty in 0..tiling.y.tiles() {
        let places = tiling.places(1, image, ty);
        for tx in 0..tiling.x.tiles() {
            let sizes = (tiling.y.outputs(ty), tiling.x.outputs(tx));
            // SAFETY: the tile's first element, and its row in `m`.
            unsafe {
                let y = y.add(tiling.y.whole * (ty * y_row + tx * tiling.channels.1));
                let m = m.add(tx * tiling.channels.1);
                if tiling.tiles == Tiles::Six {
                    for_sizes!(six: sizes, output_tile(s, tiling.channels.1, &places, m, (y, y_row)));
                } else {
                    for_sizes!(sizes, output_tile(s, tiling.channels.1, &places, m, (y, y_row)));
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn output_tile<S: Simd, P: Scheme>(
    (size_y, size_x): (usize, usize),
    s: S,
    channels: usize,
    places: &[usize; POINTS * POINTS],
    m: *const f32,
    (y, y_row): (*mut f32, usize),
) {
    let n = points::<P>();
    for c in (0..channels).step_by(S::LANES) {
        let mut columns = [[s.zero(); POINTS]; POINTS];
        for j in USED[size_x] {
            let mut column = [s.zero(); POINTS];
            for i in USED[size_y] {
                // SAFETY: the points in use have a row for this tile.
                column[*i] = unsafe { s.load(m.add(places[i * n + j] + c)) };
            }
            columns[*j] = output::<S, P>(s, size_y, column);
        }
        for i in 0..size_y {
            let mut line = [s.zero(); POINTS];
            for j in USED[size_x] {
                line[*j] = columns[*j][i];
            }
            let line = output::<S, P>(s, size_x, line);
            for (j, value) in line.into_iter().enumerate().take(size_x) {
                // SAFETY: element `i, j` of this tile of the output.
                unsafe { s.store(y.add(i * y_row + j * channels + c), value) };
            }
        }
    }
}

/// `dM = A dY Aᵀ` for all tiles of image number `image` of the block.
///
/// # Safety
/// As [`transform_output`], with `dy` read and `m` written.
#[inline(always)]
pub unsafe fn transform_output_adjoint<S: Simd>(
    s: S,
    tiling: &Tiling,
    image: usize,
    (dy, dy_row): (*const f32, usize),
    m: *mut f32,
) {
    for ty in 0..tiling.y.tiles() {
        let places = tiling.places(1, image, ty);
        for tx in 0..tiling.x.tiles() {
            let sizes = (tiling.y.outputs(ty), tiling.x.outputs(tx));
            // SAFETY: the tile's first element, and its row in `m`.
            unsafe {
                let dy = dy.add(4 * (ty * dy_row + tx * tiling.channels.1));
                let m = m.add(tx * tiling.channels.1);
                for_sizes!(
                    sizes,
                    output_adjoint_tile(s, tiling.channels.1, (dy, dy_row), &places, m)
                );
            }
        }
    }
}

#[inline(always)]
unsafe fn output_adjoint_tile<S: Simd, P: Scheme>(
    (size_y, size_x): (usize, usize),
    s: S,
    channels: usize,
    (dy, dy_row): (*const f32, usize),
    places: &[usize; POINTS * POINTS],
    m: *mut f32,
) {
    let n = points::<P>();
    for c in (0..channels).step_by(S::LANES) {
        let mut rows = [[s.zero(); POINTS]; POINTS];
        for (i, row) in rows.iter_mut().enumerate().take(size_y) {
            let mut line = [s.zero(); POINTS];
            for (j, value) in line.iter_mut().enumerate().take(size_x) {
                // SAFETY: element `i, j` of this tile of the output.
                *value = unsafe { s.load(dy.add(i * dy_row + j * channels + c)) };
            }
            *row = output_adjoint(s, size_x, line);
        }
        for j in USED[size_x] {
            let mut column = [s.zero(); POINTS];
            for (i, value) in column.iter_mut().enumerate() {
                *value = rows[i][*j];
            }
            let column = output_adjoint(s, size_y, column);
            for i in USED[size_y] {
                // SAFETY: the points in use have a row for this tile.
                unsafe { s.store(m.add(places[i * n + j] + c), column[*i]) };
            }
        }
    }
}
