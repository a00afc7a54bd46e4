//! A recurrent update rule with shared weights that moves each of many coordinates by its own gradient, as learned
//! optimizers have it.

use rayon::prelude::*;

use crate::buffer::Buffer;
use crate::dispatch::{Kernels, kernels};
use crate::kernels::coordinates::BLOCK;
use crate::kernels::rule::{HEAD, RuleSlopes, RuleStep, RuleWeights};

/// Blocks that one task works on; the sums over tasks are taken in their order, whatever the number of threads.
const TASK: usize = 8;

/// A long short-term memory whose output sets the forget and input gates of a second one, the state of which is the
/// coordinate θ itself:
///
/// ```text
/// h, c = LSTM([shared, x, h], c)            gates: input, forget, candidate, output
/// fₜ = σ(w_f · [hₜ, θₜ₋₁, fₜ₋₁] + b_f),   iₜ = σ(w_i · [hₜ, θₜ₋₁, iₜ₋₁] + b_i)
/// θₜ = fₜ θₜ₋₁ − iₜ gₜ
/// ```
///
/// where `g` is a coordinate's gradient, `x` two inputs of it and `shared` two inputs that all coordinates share.
#[derive(Clone, Copy, Debug)]
pub struct UpdateRule<'a> {
    /// Units of the memory.
    pub units: usize,
    /// `[4 + units, 4 * units]`: two rows of the shared inputs, two of a coordinate's, then the hidden units.
    pub weight: &'a [f32],
    /// `[4 * units]`.
    pub bias: &'a [f32],
    /// Weights `[units + 2]` and bias of the forget gate.
    pub forget: (&'a [f32], f32),
    /// Weights `[units + 2]` and bias of the input gate.
    pub input: (&'a [f32], f32),
}

/// What one step is told.
#[derive(Clone, Copy, Debug)]
pub struct RuleInputs<'a> {
    /// The inputs that all coordinates share.
    pub shared: [f32; 2],
    /// `[2, n]`: the two inputs of each coordinate.
    pub inputs: &'a [f32],
    /// `[n]`: each coordinate's gradient.
    pub gradient: &'a [f32],
}

/// What some coordinates carry from step to step.
#[derive(Debug)]
pub struct RuleState {
    n: usize,
    blocks: Buffer,
    units: usize,
}

/// Gradients with respect to an [`UpdateRule`]'s numbers.
#[derive(Clone, Debug)]
pub struct RuleGradients {
    /// `[4 + units, 4 * units]`.
    pub weight: Vec<f32>,
    /// `[4 * units]`.
    pub bias: Vec<f32>,
    /// Of the forget gate's weights `[units + 2]` and bias.
    pub forget: (Vec<f32>, f32),
    /// Of the input gate's.
    pub input: (Vec<f32>, f32),
    /// `[n]`: of the coordinates before the first step.
    pub theta: Vec<f32>,
}

/// Rows that a coordinate carries: θ and its two gates, cell, and the memory's input with the hidden units.
const fn carried(units: usize) -> usize {
    3 + units + HEAD + units
}

