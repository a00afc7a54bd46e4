//! Networks of 20 hidden units with shared weights that are applied to each of many coordinates alike, as learned
//! optimizers have them: an LSTM over a few steps, and a perceptron.
//!
//! A coordinate has two inputs. `x` is `[steps, 2, n]`, so that coordinates lie side by side. The gradients are of the
//! weights alone; the backward pass computes the forward pass anew, block by block in the cache, so that nothing is kept.

use rayon::prelude::*;

use crate::buffer::Buffer;
use crate::dispatch::{Kernels, kernels};
use crate::kernels::coordinates::{BLOCK, GATES, HIDDEN, MLP_SCRATCH, ROWS, lstm_scratch};

/// Hidden units of the networks.
pub const COORDINATE_HIDDEN: usize = HIDDEN;

/// Blocks that one task works on; the sums over tasks are taken in their order, whatever the number of threads.
const TASK: usize = 32;

/// An LSTM (gates input, forget, candidate, output) with a linear output after its last step.
#[derive(Clone, Copy, Debug)]
pub struct CoordinateLstm<'a> {
    /// From the two inputs and the hidden units to the gates, `[2 + 20, 80]`.
    pub weight: &'a [f32],
    /// `[80]`.
    pub bias: &'a [f32],
    /// `[20]`.
    pub output: &'a [f32],
    /// `[1]`.
    pub output_bias: &'a [f32],
}

/// Two layers of 20 with ReLU, and a linear output.
#[derive(Clone, Copy, Debug)]
pub struct CoordinateMlp<'a> {
    /// `[2, 20]`.
    pub first: &'a [f32],
    /// `[20]`.
    pub first_bias: &'a [f32],
    /// `[20, 20]`.
    pub second: &'a [f32],
    /// `[20]`.
    pub second_bias: &'a [f32],
    /// `[20]`.
    pub output: &'a [f32],
    /// `[1]`.
    pub output_bias: &'a [f32],
}

impl CoordinateLstm<'_> {
    /// The output `[n]` after the steps of `x` `[steps, 2, n]`.
    ///
    /// # Panics
    /// If a slice does not have the length that its comment says.
    pub fn forward(&self, steps: usize, x: &[f32]) -> Vec<f32> {
        let packed = self.packed();
        let n = coordinates(steps, x);
        let kernels = kernels();
        let mut y = vec![0.0; n];
        y.par_chunks_mut(TASK * BLOCK).enumerate().for_each(|(task, y)| {
            let mut scratch = Buffer::take(lstm_scratch(steps));
            let mut out = [0.0; BLOCK];
            for (block, y) in y.chunks_mut(BLOCK).enumerate() {
                let x = gathered(steps, x, n, task * TASK + block);
                lstm_block(kernels, steps, &x, &packed, &mut scratch, &mut out);
                y.copy_from_slice(&out[..y.len()]);
            }
        });
        y
    }

    /// The gradients of Σ y · `dy` with respect to weight, bias, output and output bias.
    ///
    /// # Panics
    /// As [`CoordinateLstm::forward`].
    pub fn gradients(&self, steps: usize, x: &[f32], dy: &[f32]) -> [Vec<f32>; 4] {
        let packed = self.packed();
        let n = coordinates(steps, x);
        assert_eq!(dy.len(), n, "gradients of the outputs");
        let transposed = transposed(&packed.0[4 * GATES..], HIDDEN, GATES);
        let kernels = kernels();
        let sums = tasks(
            n,
            [ROWS * GATES, 1 + HIDDEN, 0],
            |blocks, [weights, outputs, _]| {
                let mut scratch = Buffer::take(lstm_scratch(steps));
                let mut out = [0.0; BLOCK];
                for block in blocks {
                    let x = gathered(steps, x, n, block);
                    let dy = padded(dy, block);
                    lstm_block(kernels, steps, &x, &packed, &mut scratch, &mut out);
                    // SAFETY: `scratch` holds what the forward pass left, and every slice has the size that the kernel asks for.
                    unsafe {
                        (kernels.lstm_gradients)(
                            steps,
                            (transposed.as_ptr(), packed.1.as_ptr()),
                            scratch.as_mut_ptr(),
                            dy.as_ptr(),
                            (weights.as_mut_ptr(), outputs.as_mut_ptr()),
                        );
                    }
                }
            },
        );
        let [weights, outputs, _] = sums;
        let (bias, weight) = unpacked(&weights, GATES);
        [weight, bias, outputs[1..].to_vec(), outputs[..1].to_vec()]
    }

    /// The weights with the bias as their first row and a row of zeros, and the output's with its bias first.
    fn packed(&self) -> (Vec<f32>, Vec<f32>) {
        assert_eq!(self.weight.len(), (2 + HIDDEN) * GATES, "weight");
        (
            packed(self.bias, self.weight, GATES),
            output(self.output, self.output_bias),
        )
    }
}

