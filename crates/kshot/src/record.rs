//! The record of an evaluation: what was measured, and under which protocol.

use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::augment::Augment;
use crate::data::{Dataset, Part};
use crate::error::Error;
use crate::eval::{self, Accuracy, Answered};
use crate::learner::Learner;
use crate::norm::{Norm, NormalisedBy};
use crate::sampler::{Sampler, TaskRange};
use crate::settings::Settings;

/// Test episodes are drawn below this seed and the evaluation's own.
const EVALUATION_SEED: u64 = 0x7465_7374;

/// What an evaluation says, in the words of `kshot eval --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The method.
    pub method: String,
    /// Its encoder.
    pub encoder: String,
    /// The dataset.
    pub data: String,
    /// The part of its classes: `test`.
    pub split: String,
    /// How the classes are divided into parts: `official`.
    pub partition: String,
    /// `episodes`, `alphabet`, `lake` or `presentations`.
    pub protocol: String,
    /// The policy of batch normalisation.
    pub norm: Norm,
    /// Whose statistics normalised under it; records of earlier versions don't say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalised_by: Option<NormalisedBy>,
    /// Classes per episode.
    pub way: usize,
    /// Labelled examples per class.
    pub shot: usize,
    /// Queries per class.
    pub query: usize,
    /// Episodes.
    pub episodes: usize,
    /// Seed of the episodes.
    pub seed: u64,
    /// Mean accuracy, in `[0, 1]`.
    pub accuracy: f64,
    /// Half the width of its 95 % interval.
    pub ci95: f64,
    /// Seconds that the evaluation took.
    pub seconds: f64,
    /// Episodes per second.
    pub episodes_per_second: f64,
}

/// An evaluation to be made.
#[derive(Clone)]
pub struct Evaluation {
    /// The method's name.
    pub method: String,
    /// The encoder's name.
    pub encoder: String,
    /// Where the episodes come from.
    pub dataset: Arc<dyn Dataset>,
    /// Which part of its classes.
    pub part: Part,
    /// Which tasks; ways and shots are single numbers.
    pub tasks: TaskRange,
    /// How many.
    pub episodes: u64,
    /// Seed of the episodes.
    pub seed: u64,
    /// The policy of batch normalisation.
    pub norm: Norm,
    /// Each episode from one alphabet, as in Lake's benchmark: its characters are harder to tell apart.
    pub within_group: bool,
}

impl Evaluation {
    /// The test that `settings` describe, on one part of `dataset`.
    ///
    /// # Errors
    /// None after [`Settings::resolve`].
    pub fn of(settings: &Settings, dataset: Arc<dyn Dataset>, part: Part) -> Result<Self, Error> {
        Ok(Self {
            method: settings.method.name.to_owned(),
            encoder: settings.encoder.name.to_owned(),
            dataset,
            part,
            tasks: settings.test_tasks()?,
            episodes: settings.core.integer("test-episodes") as u64,
            seed: settings.seed(),
            norm: settings.norm(),
            within_group: false,
        })
    }

    /// The same with each episode from one alphabet.
    #[must_use]
    pub fn within_groups(self) -> Self {
        Self {
            within_group: true,
            ..self
        }
    }

    /// The source of its episodes.
    ///
    /// # Errors
    /// Too few classes or examples.
    pub fn sampler(&self) -> Result<Sampler, Error> {
        let seed = self.seed ^ EVALUATION_SEED;
        let (dataset, tasks) = (self.dataset.clone(), self.tasks.clone());
        Ok(Sampler::new(
            dataset,
            self.part,
            tasks,
            seed,
            self.within_group,
            Augment::default(),
        )?)
    }

    /// Evaluates `learner`; `keep` says what else to keep of each answered episode, and `progress` hears how many
    /// episodes are done and says whether to go on.
    ///
    /// # Errors
    /// Too few classes or examples, or an episode that the method can't use.
    pub fn run<T: Send>(
        &self,
        learner: &dyn Learner,
        keep: impl Fn(&Answered) -> T + Sync,
        progress: impl FnMut(u64) -> bool,
    ) -> Result<(Record, Vec<T>), Error> {
        learner.check_task(self.tasks.largest(), 0)?;
        let sampler = self.sampler()?;
        let started = Instant::now();
        let keep = |answered: &Answered| (answered.accuracy(), keep(answered));
        let answers = eval::answers(learner, &sampler, self.episodes, self.norm, keep, progress)?;
        let (values, kept): (Vec<f64>, Vec<T>) = answers.into_iter().unzip();
        let seconds = started.elapsed().as_secs_f64();
        let accuracy = Accuracy::of(&values);
        let protocol = if self.within_group { "alphabet" } else { "episodes" };
        Ok((self.record(learner, protocol, accuracy, seconds), kept))
    }

    /// The record of the `accuracy` of `learner`, measured on its tasks in so many seconds.
    pub fn record(&self, learner: &dyn Learner, protocol: &str, accuracy: Accuracy, seconds: f64) -> Record {
        Record {
            method: self.method.clone(),
            encoder: self.encoder.clone(),
            data: self.dataset.name().to_owned(),
            split: self.part.name().to_owned(),
            partition: self.dataset.partition().to_owned(),
            protocol: protocol.to_owned(),
            norm: self.norm,
            normalised_by: Some(learner.normalised_by(self.norm)),
            way: *self.tasks.n_way.end(),
            shot: *self.tasks.n_shot.end(),
            query: self.tasks.n_query,
            episodes: accuracy.episodes,
            seed: self.seed,
            accuracy: accuracy.mean,
            ci95: accuracy.ci95,
            seconds,
            episodes_per_second: accuracy.episodes as f64 / seconds.max(1e-9),
        }
    }
}
