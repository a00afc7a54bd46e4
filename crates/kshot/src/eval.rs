//! Evaluation: accuracy per episode, and its mean with a 95 % interval.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::episode::Episode;
use crate::error::Error;
use crate::learner::{self, Learner};
use crate::norm::Norm;
use crate::sampler::Sampler;

/// A mean over episodes with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Mean over the episodes, in `[0, 1]`.
    pub mean: f64,
    /// Half the width of the 95 % interval: Student's t over the episodes, independent draws.
    pub ci95: f64,
    /// How many episodes.
    pub episodes: usize,
}

impl Accuracy {
    /// Of one number per episode; fewer than two say nothing of the spread, and their interval is the whole range.
    pub fn of(values: &[f64]) -> Self {
        let n = values.len();
        let mean = values.iter().sum::<f64>() / n.max(1) as f64;
        if n < 2 {
            return Self {
                mean,
                ci95: 1.0,
                episodes: n,
            };
        }
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
        let quantile = StudentsT::new(0.0, 1.0, (n - 1) as f64).map_or(1.96, |t| t.inverse_cdf(0.975));
        Self {
            mean,
            ci95: quantile * (variance / n as f64).sqrt(),
            episodes: n,
        }
    }
}

impl std::fmt::Display for Accuracy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} ± {:.2} %", 100.0 * self.mean, 100.0 * self.ci95)
    }
}

/// An episode and what a learner made of it.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The task.
    pub episode: Episode,
    /// `[n_query, n_way]`, see [`crate::method::Scores`].
    pub logits: Vec<f32>,
}

impl Answered {
    /// The label given to each query.
    pub fn predictions(&self) -> Vec<usize> {
        self.logits
            .chunks_exact(self.episode.task.n_way)
            .map(learner::argmax)
            .collect()
    }

    /// Share of the queries that were recognised.
    pub fn accuracy(&self) -> f64 {
        let labels = self.episode.query_labels();
        learner::accuracy(&self.logits, self.episode.task.n_way, &labels)
    }
}

/// Adapts to the episode's support set and scores its queries.
///
/// # Errors
/// An episode that the method can't use.
pub fn answer(learner: &dyn Learner, episode: Episode, norm: Norm) -> Result<Answered, Error> {
    let device = learner.device();
    let task = learner.adapt(&episode.support_on(device), norm)?;
    let scores = learner.score(&task, episode.query_on(device), norm)?;
    Ok(Answered {
        logits: learner::logits_on_host(scores.logits),
        episode,
    })
}

/// Answers episodes `0..episodes` of `sampler` on all threads and maps each with `keep`, in order.
///
/// # Errors
/// The first episode that fails; `false` from `go_on` stops early with what is done so far.
pub fn answers<T: Send>(
    learner: &dyn Learner,
    sampler: &Sampler,
    episodes: u64,
    norm: Norm,
    keep: impl Fn(&Answered) -> T + Sync,
    mut go_on: impl FnMut(u64) -> bool,
) -> Result<Vec<T>, Error> {
    /// Few enough to stop soon, enough to keep every thread busy.
    const CHUNK: u64 = 16;
    let mut kept = Vec::with_capacity(episodes.min(1 << 20) as usize);
    let mut start = 0;
    while start < episodes && go_on(start) {
        let end = (start + CHUNK).min(episodes);
        let chunk: Result<Vec<T>, Error> = (start..end)
            .into_par_iter()
            .map(|index| Ok(keep(&answer(learner, sampler.episode(index)?, norm)?)))
            .collect();
        kept.extend(chunk?);
        start = end;
    }
    Ok(kept)
}

/// Accuracy over episodes `0..episodes` of `sampler`.
///
/// # Errors
/// As [`answers`].
pub fn accuracy(
    learner: &dyn Learner,
    sampler: &Sampler,
    episodes: u64,
    norm: Norm,
) -> Result<Accuracy, Error> {
    let values = answers(learner, sampler, episodes, norm, Answered::accuracy, |_| true)?;
    Ok(Accuracy::of(&values))
}

#[cfg(test)]
mod tests {
    use super::Accuracy;

    #[test]
    fn the_interval_is_students() {
        // Hand-computed: mean 0.7, s = 0.1, t(2; 0.975) = 4.302653, half-width 4.302653 · 0.1 / √3.
        let accuracy = Accuracy::of(&[0.6, 0.7, 0.8]);
        assert!((accuracy.mean - 0.7).abs() < 1e-12);
        assert!((accuracy.ci95 - 0.248_413_8).abs() < 1e-6, "{}", accuracy.ci95);
    }

    #[test]
    fn one_episode_says_nothing_about_the_spread() {
        assert_eq!(Accuracy::of(&[0.5]).ci95, 1.0);
    }
}