fn lstm_block(
    kernels: &Kernels,
    steps: usize,
    x: &[f32],
    packed: &(Vec<f32>, Vec<f32>),
    scratch: &mut Buffer,
    y: &mut [f32; BLOCK],
) {
    // SAFETY: every slice has the size that the kernel asks for.
    unsafe {
        (kernels.lstm)(
            steps,
            x.as_ptr(),
            (packed.0.as_ptr(), packed.1.as_ptr()),
            scratch.as_mut_ptr(),
            y.as_mut_ptr(),
        );
    }
}

impl CoordinateMlp<'_> {
    /// The output `[n]` of `x` `[2, n]`.
    ///
    /// # Panics
    /// If a slice does not have the length that its comment says.
    pub fn forward(&self, x: &[f32]) -> Vec<f32> {
        let packed = self.packed();
        let n = coordinates(1, x);
        let kernels = kernels();
        let mut y = vec![0.0; n];
        y.par_chunks_mut(TASK * BLOCK).enumerate().for_each(|(task, y)| {
            let mut scratch = Buffer::take(MLP_SCRATCH);
            let mut out = [0.0; BLOCK];
            for (block, y) in y.chunks_mut(BLOCK).enumerate() {
                let x = gathered(1, x, n, task * TASK + block);
                mlp_block(kernels, &x, &packed, &mut scratch, &mut out);
                y.copy_from_slice(&out[..y.len()]);
            }
        });
        y
    }

    /// The gradients of Σ y · `dy` in the order of the fields.
    ///
    /// # Panics
    /// As [`CoordinateMlp::forward`].
    pub fn gradients(&self, x: &[f32], dy: &[f32]) -> [Vec<f32>; 6] {
        let packed = self.packed();
        let n = coordinates(1, x);
        assert_eq!(dy.len(), n, "gradients of the outputs");
        let transposed = transposed(self.second, HIDDEN, HIDDEN);
        let kernels = kernels();
        let sizes = [4 * HIDDEN, ROWS * HIDDEN, 1 + HIDDEN];
        let [first, second, outputs] = tasks(n, sizes, |blocks, [first, second, outputs]| {
            let mut scratch = Buffer::take(MLP_SCRATCH);
            let mut out = [0.0; BLOCK];
            for block in blocks {
                let x = gathered(1, x, n, block);
                let dy = padded(dy, block);
                mlp_block(kernels, &x, &packed, &mut scratch, &mut out);
                // SAFETY: `scratch` holds what the forward pass left, and every slice has the size that the kernel asks for.
                unsafe {
                    (kernels.mlp_gradients)(
                        (transposed.as_ptr(), packed.2.as_ptr()),
                        scratch.as_mut_ptr(),
                        dy.as_ptr(),
                        (first.as_mut_ptr(), second.as_mut_ptr(), outputs.as_mut_ptr()),
                    );
                }
            }
        });
        let first_layer = (first[HIDDEN..3 * HIDDEN].to_vec(), first[..HIDDEN].to_vec());
        let second_layer = (second[4 * HIDDEN..].to_vec(), second[..HIDDEN].to_vec());
        let output = (outputs[1..].to_vec(), outputs[..1].to_vec());
        [
            first_layer.0,
            first_layer.1,
            second_layer.0,
            second_layer.1,
            output.0,
            output.1,
        ]
    }

    fn packed(&self) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        assert_eq!(self.first.len(), 2 * HIDDEN, "first");
        assert_eq!(self.second.len(), HIDDEN * HIDDEN, "second");
        let inputs = [0.0; 2 * HIDDEN];
        let second = packed(self.second_bias, &[&inputs[..], self.second].concat(), HIDDEN);
        (
            packed(self.first_bias, self.first, HIDDEN),
            second,
            output(self.output, self.output_bias),
        )
    }
}

