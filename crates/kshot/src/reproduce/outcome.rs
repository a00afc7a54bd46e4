//! What the table says of a test and of a validation, wherever they were made.

use serde::{Deserialize, Serialize};

use super::tested::Tested;
use crate::presentations::Presentation;

/// A test that was made. What only a run folder or a later version's table knows is `None` where it isn't known.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Training episodes that were done then.
    pub trained: u64,
    /// Training episodes of the checkpoint that was tested: the best one in validation.
    pub checkpoint: u64,
    /// CRC-32 of its weights' file.
    pub weights: Option<u32>,
    /// The model's encoder.
    pub encoder: Option<String>,
    /// How the classes are divided into parts: `official`.
    pub partition: Option<String>,
    /// Mean accuracy, in `[0, 1]`.
    pub accuracy: f64,
    /// Half the width of its 95 % interval.
    pub ci95: f64,
    /// Test episodes.
    pub episodes: usize,
    /// Their seed.
    pub seed: u64,
    /// Seconds that the test took.
    pub seconds: Option<f64>,
    /// Accuracy by presentation, where that was the test.
    pub presentations: Vec<Presentation>,
}

impl From<Tested> for Outcome {
    fn from(tested: Tested) -> Self {
        let record = tested.record;
        Self {
            trained: tested.trained,
            checkpoint: tested.checkpoint,
            weights: Some(tested.weights),
            encoder: Some(record.encoder),
            partition: Some(record.partition),
            accuracy: record.accuracy,
            ci95: record.ci95,
            episodes: record.episodes,
            seed: record.seed,
            seconds: Some(record.seconds),
            presentations: tested.presentations,
        }
    }
}

/// A validation of a training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Training episodes done.
    pub episode: u64,
    /// Mean accuracy over the validation episodes, in `[0, 1]`.
    pub accuracy: f64,
    /// Half the width of its 95 % interval.
    pub ci95: f64,
}
