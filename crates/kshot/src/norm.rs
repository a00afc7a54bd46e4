//! Whose statistics batch normalisation uses, and how a forward pass carries them.
//!
//! Published numbers differ by points between the two policies, so the choice is explicit
//! everywhere: on the command line, in the code and in every report.

use burn::module::ParamId;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// The batch-normalisation policy of an evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// Running averages from training: a query's score does not depend on the other queries.
    #[default]
    Running,
    /// The statistics of the images at hand: the support set by its own, the query set by its own.
    /// Transductive: a query's score depends on the other queries of its episode.
    Episode,
}

impl Norm {
    /// `running` or `episode`.
    pub const fn name(self) -> &'static str {
        match self {
            Norm::Running => "running",
            Norm::Episode => "episode",
        }
    }
}

impl std::fmt::Display for Norm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What a forward pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Batch statistics, which the pass also records for the running averages.
    Train,
    /// Nothing is recorded.
    Evaluate(Norm),
}

/// One forward pass: its phase, and the batch statistics it met on the way.
///
/// Encoders push what they saw; the training loop folds it into the running averages after the
/// step. Nothing is changed behind `&self`.
#[derive(Debug)]
pub struct Pass {
    phase: Phase,
    statistics: Vec<(ParamId, Tensor<1>)>,
}

impl Pass {
    /// A training pass.
    pub fn train() -> Self {
        Self {
            phase: Phase::Train,
            statistics: Vec::new(),
        }
    }

    /// An evaluation pass under `norm`.
    pub fn evaluate(norm: Norm) -> Self {
        Self {
            phase: Phase::Evaluate(norm),
            statistics: Vec::new(),
        }
    }

    /// Whether the running averages normalise (else the batch's own statistics do).
    pub fn uses_running(&self) -> bool {
        self.phase == Phase::Evaluate(Norm::Running)
    }

    /// Notes that the running average `id` should move towards `observed`; ignored outside training.
    pub fn record(&mut self, id: ParamId, observed: Tensor<1>) {
        if self.phase == Phase::Train {
            self.statistics.push((id, observed));
        }
    }

    /// The observations, in the order in which they were made.
    pub fn into_statistics(self) -> Vec<(ParamId, Tensor<1>)> {
        self.statistics
    }
}
