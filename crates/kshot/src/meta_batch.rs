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

/// Episodes that a method which takes several at once is given together: enough to be worth it, few enough that a
/// usual meta-batch keeps two cores busy, and always as many, so that the bits don't depend on the number of threads.
const JOINT: usize = 8;

/// All episodes in this process, on all its threads; sums are formed in the order of the episodes,
/// so that their bits don't depend on how many threads there are.
pub struct InProcess;

impl MetaBatch for InProcess {
    fn step(&self, learner: &dyn Learner, episodes: &[Episode]) -> Result<Step, Error> {
        if let [episode] = episodes {
            return learner.meta_step(episode);
        }
        let steps: Result<Vec<Vec<(usize, Step)>>, Error> = episodes
            .par_chunks(JOINT)
            .map(|chunk| step_of(learner, chunk))
            .collect();
        Ok(mean(steps?.into_iter().flatten().collect()))
    }
}

/// The steps of a few episodes: one that stands for all of them where the method takes them together.
fn step_of(learner: &dyn Learner, episodes: &[Episode]) -> Result<Vec<(usize, Step)>, Error> {
    match learner.joint_step(episodes) {
        Some(step) => Ok(vec![(episodes.len(), step?)]),
        None => episodes
            .par_iter()
            .map(|episode| Ok((1, learner.meta_step(episode)?)))
            .collect(),
    }
}

/// The mean over all episodes of steps that stand for some each.
fn mean(steps: Vec<(usize, Step)>) -> Step {
    let episodes: usize = steps.iter().map(|(count, _)| count).sum();
    let mut total = Step {
        loss: 0.0,
        accuracy: 0.0,
        gradients: Vec::new(),
        statistics: Vec::new(),
    };
    for (count, step) in steps {
        let share = count as f32 / episodes.max(1) as f32;
        total.loss += share * step.loss;
        total.accuracy += share * step.accuracy;
        total.statistics.extend(step.statistics);
        let gradients = step
            .gradients
            .into_iter()
            .map(|gradient| gradient.map(|gradient| gradient.mul_scalar(share)));
        if total.gradients.is_empty() {
            total.gradients = gradients.collect();
        } else {
            for (sum, gradient) in total.gradients.iter_mut().zip(gradients) {
                *sum = add(sum.take(), gradient);
            }
        }
    }
    total
}

fn add(left: Option<Tensor<1>>, right: Option<Tensor<1>>) -> Option<Tensor<1>> {
    match (left, right) {
        (Some(left), Some(right)) => Some(left + right),
        (left, right) => left.or(right),
    }
}
