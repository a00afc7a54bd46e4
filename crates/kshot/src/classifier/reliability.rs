//! How far a classifier's probabilities can be believed: on episodes of a dataset, with classes that it was not told of.
//!
//! Of the classes of an episode one half is enrolled, the other half stands for what is unlike every class. The expected
//! calibration error (Naeini, Cooper, Hauskrecht 2015; Guo et al. 2017, eq. 3) is the mean over all queries of enrolled
//! classes of |accuracy − confidence| in bins of equal width. The area under the receiver operating characteristic is the
//! probability that a picture of an enrolled class is held for more familiar than one of another class.

use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{FewShotClassifier, Picture, Show};
use crate::data::ImageShape;
use crate::episode::Episode;
use crate::error::Error;
use crate::eval::Accuracy;
use crate::record::Evaluation;
use crate::sampler::TaskRange;
use crate::trained::Trained;

/// Bins of the expected calibration error.
pub const BINS: usize = 15;

/// Episodes at a time: few enough to stop soon, enough to keep every thread busy.
const CHUNK: u64 = 16;

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reliability {
    /// The model.
    pub model: String,
    /// The dataset.
    pub data: String,
    /// How its classes are divided, and the part.
    pub split: String,
    /// Enrolled classes of an episode, and as many that are not.
    pub way: usize,
    /// Examples of each.
    pub shot: usize,
    /// Pictures of each class that are asked about.
    pub query: usize,
    /// Episodes.
    pub episodes: usize,
    /// Seed of the episodes.
    pub seed: u64,
    /// Share of the pictures of enrolled classes whose most probable class is right.
    pub accuracy: f64,
    /// Half the width of its 95 % interval over the episodes.
    pub ci95: f64,
    /// Expected calibration error of probabilities without the calibration (temperature 1).
    pub ece_before: f64,
    /// Expected calibration error of the probabilities as they are given.
    pub ece: f64,
    /// Area under the curve of familiarity, mean over the episodes.
    pub auroc: f64,
    /// Half the width of its 95 % interval.
    pub auroc_ci95: f64,
    /// Share of the pictures of enrolled classes that are not called none of these.
    pub accepted: f64,
    /// Share of the pictures of other classes that are called none of these.
    pub refused: f64,
}

/// A picture of an enrolled class: confidence without and with calibration, and whether the class is right.
struct Trial {
    before: f64,
    after: f64,
    right: bool,
}

/// An episode.
struct Found {
    trials: Vec<Trial>,
    auroc: f64,
    accepted: f64,
    refused: f64,
}

/// Enrols the first half of each episode's classes in front of `model` and asks about all; `progress` hears how many
/// episodes are done and says whether to go on. `evaluation` counts the enrolled classes.
///
/// # Errors
/// Too few classes or examples for twice as many classes, or images of another size than the model's.
pub fn evaluate(
    evaluation: &Evaluation,
    model: &Arc<Trained>,
    mut progress: impl FnMut(u64) -> bool,
) -> Result<Reliability, Error> {
    let (way, shot) = (*evaluation.tasks.n_way.end(), *evaluation.tasks.n_shot.end());
    let tasks = TaskRange {
        n_way: 2 * way..=2 * way,
        ..evaluation.tasks.clone()
    };
    let query = tasks.n_query;
    let sampler = Evaluation {
        tasks,
        ..evaluation.clone()
    }
    .sampler()?;
    let mut found: Vec<Found> = Vec::new();
    while (found.len() as u64) < evaluation.episodes && progress(found.len() as u64) {
        let start = found.len() as u64;
        let end = (start + CHUNK).min(evaluation.episodes);
        let chunk: Result<Vec<Found>, Error> = (start..end)
            .into_par_iter()
            .map(|index| one(model, &sampler.episode(index)?, way))
            .collect();
        found.extend(chunk?);
    }
    let over = |value: &dyn Fn(&Found) -> f64| Accuracy::of(&found.iter().map(value).collect::<Vec<_>>());
    let accuracy = over(&|one| {
        one.trials.iter().filter(|trial| trial.right).count() as f64 / one.trials.len().max(1) as f64
    });
    let auroc = over(&|one| one.auroc);
    let trials = || found.iter().flat_map(|one| &one.trials);
    Ok(Reliability {
        model: model.name().to_owned(),
        data: evaluation.dataset.name().to_owned(),
        split: format!("{}:{}", evaluation.dataset.partition(), evaluation.part.name()),
        way,
        shot,
        query,
        episodes: found.len(),
        seed: evaluation.seed,
        accuracy: accuracy.mean,
        ci95: accuracy.ci95,
        ece_before: calibration_error(trials().map(|trial| (trial.before, trial.right))),
        ece: calibration_error(trials().map(|trial| (trial.after, trial.right))),
        auroc: auroc.mean,
        auroc_ci95: auroc.ci95,
        accepted: over(&|one| one.accepted).mean,
        refused: over(&|one| one.refused).mean,
    })
}

