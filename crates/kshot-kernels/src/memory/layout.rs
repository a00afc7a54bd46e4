//! Sizes rounded up to whole vectors, weights and records as the kernels read them, and products within slices.

use super::MemoryNetwork;
use crate::buffer::Buffer;
use crate::dispatch::Kernels;
use crate::kernels::memory::{COLUMNS, Product};

/// Sizes rounded up to whole vectors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Units of the LSTM.
    pub(super) hidden: usize,
    /// The same as the columns of a product.
    pub(super) hidden_columns: usize,
    /// All gates.
    pub(super) gates: usize,
    /// Units and what was read.
    pub(super) output: usize,
    pub(super) emitted: usize,
    pub(super) rows: usize,
    /// Floats of a [`Record`].
    pub(super) record: usize,
}

impl Sizes {
    pub(super) fn new(network: &MemoryNetwork<'_>) -> Self {
        let hidden = network.hidden.next_multiple_of(16);
        let rows = network.rows.next_multiple_of(COLUMNS);
        Self {
            hidden,
            hidden_columns: hidden.next_multiple_of(COLUMNS),
            gates: 4 * hidden,
            output: (hidden + network.keys()).next_multiple_of(COLUMNS),
            emitted: network.emitted().next_multiple_of(COLUMNS),
            rows,
            record: (network.width + 3 * network.heads + 1) * rows + network.heads.next_multiple_of(16),
        }
    }

    /// Where the row of unit or read number `row` of a network of `own` units lies.
    pub(super) fn place(&self, own: usize, row: usize) -> usize {
        if row < own { row } else { row - own + self.hidden }
    }
}

#[derive(Debug)]
pub(super) struct Packed {
    pub(super) sizes: Sizes,
    /// `[sizes.hidden + heads * width, sizes.gates]`.
    pub(super) recurrent: Buffer,
    /// `[hidden, sizes.emitted]`.
    pub(super) emit: Buffer,
}

/// The weights the other way round, for slopes on their way back.
pub(super) struct Transposed {
    /// `[sizes.gates, sizes.output]`.
    pub(super) recurrent: Buffer,
    /// `[sizes.emitted, sizes.hidden_columns]`.
    pub(super) emit: Buffer,
}

impl Packed {
    pub(super) fn transposed(&self) -> Transposed {
        let sizes = self.sizes;
        Transposed {
            recurrent: transposed(&self.recurrent, sizes.gates, sizes.output),
            emit: transposed(&self.emit, sizes.emitted, sizes.hidden_columns),
        }
    }
}

/// What one sequence's access left in its memory, as the next step and the gradients need it.
pub(super) struct Record<'a> {
    /// `[width, rows]`: number by number, so that rows lie side by side.
    pub(super) memory: &'a [f32],
    /// `[heads, rows]`: where each head read.
    pub(super) read: &'a [f32],
    /// `[heads, rows]`.
    pub(super) cosines: &'a [f32],
    /// `[heads, rows]`: where each head wrote.
    pub(super) write: &'a [f32],
    /// `[rows]`: one over the length of each row.
    pub(super) rows_inverse: &'a [f32],
    /// `[heads]`: one over the length of each key.
    pub(super) keys_inverse: &'a [f32],
}

impl Sizes {
    pub(super) fn record<'a>(&self, network: &MemoryNetwork<'_>, from: &'a [f32]) -> Record<'a> {
        let heads = network.heads * self.rows;
        let (memory, from) = from.split_at(network.width * self.rows);
        let (read, from) = from.split_at(heads);
        let (cosines, from) = from.split_at(heads);
        let (write, from) = from.split_at(heads);
        let (rows_inverse, from) = from.split_at(self.rows);
        Record {
            memory,
            read,
            cosines,
            write,
            rows_inverse,
            keys_inverse: &from[..network.heads],
        }
    }
}

/// What the heads are told at one step.
pub(super) struct Told<'a> {
    pub(super) all: &'a [f32],
    /// `[heads, width]`
    pub(super) key: &'a [f32],
    /// `[heads, width]`
    pub(super) stored: &'a [f32],
    /// `[heads]`
    pub(super) alpha: &'a [f32],
    /// `[heads]`, or none.
    pub(super) factors: &'a [f32],
}

