//! How a task is learned step by step: by a method's own rule, and by plain optimizers from the same starting point.
//!
//! The comparison that a learned rule asks for (S. Ravi, H. Larochelle, ICLR 2017): the LSTM meta-learner beside SGD and
//! Adam on the same learner. Each plain optimizer has the best of a few rates, chosen on validation classes by the
//! accuracy after the last step; the curves are of the test classes.

use std::time::Instant;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::data::Part;
use crate::episode::Episode;
use crate::error::Error;
use crate::eval::Accuracy;
use crate::inner::{Plain, Targets};
use crate::learner::{self, Learner};
use crate::norm::Norm;
use crate::record::{Evaluation, Record};
use crate::sampler::Sampler;

/// Rates among which each plain optimizer's is chosen.
const SGD_RATES: [f32; 7] = [1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001];
const ADAM_RATES: [f32; 7] = [0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001];
/// Validation episodes that choose a rate.
const RATE_EPISODES: u64 = 40;
/// Few enough episodes at a time to stop soon, enough to keep every thread busy.
const CHUNK: u64 = 16;

/// Where learning stands after a number of steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Steps that were taken.
    pub step: usize,
    /// Mean accuracy on the queries, in `[0, 1]`.
    pub accuracy: f64,
    /// Half the width of its 95 % interval.
    pub ci95: f64,
    /// Mean cross-entropy of the queries, in nats.
    pub loss: f64,
}

/// How learning goes by one rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// The method's name for its own rule, else `sgd` or `adam`.
    pub rule: String,
    /// The rate of a plain optimizer.
    pub rate: Option<f32>,
    /// From no step on.
    pub points: Vec<Point>,
}

/// A record, its accuracy that of the own rule after its last step, and the curve of every rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvesRecord {
    /// Of the own rule.
    #[serde(flatten)]
    pub record: Record,
    /// The own rule first.
    pub curves: Vec<Curve>,
}

/// Loss and accuracy of each episode after each step.
type Found = Vec<Vec<(f64, f64)>>;

/// Evaluates how `learner` learns the tasks of `evaluation`; `progress` hears which share of the work is done and says
/// whether to go on, and there is nothing where it ended the work early.
///
/// # Errors
/// [`Error::Setting`] for a method that doesn't learn in steps; too few classes or examples.
pub fn evaluate(
    evaluation: &Evaluation,
    learner: &dyn Learner,
    mut progress: impl FnMut(f64) -> bool,
) -> Result<Option<CurvesRecord>, Error> {
    let rates = SGD_RATES.map(|rate| Plain::Sgd { rate });
    let rates = rates
        .into_iter()
        .chain(ADAM_RATES.map(|rate| Plain::Adam { rate }));
    let work = (SGD_RATES.len() + ADAM_RATES.len()) as u64 * RATE_EPISODES + 3 * evaluation.episodes;
    let mut done = 0;
    let mut go_on = |more: u64| {
        done += more;
        progress(done as f64 / work as f64)
    };
    let started = Instant::now();
    learner.check_task(evaluation.tasks.largest(), 0)?;
    let (sampler, norm) = (evaluation.sampler()?, evaluation.norm);
    let Some(own) = follow(learner, &sampler, evaluation.episodes, norm, None, &mut go_on)? else {
        return Ok(None);
    };
    let seconds = started.elapsed().as_secs_f64();
    let steps = own.first().map_or(0, Vec::len).saturating_sub(1);
    let validation = Evaluation {
        part: Part::Val,
        ..evaluation.clone()
    }
    .sampler()?;
    let mut best: [Option<(Plain, f64)>; 2] = [None; 2];
    for plain in rates {
        let by = Some((plain, steps));
        let Some(found) = follow(learner, &validation, RATE_EPISODES, norm, by, &mut go_on)? else {
            return Ok(None);
        };
        let reached = points(&found).last().map_or(0.0, |point| point.accuracy);
        let best = &mut best[usize::from(matches!(plain, Plain::Adam { .. }))];
        if best.is_none_or(|(_, before)| reached > before) {
            *best = Some((plain, reached));
        }
    }
    let own = Curve {
        rule: evaluation.method.clone(),
        rate: None,
        points: points(&own),
    };
    let (mean, ci95) = own
        .points
        .last()
        .map_or((0.0, 1.0), |point| (point.accuracy, point.ci95));
    let accuracy = Accuracy {
        mean,
        ci95,
        episodes: evaluation.episodes as usize,
    };
    let record = evaluation.record(learner, "steps", accuracy, seconds);
    let mut curves = vec![own];
    for (plain, _) in best.into_iter().flatten() {
        let by = Some((plain, steps));
        let Some(found) = follow(learner, &sampler, evaluation.episodes, norm, by, &mut go_on)? else {
            return Ok(None);
        };
        let (rule, rate) = match plain {
            Plain::Sgd { rate } => ("sgd", rate),
            Plain::Adam { rate } => ("adam", rate),
        };
        curves.push(Curve {
            rule: rule.to_owned(),
            rate: Some(rate),
            points: points(&found),
        });
    }
    Ok(Some(CurvesRecord { record, curves }))
}

/// Follows episodes `0..episodes`; nothing when `go_on` ends it before the last.
fn follow(
    learner: &dyn Learner,
    sampler: &Sampler,
    episodes: u64,
    norm: Norm,
    by: Option<(Plain, usize)>,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<Option<Found>, Error> {
    let mut found: Found = Vec::new();
    let mut start = 0;
    while start < episodes {
        let end = (start + CHUNK).min(episodes);
        let chunk: Result<Found, Error> = (start..end)
            .into_par_iter()
            .map(|index| step_by_step(learner, &sampler.episode(index)?, norm, by))
            .collect();
        found.extend(chunk?);
        if !go_on(end - start) {
            return Ok(None);
        }
        start = end;
    }
    Ok(Some(found))
}

fn step_by_step(
    learner: &dyn Learner,
    episode: &Episode,
    norm: Norm,
    by: Option<(Plain, usize)>,
) -> Result<Vec<(f64, f64)>, Error> {
    let device = learner.device();
    let answers = learner
        .step_by_step(&episode.support_on(device), episode.query_on(device), norm, by)?
        .ok_or_else(|| Error::Setting {
            name: "protocol",
            problem:
                "this method doesn't learn a task in steps; take one that does, such as maml or lstm-learner"
                    .to_owned(),
        })?;
    let (labels, n_way) = (episode.query_labels(), episode.task.n_way);
    let answers = answers.iter();
    Ok(answers
        .map(|logits| {
            let loss = Targets::Labels(&labels).losses(1, n_way, logits)[0];
            (f64::from(loss), learner::accuracy(logits, n_way, &labels))
        })
        .collect())
}

/// Means over the episodes.
fn points(found: &Found) -> Vec<Point> {
    let steps = 0..found.first().map_or(0, Vec::len);
    steps
        .map(|step| {
            let accuracy = Accuracy::of(&found.iter().map(|episode| episode[step].1).collect::<Vec<_>>());
            Point {
                step,
                accuracy: accuracy.mean,
                ci95: accuracy.ci95,
                loss: found.iter().map(|episode| episode[step].0).sum::<f64>() / found.len() as f64,
            }
        })
        .collect()
}
