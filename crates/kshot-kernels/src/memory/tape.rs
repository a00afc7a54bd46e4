//! The way forward: a task's sequences step by step, and all that the way back needs of it.

use std::ops::Range;

use super::MemoryNetwork;
use super::layout::{Packed, Sizes, Told, clear, dots, gate_by_gate, products, tanh};
use crate::buffer::Buffer;
use crate::dispatch::{Kernels, kernels};
use crate::kernels::memory::Product;

/// Added to squared lengths, so that a row of zeros has cosine 0 and a gradient that is not huge.
const EPSILON: f32 = 1e-6;

/// A task's sequences, step by step. Row t, counted from 0 before the first step, of sequence s is row `t * n + s`.
#[derive(Clone, Debug)]
pub(super) struct Tape {
    pub(super) sizes: Sizes,
    pub(super) n: usize,
    pub(super) steps: usize,
    /// `[steps, n, sizes.gates]`: the gates after their curves.
    pub(super) gates: Buffer,
    /// `[steps + 1, n, sizes.hidden]`.
    pub(super) cells: Buffer,
    /// `[steps, n, sizes.hidden]`: their tanh.
    pub(super) bent: Buffer,
    /// `[steps + 1, n, sizes.output]`.
    pub(super) outputs: Buffer,
    /// `[steps, n, sizes.emitted]`: what the heads are told, after its curves.
    pub(super) told: Buffer,
    /// `[steps + 1, n, sizes.record]`.
    pub(super) records: Buffer,
    /// `[steps, n, heads]`: each head's least used row.
    pub(super) least: Vec<u32>,
}

impl Tape {
    pub(super) fn forward(
        network: &MemoryNetwork<'_>,
        packed: &Packed,
        steps: usize,
        (of, part): (usize, Range<usize>),
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
            if network.heads == 0 {
                continue;
            }
            tape.tell(network, packed, kernels, t);
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

    pub(super) fn output(&self, t: usize, s: usize) -> &[f32] {
        &self.outputs[(t * self.n + s) * self.sizes.output..][..self.sizes.output]
    }

    /// The LSTM's step.
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
        }
    }

    /// What the LSTM tells the heads after its step.
    fn tell(&mut self, network: &MemoryNetwork<'_>, packed: &Packed, kernels: &Kernels, t: usize) {
        let (sizes, n) = (self.sizes, self.n);
        let told = &mut self.told[t * n * sizes.emitted..][..n * sizes.emitted];
        for told in told.chunks_exact_mut(sizes.emitted) {
            told[..network.emit_bias.len()].copy_from_slice(network.emit_bias);
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
            &self.outputs[(t + 1) * n * sizes.output..][..n * sizes.output],
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