fn one(model: &Arc<Trained>, episode: &Episode, way: usize) -> Result<Found, Error> {
    let shape = episode.image;
    let mut classifier = FewShotClassifier::new(model.clone());
    let support = pictures(&episode.support, shape)?;
    for (class, examples) in support.chunks(episode.task.n_shot).take(way).enumerate() {
        let named = examples.iter().enumerate();
        let named = named.map(|(number, picture)| (number.to_string(), picture.clone()));
        classifier.add_all(&class.to_string(), named.collect())?;
    }
    let show = Show {
        top: way,
        evidence: 0,
    };
    let answers = classifier.classify_as(&pictures(&episode.query, shape)?, show)?;
    let temperature = classifier.calibration()?.temperature;
    let (mut trials, mut known, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    let (mut accepted, mut refused) = (0, 0);
    for (answer, label) in answers.iter().zip(episode.query_labels()) {
        let Some(best) = answer.ranked.first() else {
            continue;
        };
        if label < way {
            // p ∝ exp(logit / T), so p^T is what it would be without T.
            let others = answer
                .ranked
                .iter()
                .map(|other| (other.probability / best.probability).powf(temperature));
            trials.push(Trial {
                before: 1.0 / others.sum::<f64>(),
                after: best.probability,
                right: best.label == label.to_string(),
            });
            known.push(answer.familiar);
            accepted += usize::from(answer.known);
        } else {
            unknown.push(answer.familiar);
            refused += usize::from(!answer.known);
        }
    }
    Ok(Found {
        auroc: area(&known, &unknown),
        accepted: accepted as f64 / known.len().max(1) as f64,
        refused: refused as f64 / unknown.len().max(1) as f64,
        trials,
    })
}

fn pictures(pixels: &[f32], shape: ImageShape) -> Result<Vec<Picture>, Error> {
    pixels
        .chunks_exact(shape.len())
        .map(|values| Picture::from_values(values.to_vec()))
        .collect()
}

/// Σ over bins of (share of the trials) × |share that is right − mean confidence|.
fn calibration_error(trials: impl Iterator<Item = (f64, bool)>) -> f64 {
    let mut bins = [(0usize, 0.0, 0.0); BINS];
    let mut count = 0usize;
    for (confidence, right) in trials {
        let bin = &mut bins[((confidence * BINS as f64) as usize).min(BINS - 1)];
        *bin = (bin.0 + 1, bin.1 + confidence, bin.2 + f64::from(u8::from(right)));
        count += 1;
    }
    let gaps = bins
        .iter()
        .map(|(_, confidence, right)| (confidence - right).abs());
    gaps.sum::<f64>() / count.max(1) as f64
}

/// The probability that one of `greater` exceeds one of `smaller`; equal ones count half.
fn area(greater: &[f64], smaller: &[f64]) -> f64 {
    let wins = greater.iter().flat_map(|a| {
        smaller.iter().map(move |b| match a.total_cmp(b) {
            std::cmp::Ordering::Greater => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Less => 0.0,
        })
    });
    wins.sum::<f64>() / (greater.len() * smaller.len()).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calibration_error_is_the_gap_in_each_bin_by_its_share() {
        // Two at 0.95 of which one is right (a gap of 0.9), two at 0.5 of which one is right (none).
        let trials = [(0.95, true), (0.95, false), (0.5, true), (0.5, false)];
        let error = calibration_error(trials.into_iter());
        assert!((error - 0.5 * 0.45).abs() < 1e-12, "{error}");
        assert_eq!(calibration_error([(1.0, true)].into_iter()), 0.0);
    }

    #[test]
    fn the_area_counts_pairs_in_the_right_order() {
        assert_eq!(area(&[0.9, 0.8], &[0.1, 0.2]), 1.0);
        assert_eq!(area(&[0.9, 0.1], &[0.5, 0.5]), 0.5);
        assert_eq!(area(&[0.5], &[0.5]), 0.5);
        assert_eq!(area(&[0.3, 0.6], &[0.4, 0.5]), 0.5);
    }
}
