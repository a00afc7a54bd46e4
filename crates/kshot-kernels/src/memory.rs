//! A recurrent network with a memory that it writes to and reads from by similarity, over whole sequences.

use rayon::prelude::*;

use crate::buffer::Buffer;
use crate::dispatch::{Kernels, kernels};
use crate::kernels::memory::{COLUMNS, Product};

/// Sequences that one task works on; the sums over tasks are taken in their order, whatever the number of threads.
const TASK: usize = 2;

/// Added to squared lengths, so that a row of zeros has cosine 0 and a gradient that is not huge.
const EPSILON: f32 = 1e-6;

/// A long short-term memory beside a memory `M` of rows, over which its heads read by cosine and write to what they read
/// last or to the least used rows:
///
/// ```text
/// h, c = LSTM(gates + [h, r] · recurrent, c)              gates: input, forget, output, candidate
/// [k, v, α, f] = h · emit + bias,   k = tanh(k),  v = tanh(v),  α = σ(α),  f = ln(1 + eᶠ)
/// w = α (w' - l) + l                                      w' read last, l 1 at the head's least used row
/// M(i) = M(i) + Σ w(i) v                                  least used rows are set to zero first
/// w' = softmax(f cos(k, M(i))),   r = Σ w'(i) M(i),   u = γ u + Σ (w' + w)
/// ```
///
/// Where `vectors` is false the key `k` is written in the place of `v`; where `sharpened` is false `f` is 1.
#[derive(Clone, Copy, Debug)]
pub struct MemoryNetwork<'a> {
    /// Units of the LSTM.
    pub hidden: usize,
    /// Rows of the memory, at least as many as heads.
    pub rows: usize,
    /// Numbers in a row.
    pub width: usize,
    /// Heads.
    pub heads: usize,
    /// γ: how slowly the use of a row is forgotten.
    pub usage_decay: f32,
    /// Whether what is written is a vector of its own.
    pub vectors: bool,
    /// Whether the cosines have a factor.
    pub sharpened: bool,
    /// `[hidden + heads * width, 4 * hidden]`.
    pub recurrent: &'a [f32],
    /// `[hidden, emitted]`, where `emitted` are keys, vectors, α and factors, each head after head.
    pub emit: &'a [f32],
    /// `[emitted]`.
    pub emit_bias: &'a [f32],
}

/// Gradients with respect to what [`MemoryNetwork::forward`] was given.
#[derive(Clone, Debug)]
pub struct MemoryGradients {
    /// `[steps, n, 4 * hidden]`.
    pub gates: Vec<f32>,
    /// `[hidden + heads * width, 4 * hidden]`.
    pub recurrent: Vec<f32>,
    /// `[hidden, emitted]`.
    pub emit: Vec<f32>,
    /// `[emitted]`.
    pub emit_bias: Vec<f32>,
}

/// What the gradients need of a forward pass.
#[derive(Clone, Debug)]
pub struct MemoryTape {
    n: usize,
    steps: usize,
    tapes: Vec<Tape>,
}