fn mlp_block(
    kernels: &Kernels,
    x: &[f32],
    packed: &(Vec<f32>, Vec<f32>, Vec<f32>),
    scratch: &mut Buffer,
    y: &mut [f32; BLOCK],
) {
    // SAFETY: every slice has the size that the kernel asks for.
    unsafe {
        (kernels.mlp)(
            x.as_ptr(),
            (packed.0.as_ptr(), packed.1.as_ptr(), packed.2.as_ptr()),
            scratch.as_mut_ptr(),
            y.as_mut_ptr(),
        );
    }
}

/// How many coordinates `x` `[steps, 2, n]` has.
fn coordinates(steps: usize, x: &[f32]) -> usize {
    assert!(
        steps > 0 && x.len().is_multiple_of(2 * steps),
        "inputs of {steps} steps"
    );
    x.len() / (2 * steps)
}

/// The inputs of a block, `[steps, 2, BLOCK]`, filled up with zeros.
fn gathered(steps: usize, x: &[f32], n: usize, block: usize) -> Vec<f32> {
    let mut gathered = vec![0.0; 2 * steps * BLOCK];
    let (start, end) = (block * BLOCK, n.min((block + 1) * BLOCK));
    for (row, to) in gathered.chunks_exact_mut(BLOCK).enumerate() {
        to[..end - start].copy_from_slice(&x[row * n + start..row * n + end]);
    }
    gathered
}

/// A block of `dy`, filled up with zeros.
fn padded(dy: &[f32], block: usize) -> [f32; BLOCK] {
    let mut padded = [0.0; BLOCK];
    let part = &dy[block * BLOCK..dy.len().min((block + 1) * BLOCK)];
    padded[..part.len()].copy_from_slice(part);
    padded
}

/// Runs `work` on ranges of blocks with sums of these sizes, and adds the sums up in the order of the ranges.
fn tasks(
    n: usize,
    sizes: [usize; 3],
    work: impl Fn(std::ops::Range<usize>, &mut [Vec<f32>; 3]) + Sync,
) -> [Vec<f32>; 3] {
    let blocks = n.div_ceil(BLOCK);
    let sums: Vec<[Vec<f32>; 3]> = (0..blocks.div_ceil(TASK))
        .into_par_iter()
        .map(|task| {
            let mut sums = sizes.map(|size| vec![0.0; size]);
            work(task * TASK..blocks.min((task + 1) * TASK), &mut sums);
            sums
        })
        .collect();
    let mut total = sizes.map(|size| vec![0.0; size]);
    for sums in sums {
        for (total, sums) in total.iter_mut().zip(sums) {
            for (total, sum) in total.iter_mut().zip(sums) {
                *total += sum;
            }
        }
    }
    total
}

/// The bias, the two rows of the inputs, a row of zeros, and the rest of the rows: `[4 + rest, columns]`.
fn packed(bias: &[f32], weight: &[f32], columns: usize) -> Vec<f32> {
    assert_eq!(bias.len(), columns, "bias");
    let (inputs, rest) = weight.split_at(2 * columns);
    [bias, inputs, &vec![0.0; columns], rest].concat()
}

/// The bias and the weights out of what [`packed`] put together.
fn unpacked(packed: &[f32], columns: usize) -> (Vec<f32>, Vec<f32>) {
    let weight = [&packed[columns..3 * columns], &packed[4 * columns..]].concat();
    (packed[..columns].to_vec(), weight)
}

fn output(weight: &[f32], bias: &[f32]) -> Vec<f32> {
    assert_eq!((weight.len(), bias.len()), (HIDDEN, 1), "output");
    [bias, weight].concat()
}

/// `[rows, columns]` → `[columns, rows]`.
fn transposed(w: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns)
        .map(|index| w[index % rows * columns + index / rows])
        .collect()
}