impl UpdateRule<'_> {
    /// Before the first step, at the coordinates `theta`.
    pub fn start(&self, theta: &[f32]) -> RuleState {
        let units = self.units.next_multiple_of(4);
        let mut blocks = Buffer::zeroed(theta.len().div_ceil(BLOCK) * carried(units) * BLOCK);
        for (block, theta) in blocks
            .chunks_exact_mut(carried(units) * BLOCK)
            .zip(theta.chunks(BLOCK))
        {
            block[..theta.len()].copy_from_slice(theta);
        }
        RuleState {
            n: theta.len(),
            blocks,
            units,
        }
    }

    /// Moves the coordinates by one step.
    ///
    /// # Panics
    /// If a slice does not have the length that its comment says, or the state is of another number of units.
    pub fn step(&self, state: &mut RuleState, told: RuleInputs<'_>) {
        let packed = self.packed(&[told.shared]);
        let (units, n, kernels) = (packed.units, state.n, kernels());
        assert_eq!(state.units, units, "units of the state");
        told.check(n);
        let rows = carried(units);
        state
            .blocks
            .par_chunks_mut(TASK * rows * BLOCK)
            .enumerate()
            .for_each(|(task, blocks)| {
                let mut scratch = Buffer::take(5 * units * BLOCK);
                for (index, block) in blocks.chunks_exact_mut(rows * BLOCK).enumerate() {
                    let gradient = told.place(task * TASK + index, &mut block[(3 + units) * BLOCK..]);
                    let kept = block.as_mut_ptr();
                    let cell = kept.wrapping_add(3 * BLOCK);
                    let input = kept.wrapping_add((3 + units) * BLOCK);
                    let step = RuleStep {
                        units,
                        input,
                        gates: scratch.as_mut_ptr(),
                        bent: scratch.as_mut_ptr().wrapping_add(4 * units * BLOCK),
                        cell: (cell, cell),
                        hidden: input.wrapping_add(HEAD * BLOCK),
                        kept: (kept, kept),
                        gradient: gradient.as_ptr(),
                    };
                    // SAFETY: a block has `carried(units)` rows, the scratch memory those of gates and cell.
                    unsafe { (kernels.rule_step)(&step, &packed.weights(0)) };
                }
            });
    }

    /// Repeats the steps from `theta` with these inputs and gradients (which carry no derivative), and gives the gradients
    /// of Σ θ · `slope` over the last coordinates.
    ///
    /// # Panics
    /// As [`UpdateRule::step`].
    pub fn gradients(&self, theta: &[f32], steps: &[RuleInputs<'_>], slope: &[f32]) -> RuleGradients {
        let n = theta.len();
        assert_eq!(slope.len(), n, "gradients of the last coordinates");
        steps.iter().for_each(|told| told.check(n));
        let shared: Vec<[f32; 2]> = steps.iter().map(|told| told.shared).collect();
        let (packed, kernels) = (self.packed(&shared), kernels());
        let parts: Vec<(Sums, Vec<f32>)> = theta
            .par_chunks(TASK * BLOCK)
            .zip(slope.par_chunks(TASK * BLOCK))
            .enumerate()
            .map(|(task, (theta, slope))| {
                let mut sums = Sums::new(packed.units);
                let mut tape = Tape::new(packed.units, steps.len());
                let mut by_theta = Vec::with_capacity(theta.len());
                for (index, (theta, slope)) in theta.chunks(BLOCK).zip(slope.chunks(BLOCK)).enumerate() {
                    let block = task * TASK + index;
                    let found = tape.block(kernels, &packed, (steps, block), (theta, slope), &mut sums);
                    by_theta.extend_from_slice(found);
                }
                (sums, by_theta)
            })
            .collect();
        let mut total = Sums::new(packed.units);
        let mut by_theta = Vec::with_capacity(n);
        for (sums, theta) in parts {
            total.add(&sums);
            by_theta.extend(theta);
        }
        total.unpacked(self.units, by_theta)
    }

    /// The numbers as the kernels read them: units rounded up, and the shared inputs' part in the bias of each step.
    fn packed(&self, shared: &[[f32; 2]]) -> Packed {
        let (own, units) = (self.units, self.units.next_multiple_of(4));
        assert_eq!(self.weight.len(), (4 + own) * 4 * own, "weight");
        assert_eq!(self.bias.len(), 4 * own, "bias");
        let row = |row: usize| &self.weight[row * 4 * own..][..4 * own];
        let mut memory = vec![0.0; (HEAD + units) * 4 * units];
        let mut put = |to: usize, from: &[f32]| widen(&mut memory[to * 4 * units..], from, own, units);
        put(1, row(2));
        put(2, row(3));
        (0..own).for_each(|unit| put(HEAD + unit, row(4 + unit)));
        let biases = shared
            .iter()
            .map(|[a, b]| {
                let inputs = row(0).iter().zip(row(1));
                let sum: Vec<f32> = self
                    .bias
                    .iter()
                    .zip(inputs)
                    .map(|(bias, (p, q))| bias + a * p + b * q)
                    .collect();
                let mut wide = vec![0.0; 4 * units];
                widen(&mut wide, &sum, own, units);
                wide
            })
            .collect::<Vec<_>>();
        let rest = &memory[HEAD * 4 * units..];
        let transposed = (0..4 * units * units)
            .map(|at| rest[at % units * 4 * units + at / units])
            .collect();
        let mut gates = vec![0.0; 2 * (units + 3)];
        for ((weight, bias), to) in [self.forget, self.input]
            .into_iter()
            .zip(gates.chunks_exact_mut(units + 3))
        {
            assert_eq!(weight.len(), own + 2, "gate");
            to[..own].copy_from_slice(&weight[..own]);
            to[units..units + 2].copy_from_slice(&weight[own..]);
            to[units + 2] = bias;
        }
        let memories = biases
            .iter()
            .map(|bias| {
                memory[..4 * units].copy_from_slice(bias);
                memory.clone()
            })
            .collect();
        Packed {
            units,
            memories,
            transposed,
            gates,
        }
    }
}

