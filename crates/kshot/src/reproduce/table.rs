//! The table: published numbers and ours beside them, as far as ours are there.

use std::path::Path;

use super::kept::Kept;
use super::outcome::{Outcome, Validation};
use super::plan::{Plan, Protocol, Run, TEST_EPISODES, Trial};
use super::row::{COLUMNS, Measure, Row, Test};
use super::state::State;
use super::tested::{self, Model};
use crate::error::Error;
use crate::norm::{Norm, NormalisedBy};
use crate::report::Machine;
use crate::trace::{self, Line};
use crate::train::Ended;

/// The table.
pub struct Table {
    /// Share of the planned episodes that its trainings and tests have.
    pub scale: f64,
    /// Test episodes of each number.
    pub test_episodes: u64,
    /// Where it was made.
    pub machine: Machine,
    /// What its reader should know, a sentence each.
    pub notes: Vec<String>,
    /// The rows.
    pub forms: Vec<Form>,
    /// The trainings behind it.
    pub trainings: Vec<Trained>,
}

/// A row: a method in one form.
pub struct Form {
    /// `matching`.
    pub method: &'static str,
    /// Authors, year, title.
    pub paper: &'static str,
    /// What was printed, and what is planned.
    pub row: &'static Row,
    /// Our lines beside it: each test of each protocol.
    pub ours: Vec<Ours>,
}

/// One of our lines of a row.
pub struct Ours {
    /// Under which protocol.
    pub protocol: Protocol,
    /// The policy of batch normalisation.
    pub norm: Norm,
    /// Whose statistics normalise under it.
    pub normalised_by: NormalisedBy,
    /// In the order of [`COLUMNS`]; `None` where nothing is planned.
    pub cells: [Option<Cell>; 4],
    /// Lake's benchmark, under the strict protocol.
    pub lake: Option<Cell>,
    /// Accuracy by presentation, where the paper has it.
    pub presentations: Option<Cell>,
}

/// A number of ours, or why there is none yet.
pub struct Cell {
    /// The test.
    pub trial: Trial,
    /// Index of the training in the table's trainings.
    pub training: usize,
    /// How far it is.
    pub status: Status,
    /// What came of the newest test, and after which training.
    pub tested: Option<Outcome>,
    /// The command that makes the test.
    pub command: String,
}

/// How far a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Its training has not begun.
    Untrained,
    /// There is a model, but no test of it.
    Untested,
    /// A model whose training had not ended was tested.
    Partial,
    /// The model of a training that ended was tested.
    Finished,
}

/// A training behind the table.
pub struct Trained {
    /// Its folder's name.
    pub name: String,
    /// The method.
    pub method: &'static str,
    /// Under which protocol.
    pub protocol: Protocol,
    /// The command.
    pub command: String,
    /// How far it has come.
    pub state: State,
    /// Planned training episodes.
    pub episodes: u64,
    /// Planned minutes of training.
    pub minutes: f64,
    /// `20-way 1-shot`: the tasks of its validations.
    pub val_task: String,
    /// Its validations.
    pub validations: Vec<Validation>,
    /// Training episodes of the checkpoint that is tested, where there is one.
    pub checkpoint: Option<u64>,
    /// Where it was trained: this machine, or the one that an earlier table names. `None` before it has begun.
    pub machine: Option<Machine>,
}

/// What is there of a training.
enum Source<'a> {
    /// Nothing.
    Nothing,
    /// A run folder with a model.
    Folder(Model),
    /// The result in an earlier table.
    Earlier(&'a Kept),
}

impl<'a> Source<'a> {
    fn of(run: &'a Run, state: &State) -> Result<Self, Error> {
        Ok(match &run.kept {
            Some(kept) if state.kept => Self::Earlier(kept),
            _ if state.begun => Self::Folder(Model::of(&run.folder)?),
            _ => Self::Nothing,
        })
    }
}

