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
    /// A query's score does not depend on the other queries: running averages from training normalise, or what the
    /// method has in their place ([`NormalisedBy`]).
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

/// Whose statistics really normalise: what a model makes of a [`Norm`], as [`Learner::normalised_by`] says it.
///
/// [`Learner::normalised_by`]: crate::learner::Learner::normalised_by
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormalisedBy {
    /// No layer has statistics: both policies are the same.
    Nothing,
    /// Running averages from training, for support set and queries alike.
    RunningAverages,
    /// The support set by its own statistics, queries by running averages from training.
    QueryAverages,
    /// The support set by its own statistics, each query by those of the support set together with it.
    SupportAndQuery,
    /// The support set by its own statistics, queries by averages of these over the steps on it.
    SupportSteps,
    /// The support set by its own statistics, the query set by its own.
    Episode,
    /// Models that answer together, not all in the same way.
    Mixed,
}

impl NormalisedBy {
    /// In a few words.
    pub const fn short(self) -> &'static str {
        match self {
            Self::Nothing => "no normalisation",
            Self::RunningAverages => "running averages",
            Self::QueryAverages => "queries by running averages",
            Self::SupportAndQuery => "each query with the support set",
            Self::SupportSteps => "queries by averages over the support set's steps",
            Self::Episode => "the episode's own statistics",
            Self::Mixed => "each model in its own way",
        }
    }

    /// In full sentences, with what follows for comparisons.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Nothing => {
                "Normalisation: none, no layer of the model has statistics. No query sees another one: each is scored as it \
                 would be alone."
            }
            Self::RunningAverages => {
                "Normalisation: running averages from training. No query sees another one: each is scored as it would be alone."
            }
            Self::QueryAverages => {
                "Normalisation: the support set by its own statistics, queries by the running averages of what training met \
                 among queries. No query sees another one: each is scored as it would be alone."
            }
            Self::SupportAndQuery => {
                "Normalisation: the support set by its own statistics, each query by those of the support set together with \
                 it. No query sees another one: each is scored as it would be alone."
            }
            Self::SupportSteps => {
                "Normalisation: the support set by its own statistics, queries by averages of these over the steps on it, \
                 which are forgotten after the task. No query sees another one: each is scored as it would be alone."
            }
            Self::Episode => {
                "Normalisation: the statistics of each episode's own images. This is transductive: a query's score depends on \
                 the other queries of its episode. Compare it only with numbers that were measured the same way."
            }
            Self::Mixed => {
                "Normalisation: each of the models that answer together in its own way, which its own evaluation says."
            }
        }
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
