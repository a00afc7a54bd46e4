//! A `table.json` that was written before: the finished results in it, read and checked.
//!
//! Tables of earlier versions lack what is optional here; what later ones add is not looked at.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::json::{FINISHED, FLAT};
use super::outcome::{Outcome, Validation};
use crate::checkpoint::{Best, Progress};
use crate::error::Error;
use crate::norm::Norm;
use crate::presentations::Presentation;
use crate::report::Machine;
use crate::report::escape::{line, short};

/// Largest file that is read; the whole table with all curves has a few hundred KiB.
const LARGEST: u64 = 64 << 20;

/// A table that was written before.
#[derive(Debug)]
pub struct Earlier {
    /// Where it lies.
    pub path: PathBuf,
    /// Its trainings that have finished tests.
    pub(super) finished: Vec<Finished>,
}

/// A training that ended, and its tests.
#[derive(Debug)]
pub(super) struct Finished {
    pub name: String,
    pub command: String,
    pub planned_episodes: u64,
    /// How far it came; the validations since the best one are 0 where the table doesn't say.
    pub progress: Progress,
    /// Whether it ended by its patience.
    pub flat: bool,
    pub checkpoint: Option<u64>,
    pub validations: Vec<Validation>,
    pub machine: Machine,
    pub tests: Vec<Test>,
}

/// A test of the model of a training that ended.
#[derive(Debug)]
pub(super) struct Test {
    /// `5w1s`, `lake`, `presentations`.
    pub column: String,
    pub norm: Norm,
    pub query: usize,
    pub outcome: Outcome,
}

impl Earlier {
    /// Reads the table at `path`.
    ///
    /// # Errors
    /// A file that can't be read, that is too large, that is no such table, or that holds what can't be.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let io = |error| Error::io(path, error);
        let problem = |problem: String| Error::Results {
            path: path.to_owned(),
            problem: line(&problem),
        };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(io)?;
        file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > LARGEST {
            return Err(problem(format!("it is larger than {} MiB", LARGEST >> 20)));
        }
        let table: Content = serde_json::from_slice(&bytes).map_err(|error| problem(error.to_string()))?;
        Ok(Self {
            path: path.to_owned(),
            finished: table.finished().map_err(problem)?,
        })
    }
}

#[derive(Deserialize)]
struct Content {
    version: String,
    system: String,
    cores: usize,
    threads: usize,
    simd: String,
    data: String,
    trainings: Vec<Training>,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Training {
    name: String,
    command: String,
    planned_episodes: u64,
    episodes: u64,
    seconds: f64,
    ended: Option<String>,
    checkpoint: Option<u64>,
    #[serde(default)]
    updates: u64,
    val_accuracy: Option<f64>,
    best: Option<Best>,
    #[serde(default)]
    since_best: u64,
    #[serde(default)]
    validations: Vec<Validation>,
    machine: Option<Machine>,
}

#[derive(Deserialize)]
struct Row {
    training: String,
    column: String,
    norm: Norm,
    query: usize,
    status: String,
    trained_episodes: Option<u64>,
    checkpoint: Option<u64>,
    accuracy: Option<f64>,
    ci95: Option<f64>,
    episodes: Option<usize>,
    seed: Option<u64>,
    weights: Option<u32>,
    encoder: Option<String>,
    partition: Option<String>,
    test_seconds: Option<f64>,
    presentations: Option<Vec<Presentation>>,
}

impl Content {
    /// The trainings that have finished tests, in their order.
    fn finished(self) -> Result<Vec<Finished>, String> {
        if self.data != "omniglot" {
            return Err(format!(
                "its data are `{}`, expected `omniglot`",
                short(&self.data)
            ));
        }
        // The machine of trainings that don't say theirs.
        let machine = Machine {
            version: self.version,
            system: self.system,
            simd: self.simd,
            cores: self.cores,
            threads: self.threads,
            device: "flex".to_owned(),
        };
        let mut tests: BTreeMap<String, Vec<Test>> = BTreeMap::new();
        for (index, row) in self.rows.into_iter().enumerate() {
            if row.status != FINISHED {
                continue;
            }
            let training = row.training.clone();
            let test = row
                .test()
                .map_err(|problem| format!("row {}: {problem}", index + 1))?;
            tests.entry(training).or_default().push(test);
        }
        let mut finished = Vec::new();
        for training in self.trainings {
            if let Some(tests) = tests.remove(&training.name) {
                finished.push(training.finished(tests, &machine)?);
            }
        }
        match tests.into_keys().next() {
            Some(name) => Err(format!(
                "rows have a training {} that is not among the trainings",
                short(&name)
            )),
            None => Ok(finished),
        }
    }
}

impl Training {
    fn finished(self, tests: Vec<Test>, machine: &Machine) -> Result<Finished, String> {
        let problem = |problem: String| format!("training {}: {problem}", short(&self.name));
        let Some(ended) = &self.ended else {
            return Err(problem("has finished tests, but has not ended".to_owned()));
        };
        not_negative("seconds", self.seconds).map_err(problem)?;
        let accuracies = self
            .val_accuracy
            .into_iter()
            .chain(self.best.map(|best| best.accuracy));
        for accuracy in accuracies {
            share("accuracy", accuracy).map_err(problem)?;
        }
        for at in &self.validations {
            interval(at.accuracy, at.ci95).map_err(problem)?;
        }
        Ok(Finished {
            flat: ended == FLAT,
            progress: Progress {
                episode: self.episodes,
                updates: self.updates,
                seconds: self.seconds,
                val_accuracy: self.val_accuracy,
                best: self.best,
                since_best: self.since_best,
            },
            machine: self.machine.unwrap_or_else(|| machine.clone()),
            name: self.name,
            command: self.command,
            planned_episodes: self.planned_episodes,
            checkpoint: self.checkpoint,
            validations: self.validations,
            tests,
        })
    }
}

impl Row {
    fn test(self) -> Result<Test, String> {
        let missing = |name: &str| format!("it is finished, but has no `{name}`");
        let outcome = Outcome {
            trained: self.trained_episodes.ok_or_else(|| missing("trained_episodes"))?,
            checkpoint: self.checkpoint.ok_or_else(|| missing("checkpoint"))?,
            weights: self.weights,
            encoder: self.encoder,
            partition: self.partition,
            accuracy: self.accuracy.ok_or_else(|| missing("accuracy"))?,
            ci95: self.ci95.ok_or_else(|| missing("ci95"))?,
            episodes: self.episodes.ok_or_else(|| missing("episodes"))?,
            seed: self.seed.ok_or_else(|| missing("seed"))?,
            seconds: self.test_seconds,
            presentations: self.presentations.unwrap_or_default(),
        };
        interval(outcome.accuracy, outcome.ci95)?;
        not_negative("test_seconds", outcome.seconds.unwrap_or_default())?;
        for n in &outcome.presentations {
            interval(n.accuracy, n.ci95)?;
        }
        Ok(Test {
            column: self.column,
            norm: self.norm,
            query: self.query,
            outcome,
        })
    }
}

fn interval(accuracy: f64, ci95: f64) -> Result<(), String> {
    share("accuracy", accuracy)?;
    not_negative("ci95", ci95)
}

fn share(name: &str, value: f64) -> Result<(), String> {
    (0.0..=1.0)
        .contains(&value)
        .then_some(())
        .ok_or_else(|| format!("`{name}` is {value}, expected a share from 0 to 1"))
}

fn not_negative(name: &str, value: f64) -> Result<(), String> {
    (value >= 0.0)
        .then_some(())
        .ok_or_else(|| format!("`{name}` is {value}, expected no less than 0"))
}
