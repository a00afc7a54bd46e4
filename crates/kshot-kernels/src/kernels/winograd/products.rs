//! The matrix products between the transforms: one per point.

use super::{PANEL, Tiling};
use crate::kernels::direct::tile;
use crate::simd::Simd;

/// Rows of a register tile.
const ROWS: usize = 6;

/// `M[k] = V[k] U[k]` for all points and the first `images` images of the block.
///
/// # Safety
/// `v`, `u` and `m` are valid for [`Tiling::v_len`], [`Tiling::u_len`] and [`Tiling::m_len`] floats.
#[inline(always)]
pub unsafe fn multiply<S: Simd>(
    s: S,
    tiling: &Tiling,
    images: usize,
    v: *const f32,
    u: *const f32,
    m: *mut f32,
) {
    let (inner, columns) = tiling.channels;
    for k in 0..tiling.tiles.points() * tiling.tiles.points() {
        // SAFETY: the rows of point `k`.
        unsafe {
            let (v, m) = (v.add(tiling.starts[0][k]), m.add(tiling.starts[1][k]));
            let u = u.add(k * inner * columns);
            product(s, (tiling.rows(k, images), inner, columns), v, u, m);
        }
    }
}

/// `dU[k] = V[k]ᵀ dM[k]`, or where `adds` is true `dU[k] += V[k]ᵀ dM[k]`, and with `ut` (the transpose of `U`, as panels of
/// input channels) then
/// `V[k] = dM[k] U[k]ᵀ` in the place of `V`.
///
/// # Safety
/// As [`multiply`]; `du` and `ut` have as many floats as `U`.
#[inline(always)]
pub unsafe fn gradients<S: Simd>(
    s: S,
    tiling: &Tiling,
    images: usize,
    (v, dm): (*mut f32, *const f32),
    (du, adds): (*mut f32, bool),
    ut: Option<*const f32>,
) {
    let (inner, columns) = tiling.channels;
    for k in 0..tiling.tiles.points() * tiling.tiles.points() {
        let rows = tiling.rows(k, images);
        // SAFETY: the rows of point `k`.
        unsafe {
            let (v, dm) = (v.add(tiling.starts[0][k]), dm.add(tiling.starts[1][k]));
            let du = du.add(k * inner * columns);
            if adds {
                outer_product::<S, true>(s, (rows, inner, columns), v, dm, du);
            } else {
                outer_product::<S, false>(s, (rows, inner, columns), v, dm, du);
            }
            if let Some(ut) = ut {
                product(s, (rows, columns, inner), dm, ut.add(k * inner * columns), v);
            }
        }
    }
}

