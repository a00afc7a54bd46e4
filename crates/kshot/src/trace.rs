//! `trace.jsonl`: one line per report interval and per validation of a training.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::files;

/// One line of the trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// A validation.
    Validation {
        /// Training episodes done.
        episode: u64,
        /// Mean accuracy over the validation episodes.
        val_accuracy: f64,
        /// Half the width of its 95 % interval.
        val_ci95: f64,
        /// Seconds of training so far.
        seconds: f64,
    },
    /// The training episodes since the line before.
    Training {
        /// Training episodes done.
        episode: u64,
        /// Mean training loss.
        loss: f64,
        /// Mean training accuracy.
        accuracy: f64,
        /// Learning rate of the last update.
        lr: f64,
        /// Images that went through the model per second.
        images_per_second: f64,
        /// Seconds of training so far.
        seconds: f64,
    },
}

impl Line {
    /// Training episodes done at this line.
    pub fn episode(&self) -> u64 {
        match self {
            Self::Training { episode, .. } | Self::Validation { episode, .. } => *episode,
        }
    }
}

/// Appends to a trace.
pub struct Trace {
    path: PathBuf,
    file: File,
}

impl Trace {
    /// Opens the trace at `path` and drops its lines after `episode`, which will be written again.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(path: &Path, episode: u64) -> Result<Self, Error> {
        let mut text = String::new();
        for line in read(path).into_iter().filter(|line| line.episode() <= episode) {
            text.push_str(&to_text(&line));
        }
        files::write_atomically(path, text.as_bytes())?;
        let file = OpenOptions::new()
            .append(true)
            .open(path)
            .map_err(|error| Error::io(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Adds a line.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn push(&mut self, line: &Line) -> Result<(), Error> {
        self.file
            .write_all(to_text(line).as_bytes())
            .map_err(|error| Error::io(&self.path, error))
    }
}

/// The readable lines of a trace; none when there is no file.
pub fn read(path: &Path) -> Vec<Line> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn to_text(line: &Line) -> String {
    serde_json::to_string(line)
        .map(|text| text + "\n")
        .unwrap_or_default()
}