impl MemoryNetwork<'_> {
    /// The numbers that the LSTM sends to the heads.
    pub fn emitted(&self) -> usize {
        self.keys() * (1 + usize::from(self.vectors)) + self.heads * (1 + usize::from(self.sharpened))
    }

    /// `n` sequences side by side, from a state of zeros: `gates` `[steps, n, 4 * hidden]`, what the inputs add to the gates,
    /// to `[h, r]` of every step, `[steps, n, hidden + heads * width]`.
    ///
    /// # Panics
    /// If a slice does not have the length that its comment says, or there are fewer rows than heads.
    pub fn forward(&self, n: usize, gates: &[f32]) -> (Vec<f32>, MemoryTape) {
        let row = n * 4 * self.hidden;
        assert!(
            row > 0 && gates.len().is_multiple_of(row),
            "gates of whole steps: {} for {row}",
            gates.len()
        );
        let (packed, steps) = (self.packed(), gates.len() / row);
        let tapes: Vec<Tape> = parts(n)
            .into_par_iter()
            .map(|part| Tape::forward(self, &packed, steps, (n, part), gates))
            .collect();
        let columns = self.hidden + self.keys();
        let mut outputs = vec![0.0; steps * n * columns];
        for (part, tape) in parts(n).into_iter().zip(&tapes) {
            for t in 0..steps {
                for (s, sequence) in part.clone().enumerate() {
                    let to = &mut outputs[(t * n + sequence) * columns..][..columns];
                    let from = tape.output(t + 1, s);
                    to[..self.hidden].copy_from_slice(&from[..self.hidden]);
                    to[self.hidden..].copy_from_slice(&from[tape.sizes.hidden..][..self.keys()]);
                }
            }
        }
        (outputs, MemoryTape { n, steps, tapes })
    }

    /// The gradients of Σ output · `slope` over all outputs `[steps, n, hidden + heads * width]`. Which rows are the least used
    /// carries none.
    ///
    /// # Panics
    /// If `slope` does not have that length, or the tape is of a network of other sizes.
    pub fn backward(&self, tape: &MemoryTape, slope: &[f32]) -> MemoryGradients {
        let MemoryTape { n, steps, tapes } = tape;
        let columns = self.hidden + self.keys();
        assert_eq!(slope.len(), n * steps * columns, "gradients of the outputs");
        let packed = self.packed();
        let weights = packed.transposed();
        let found: Vec<Slopes> = parts(*n)
            .into_par_iter()
            .zip(tapes)
            .map(|(part, tape)| tape.backward(self, &weights, (*n, part), slope))
            .collect();
        let mut gradients = MemoryGradients {
            gates: vec![0.0; steps * n * 4 * self.hidden],
            recurrent: vec![0.0; columns * 4 * self.hidden],
            emit: vec![0.0; self.emit.len()],
            emit_bias: vec![0.0; self.emitted()],
        };
        let sizes = packed.sizes;
        for (part, slopes) in parts(*n).into_iter().zip(&found) {
            for t in 0..*steps {
                for (s, sequence) in part.clone().enumerate() {
                    let to = &mut gradients.gates[(t * n + sequence) * 4 * self.hidden..];
                    let from = &slopes.gates[(t * part.len() + s) * sizes.gates..];
                    gate_by_gate(to, from, self.hidden, (self.hidden, sizes.hidden));
                }
            }
            for (row, to) in gradients.recurrent.chunks_exact_mut(4 * self.hidden).enumerate() {
                let from = &slopes.recurrent[sizes.place(self.hidden, row) * sizes.gates..];
                for gate in 0..4 {
                    add(
                        &mut to[gate * self.hidden..][..self.hidden],
                        &from[gate * sizes.hidden..],
                    );
                }
            }
            let emitted = self.emitted();
            for (to, from) in gradients
                .emit
                .chunks_exact_mut(emitted)
                .zip(slopes.emit.chunks_exact(sizes.emitted))
            {
                add(to, from);
            }
            for from in slopes.emitted.chunks_exact(sizes.emitted) {
                add(&mut gradients.emit_bias, from);
            }
        }
        gradients
    }

    fn keys(&self) -> usize {
        self.heads * self.width
    }

    /// The weights as the kernels read them.
    fn packed(&self) -> Packed {
        let (hidden, emitted) = (self.hidden, self.emitted());
        assert_eq!(
            self.recurrent.len(),
            (hidden + self.keys()) * 4 * hidden,
            "recurrent weights"
        );
        assert_eq!(self.emit.len(), hidden * emitted, "weights of the heads");
        assert_eq!(self.emit_bias.len(), emitted, "bias of the heads");
        assert!(self.rows >= self.heads, "a row for each head");
        let sizes = Sizes::new(self);
        let mut recurrent = Buffer::zeroed((sizes.hidden + self.keys()) * sizes.gates);
        for (row, from) in self.recurrent.chunks_exact(4 * hidden).enumerate() {
            let to = &mut recurrent[sizes.place(hidden, row) * sizes.gates..];
            gate_by_gate(to, from, hidden, (sizes.hidden, hidden));
        }
        let mut emit = Buffer::zeroed(hidden * sizes.emitted);
        for (to, from) in emit
            .chunks_exact_mut(sizes.emitted)
            .zip(self.emit.chunks_exact(emitted))
        {
            to[..emitted].copy_from_slice(from);
        }
        Packed {
            sizes,
            recurrent,
            emit,
        }
    }
}