/// `m = v u` for a dense `v` of `rows` by `inner` and `u` in panels.
///
/// # Safety
/// All three are valid for their sizes.
#[inline(always)]
unsafe fn product<S: Simd>(
    s: S,
    (rows, inner, columns): (usize, usize, usize),
    v: *const f32,
    u: *const f32,
    m: *mut f32,
) {
    for first in (0..columns).step_by(PANEL) {
        let width = (columns - first).min(PANEL);
        let vectors = width / S::LANES;
        let mut at = 0;
        while at < vectors {
            let column = at * S::LANES;
            // SAFETY: columns `column ..` of the panel that starts at `first`.
            unsafe {
                let (u, m) = (u.add(first * inner + column), m.add(first + column));
                let size = (rows, inner, width, columns);
                if S::COLUMNS == 4 && (S::WHOLE_TILES || vectors - at >= 4) {
                    product_columns::<S, 4>(s, size, v, u, m);
                    at += 4;
                } else if S::COLUMNS == 2 || vectors - at >= 2 {
                    product_columns::<S, 2>(s, size, v, u, m);
                    at += 2;
                } else {
                    product_columns::<S, 1>(s, size, v, u, m);
                    at += 1;
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn product_columns<S: Simd, const C: usize>(
    s: S,
    (rows, inner, u_row, m_row): (usize, usize, usize, usize),
    v: *const f32,
    u: *const f32,
    m: *mut f32,
) {
    let parts = rows.div_ceil(ROWS);
    for part in 0..parts {
        let (row, size) = tile(rows, parts, part);
        // SAFETY: rows `row .. row + size`.
        unsafe {
            let (v, m) = (v.add(row * inner), m.add(row * m_row));
            let sizes = (inner, u_row, m_row);
            match size {
                1 => product_tile::<S, 1, C>(s, sizes, v, u, m),
                2 => product_tile::<S, 2, C>(s, sizes, v, u, m),
                3 => product_tile::<S, 3, C>(s, sizes, v, u, m),
                4 => product_tile::<S, 4, C>(s, sizes, v, u, m),
                5 => product_tile::<S, 5, C>(s, sizes, v, u, m),
                _ => product_tile::<S, 6, C>(s, sizes, v, u, m),
            }
        }
    }
}

#[inline(always)]
unsafe fn product_tile<S: Simd, const R: usize, const C: usize>(
    s: S,
    (inner, u_row, m_row): (usize, usize, usize),
    v: *const f32,
    u: *const f32,
    m: *mut f32,
) {
    let mut sums = [[s.zero(); C]; R];
    // SAFETY: `R` rows of `v` and `m`, all rows of `u`, `C` vectors of columns.
    unsafe {
        for c in 0..inner {
            let mut weight = [s.zero(); C];
            for (k, weight) in weight.iter_mut().enumerate() {
                *weight = s.load(u.add(c * u_row + k * S::LANES));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let value = s.splat(*v.add(r * inner + c));
                for k in 0..C {
                    sums[k] = s.mul_add(value, weight[k], sums[k]);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (k, sum) in sums.iter().enumerate() {
                s.store(m.add(r * m_row + k * S::LANES), *sum);
            }
        }
    }
}

/// `du = vᵀ dm`, or with `ADDS` `du += vᵀ dm`, for a dense `v` of `rows` by `inner`, `dm` of `rows` by `columns`, and `du` in
/// panels.
///
/// # Safety
/// All three are valid for their sizes.
#[inline(always)]
unsafe fn outer_product<S: Simd, const ADDS: bool>(
    s: S,
    (rows, inner, columns): (usize, usize, usize),
    v: *const f32,
    dm: *const f32,
    du: *mut f32,
) {
    if ADDS && rows == 0 {
        return;
    }
    for first in (0..columns).step_by(PANEL) {
        let width = (columns - first).min(PANEL);
        let vectors = width / S::LANES;
        let mut at = 0;
        while at < vectors {
            let column = at * S::LANES;
            // SAFETY: columns `column ..` of the panel that starts at `first`.
            unsafe {
                let (du, dm) = (du.add(first * inner + column), dm.add(first + column));
                let size = (rows, inner, width, columns);
                if S::COLUMNS == 4 && (S::WHOLE_TILES || vectors - at >= 4) {
                    outer_columns::<S, 4, ADDS>(s, size, v, dm, du);
                    at += 4;
                } else if S::COLUMNS == 2 || vectors - at >= 2 {
                    outer_columns::<S, 2, ADDS>(s, size, v, dm, du);
                    at += 2;
                } else {
                    outer_columns::<S, 1, ADDS>(s, size, v, dm, du);
                    at += 1;
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn outer_columns<S: Simd, const C: usize, const ADDS: bool>(
    s: S,
    (rows, inner, u_row, m_row): (usize, usize, usize, usize),
    v: *const f32,
    dm: *const f32,
    du: *mut f32,
) {
    let parts = inner.div_ceil(ROWS);
    for part in 0..parts {
        let (c, size) = tile(inner, parts, part);
        // SAFETY: input channels `c .. c + size`.
        unsafe {
            let (v, du) = (v.add(c), du.add(c * u_row));
            let sizes = (rows, inner, u_row, m_row);
            match size {
                1 => outer_tile::<S, 1, C, ADDS>(s, sizes, v, dm, du),
                2 => outer_tile::<S, 2, C, ADDS>(s, sizes, v, dm, du),
                3 => outer_tile::<S, 3, C, ADDS>(s, sizes, v, dm, du),
                4 => outer_tile::<S, 4, C, ADDS>(s, sizes, v, dm, du),
                5 => outer_tile::<S, 5, C, ADDS>(s, sizes, v, dm, du),
                _ => outer_tile::<S, 6, C, ADDS>(s, sizes, v, dm, du),
            }
        }
    }
}

#[inline(always)]
unsafe fn outer_tile<S: Simd, const R: usize, const C: usize, const ADDS: bool>(
    s: S,
    (rows, inner, u_row, m_row): (usize, usize, usize, usize),
    v: *const f32,
    dm: *const f32,
    du: *mut f32,
) {
    let mut sums = [[s.zero(); C]; R];
    // SAFETY: `R` input channels, `C` vectors of output channels, all rows.
    unsafe {
        for t in 0..rows {
            let mut gradient = [s.zero(); C];
            for (k, gradient) in gradient.iter_mut().enumerate() {
                *gradient = s.load(dm.add(t * m_row + k * S::LANES));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let value = s.splat(*v.add(t * inner + r));
                for k in 0..C {
                    sums[k] = s.mul_add(value, gradient[k], sums[k]);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (k, sum) in sums.iter().enumerate() {
                let to = du.add(r * u_row + k * S::LANES);
                let before = if ADDS { s.load(to) } else { s.zero() };
                s.store(to, s.add(before, *sum));
            }
        }
    }
}
