//! Gradient descent inside a task, and the exact gradient of what it leads to.
//!
//! The fast weights of a task are plain vectors, not modules of the tensor engine: a [`Network`] evaluates
//! loss, gradient and Hessian-vector products of many tasks at once, each with its own [`Weights`].
//!
//! Inner descent is θₖ₊₁ = θₖ − α ∘ ∇Lₛ(θₖ), with one rate α or one per weight. The derivative of the query loss L_q(θ_K)
//! with respect to θ₀ needs no more than Hessian-vector products: from v_K = ∇L_q(θ_K),
//!
//! ```text
//! vₖ = vₖ₊₁ − H(θₖ) (α ∘ vₖ₊₁),   H = ∇²Lₛ,
//! ```
//!
//! ends in the exact meta-gradient v₀, and that with respect to the rates is −Σₖ ∇Lₛ(θₖ) ∘ vₖ₊₁. A product H·v is one
//! backward pass through one forward pass of (value, tangent) pairs, so only one step's activations are alive at a time.

mod dense;
mod descent;
mod loss;
mod network;
mod plain;
mod points;
mod weights;

pub use descent::{Descent, MetaGradient, Order};
pub use loss::Targets;
pub use network::{BatchStatistics, Curvature, Evaluation, Forward, Layer, Network, Normalisation};
pub use plain::Plain;
pub use weights::{Rates, Weights};

/// Labelled examples of several tasks, each with as many as the others.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// How many tasks.
    pub tasks: usize,
    /// Inputs of the network, task by task.
    pub inputs: &'a [f32],
    /// What it should say of them.
    pub targets: Targets<'a>,
}

impl Batch<'_> {
    /// The examples of one of its tasks.
    pub fn task(&self, task: usize) -> Self {
        Self {
            tasks: 1,
            inputs: part(self.inputs, task, self.tasks),
            targets: match self.targets {
                Targets::Labels(labels) => Targets::Labels(part(labels, task, self.tasks)),
                Targets::Values(values) => Targets::Values(part(values, task, self.tasks)),
            },
        }
    }
}

fn part<T>(all: &[T], task: usize, tasks: usize) -> &[T] {
    let len = all.len() / tasks;
    &all[task * len..(task + 1) * len]
}