impl Table {
    /// Reads what is there of the trainings that were asked for, that have begun, or that an earlier table has finished.
    ///
    /// # Errors
    /// A selected run folder that holds something else, or that can't be read.
    pub fn gather(plan: &Plan, notes: Vec<String>) -> Result<Self, Error> {
        let mut table = Self {
            scale: plan.scale,
            test_episodes: plan
                .runs
                .iter()
                .flat_map(|run| &run.trials)
                .find(|trial| trial.measure.column().is_some())
                .map_or(TEST_EPISODES, |trial| trial.episodes),
            machine: Machine::here("flex"),
            notes,
            forms: Vec::new(),
            trainings: Vec::new(),
        };
        let mut rest = &plan.runs[..];
        while let Some(first) = rest.first() {
            let same = |run: &Run| std::ptr::eq(run.row, first.row);
            let length = rest.iter().take_while(|run| same(run)).count();
            let (runs, after) = rest.split_at(length);
            rest = after;
            table.add(runs)?;
        }
        table.note_missing_tests();
        Ok(table)
    }

    /// Adds the row that `runs` serve.
    fn add(&mut self, runs: &[Run]) -> Result<(), Error> {
        let mut states = Vec::new();
        for run in runs {
            match run.state() {
                Ok(state) => states.push(state),
                Err(error) if run.selected => return Err(error),
                // Another plan's run; the table is of those asked for.
                Err(_) => match &run.kept {
                    Some(kept) => states.push(kept.state.clone()),
                    None => return Ok(()),
                },
            }
        }
        if !runs[0].selected && !states.iter().any(|state| state.begun) {
            return Ok(());
        }
        let first = self.trainings.len();
        let mut sources = Vec::new();
        for (run, state) in runs.iter().zip(states) {
            let source = Source::of(run, &state)?;
            self.trainings
                .push(Trained::of(run, state, &source, &self.machine)?);
            sources.push(source);
        }
        let mut ours = Vec::new();
        for protocol in Protocol::ALL {
            let Some(model) = runs.iter().find(|run| run.protocol == protocol) else {
                continue;
            };
            for test in protocol.setup(runs[0].row).tests {
                let cell = |measure| {
                    let (at, run, trial) = find(runs, protocol, test, measure)?;
                    let trained = &self.trainings[first + at];
                    Some(Cell::of(run, trial, first + at, &trained.state, &sources[at]))
                };
                ours.push(Ours {
                    protocol,
                    norm: test.norm,
                    normalised_by: model.normalised_by(test.norm)?,
                    cells: COLUMNS.map(|column| cell(Measure::Task(column))),
                    lake: cell(Measure::Lake),
                    presentations: cell(Measure::Presentations),
                });
            }
        }
        // A protocol without trainings has no line.
        ours.retain(|line| line.cells.iter().any(Option::is_some));
        self.forms.push(Form {
            method: runs[0].method.name,
            paper: runs[0].method.paper,
            row: runs[0].row,
            ours,
        });
        Ok(())
    }

    /// Says which tests of kept trainings no earlier table has: without the model they can't be made.
    fn note_missing_tests(&mut self) {
        let mut notes = Vec::new();
        for (index, training) in self.trainings.iter().enumerate() {
            let missing: Vec<String> = self
                .cells()
                .filter(|cell| cell.training == index && training.state.kept && cell.tested.is_none())
                .map(|cell| cell.trial.measure.name())
                .collect();
            if !missing.is_empty() {
                notes.push(format!(
                    "{} is from an earlier table that lacks its tests {}; they need its run folder, or a training without that table.",
                    training.name,
                    missing.join(", ")
                ));
            }
        }
        self.notes.extend(notes);
    }

    /// Whether every number is there, of trainings that ended.
    pub fn is_finished(&self) -> bool {
        self.cells().all(|cell| cell.status == Status::Finished)
    }

    /// Every cell of ours.
    pub fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.forms.iter().flat_map(|form| &form.ours).flat_map(|line| {
            line.cells
                .iter()
                .flatten()
                .chain(&line.lake)
                .chain(&line.presentations)
        })
    }
}

impl Form {
    /// `matching, fce`.
    pub fn title(&self) -> String {
        match self.row.variant {
            "" => self.method.to_owned(),
            variant => format!("{}, {variant}", self.method),
        }
    }
}