/// The four gates' columns, each at the start of its own.
fn widen(to: &mut [f32], from: &[f32], own: usize, units: usize) {
    for (to, from) in to.chunks_mut(units).zip(from.chunks_exact(own)) {
        to[..own].copy_from_slice(from);
    }
}

struct Packed {
    units: usize,
    /// For each step.
    memories: Vec<Vec<f32>>,
    transposed: Vec<f32>,
    gates: Vec<f32>,
}

impl Packed {
    fn weights(&self, step: usize) -> RuleWeights {
        RuleWeights {
            memory: self.memories[step].as_ptr(),
            transposed: self.transposed.as_ptr(),
            gates: self.gates.as_ptr(),
        }
    }
}

impl RuleInputs<'_> {
    fn check(&self, n: usize) {
        assert_eq!(self.inputs.len(), 2 * n, "inputs");
        assert_eq!(self.gradient.len(), n, "gradients");
    }

    /// Writes a block's first rows of the memory's input, and gives its gradients; zeros where there is no coordinate.
    fn place(&self, block: usize, input: &mut [f32]) -> [f32; BLOCK] {
        let n = self.gradient.len();
        let (start, end) = (block * BLOCK, n.min((block + 1) * BLOCK));
        let (ones, rest) = input.split_at_mut(BLOCK);
        ones.fill(1.0);
        for (from, to) in self.inputs.chunks_exact(n).zip(rest.chunks_exact_mut(BLOCK)) {
            to[..end - start].copy_from_slice(&from[start..end]);
            to[end - start..].fill(0.0);
        }
        rest[2 * BLOCK..3 * BLOCK].fill(0.0);
        let mut gradient = [0.0; BLOCK];
        gradient[..end - start].copy_from_slice(&self.gradient[start..end]);
        gradient
    }
}

impl RuleState {
    /// The coordinates.
    pub fn theta(&self) -> impl Iterator<Item = f32> {
        let blocks = self.blocks.chunks_exact(carried(self.units) * BLOCK);
        blocks.flat_map(|block| &block[..BLOCK]).copied().take(self.n)
    }
}

/// All steps of one block as the way back needs them.
struct Tape {
    units: usize,
    steps: usize,
    /// For each step, and once more: what is kept, cell, the memory's input. Then for each step gates and bent cell.
    rows: Buffer,
    slopes: Buffer,
    gradients: Vec<[f32; BLOCK]>,
}

impl Tape {
    fn new(units: usize, steps: usize) -> Self {
        Self {
            units,
            steps,
            rows: Buffer::take(((steps + 1) * carried(units) + steps * 5 * units) * BLOCK),
            slopes: Buffer::take((3 + 6 * units) * BLOCK),
            gradients: Vec::with_capacity(steps),
        }
    }

    fn step(&mut self, t: usize) -> RuleStep {
        let units = self.units;
        let rows = self.rows.as_mut_ptr();
        let state = |t: usize| rows.wrapping_add(t * carried(units) * BLOCK);
        let cell = |t: usize| state(t).wrapping_add(3 * BLOCK);
        let input = |t: usize| state(t).wrapping_add((3 + units) * BLOCK);
        let gates = state(self.steps + 1).wrapping_add(t * 5 * units * BLOCK);
        RuleStep {
            units,
            input: input(t),
            gates,
            bent: gates.wrapping_add(4 * units * BLOCK),
            cell: (cell(t), cell(t + 1)),
            hidden: input(t + 1).wrapping_add(HEAD * BLOCK),
            kept: (state(t), state(t + 1)),
            gradient: self.gradients[t].as_ptr(),
        }
    }

