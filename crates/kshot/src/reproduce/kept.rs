//! Results of earlier tables that stand in for trainings whose run folders are elsewhere, or gone.

use std::path::PathBuf;

use super::earlier::{self, Earlier, Finished};
use super::outcome::{Outcome, Validation};
use super::plan::{Plan, Run, SEED, Trial};
use super::row::Measure;
use super::state::State;
use crate::report::Machine;
use crate::report::escape::{line, short, words};
use crate::report::numbers::count;

/// Options of a training's command that say where things lie, each with a word after it.
const PLACES: [&str; 2] = ["--data-dir", "--out"];

/// A training of an earlier table that ended, and its tests.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The command that trained it.
    pub command: String,
    /// Its run folder then.
    pub folder: PathBuf,
    /// At its end.
    pub state: State,
    /// Training episodes of the checkpoint that was tested.
    pub checkpoint: Option<u64>,
    /// Its validations, as far as the table has them.
    pub validations: Vec<Validation>,
    /// Where it was trained.
    pub machine: Machine,
    /// Those of the plan's tests that the table has.
    pub tests: Vec<(Trial, Outcome)>,
}

impl Plan {
    /// Lets the finished results of earlier tables stand in for trainings that are not at their end on disk; where several
    /// tables have a training, the one with more of its tests, or the first.
    ///
    /// Gives a note for each table with results that are of other trainings than the planned ones: those are left out.
    pub fn keep(&mut self, tables: &[Earlier]) -> Vec<String> {
        let mut notes = Vec::new();
        for table in tables {
            let mut left_out = Vec::new();
            for finished in &table.finished {
                let run = self.runs.iter_mut().find(|run| run.name == finished.name);
                let kept = match run {
                    None => Err("no such training is planned".to_owned()),
                    Some(run) => Kept::of(run, finished).map(|kept| run.prefer(kept)),
                };
                if let Err(why) = kept {
                    left_out.push(format!("{} ({why})", line(&short(&finished.name))));
                }
            }
            if !left_out.is_empty() {
                notes.push(format!(
                    "Results of {} that are not of the planned trainings are left out: {}.",
                    table.path.display(),
                    left_out.join("; ")
                ));
            }
        }
        notes
    }

    /// Selects the rows of which anything is there, on disk or kept, and those whose folders can't be told.
    pub fn select_what_is_there(&mut self) {
        let there: Vec<_> = self
            .runs
            .iter()
            .filter(|run| run.state().map_or(run.selected, |state| state.begun))
            .map(|run| run.row)
            .collect();
        for run in &mut self.runs {
            run.selected = there.iter().any(|row| std::ptr::eq(*row, run.row));
        }
    }
}

impl Run {
    fn prefer(&mut self, kept: Kept) {
        let before = self.kept.as_ref().map_or(0, |before| before.tests.len());
        if kept.tests.len() > before {
            self.kept = Some(kept);
        }
    }
}

impl Kept {
    /// `finished` as a result of `run`, or why it is none.
    fn of(run: &Run, finished: &Finished) -> Result<Self, String> {
        if finished.planned_episodes != run.episodes() {
            return Err(format!(
                "its plan has {} episodes, this one {}",
                count(finished.planned_episodes),
                count(run.episodes())
            ));
        }
        let (found, folder) = settings(&finished.command);
        let (planned, _) = settings(&run.command);
        if found != planned {
            let (found, planned) = first_difference(&found, &planned);
            return Err(format!("its command has {found} where the plan's has {planned}"));
        }
        let mut progress = finished.progress.clone();
        if finished.flat && progress.since_best == 0 {
            progress.since_best = run.patience();
        }
        let ended = run.ended(&progress);
        if ended.is_none() {
            return Err(format!(
                "it is not at its end after {} of {} episodes",
                count(progress.episode),
                count(run.episodes())
            ));
        }
        let tests: Vec<(Trial, Outcome)> = run
            .trials
            .iter()
            .filter_map(|trial| {
                let test = finished.tests.iter().find(|test| trial.is_earlier(test))?;
                Some((*trial, test.outcome.clone()))
            })
            .collect();
        if tests.is_empty() {
            return Err("none of its tests is planned".to_owned());
        }
        Ok(Self {
            command: finished.command.clone(),
            folder: folder.map_or_else(|| run.folder.clone(), PathBuf::from),
            state: State {
                progress,
                begun: true,
                ended,
                kept: true,
            },
            checkpoint: finished.checkpoint,
            validations: finished.validations.clone(),
            machine: finished.machine.clone(),
            tests,
        })
    }

    /// What came of `trial`.
    pub fn outcome(&self, trial: &Trial) -> Option<&Outcome> {
        self.tests
            .iter()
            .find(|(made, _)| made == trial)
            .map(|(_, outcome)| outcome)
    }
}

impl Trial {
    /// Whether `test` is this test.
    fn is_earlier(&self, test: &earlier::Test) -> bool {
        let outcome = &test.outcome;
        let sized = outcome.episodes as u64 == self.episodes && outcome.seed == SEED;
        test.column == self.measure.name()
            && test.norm == self.norm
            && test.query == self.query
            && (sized || self.measure == Measure::Lake)
    }
}

/// The words of a training's command without those that say where things lie, and the run folder that it names.
fn settings(command: &str) -> (Vec<String>, Option<String>) {
    let mut folder = None;
    let mut kept = Vec::new();
    let mut words = words(command).into_iter();
    while let Some(word) = words.next() {
        if !PLACES.contains(&word.as_str()) {
            kept.push(word);
            continue;
        }
        let place = words.next();
        if word == "--out" {
            folder = place;
        }
    }
    (kept, folder)
}

/// Where two commands part, with the option that a value belongs to.
fn first_difference(found: &[String], planned: &[String]) -> (String, String) {
    let at = found.iter().zip(planned).take_while(|(a, b)| a == b).count();
    let here = |words: &[String]| match words.get(at) {
        None => "nothing more".to_owned(),
        Some(word) => {
            let option = at.checked_sub(1).and_then(|before| words.get(before));
            let option = option.filter(|option| option.starts_with("--") && !word.starts_with("--"));
            let words: Vec<&str> = option.into_iter().chain([word]).map(String::as_str).collect();
            format!("`{}`", line(&short(&words.join(" "))))
        }
    };
    (here(found), here(planned))
}
