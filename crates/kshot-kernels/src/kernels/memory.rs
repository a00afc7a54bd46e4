//! Products of small matrices and the curves of gates: what a network with a memory computes at each of its steps, for a few
//! sequences. See [`crate::MemoryNetwork`].

use super::coordinates::{sigmoid, tanh, total};
use crate::simd::Simd;

/// Columns that [`matmul`] works on side by side, four vectors of the widest instruction set.
pub const COLUMNS: usize = 64;

/// Sizes of a product of matrices, and how far apart their entries lie.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// Rows of the result.
    pub m: usize,
    /// What is summed over.
    pub k: usize,
    /// Columns of the result.
    pub n: usize,
    /// Of the left factor: from row to row, and from column to column.
    pub left: (usize, usize),
    /// From row to row of the right factor as it lies in memory.
    pub right: usize,
    /// From row to row of the result.
    pub result: usize,
}

/// `y[m, n] += x[m, k] · w[k, n]`; `n` is a multiple of [`COLUMNS`].
///
/// # Safety
/// The pointers are valid for these sizes and strides.
#[inline(always)]
pub unsafe fn matmul<S: Simd>(s: S, size: &Product, x: *const f32, w: *const f32, y: *mut f32) {
    let tall = if S::LANES == 16 { 4 } else { 2 };
    let mut row = 0;
    while row < size.m {
        let (x, y) = (
            x.wrapping_add(row * size.left.0),
            y.wrapping_add(row * size.result),
        );
        // SAFETY: rows `row` to `row + ROWS` are below m.
        row += unsafe {
            match (size.m - row).min(tall) {
                4 => strip::<S, 4>(s, size, x, w, y),
                3 => strip::<S, 3>(s, size, x, w, y),
                2 => strip::<S, 2>(s, size, x, w, y),
                _ => strip::<S, 1>(s, size, x, w, y),
            }
        };
    }
}

/// `ROWS` rows of [`matmul`]; gives their number.
///
/// # Safety
/// As [`matmul`], with `m = ROWS`.
#[inline(always)]
unsafe fn strip<S: Simd, const ROWS: usize>(
    s: S,
    size: &Product,
    x: *const f32,
    w: *const f32,
    y: *mut f32,
) -> usize {
    for start in (0..size.n).step_by(COLUMNS) {
        for column in (start..start + COLUMNS).step_by(4 * S::LANES) {
            // SAFETY: rows below ROWS and k, columns below n.
            unsafe {
                let mut sums = [[s.zero(); 4]; ROWS];
                for k in 0..size.k {
                    let w = w.add(k * size.right + column);
                    let mut vectors = [s.zero(); 4];
                    for (v, vector) in vectors.iter_mut().enumerate() {
                        *vector = s.load(w.add(v * S::LANES));
                    }
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let x = s.splat(*x.add(row * size.left.0 + k * size.left.1));
                        for (sum, vector) in sums.iter_mut().zip(vectors) {
                            *sum = s.mul_add(x, vector, *sum);
                        }
                    }
                }
                for (row, sums) in sums.into_iter().enumerate() {
                    for (v, sum) in sums.into_iter().enumerate() {
                        let to = y.add(row * size.result + column + v * S::LANES);
                        s.store(to, s.add(s.load(to), sum));
                    }
                }
            }
        }
    }
    ROWS
}

/// `y[m, n] += a[m, k] · b[n, k]ᵀ`; `k` is a multiple of 16, and columns lie side by side.
///
/// # Safety
/// The pointers are valid for these sizes and strides.
#[inline(always)]
pub unsafe fn matmul_transposed<S: Simd>(s: S, size: &Product, a: *const f32, b: *const f32, y: *mut f32) {
    for i in (0..size.m).step_by(4) {
        let rows = 4.min(size.m - i);
        for j in 0..size.n {
            let mut sums = [s.zero(); 4];
            // SAFETY: rows below m and n, columns below k; a row beyond the last is the last one again.
            unsafe {
                for k in (0..size.k).step_by(S::LANES) {
                    let b = s.load(b.add(j * size.right + k));
                    for (row, sum) in sums.iter_mut().enumerate() {
                        let a = s.load(a.add((i + row.min(rows - 1)) * size.left.0 + k));
                        *sum = s.mul_add(a, b, *sum);
                    }
                }
                for (row, sum) in sums.into_iter().enumerate().take(rows) {
                    *y.add((i + row) * size.result + j) += total(s, sum);
                }
            }
        }
    }
}

/// σ of the first `counts.0` values and tanh of the `counts.1` after them, both multiples of 16.
///
/// # Safety
/// The pointers are valid for so many floats, and the same or apart.
#[inline(always)]
pub unsafe fn squash<S: Simd>(s: S, counts: (usize, usize), x: *const f32, y: *mut f32) {
    // SAFETY: offsets below the sum of both counts.
    unsafe {
        for at in (0..counts.0).step_by(S::LANES) {
            s.store(y.add(at), sigmoid(s, s.load(x.add(at))));
        }
        for at in (counts.0..counts.0 + counts.1).step_by(S::LANES) {
            s.store(y.add(at), tanh(s, s.load(x.add(at))));
        }
    }
}
