//! Sizes of a memory-augmented network, and what it carries from step to step.

use burn::tensor::{Device, Tensor};

use super::sequence::Order;
use crate::episode::TaskShape;
use crate::error::Error;
use crate::layers::check_array;
use crate::ops::memory::MemoryForm;

/// Sizes and variants.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub hidden: usize,
    pub rows: usize,
    pub width: usize,
    pub heads: usize,
    pub usage_decay: f32,
    pub sharpness_learned: bool,
    pub vector_stored: bool,
    pub order: Order,
}

/// Everything that goes from one step to the next, of `b` sequences side by side.
#[derive(Clone, Debug)]
pub struct State {
    /// hₜ and rₜ, `[b, hidden + heads * width]`.
    pub output: Tensor<2>,
    /// cₜ, `[b, hidden]`.
    pub cell: Tensor<2>,
    /// wʳₜ, `[b, heads, rows]`.
    pub read: Tensor<3>,
    /// Mₜ, `[b, rows, width]`.
    pub memory: Tensor<3>,
    /// wᵘₜ, `[b * rows]`; decides where to write, carries no gradient.
    pub usage: Vec<f32>,
}

impl Sizes {
    /// As the operation of the tensor engine has it.
    pub fn form(&self) -> MemoryForm {
        MemoryForm {
            rows: self.rows,
            width: self.width,
            heads: self.heads,
            usage_decay: self.usage_decay,
            vectors: self.vector_stored,
            sharpened: self.sharpness_learned,
        }
    }

    /// Numbers in the keys, and in the vectors to write where they are others.
    pub fn emitted_keys(&self) -> usize {
        self.heads * self.width * if self.vector_stored { 2 } else { 1 }
    }

    /// Checks that `together` sequences of so long tasks side by side (0: one) leave no more behind than memory can hold: at
    /// every step a memory, where each head read and wrote, and the controller's gates, for the way back.
    pub fn check(&self, task: TaskShape, together: usize) -> Result<(), Error> {
        let steps = [
            (together.max(1), "sequences"),
            (task.n_support() + task.n_queries() + 1, "steps"),
        ];
        let memory = [(self.rows, "rows"), (self.width + 3 * self.heads + 1, "numbers")];
        check_array(
            "memory-rows",
            "the memories of sequences side by side",
            &[steps, memory].concat(),
        )?;
        let controller = [(4 * self.hidden + self.emitted(), "numbers of the controller")];
        check_array(
            "controller",
            "the steps of sequences side by side",
            &[&steps[..], &controller].concat(),
        )
    }

    /// Numbers that the controller sends to the heads at each step.
    pub fn emitted(&self) -> usize {
        self.emitted_keys() + self.heads * if self.sharpness_learned { 2 } else { 1 }
    }
}

impl State {
    /// Nothing seen: zeros everywhere.
    pub fn new(b: usize, sizes: &Sizes, device: &Device) -> Self {
        Self {
            output: Tensor::zeros([b, sizes.hidden + sizes.heads * sizes.width], device),
            cell: Tensor::zeros([b, sizes.hidden], device),
            read: Tensor::zeros([b, sizes.heads, sizes.rows], device),
            memory: Tensor::zeros([b, sizes.rows, sizes.width], device),
            usage: vec![0.0; b * sizes.rows],
        }
    }

    /// One sequence's state, `n` times.
    pub fn repeated(&self, n: usize) -> Self {
        Self {
            output: self.output.clone().repeat_dim(0, n),
            cell: self.cell.clone().repeat_dim(0, n),
            read: self.read.clone().repeat_dim(0, n),
            memory: self.memory.clone().repeat_dim(0, n),
            usage: self.usage.repeat(n),
        }
    }
}