/// The run that serves `measure` under `protocol`, with its place among `runs` and the trial.
fn find<'a>(
    runs: &'a [Run],
    protocol: Protocol,
    test: &Test,
    measure: Measure,
) -> Option<(usize, &'a Run, Trial)> {
    runs.iter()
        .enumerate()
        .filter(|(_, run)| run.protocol == protocol)
        .find_map(|(at, run)| {
            let trial = run
                .trials
                .iter()
                .find(|trial| trial.measure == measure && trial.norm == test.norm)?;
            Some((at, run, *trial))
        })
}

impl Cell {
    fn of(run: &Run, trial: Trial, training: usize, state: &State, source: &Source<'_>) -> Self {
        let (folder, (status, tested)) = match source {
            Source::Nothing => (&run.folder, (Status::Untrained, None)),
            Source::Folder(model) => (&run.folder, on_disk(run, &trial, state, model)),
            Source::Earlier(kept) => (
                &kept.folder,
                match kept.outcome(&trial) {
                    Some(outcome) => (Status::Finished, Some(outcome.clone())),
                    None => (Status::Untested, None),
                },
            ),
        };
        Self {
            command: trial.command(folder),
            trial,
            training,
            status,
            tested,
        }
    }
}

/// How far `trial` on the `model` in a run's folder is, and what came of it.
fn on_disk(run: &Run, trial: &Trial, state: &State, model: &Model) -> (Status, Option<Outcome>) {
    let tested = tested::read(&run.folder)
        .into_iter()
        .find(|tested| trial.is(&tested.record));
    match tested {
        Some(tested) if state.ended.is_some() && model.weights == tested.weights => {
            (Status::Finished, Some(tested.into()))
        }
        Some(tested) if tested.trained < run.episodes() => (Status::Partial, Some(tested.into())),
        _ => (Status::Untested, None),
    }
}

/// The validations in the trace of the run in `folder`.
fn validations(folder: &Path) -> Vec<Validation> {
    trace::read(&folder.join("trace.jsonl"))
        .into_iter()
        .filter_map(|line| match line {
            Line::Validation {
                episode,
                val_accuracy,
                val_ci95,
                ..
            } => Some(Validation {
                episode,
                accuracy: val_accuracy,
                ci95: val_ci95,
            }),
            Line::Training { .. } => None,
        })
        .collect()
}

impl Trained {
    fn of(run: &Run, state: State, source: &Source<'_>, here: &Machine) -> Result<Self, Error> {
        let tasks = run.settings.val_tasks()?;
        Ok(Self {
            name: run.name.clone(),
            method: run.method.name,
            protocol: run.protocol,
            command: match source {
                Source::Earlier(kept) => kept.command.clone(),
                _ => run.command.clone(),
            },
            episodes: run.episodes(),
            minutes: run.minutes,
            val_task: format!("{}-way {}-shot", tasks.n_way.end(), tasks.n_shot.end()),
            validations: match source {
                Source::Nothing => Vec::new(),
                Source::Folder(_) => validations(&run.folder),
                Source::Earlier(kept) => kept.validations.clone(),
            },
            checkpoint: match source {
                Source::Nothing => None,
                Source::Folder(model) => Some(model.checkpoint.progress.episode),
                Source::Earlier(kept) => kept.checkpoint,
            },
            machine: match source {
                Source::Nothing => None,
                Source::Folder(_) => Some(here.clone()),
                Source::Earlier(kept) => Some(kept.machine.clone()),
            },
            state,
        })
    }

    /// What ended it, or how far it is.
    pub fn in_words(&self) -> String {
        use crate::report::numbers::{count, counted};
        let done = self.state.progress.episode;
        match self.state.ended {
            None if !self.state.begun => format!("not begun, {} episodes planned", count(self.episodes)),
            None => format!(
                "not finished: {} of {} episodes",
                count(done),
                count(self.episodes)
            ),
            Some(Ended::Patience) => format!(
                "validation flat after {} of at most {} episodes ({} without a better one)",
                count(done),
                count(self.episodes),
                counted(self.state.progress.since_best, "validation", "validations")
            ),
            Some(_) => format!("all {} episodes", count(self.episodes)),
        }
    }
}