/// The sequences of each task.
fn parts(n: usize) -> Vec<std::ops::Range<usize>> {
    (0..n)
        .step_by(TASK)
        .map(|from| from..n.min(from + TASK))
        .collect()
}

/// Copies `count` values of each gate, whose columns lie as far apart as `strides` say in `to` and `from`.
fn gate_by_gate(to: &mut [f32], from: &[f32], count: usize, strides: (usize, usize)) {
    for gate in 0..4 {
        to[gate * strides.0..][..count].copy_from_slice(&from[gate * strides.1..][..count]);
    }
}

fn add(to: &mut [f32], from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}

/// Rows of `columns` as columns, of which there is room for `rows`.
fn transposed(from: &[f32], columns: usize, rows: usize) -> Buffer {
    // Tile by tile, so that both sides of one stay in the cache.
    const TILE: usize = 16;
    let mut to = Buffer::zeroed(columns * rows);
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

/// Sizes rounded up to whole vectors.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// Units of the LSTM.
    hidden: usize,
    /// The same as the columns of a product.
    hidden_columns: usize,
    /// All gates.
    gates: usize,
    /// Units and what was read.
    output: usize,
    emitted: usize,
    rows: usize,
    /// Floats of a [`Record`].
    record: usize,
}

impl Sizes {
    fn new(network: &MemoryNetwork<'_>) -> Self {
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
    fn place(&self, own: usize, row: usize) -> usize {
        if row < own { row } else { row - own + self.hidden }
    }
}

#[derive(Debug)]
struct Packed {
    sizes: Sizes,
    /// `[sizes.hidden + heads * width, sizes.gates]`.
    recurrent: Buffer,
    /// `[hidden, sizes.emitted]`.
    emit: Buffer,
}

/// The weights the other way round, for slopes on their way back.
struct Transposed {
    /// `[sizes.gates, sizes.output]`.
    recurrent: Buffer,
    /// `[sizes.emitted, sizes.hidden_columns]`.
    emit: Buffer,
}

impl Packed {
    fn transposed(&self) -> Transposed {
        let sizes = self.sizes;
        Transposed {
            recurrent: transposed(&self.recurrent, sizes.gates, sizes.output),
            emit: transposed(&self.emit, sizes.emitted, sizes.hidden_columns),
        }
    }
}

/// `y += x · w`, within the slices.
fn products(kernels: &Kernels, size: Product, x: &[f32], w: &[f32], y: &mut [f32]) {
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
fn dots(kernels: &Kernels, (m, k, n): (usize, usize, usize), a: &[f32], b: &[f32], y: &mut [f32]) {
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
fn tanh(kernels: &Kernels, count: usize, from: &[f32], to: &mut [f32]) {
    let count = count.next_multiple_of(16);
    assert!(count <= from.len() && count <= to.len());
    // SAFETY: the sizes just checked.
    unsafe { (kernels.squash)((0, count), from.as_ptr(), to.as_mut_ptr()) }
}

/// What one sequence's access left in its memory, as the next step and the gradients need it.
struct Record<'a> {
    /// `[width, rows]`: number by number, so that rows lie side by side.
    memory: &'a [f32],
    /// `[heads, rows]`: where each head read.
    read: &'a [f32],
    /// `[heads, rows]`.
    cosines: &'a [f32],
    /// `[heads, rows]`: where each head wrote.
    write: &'a [f32],
    /// `[rows]`: one over the length of each row.
    rows_inverse: &'a [f32],
    /// `[heads]`: one over the length of each key.
    keys_inverse: &'a [f32],
}

impl Sizes {
    fn record<'a>(&self, network: &MemoryNetwork<'_>, from: &'a [f32]) -> Record<'a> {
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

/// A task's sequences, step by step. Row t, counted from 0 before the first step, of sequence s is row `t * n + s`.
#[derive(Clone, Debug)]
struct Tape {
    sizes: Sizes,
    n: usize,
    steps: usize,
    /// `[steps, n, sizes.gates]`: the gates after their curves.
    gates: Buffer,
    /// `[steps + 1, n, sizes.hidden]`.
    cells: Buffer,
    /// `[steps, n, sizes.hidden]`: their tanh.
    bent: Buffer,
    /// `[steps + 1, n, sizes.output]`.
    outputs: Buffer,
    /// `[steps, n, sizes.emitted]`: what the heads are told, after its curves.
    told: Buffer,
    /// `[steps + 1, n, sizes.record]`.
    records: Buffer,
    /// `[steps, n, heads]`: each head's least used row.
    least: Vec<u32>,
}

/// A task's gradients.
struct Slopes {
    /// `[steps, n, sizes.gates]`.
    gates: Buffer,
    /// `[steps, n, sizes.emitted]`.
    emitted: Buffer,
    /// `[sizes.hidden + heads * width, sizes.gates]`.
    recurrent: Buffer,
    /// `[hidden, sizes.emitted]`.
    emit: Buffer,
}

impl Tape {
    fn forward(
        network: &MemoryNetwork<'_>,
        packed: &Packed,
        steps: usize,
        (of, part): (usize, std::ops::Range<usize>),
        gates: &[f32],
    ) -> Self {
        let (sizes, n) = (packed.sizes, part.len());
        let rows = steps * n;
        let mut tape = Self {
            sizes,
            n,
            steps,
            gates: Buffer::zeroed(rows * sizes.gates),
            cells: Buffer::zeroed((rows + n) * sizes.hidden),
            bent: Buffer::take(rows * sizes.hidden),
            outputs: Buffer::zeroed((rows + n) * sizes.output),
            told: Buffer::zeroed(rows * sizes.emitted),
            records: Buffer::take((rows + n) * sizes.record),
            least: vec![0; rows * network.heads],
        };
        tape.records[..n * sizes.record].fill(0.0);
        for t in 0..steps {
            for (s, sequence) in part.clone().enumerate() {
                let to = &mut tape.gates[(t * n + s) * sizes.gates..];
                let from = &gates[(t * of + sequence) * 4 * network.hidden..];
                gate_by_gate(to, from, network.hidden, (sizes.hidden, network.hidden));
            }
        }
        let mut usage = vec![0.0; n * network.rows];
        let kernels = kernels();
        for t in 0..steps {
            tape.control(network, packed, kernels, t);
            for s in 0..n {
                tape.access(
                    network,
                    kernels,
                    (t, s),
                    &mut usage[s * network.rows..][..network.rows],
                );
            }
        }
        tape
    }

    fn output(&self, t: usize, s: usize) -> &[f32] {
        &self.outputs[(t * self.n + s) * self.sizes.output..][..self.sizes.output]
    }

    /// The LSTM's step, and what it tells the heads.
    fn control(&mut self, network: &MemoryNetwork<'_>, packed: &Packed, kernels: &Kernels, t: usize) {
        let (sizes, n) = (self.sizes, self.n);
        let hidden = sizes.hidden;
        let (before, after) = self.outputs[t * n * sizes.output..].split_at_mut(n * sizes.output);
        let gates = &mut self.gates[t * n * sizes.gates..][..n * sizes.gates];
        products(
            kernels,
            Product {
                m: n,
                k: hidden + network.keys(),
                n: sizes.gates,
                left: (sizes.output, 1),
                right: sizes.gates,
                result: sizes.gates,
            },
            before,
            &packed.recurrent,
            gates,
        );
        let told = &mut self.told[t * n * sizes.emitted..][..n * sizes.emitted];
        for s in 0..n {
            let gates = &mut gates[s * sizes.gates..][..sizes.gates];
            let values = gates.as_mut_ptr();
            // SAFETY: 4 * hidden gates, and hidden is a multiple of 16.
            unsafe { (kernels.squash)((3 * hidden, hidden), values.cast_const(), values) };
            let (last, next) = self.cells.split_at_mut((t + 1) * n * hidden);
            let last = &last[(t * n + s) * hidden..][..hidden];
            let cell = &mut next[s * hidden..][..hidden];
            for unit in 0..hidden {
                cell[unit] = gates[hidden + unit] * last[unit] + gates[unit] * gates[3 * hidden + unit];
            }
            let bent = &mut self.bent[(t * n + s) * hidden..][..hidden];
            tanh(kernels, hidden, cell, bent);
            let output = &mut after[s * sizes.output..][..hidden];
            for unit in 0..hidden {
                output[unit] = gates[2 * hidden + unit] * bent[unit];
            }
            told[s * sizes.emitted..][..network.emit_bias.len()].copy_from_slice(network.emit_bias);
        }
        products(
            kernels,
            Product {
                m: n,
                k: network.hidden,
                n: sizes.emitted,
                left: (sizes.output, 1),
                right: sizes.emitted,
                result: sizes.emitted,
            },
            after,
            &packed.emit,
            told,
        );
        for told in told.chunks_exact_mut(sizes.emitted) {
            let (keys, heads) = (network.keys() * (1 + usize::from(network.vectors)), network.heads);
            let numbers = told[keys..].to_vec();
            let values = told.as_mut_ptr();
            // SAFETY: keys rounded up to a multiple of 16 are below the rounded `emitted`.
            unsafe { (kernels.squash)((0, keys.next_multiple_of(16)), values.cast_const(), values) };
            let numbers = &numbers[..heads * (1 + usize::from(network.sharpened))];
            for (index, (to, from)) in told[keys..].iter_mut().zip(numbers).enumerate() {
                *to = if index < heads {
                    1.0 / (1.0 + (-from).exp())
                } else {
                    from.max(0.0) + (-from.abs()).exp().ln_1p()
                };
            }
        }
    }

    /// One sequence's write and read.
    fn access(
        &mut self,
        network: &MemoryNetwork<'_>,
        kernels: &Kernels,
        (t, s): (usize, usize),
        usage: &mut [f32],
    ) {
        let MemoryNetwork { heads, width, .. } = *network;
        let (sizes, n) = (self.sizes, self.n);
        let rows = sizes.rows;
        let told = Told::new(network, &self.told[(t * n + s) * sizes.emitted..]);
        let (last, next) = self.records.split_at_mut((t + 1) * n * sizes.record);
        let last = sizes.record(network, &last[(t * n + s) * sizes.record..][..sizes.record]);
        let next = &mut next[s * sizes.record..][..sizes.record];
        let least = &mut self.least[(t * n + s) * heads..][..heads];
        least_used(usage, least);

        let (memory, next) = next.split_at_mut(width * rows);
        let (read, next) = next.split_at_mut(heads * rows);
        let (cosines, next) = next.split_at_mut(heads * rows);
        let (write, next) = next.split_at_mut(heads * rows);
        let (rows_inverse, keys_inverse) = next.split_at_mut(rows);

        for (head, (write, read)) in write
            .chunks_exact_mut(rows)
            .zip(last.read.chunks_exact(rows))
            .enumerate()
        {
            let alpha = told.alpha[head];
            for (write, read) in write.iter_mut().zip(read) {
                *write = alpha * read;
            }
            let own = least[head] as usize;
            write[own] = alpha * (read[own] - 1.0) + 1.0;
        }
        memory.copy_from_slice(last.memory);
        clear(memory, rows, least);
        products(
            kernels,
            Product {
                m: width,
                k: heads,
                n: rows,
                left: (1, width),
                right: rows,
                result: rows,
            },
            told.stored,
            write,
            memory,
        );
        rows_inverse.fill(EPSILON);
        for numbers in memory.chunks_exact(rows) {
            for (sum, number) in rows_inverse.iter_mut().zip(numbers) {
                *sum += number * number;
            }
        }
        rows_inverse.iter_mut().for_each(|sum| *sum = 1.0 / sum.sqrt());
        cosines.fill(0.0);
        products(
            kernels,
            Product {
                m: heads,
                k: width,
                n: rows,
                left: (width, 1),
                right: rows,
                result: rows,
            },
            told.key,
            memory,
            cosines,
        );
        for head in 0..heads {
            let key = &told.key[head * width..][..width];
            let inverse = 1.0 / (key.iter().map(|x| x * x).sum::<f32>() + EPSILON).sqrt();
            keys_inverse[head] = inverse;
            let cosines = &mut cosines[head * rows..][..rows];
            for (cosine, row) in cosines.iter_mut().zip(rows_inverse.iter()) {
                *cosine *= row * inverse;
            }
            let read = &mut read[head * rows..][..rows];
            softmax(&cosines[..network.rows], told.factor(head), read);
        }
        let found = &mut self.outputs[((t + 1) * n + s) * sizes.output + sizes.hidden..][..heads * width];
        dots(kernels, (heads, rows, width), read, memory, found);
        usage.iter_mut().for_each(|usage| *usage *= network.usage_decay);
        for (read, write) in read.chunks_exact(rows).zip(write.chunks_exact(rows)) {
            for (usage, (read, write)) in usage.iter_mut().zip(read.iter().zip(write)) {
                *usage += read + write;
            }
        }
    }

    fn backward(
        &self,
        network: &MemoryNetwork<'_>,
        weights: &Transposed,
        (of, part): (usize, std::ops::Range<usize>),
        slope: &[f32],
    ) -> Slopes {
        let MemoryNetwork {
            hidden, heads, width, ..
        } = *network;
        let (sizes, n, steps) = (self.sizes, self.n, self.steps);
        let (kernels, keys) = (kernels(), network.keys());
        let mut slopes = Slopes {
            gates: Buffer::take(steps * n * sizes.gates),
            emitted: Buffer::zeroed(steps * n * sizes.emitted),
            recurrent: Buffer::zeroed((sizes.hidden + keys) * sizes.gates),
            emit: Buffer::zeroed(hidden * sizes.emitted),
        };
        let mut outputs = Buffer::zeroed(n * sizes.output);
        let mut cells = Buffer::zeroed(n * sizes.hidden);
        let mut carried: Vec<Carried> = (0..n).map(|_| Carried::new(sizes, (width, heads))).collect();
        for t in (0..steps).rev() {
            for (s, sequence) in part.clone().enumerate() {
                let to = &mut outputs[s * sizes.output..][..sizes.output];
                let from = &slope[(t * of + sequence) * (hidden + keys)..][..hidden + keys];
                add(&mut to[..hidden], &from[..hidden]);
                add(&mut to[sizes.hidden..], &from[hidden..]);
                self.access_gradients(
                    network,
                    kernels,
                    (t, s),
                    &to[sizes.hidden..][..keys],
                    &mut carried[s],
                    &mut slopes.emitted[(t * n + s) * sizes.emitted..][..sizes.emitted],
                );
            }
            products(
                kernels,
                Product {
                    m: n,
                    k: network.emitted(),
                    n: sizes.hidden_columns,
                    left: (sizes.emitted, 1),
                    right: sizes.hidden_columns,
                    result: sizes.output,
                },
                &slopes.emitted[t * n * sizes.emitted..][..n * sizes.emitted],
                &weights.emit,
                &mut outputs,
            );
            let gates = &mut slopes.gates[t * n * sizes.gates..][..n * sizes.gates];
            for s in 0..n {
                self.control_gradients(
                    (t, s),
                    &outputs[s * sizes.output..],
                    &mut cells[s * sizes.hidden..][..sizes.hidden],
                    &mut gates[s * sizes.gates..][..sizes.gates],
                );
            }
            outputs.fill(0.0);
            products(
                kernels,
                Product {
                    m: n,
                    k: sizes.gates,
                    n: sizes.output,
                    left: (sizes.gates, 1),
                    right: sizes.output,
                    result: sizes.output,
                },
                gates,
                &weights.recurrent,
                &mut outputs,
            );
        }
        // Over all steps at once: what each unit gave, times the slopes of what it went to.
        let over = |m: usize, n: usize| Product {
            m,
            k: steps * self.n,
            n,
            left: (1, sizes.output),
            right: n,
            result: n,
        };
        products(
            kernels,
            over(sizes.hidden + keys, sizes.gates),
            &self.outputs,
            &slopes.gates,
            &mut slopes.recurrent,
        );
        products(
            kernels,
            over(hidden, sizes.emitted),
            &self.outputs[n * sizes.output..],
            &slopes.emitted,
            &mut slopes.emit,
        );
        slopes
    }

    /// From the slopes of a step's units and of its cell to those of its gates and of the cell before.
    fn control_gradients(&self, (t, s): (usize, usize), outputs: &[f32], cells: &mut [f32], to: &mut [f32]) {
        let (hidden, row) = (self.sizes.hidden, t * self.n + s);
        let gates = &self.gates[row * 4 * hidden..][..4 * hidden];
        let (bent, last) = (&self.bent[row * hidden..], &self.cells[row * hidden..]);
        for unit in 0..hidden {
            let [i, f, o, g] = [0, 1, 2, 3].map(|gate| gates[gate * hidden + unit]);
            let (slope, bent) = (outputs[unit], bent[unit]);
            let cell = cells[unit] + slope * o * (1.0 - bent * bent);
            to[unit] = cell * g * i * (1.0 - i);
            to[hidden + unit] = cell * last[unit] * f * (1.0 - f);
            to[2 * hidden + unit] = slope * bent * o * (1.0 - o);
            to[3 * hidden + unit] = cell * i * (1.0 - g * g);
            cells[unit] = cell * f;
        }
    }

    /// From the slopes of what a step read and of the memory it left to those of what the heads were told, before its curves,
    /// and of the memory before.
    fn access_gradients(
        &self,
        network: &MemoryNetwork<'_>,
        kernels: &Kernels,
        (t, s): (usize, usize),
        found: &[f32],
        carried: &mut Carried,
        to: &mut [f32],
    ) {
        let MemoryNetwork { heads, width, .. } = *network;
        let (sizes, n) = (self.sizes, self.n);
        let rows = sizes.rows;
        let told = Told::new(network, &self.told[(t * n + s) * sizes.emitted..]);
        let record = |t: usize| {
            sizes.record(
                network,
                &self.records[(t * n + s) * sizes.record..][..sizes.record],
            )
        };
        let (last, now) = (record(t), record(t + 1));
        let least = &self.least[(t * n + s) * heads..][..heads];
        let Carried {
            memory,
            read,
            similar,
            pull,
            written,
        } = carried;
        let by_rows = |m: usize, k: usize, left: (usize, usize)| Product {
            m,
            k,
            n: rows,
            left,
            right: rows,
            result: rows,
        };

        // What was found, through where it was read and through what stood there.
        products(
            kernels,
            by_rows(heads, width, (width, 1)),
            found,
            now.memory,
            read,
        );
        products(
            kernels,
            by_rows(width, heads, (1, width)),
            found,
            now.read,
            memory,
        );

        // The softmax and the cosines.
        pull.fill(0.0);
        let (by_key, rest) = to.split_at_mut(heads * width);
        let numbers = if network.vectors { heads * width } else { 0 };
        let (by_vector, rest) = rest.split_at_mut(numbers);
        let (by_alpha, by_factor) = rest.split_at_mut(heads);
        let mut lengths = vec![0.0; heads];
        for head in 0..heads {
            let at = head * rows;
            let (slopes, weights) = (&read[at..][..rows], &now.read[at..][..rows]);
            let (cosines, factor) = (&now.cosines[at..][..rows], told.factor(head));
            let mean: f32 = dot(slopes, weights);
            let similar = &mut similar[at..][..rows];
            let inverse = now.keys_inverse[head];
            let (mut of_factor, mut of_length) = (0.0, 0.0);
            for row in 0..network.rows {
                let slope = weights[row] * (slopes[row] - mean);
                let along = slope * factor * cosines[row];
                of_factor += slope * cosines[row];
                of_length += along;
                pull[row] += along;
                similar[row] = slope * factor * inverse * now.rows_inverse[row];
            }
            similar[network.rows..].fill(0.0);
            lengths[head] = of_length * inverse * inverse;
            if network.sharpened {
                // The slope of ln(1 + eᶠ) is 1 - e^(- ln(1 + eᶠ)).
                by_factor[head] = of_factor * -(-factor).exp_m1();
            }
        }
        for (pull, inverse) in pull.iter_mut().zip(now.rows_inverse) {
            *pull *= inverse * inverse;
        }
        dots(kernels, (heads, rows, width), similar, now.memory, by_key);
        for (head, length) in lengths.into_iter().enumerate() {
            for number in head * width..(head + 1) * width {
                by_key[number] -= length * told.key[number];
            }
        }
        for (slopes, numbers) in memory.chunks_exact_mut(rows).zip(now.memory.chunks_exact(rows)) {
            for ((slope, number), pull) in slopes.iter_mut().zip(numbers).zip(pull.iter()) {
                *slope -= number * pull;
            }
        }
        products(
            kernels,
            by_rows(width, heads, (1, width)),
            told.key,
            similar,
            memory,
        );

        // What was written, and where.
        let by_stored = if network.vectors { by_vector } else { &mut *by_key };
        dots(kernels, (heads, rows, width), now.write, memory, by_stored);
        written.fill(0.0);
        products(
            kernels,
            by_rows(heads, width, (width, 1)),
            told.stored,
            memory,
            written,
        );
        for head in 0..heads {
            let written = &written[head * rows..][..rows];
            let before = &last.read[head * rows..][..rows];
            let alpha = told.alpha[head];
            let by_own = dot(written, before) - written[least[head] as usize];
            by_alpha[head] = by_own * alpha * (1.0 - alpha);
            for (read, written) in read[head * rows..][..rows].iter_mut().zip(written) {
                *read = alpha * written;
            }
        }
        clear(memory, rows, least);
        let keys = heads * width * if network.vectors { 2 } else { 1 };
        for (slope, value) in to[..keys].iter_mut().zip(told.all) {
            *slope *= 1.0 - value * value;
        }
    }
}

/// Slopes on their way back through one sequence's memory, and scratch.
struct Carried {
    /// `[width, rows]`: of the memory.
    memory: Buffer,
    /// `[heads, rows]`: of where was read.
    read: Buffer,
    /// `[heads, rows]`: of the products of keys and rows.
    similar: Buffer,
    /// `[rows]`: of the rows along themselves.
    pull: Buffer,
    /// `[heads, rows]`: of where was written.
    written: Buffer,
}

impl Carried {
    fn new(sizes: Sizes, (width, heads): (usize, usize)) -> Self {
        Self {
            memory: Buffer::zeroed(width * sizes.rows),
            read: Buffer::zeroed(heads * sizes.rows),
            similar: Buffer::zeroed(heads * sizes.rows),
            pull: Buffer::zeroed(sizes.rows),
            written: Buffer::zeroed(heads * sizes.rows),
        }
    }
}

/// What the heads are told at one step.
struct Told<'a> {
    all: &'a [f32],
    /// `[heads, width]`
    key: &'a [f32],
    /// `[heads, width]`
    stored: &'a [f32],
    /// `[heads]`
    alpha: &'a [f32],
    /// `[heads]`, or none.
    factors: &'a [f32],
}

impl<'a> Told<'a> {
    fn new(network: &MemoryNetwork<'_>, all: &'a [f32]) -> Self {
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

    fn factor(&self, head: usize) -> f32 {
        self.factors.get(head).copied().unwrap_or(1.0)
    }
}

/// Each head's own of the least used rows: the least for the first head, the lower row among equals.
fn least_used(usage: &[f32], least: &mut [u32]) {
    let by_use = |a: &u32, b: &u32| {
        let of = |row: &u32| usage[*row as usize];
        of(a).total_cmp(&of(b)).then(a.cmp(b))
    };
    let mut order: Vec<u32> = (0..usage.len() as u32).collect();
    if least.len() < order.len() {
        order.select_nth_unstable_by(least.len(), by_use);
    }
    let first = &mut order[..least.len()];
    first.sort_unstable_by(by_use);
    least.copy_from_slice(first);
}

/// Sets rows of a memory `[width, rows]` to zero.
fn clear(memory: &mut [f32], rows: usize, which: &[u32]) {
    for numbers in memory.chunks_exact_mut(rows) {
        which.iter().for_each(|row| numbers[*row as usize] = 0.0);
    }
}

/// softmax(`factor` · `cosines`), then zeros.
fn softmax(cosines: &[f32], factor: f32, to: &mut [f32]) {
    let (to, rest) = to.split_at_mut(cosines.len());
    rest.fill(0.0);
    let most = cosines
        .iter()
        .fold(f32::NEG_INFINITY, |most, cosine| most.max(factor * cosine));
    let mut sum = 0.0;
    for (to, cosine) in to.iter_mut().zip(cosines) {
        *to = (factor * cosine - most).exp();
        sum += *to;
    }
    to.iter_mut().for_each(|to| *to /= sum);
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    // Eight sums side by side, in a fixed order.
    let mut sums = [0.0f32; 8];
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum()
}
