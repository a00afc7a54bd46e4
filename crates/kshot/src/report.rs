//! The report of a training: what a reader wants to see of it, as a page, as Markdown and as a few lines of text.
//!
//! [`Findings`] come out of the one pass over the test episodes that also gives the accuracy; [`Report::gather`]
//! adds three episodes, the embedding of a few classes, the trace and the settings. What it holds is plain data:
//! writing it needs no model.

pub(crate) mod axis;
pub(crate) mod chart;
mod classes;
mod embedding;
pub(crate) mod escape;
mod facts;
mod findings;
pub(crate) mod html;
mod markdown;
pub(crate) mod numbers;
pub mod pca;
mod picture;
mod samples;
mod text;

use std::path::Path;

pub use classes::HardPair;
pub use embedding::{Cluster, Embedding};
pub use facts::{Group, Machine, Setting};
pub use findings::{Findings, Kept, Pair};
pub use picture::{Look, Picture};
pub use samples::{Query, Row, Sample};

use crate::checkpoint::Progress;
use crate::error::Error;
use crate::learner::Learner;
use crate::norm::NormalisedBy;
use crate::record::{Evaluation, Record};
use crate::sampler::TaskRange;
use crate::settings::Settings;
use crate::trace::Line;
use numbers::{counted, duration};

/// What a report is made from.
pub struct Sources<'a> {
    /// The model that was tested.
    pub learner: &'a dyn Learner,
    /// How it was tested.
    pub evaluation: &'a Evaluation,
    /// What came of it.
    pub record: &'a Record,
    /// And what was noticed on the way.
    pub findings: &'a Findings,
    /// The run's settings.
    pub settings: &'a Settings,
    /// Progress at the checkpoint that was tested.
    pub progress: &'a Progress,
    /// The lines of the run's `trace.jsonl`, in order.
    pub trace: &'a [Line],
    /// The run folder, as the command that repeats the evaluation names it.
    pub folder: &'a Path,
}

/// The report of a training.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The result and its protocol.
    pub record: Record,
    /// Whose statistics normalised.
    pub normalised_by: NormalisedBy,
    /// Authors, year and title of the method's paper.
    pub paper: String,
    /// Test classes there are.
    pub classes: usize,
    /// The command that repeats the evaluation.
    pub command: String,
    /// Training episodes behind the checkpoint that was tested.
    pub checkpoint: u64,
    /// Whether that was the best one in validation.
    pub best: bool,
    /// Lowest, median and highest accuracy of a test episode, in `[0, 1]`.
    pub range: Option<[f64; 3]>,
    /// The lines of the trace.
    pub trace: Vec<Line>,
    /// The tasks of training: `20-way 1-shot`.
    pub train_task: String,
    /// The tasks of validation.
    pub val_task: String,
    /// Seconds of training, without validations.
    pub training_seconds: f64,
    /// The first test episodes.
    pub samples: Vec<Sample>,
    /// Some test classes in the plane.
    pub embedding: Option<Embedding>,
    /// The pairs of classes that were mixed up most, the hardest first.
    pub pairs: Vec<HardPair>,
    /// How many pairs were mixed up at all.
    pub mixed_up: usize,
    /// Every setting.
    pub settings: Vec<Group>,
    /// Where it was made.
    pub machine: Machine,
}

impl Report {
    /// Answers three test episodes again and embeds about 150 test images; everything else is at hand.
    ///
    /// # Errors
    /// An image that can't be read, or an episode that the method can't use.
    pub fn gather(sources: &Sources<'_>) -> Result<Self, Error> {
        let Sources {
            learner,
            evaluation,
            record,
            findings,
            settings,
            progress,
            trace,
            folder,
        } = *sources;
        let dataset = evaluation.dataset.as_ref();
        let sampler = evaluation.sampler()?;
        let (samples, look) = samples::gather(learner, &sampler, evaluation.episodes, evaluation.norm)?;
        let embedding = embedding::gather(
            learner,
            dataset,
            evaluation.part,
            evaluation.norm,
            evaluation.seed,
            look,
        )?;
        let trained = trace.iter().map(|line| match line {
            Line::Training { seconds, .. } | Line::Validation { seconds, .. } => *seconds,
        });
        Ok(Self {
            record: record.clone(),
            normalised_by: learner.normalised_by(evaluation.norm),
            paper: settings.method.paper.to_owned(),
            classes: dataset.classes(evaluation.part).len(),
            command: facts::command(record, folder),
            checkpoint: progress.episode,
            best: progress.best.is_some_and(|best| best.episode == progress.episode),
            range: findings.range(),
            trace: trace.to_vec(),
            train_task: task(&settings.train_tasks()),
            val_task: task(&settings.val_tasks()?),
            training_seconds: trained.fold(progress.seconds, f64::max),
            samples,
            embedding,
            pairs: classes::hard_pairs(findings, dataset, evaluation.part, look)?,
            mixed_up: findings.mixed_up,
            settings: facts::settings(settings),
            machine: Machine::here(settings.core.text("device")),
        })
    }

    /// One page that needs nothing else, below 2 MB whatever the dataset.
    pub fn to_html(&self) -> String {
        html::page(self)
    }

    /// The result, the training, the hardest pairs and the settings as Markdown.
    pub fn to_markdown(&self) -> String {
        markdown::page(self)
    }

    /// A few lines for a terminal.
    pub fn to_text(&self) -> String {
        text::summary(self)
    }

    /// What was done on what.
    fn title(&self) -> String {
        let record = &self.record;
        format!(
            "{} ({}) on {}, {}-way {}-shot",
            record.method, record.encoder, record.data, record.way, record.shot
        )
    }

    /// What the accuracy means.
    fn in_words(&self) -> String {
        let record = &self.record;
        format!(
            "Mean accuracy over {}: given {} of each of {} that were never trained on, \
             the share of the queries that it recognised. Guessing would give {:.0} %.",
            counted(record.episodes as u64, "test episode", "test episodes"),
            counted(record.shot as u64, "labelled example", "labelled examples"),
            counted(record.way as u64, "class", "classes"),
            100.0 / record.way.max(1) as f64,
        )
    }

    /// The policy of batch normalisation, and what it is here: `running (running averages)`.
    fn norm(&self) -> String {
        format!("{} ({})", self.record.norm, self.normalised_by.short())
    }

    /// How long the training was.
    fn training_in_words(&self) -> String {
        let episodes = self.trace.last().map_or(self.checkpoint, Line::episode);
        let best = if self.best {
            ", the best in validation,"
        } else {
            ""
        };
        let tested = match self.checkpoint {
            checkpoint if checkpoint == episodes => "the last checkpoint".to_owned(),
            checkpoint => format!("the checkpoint after {}", numbers::count(checkpoint)),
        };
        format!(
            "{} in {}; {tested}{best} was tested.",
            counted(episodes, "training episode", "training episodes"),
            duration(self.training_seconds)
        )
    }
}

fn task(tasks: &TaskRange) -> String {
    let range = |range: &std::ops::RangeInclusive<usize>| match (range.start(), range.end()) {
        (low, high) if low == high => low.to_string(),
        (low, high) => format!("{low}–{high}"),
    };
    format!("{}-way {}-shot", range(&tasks.n_way), range(&tasks.n_shot))
}

#[cfg(test)]
pub(crate) mod tests;