    /// Forward and back through all steps of a block; adds to `sums` and gives the gradients of its first coordinates.
    fn block(
        &mut self,
        kernels: &Kernels,
        packed: &Packed,
        (steps, block): (&[RuleInputs<'_>], usize),
        (theta, slope): (&[f32], &[f32]),
        sums: &mut Sums,
    ) -> &[f32] {
        let units = self.units;
        self.rows[..carried(units) * BLOCK].fill(0.0);
        self.rows[..theta.len()].copy_from_slice(theta);
        self.gradients.clear();
        for (t, told) in steps.iter().enumerate() {
            let first = (t * carried(units) + 3 + units) * BLOCK;
            let gradient = told.place(block, &mut self.rows[first..]);
            self.gradients.push(gradient);
            let step = self.step(t);
            // SAFETY: the rows of step `t` and of what follows it are within the tape.
            unsafe { (kernels.rule_step)(&step, &packed.weights(t)) };
        }
        self.slopes.fill(0.0);
        self.slopes[..slope.len()].copy_from_slice(slope);
        let kept = self.slopes.as_mut_ptr();
        let slopes = RuleSlopes {
            kept,
            hidden: kept.wrapping_add(3 * BLOCK),
            cell: kept.wrapping_add((3 + units) * BLOCK),
            gates: kept.wrapping_add((3 + 2 * units) * BLOCK),
        };
        for (t, told) in steps.iter().enumerate().rev() {
            let step = self.step(t);
            let to = (sums.memory.as_mut_ptr(), sums.gates.as_mut_ptr());
            // SAFETY: as above; slopes and sums have the sizes that the kernel asks for.
            unsafe { (kernels.rule_gradients)(&step, &packed.weights(t), &slopes, to) };
            sums.take_bias(told.shared);
        }
        &self.slopes[..theta.len()]
    }
}

/// Sums of gradients, in the kernels' sizes.
struct Sums {
    units: usize,
    memory: Vec<f32>,
    gates: Vec<f32>,
    /// Of the bias and of the shared inputs' two rows.
    first: [Vec<f32>; 3],
}

impl Sums {
    fn new(units: usize) -> Self {
        Self {
            units,
            memory: vec![0.0; (HEAD + units) * 4 * units],
            gates: vec![0.0; 2 * (units + 3)],
            first: [(); 3].map(|()| vec![0.0; 4 * units]),
        }
    }

    /// The memory's first row is one step's: it is the bias's, and the shared inputs' by their values.
    fn take_bias(&mut self, shared: [f32; 2]) {
        for (column, sum) in self.memory[..4 * self.units].iter_mut().enumerate() {
            let sum = std::mem::take(sum);
            for (to, factor) in self.first.iter_mut().zip([1.0, shared[0], shared[1]]) {
                to[column] += factor * sum;
            }
        }
    }

    fn add(&mut self, other: &Self) {
        let ours = [&mut self.memory, &mut self.gates]
            .into_iter()
            .chain(&mut self.first);
        let theirs = [&other.memory, &other.gates].into_iter().chain(&other.first);
        for (to, from) in ours.zip(theirs) {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        }
    }

    /// In the sizes of a rule of `own` units.
    fn unpacked(&self, own: usize, theta: Vec<f32>) -> RuleGradients {
        let units = self.units;
        let narrow = |row: &[f32]| -> Vec<f32> {
            row.chunks_exact(units)
                .flat_map(|gate| &gate[..own])
                .copied()
                .collect()
        };
        let row = |row: usize| narrow(&self.memory[row * 4 * units..][..4 * units]);
        let mut weight = [narrow(&self.first[1]), narrow(&self.first[2]), row(1), row(2)].concat();
        (0..own).for_each(|unit| weight.extend(row(HEAD + unit)));
        let gate = |index: usize| {
            let gate = &self.gates[index * (units + 3)..][..units + 3];
            ([&gate[..own], &gate[units..units + 2]].concat(), gate[units + 2])
        };
        RuleGradients {
            weight,
            bias: narrow(&self.first[0]),
            forget: gate(0),
            input: gate(1),
            theta,
        }
    }
}