impl<'a> Told<'a> {
    pub(super) fn new(network: &MemoryNetwork<'_>, all: &'a [f32]) -> Self {
        let (keys, heads) = (network.keys(), network.heads);
        let own = if network.vectors { keys } else { 0 };
        let factors = if network.sharpened { heads } else { 0 };
        let numbers = &all[keys + own..];
        Self {
            all,
            key: &all[..keys],
            stored: &all[own..own + keys],
            alpha: &numbers[..heads],
            factors: &numbers[heads..heads + factors],
        }
    }

    pub(super) fn factor(&self, head: usize) -> f32 {
        self.factors.get(head).copied().unwrap_or(1.0)
    }
}

/// `y += x · w`, within the slices.
pub(super) fn products(kernels: &Kernels, size: Product, x: &[f32], w: &[f32], y: &mut [f32]) {
    let Product {
        m,
        k,
        n,
        left,
        right,
        result,
    } = size;
    if m == 0 || k == 0 {
        return;
    }
    assert!(n.is_multiple_of(COLUMNS) && n <= result);
    assert!((m - 1) * left.0 + (k - 1) * left.1 < x.len());
    assert!((k - 1) * right + n <= w.len() && (m - 1) * result + n <= y.len());
    // SAFETY: the sizes just checked.
    unsafe { (kernels.matmul)(&size, x.as_ptr(), w.as_ptr(), y.as_mut_ptr()) }
}

/// `y += a · bᵀ`, within the slices; rows of `a` and `b` lie `k` apart, those of `y` `n`.
pub(super) fn dots(kernels: &Kernels, (m, k, n): (usize, usize, usize), a: &[f32], b: &[f32], y: &mut [f32]) {
    assert!(k.is_multiple_of(16) && m * k <= a.len() && n * k <= b.len() && m * n <= y.len());
    let size = Product {
        m,
        k,
        n,
        left: (k, 1),
        right: k,
        result: n,
    };
    // SAFETY: the sizes just checked.
    unsafe { (kernels.matmul_transposed)(&size, a.as_ptr(), b.as_ptr(), y.as_mut_ptr()) }
}

/// tanh of the first `count` values, rounded up to whole vectors.
pub(super) fn tanh(kernels: &Kernels, count: usize, from: &[f32], to: &mut [f32]) {
    let count = count.next_multiple_of(16);
    assert!(count <= from.len() && count <= to.len());
    // SAFETY: the sizes just checked.
    unsafe { (kernels.squash)((0, count), from.as_ptr(), to.as_mut_ptr()) }
}

/// Copies `count` values of each gate, whose columns lie as far apart as `strides` say in `to` and `from`.
pub(super) fn gate_by_gate(to: &mut [f32], from: &[f32], count: usize, strides: (usize, usize)) {
    for gate in 0..4 {
        to[gate * strides.0..][..count].copy_from_slice(&from[gate * strides.1..][..count]);
    }
}

pub(super) fn add(to: &mut [f32], from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}

/// Rows of `columns` as columns, of which there is room for `rows`.
fn transposed(from: &[f32], columns: usize, rows: usize) -> Buffer {
    // Tile by tile, so that both sides of one stay in the cache.
    const TILE: usize = 16;
    let mut to = Buffer::zeroed(columns * rows);
    if columns == 0 {
        return to;
    }
    for (band, from) in from.chunks(TILE * columns).enumerate() {
        for first in (0..columns).step_by(TILE) {
            for column in first..columns.min(first + TILE) {
                let to = &mut to[column * rows + band * TILE..];
                for (to, from) in to.iter_mut().zip(from[column..].iter().step_by(columns)) {
                    *to = *from;
                }
            }
        }
    }
    to
}

/// Sets rows of a memory `[width, rows]` to zero.
pub(super) fn clear(memory: &mut [f32], rows: usize, which: &[u32]) {
    for numbers in memory.chunks_exact_mut(rows) {
        which.iter().for_each(|row| numbers[*row as usize] = 0.0);
    }
}
