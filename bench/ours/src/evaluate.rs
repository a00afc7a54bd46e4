//! An evaluation loop: episodes that lie in memory are answered and their accuracies kept, as `eval.rs` does it.

use anyhow::Result;
use kshot::episode::Episode;
use kshot::eval;
use kshot::learner::Learner;
use kshot::norm::Norm;
use rayon::prelude::*;

/// Mean accuracy over the episodes, all threads on different ones.
pub fn accuracy(learner: &dyn Learner, episodes: &[Episode]) -> Result<f64> {
    let accuracies: Result<Vec<f64>, kshot::Error> = episodes
        .par_iter()
        .map(|episode| Ok(eval::answer(learner, episode.clone(), Norm::Running)?.accuracy()))
        .collect();
    let accuracies = accuracies?;
    Ok(accuracies.iter().sum::<f64>() / accuracies.len().max(1) as f64)
}
