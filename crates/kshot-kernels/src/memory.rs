//! A recurrent network with a memory that it writes to and reads from by similarity, over whole sequences.

mod layout;
mod slopes;
mod tape;

use rayon::prelude::*;

use self::layout::{Packed, Sizes, add, gate_by_gate};
use self::slopes::Slopes;
use self::tape::Tape;
use crate::buffer::Buffer;

/// Sequences that one task works on; the sums over tasks are taken in their order, whatever the number of threads.
const TASK: usize = 2;

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
/// Where `vectors` is false the key `k` is written in the place of `v`; where `sharpened` is false `f` is 1. Without heads it
/// is an LSTM alone, with nothing emitted.
#[derive(Clone, Copy, Debug)]
pub struct MemoryNetwork<'a> {
    /// Units of the LSTM.
    pub hidden: usize,
    /// Rows of the memory, at least as many as heads.
    pub rows: usize,
    /// Numbers in a row.
    pub width: usize,
    /// Heads; none for an LSTM alone.
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
            if self.heads == 0 {
                continue;
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
        if self.heads > 0 {
            let rows = self.emit.chunks_exact(emitted);
            for (to, from) in emit.chunks_exact_mut(sizes.emitted).zip(rows) {
                to[..emitted].copy_from_slice(from);
            }
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
