//! Where the gradients of a meta-batch come together.

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

/// All episodes in this process, on all its threads.
pub struct InProcess;

impl MetaBatch for InProcess {
    fn step(&self, learner: &dyn Learner, episodes: &[Episode]) -> Result<Step, Error> {
        learner.meta_batch(episodes)
    }
}
