//! How far a training of the plan has come, read off its run folder or an earlier table.

use super::plan::Run;
use crate::checkpoint::{self, Progress};
use crate::error::Error;
use crate::run;
use crate::settings::{Layer, Settings};
use crate::train::Ended;

/// Settings in which a run may differ from the plan: none of them changes what is trained, tests have their own, and
/// whether a training has ended is judged by the plan's patience.
const FREE: [&str; 8] = [
    "data-dir",
    "device",
    "patience",
    "report-interval",
    "test-way",
    "test-shot",
    "test-query",
    "test-episodes",
];

/// How far a training has come.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Progress at the newest checkpoint; all zeros before the first one.
    pub progress: Progress,
    /// Whether there is a checkpoint.
    pub begun: bool,
    /// Why it is at its end, when it is.
    pub ended: Option<Ended>,
    /// Whether this is of an earlier table's result, which stands in for the run folder.
    pub kept: bool,
}

impl Run {
    /// Its state: that on disk, or that of a kept result where the run on disk is not at its end.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when the folder holds a run with other settings, or one that can't be read.
    pub fn state(&self) -> Result<State, Error> {
        let state = self.on_disk()?;
        Ok(match &self.kept {
            Some(kept) if state.ended.is_none() => kept.state.clone(),
            _ => state,
        })
    }

    fn on_disk(&self) -> Result<State, Error> {
        let checkpoints = self.folder.join(run::CHECKPOINTS);
        if checkpoint::list(&checkpoints).is_empty() {
            return Ok(State {
                progress: Progress::default(),
                begun: false,
                ended: None,
                kept: false,
            });
        }
        let (newest, _) = checkpoint::latest(&checkpoints)?;
        let different = different(&self.settings, &newest.settings)?;
        if !different.is_empty() {
            return Err(Error::Checkpoint {
                path: self.folder.clone(),
                problem: format!(
                    "holds a run that is not the planned one: {}; move it away, or choose another --out",
                    different.join(", ")
                ),
            });
        }
        Ok(State {
            ended: self.ended(&newest.progress),
            progress: newest.progress,
            begun: true,
            kept: false,
        })
    }

    /// Why the training is at its end at `progress`, when it is.
    pub(super) fn ended(&self, progress: &Progress) -> Option<Ended> {
        let patience = self.patience();
        if progress.episode >= self.episodes() {
            Some(Ended::Complete)
        } else {
            (patience > 0 && progress.since_best >= patience).then_some(Ended::Patience)
        }
    }

    /// Validations without a better one after which the training ends; 0 for none.
    pub(super) fn patience(&self) -> u64 {
        self.settings.core.integer("patience") as u64
    }
}

/// The settings of a run that are not those of the plan, in words.
fn different(plan: &Settings, found: &Layer) -> Result<Vec<String>, Error> {
    let (plan, found) = (plan.layer(), Settings::resolve(&[found])?.layer());
    Ok(plan
        .iter()
        .filter(|(name, value)| !FREE.contains(&name.as_str()) && value.as_str() != "auto")
        .filter_map(|(name, value)| match found.get(name) {
            Some(found) if found == value => None,
            found => Some(format!(
                "{name} is {}, planned is {value}",
                found.map_or("not set", String::as_str)
            )),
        })
        .collect())
}
