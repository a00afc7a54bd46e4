//! Accuracy by the n-th presentation of a class: images one after the other, each to be named before its label is shown.
//!
//! A. Santoro, S. Bartunov, M. Botvinick, D. Wierstra, T. Lillicrap, ICML 2016, section 4.1 and table 1. An episode shows
//! each of N classes ten times, in random order. At the first presentation of a class only elimination helps; the
//! second shows what one example is worth.

use std::time::Instant;

use burn::tensor::Tensor;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::episode::{Episode, Support};
use crate::error::Error;
use crate::eval::Accuracy;
use crate::learner::{Learner, argmax, logits_on_host};
use crate::norm::Norm;
use crate::random;
use crate::record::{Evaluation, Record};
use crate::sampler::TaskRange;

/// How often an episode shows each class.
pub const PRESENTATIONS: usize = 10;

/// Few enough episodes at a time to stop soon, enough to keep every thread busy.
const CHUNK: u64 = 16;

/// How well classes are recognised at their n-th presentation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Presentation {
    /// n, from 1 on.
    pub presentation: usize,
    /// Mean over the episodes, in `[0, 1]`.
    pub accuracy: f64,
    /// Half the width of its 95 % interval.
    pub ci95: f64,
}

/// A record over whole sequences, in which every image is a query and none is support, and the accuracy of each presentation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PresentationsRecord {
    /// Over all presentations.
    #[serde(flatten)]
    pub record: Record,
    /// From the first to the tenth.
    pub presentations: Vec<Presentation>,
}

/// Evaluates `learner` on the classes and with the ways that `evaluation` names; `progress` hears how many episodes are
/// done and says whether to go on.
///
/// # Errors
/// Too few classes, a class with fewer than ten examples, or a sequence that the method can't use.
pub fn evaluate(
    evaluation: &Evaluation,
    learner: &dyn Learner,
    mut progress: impl FnMut(u64) -> bool,
) -> Result<PresentationsRecord, Error> {
    let tasks = TaskRange {
        n_way: evaluation.tasks.n_way.clone(),
        n_shot: 1..=1,
        n_query: PRESENTATIONS - 1,
    };
    learner.check_task(tasks.largest(), 0)?;
    let sampler = Evaluation {
        tasks,
        ..evaluation.clone()
    }
    .sampler()?;
    let started = Instant::now();
    let mut shares: Vec<Vec<f64>> = Vec::new();
    let mut start = 0;
    while start < evaluation.episodes && progress(start) {
        let end = (start + CHUNK).min(evaluation.episodes);
        let chunk: Result<Vec<Vec<f64>>, Error> = (start..end)
            .into_par_iter()
            .map(|index| shares_right(learner, &sampler.episode(index)?, evaluation.norm))
            .collect();
        shares.extend(chunk?);
        start = end;
    }
    let of = |share: &dyn Fn(&Vec<f64>) -> f64| Accuracy::of(&shares.iter().map(share).collect::<Vec<_>>());
    let presentations = (0..PRESENTATIONS)
        .map(|n| {
            let accuracy = of(&|episode| episode[n]);
            Presentation {
                presentation: n + 1,
                accuracy: accuracy.mean,
                ci95: accuracy.ci95,
            }
        })
        .collect();
    let accuracy = of(&|episode| episode.iter().sum::<f64>() / PRESENTATIONS as f64);
    let seconds = started.elapsed().as_secs_f64();
    let record = Record {
        shot: 0,
        query: PRESENTATIONS,
        ..evaluation.record(learner, "presentations", accuracy, seconds)
    };
    Ok(PresentationsRecord {
        record,
        presentations,
    })
}

/// For each presentation the share of the classes that were recognised at it.
fn shares_right(learner: &dyn Learner, episode: &Episode, norm: Norm) -> Result<Vec<f64>, Error> {
    let sequence = sequence(learner, episode);
    let n_way = sequence.n_way;
    let logits = logits_on_host(learner.present(&sequence, norm)?);
    let mut shown = vec![0; n_way];
    let mut right = vec![0.0; PRESENTATIONS];
    for (row, &label) in logits.chunks_exact(n_way).zip(&sequence.labels) {
        if argmax(row) == label {
            right[shown[label]] += 1.0 / n_way as f64;
        }
        shown[label] += 1;
    }
    Ok(right)
}

/// All images of an episode in a random order, which is a pure function of the episode.
fn sequence(learner: &dyn Learner, episode: &Episode) -> Support {
    let device = learner.device();
    let labels = [episode.support_labels(), episode.query_labels()].concat();
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.shuffle(&mut random::stream(episode.fingerprint(), &[]));
    let places: Vec<i32> = order.iter().map(|&place| place as i32).collect();
    let images = Tensor::cat(
        vec![episode.support_on(device).images, episode.query_on(device)],
        0,
    );
    Support {
        images: images.select(0, Tensor::from_data(places.as_slice(), device)),
        labels: order.iter().map(|&place| labels[place]).collect(),
        n_way: episode.task.n_way,
    }
}
