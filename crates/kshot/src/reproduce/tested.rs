//! `evaluations.json` in a run folder: the evaluations that were made, so that none is made twice.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::plan::{SEED, Trial};
use super::row::{Measure, W5S1};
use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::presentations::Presentation;
use crate::record::Record;
use crate::run;

const FILE: &str = "evaluations.json";

/// An evaluation and the model that it was made on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tested {
    /// Training episodes that were done then.
    pub trained: u64,
    /// Training episodes of the checkpoint that was tested: the best one in validation.
    pub checkpoint: u64,
    /// CRC-32 of its weights' file.
    pub weights: u32,
    /// What came of it.
    #[serde(flatten)]
    pub record: Record,
    /// Accuracy by presentation, where that was the test.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub presentations: Vec<Presentation>,
}

/// The model that a run means at present.
pub struct Model {
    /// Its checkpoint.
    pub checkpoint: Checkpoint,
    /// Where it lies.
    pub path: PathBuf,
    /// CRC-32 of its weights' file.
    pub weights: u32,
}

impl Model {
    /// That of the run in `folder`.
    ///
    /// # Errors
    /// Nothing readable there.
    pub fn of(folder: &Path) -> Result<Self, Error> {
        let (checkpoint, path, _) = run::open(folder)?;
        let file = path.join("weights.safetensors");
        let bytes = fs::read(&file).map_err(|error| Error::io(&file, error))?;
        Ok(Self {
            checkpoint,
            path,
            weights: crc32fast::hash(&bytes),
        })
    }
}

impl Trial {
    /// Whether `record` is of this test.
    pub fn is(&self, record: &Record) -> bool {
        let norm = record.norm == self.norm;
        let sized = record.split == "test" && record.episodes as u64 == self.episodes && record.seed == SEED;
        match self.measure {
            Measure::Lake => norm && record.protocol == "lake",
            Measure::Presentations => {
                norm && record.protocol == "presentations" && record.way == W5S1.way && sized
            }
            Measure::Task(column) => {
                norm && record.protocol == "episodes"
                    && (record.way, record.shot, record.query) == (column.way, column.shot, self.query)
                    && sized
            }
        }
    }
}

/// The evaluations of the run in `folder`; none where there is no file or it can't be read, for they can be made again.
pub fn read(folder: &Path) -> Vec<Tested> {
    fs::read(folder.join(FILE))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

/// Adds an evaluation to those of the run in `folder`, in the place of an earlier one of the same test.
///
/// # Errors
/// [`Error::Io`].
pub fn keep(folder: &Path, trial: &Trial, tested: Tested) -> Result<(), Error> {
    let mut all = read(folder);
    all.retain(|before| !trial.is(&before.record));
    all.push(tested);
    let bytes =
        serde_json::to_vec_pretty(&all).map_err(|error| Error::io(folder.join(FILE), error.into()))?;
    run::write_file(folder, FILE, &bytes)
}

/// The test that a finished run's `report.json` records.
pub fn reported(folder: &Path) -> Option<Record> {
    let bytes = fs::read(folder.join("report.json")).ok()?;
    serde_json::from_slice(&bytes).ok()
}
