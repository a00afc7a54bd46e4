//! The way back through a task's sequences.

use std::ops::Range;

use super::MemoryNetwork;
use super::layout::{Sizes, Told, Transposed, add, clear, dots, products};
use super::tape::Tape;
use crate::buffer::Buffer;
use crate::dispatch::{Kernels, kernels};
use crate::kernels::memory::Product;

/// A task's gradients.
pub(super) struct Slopes {
    /// `[steps, n, sizes.gates]`.
    pub(super) gates: Buffer,
    /// `[steps, n, sizes.emitted]`.
    pub(super) emitted: Buffer,
    /// `[sizes.hidden + heads * width, sizes.gates]`.
    pub(super) recurrent: Buffer,
    /// `[hidden, sizes.emitted]`.
    pub(super) emit: Buffer,
}

impl Tape {
    pub(super) fn backward(
        &self,
        network: &MemoryNetwork<'_>,
        weights: &Transposed,
        (of, part): (usize, Range<usize>),
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
                if heads == 0 {
                    continue;
                }
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
