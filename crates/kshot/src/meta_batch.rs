//! Where the gradients of a meta-batch come together.

use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::episode::Episode;
use crate::error::Error;
use crate::learner::{Learner, Step};

/// Runs the episodes of one weight update and averages what they give.
///
/// One process does it here; a trait, so that several machines can share the episodes of an update.
pub trait MetaBatch: Send + Sync {
    /// Mean loss, accuracy and gradients over `episodes`, and all their statistics in order.
    ///
    /// # Errors
    /// The first episode that fails.
    fn step(&self, learner: &dyn Learner, episodes: &[Episode]) -> Result<Step, Error>;
}

/// All episodes in this process, on all its threads; sums are formed in the order of the episodes,
/// so that their bits don't depend on how many threads there are.
pub struct InProcess;

impl MetaBatch for InProcess {
    fn step(&self, learner: &dyn Learner, episodes: &[Episode]) -> Result<Step, Error> {
        if let [episode] = episodes {
            return learner.meta_step(episode);
        }
        let steps: Result<Vec<Step>, Error> = episodes
            .par_iter()
            .map(|episode| learner.meta_step(episode))
            .collect();
        Ok(mean(steps?))
    }
}

fn mean(steps: Vec<Step>) -> Step {
    let share = 1.0 / steps.len().max(1) as f32;
    let mut total = Step {
        loss: 0.0,
        accuracy: 0.0,
        gradients: Vec::new(),
        statistics: Vec::new(),
    };
    for step in steps {
        total.loss += share * step.loss;
        total.accuracy += share * step.accuracy;
        total.statistics.extend(step.statistics);
        if total.gradients.is_empty() {
            total.gradients = step.gradients;
        } else {
            for (sum, gradient) in total.gradients.iter_mut().zip(step.gradients) {
                *sum = add(sum.take(), gradient);
            }
        }
    }
    for gradient in &mut total.gradients {
        *gradient = gradient.take().map(|gradient| gradient.mul_scalar(share));
    }
    total
}

fn add(left: Option<Tensor<1>>, right: Option<Tensor<1>>) -> Option<Tensor<1>> {
    match (left, right) {
        (Some(left), Some(right)) => Some(left + right),
        (left, right) => left.or(right),
    }
}
