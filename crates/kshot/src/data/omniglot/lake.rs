//! Lake's one-shot classification benchmark: 20 runs of 20-way one-shot classification within one alphabet each, 400
//! trials in all, as the authors publish them (`all_runs.zip`, here also `one_shot_runs.zip`, or either unpacked).
//!
//! A run is a folder `runNN` with `training/classMM.png`, one drawing of each of 20 characters by one person,
//! `test/itemMM.png`, the same characters drawn by another, and `class_labels.txt`, whose lines name a test drawing and
//! the training drawing of the same character.

use std::collections::BTreeMap;
use std::path::Path;

use super::drawings::{MAX_PNG, locate};
use super::{SIDES, drawing, option};
use crate::data::archive::{Archive, Entry};
use crate::data::{DataError, pixels};

/// Names under which the benchmark is found, without `.zip`.
const STEMS: [&str; 2] = ["one_shot_runs", "all_runs"];
/// Runs, and drawings on each side of a run.
const N_RUNS: usize = 20;
const N_WAY: usize = 20;
const LABELS: &str = "class_labels.txt";
/// Longest `class_labels.txt` that is read, in bytes.
const MAX_LABELS: u64 = 1 << 16;

/// One 20-way one-shot task.
#[derive(Clone, Debug, PartialEq)]
pub struct OneShotRun {
    /// `run01`.
    pub name: String,
    /// One drawing of each class: 20 images `[size, size]`, ink 1 and paper 0.
    pub training: Vec<Vec<f32>>,
    /// The drawings to classify: 20 images `[size, size]`.
    pub test: Vec<Vec<f32>>,
    /// For each test drawing the index of its class in `training`.
    pub answers: Vec<usize>,
}

/// The 20 runs in order, from `data_dir/omniglot` or `data_dir` itself, drawings scaled to `size` as
/// [`omniglot`](super) scales its own.
///
/// # Errors
/// Runs that are missing, incomplete or damaged, or a size outside 8..=512.
pub fn one_shot_runs(data_dir: &Path, size: usize) -> Result<Vec<OneShotRun>, DataError> {
    if !SIDES.contains(&size) {
        return Err(option(format!(
            "images have 8 to 512 pixels a side, asked for {size}"
        )));
    }
    let path = STEMS.iter().find_map(|stem| locate(data_dir, stem)).ok_or_else(|| DataError::Missing {
        dataset: "omniglot one-shot runs".to_owned(),
        path: data_dir.join("omniglot").join("all_runs.zip"),
        hint: "get all_runs.zip from python/one-shot-classification of https://github.com/brendenlake/omniglot, and \
               set --data-dir (or KSHOT_DATA) to the folder that holds omniglot/all_runs.zip or the same unzipped"
            .to_owned(),
    })?;
    let archive = Archive::open(&path, |name| name.ends_with(".png") || name.ends_with(LABELS))?;
    let mut runs: BTreeMap<&str, Run<'_>> = BTreeMap::new();
    for entry in archive.entries() {
        let mut parts = entry.name.rsplit('/');
        let file = parts.next().unwrap_or_default();
        let folder = if file == LABELS {
            LABELS
        } else {
            parts.next().unwrap_or_default()
        };
        let Some(run) = parts.next().filter(|run| run.starts_with("run")) else {
            continue;
        };
        let run = runs.entry(run).or_default();
        match folder {
            LABELS => run.labels = Some(entry),
            "training" => run.training.push(entry),
            "test" => run.test.push(entry),
            _ => {}
        }
    }
    if runs.len() != N_RUNS {
        return Err(DataError::Damaged {
            path,
            problem: format!(
                "expected the {N_RUNS} runs run01 to run20, found {}; get the published file",
                runs.len()
            ),
        });
    }
    runs.into_iter()
        .map(|(name, run)| run.read(name, &archive, size))
        .collect()
}

/// The files of a run, sorted by name.
#[derive(Default)]
struct Run<'a> {
    training: Vec<&'a Entry>,
    test: Vec<&'a Entry>,
    labels: Option<&'a Entry>,
}

impl Run<'_> {
    fn read(&self, name: &str, archive: &Archive, size: usize) -> Result<OneShotRun, DataError> {
        let counts = (self.training.len(), self.test.len());
        let Some(labels) = self.labels.filter(|_| counts == (N_WAY, N_WAY)) else {
            let labels = if self.labels.is_some() { "" } else { "no " };
            return Err(DataError::Damaged {
                path: archive.path().join(name),
                problem: format!(
                    "expected {N_WAY} training drawings, {N_WAY} test drawings and {LABELS}, found {}, {} and \
                     {labels}{LABELS}; get the published file",
                    counts.0, counts.1
                ),
            });
        };
        let images = |entries: &[&Entry]| -> Result<Vec<_>, _> {
            entries.iter().map(|entry| image(archive, entry, size)).collect()
        };
        Ok(OneShotRun {
            name: name.to_owned(),
            training: images(&self.training)?,
            test: images(&self.test)?,
            answers: self.answers(archive, labels)?,
        })
    }

    fn answers(&self, archive: &Archive, labels: &Entry) -> Result<Vec<usize>, DataError> {
        let path = archive.path_of(labels);
        let damaged = |problem: String| DataError::Damaged {
            path: path.clone(),
            problem,
        };
        let text = archive.read(labels, MAX_LABELS)?;
        let text = String::from_utf8(text)
            .map_err(|_| damaged("not UTF-8 text; get the published file".to_owned()))?;
        let find = |entries: &[&Entry], file: &str| {
            let name = |path: &str| path.rsplit('/').next().map(str::to_owned);
            entries.iter().position(|entry| name(&entry.name) == name(file))
        };
        let mut answers = vec![None; self.test.len()];
        for (number, line) in text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
        {
            let mut words = line.split_whitespace();
            let pair = (words.next(), words.next(), words.next());
            let found = match pair {
                (Some(item), Some(class), None) => find(&self.test, item).zip(find(&self.training, class)),
                _ => None,
            };
            let (item, class) = found.ok_or_else(|| {
                damaged(format!(
                    "line {}: expected a test drawing and a training drawing of this run, found `{}`; get the published file",
                    number + 1,
                    line.trim()
                ))
            })?;
            answers[item] = Some(class);
        }
        let answered = answers.iter().flatten().count();
        answers.into_iter().collect::<Option<_>>().ok_or_else(|| {
            damaged(format!(
                "names a class for {answered} of {N_WAY} test drawings; get the published file"
            ))
        })
    }
}

fn image(archive: &Archive, entry: &Entry, size: usize) -> Result<Vec<f32>, DataError> {
    let mut ink = vec![0; size * size];
    drawing::decode(
        &archive.read(entry, MAX_PNG)?,
        &archive.path_of(entry),
        size,
        &mut ink,
    )?;
    Ok(ink.into_iter().map(pixels::unit).collect())
}

#[cfg(test)]
#[path = "lake_tests.rs"]
mod tests;
