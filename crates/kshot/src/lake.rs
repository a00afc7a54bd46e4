//! Lake's one-shot benchmark as an evaluation: 20 fixed tasks, 20-way 1-shot, each within one alphabet.
//!
//! B. Lake, R. Salakhutdinov, J. Tenenbaum: *Human-level concept learning through probabilistic program
//! induction*, Science 350, 2015. One drawer draws the 20 support pictures of a task, another the 20
//! pictures to be classified; 400 trials in all. People err on 4.5 % of them.

use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::data::ImageShape;
use crate::data::omniglot::lake::{OneShotRun, one_shot_runs};
use crate::episode::{Episode, TaskShape};
use crate::error::Error;
use crate::eval::{self, Accuracy};
use crate::learner::Learner;
use crate::norm::Norm;
use crate::record::Record;

/// The error of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunError {
    /// `run01`.
    pub run: String,
    /// Share of its 20 trials that went wrong, in `[0, 1]`.
    pub error: f64,
}

/// The benchmark's result: a record over the 20 runs as episodes, and each run's error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LakeRecord {
    /// Accuracy over all 400 trials; the interval is over runs.
    #[serde(flatten)]
    pub record: Record,
    /// Share of the 400 trials that went wrong, in `[0, 1]`.
    pub error: f64,
    /// Each run's error.
    pub runs: Vec<RunError>,
}

/// Evaluates `learner` on the runs below `data_dir`.
///
/// # Errors
/// Runs that are missing or damaged, images that are not square and grey, or a task that the method can't use.
pub fn evaluate(
    learner: &dyn Learner,
    (method, encoder): (&str, &str),
    data_dir: &Path,
    image: ImageShape,
    norm: Norm,
) -> Result<LakeRecord, Error> {
    if image.channels != 1 || image.height != image.width {
        return Err(Error::Setting {
            name: "protocol",
            problem: format!("lake has square grey drawings, the model was trained on {image} images"),
        });
    }
    let started = Instant::now();
    let mut runs = Vec::new();
    for run in one_shot_runs(data_dir, image.height)? {
        let answered = eval::answer(learner, episode(&run, image), norm)?;
        runs.push(RunError {
            run: run.name,
            error: 1.0 - answered.accuracy(),
        });
    }
    let values: Vec<f64> = runs.iter().map(|run| 1.0 - run.error).collect();
    let accuracy = Accuracy::of(&values);
    let seconds = started.elapsed().as_secs_f64();
    let record = Record {
        method: method.to_owned(),
        encoder: encoder.to_owned(),
        data: "omniglot".to_owned(),
        split: "test".to_owned(),
        partition: "official".to_owned(),
        protocol: "lake".to_owned(),
        norm,
        normalised_by: Some(learner.normalised_by(norm)),
        way: 20,
        shot: 1,
        query: 1,
        episodes: accuracy.episodes,
        seed: 0,
        accuracy: accuracy.mean,
        ci95: accuracy.ci95,
        seconds,
        episodes_per_second: accuracy.episodes as f64 / seconds.max(1e-9),
    };
    Ok(LakeRecord {
        record,
        error: 1.0 - accuracy.mean,
        runs,
    })
}

/// A run as an episode: its test drawings in the order of their classes.
fn episode(run: &OneShotRun, image: ImageShape) -> Episode {
    let n_way = run.training.len();
    let mut order: Vec<usize> = (0..run.test.len()).collect();
    order.sort_by_key(|&item| run.answers[item]);
    Episode {
        task: TaskShape {
            n_way,
            n_shot: 1,
            n_query: 1,
        },
        image,
        support: run.training.concat(),
        query: order
            .iter()
            .flat_map(|&item| run.test[item].iter().copied())
            .collect(),
        classes: (0..n_way).collect(),
        support_examples: vec![0; n_way],
        query_examples: order,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_follow_the_order_of_their_classes() {
        let image = ImageShape::square(1, 1);
        let run = OneShotRun {
            name: "run01".to_owned(),
            training: vec![vec![0.1], vec![0.2], vec![0.3]],
            test: vec![vec![0.25], vec![0.35], vec![0.15]],
            answers: vec![1, 2, 0],
        };
        let episode = episode(&run, image);
        assert_eq!(episode.support, [0.1, 0.2, 0.3]);
        assert_eq!(episode.query, [0.15, 0.25, 0.35]);
        assert_eq!(episode.query_labels(), [0, 1, 2]);
    }
}
