//! The table: published numbers and ours beside them, as far as ours are there.

use super::plan::{Plan, Protocol, Run, TEST_EPISODES, Trial};
use super::row::{COLUMNS, Measure, Row, Test};
use super::state::State;
use super::tested::{self, Model, Tested};
use crate::error::Error;
use crate::norm::Norm;
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
    /// Whose statistics normalised.
    pub norm: Norm,
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
    pub tested: Option<Tested>,
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
    /// Its validations: episode, accuracy and half the width of its interval, both in per cent.
    pub validations: Vec<[f64; 3]>,
    /// Training episodes of the checkpoint that is tested, where there is one.
    pub checkpoint: Option<u64>,
}

impl Table {
    /// Reads what is there of the trainings that were asked for, or that have begun.
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
                Err(_) => return Ok(()),
            }
        }
        if !runs[0].selected && !states.iter().any(|state| state.begun) {
            return Ok(());
        }
        let first = self.trainings.len();
        let mut models = Vec::new();
        for (run, state) in runs.iter().zip(states) {
            let model = if state.begun {
                Some(Model::of(&run.folder)?)
            } else {
                None
            };
            self.trainings.push(Trained::of(run, state, model.as_ref())?);
            models.push(model);
        }
        let mut ours = Vec::new();
        for protocol in Protocol::ALL {
            for test in protocol.setup(runs[0].row).tests {
                let cell = |measure| {
                    let (at, run, trial) = find(runs, protocol, test, measure)?;
                    let trained = &self.trainings[first + at];
                    Some(Cell::of(
                        run,
                        trial,
                        first + at,
                        &trained.state,
                        models[at].as_ref(),
                    ))
                };
                ours.push(Ours {
                    protocol,
                    norm: test.norm,
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
    fn of(run: &Run, trial: Trial, training: usize, state: &State, model: Option<&Model>) -> Self {
        let tested = tested::read(&run.folder)
            .into_iter()
            .find(|tested| trial.is(&tested.record));
        let current = |tested: &Tested| model.is_some_and(|model| model.weights == tested.weights);
        let (status, tested) = match tested {
            None if !state.begun => (Status::Untrained, None),
            Some(tested) if state.ended.is_some() && current(&tested) => (Status::Finished, Some(tested)),
            Some(tested) if state.begun && tested.trained < run.episodes() => (Status::Partial, Some(tested)),
            _ if state.begun => (Status::Untested, None),
            _ => (Status::Untrained, None),
        };
        Self {
            command: run.test_command(&trial),
            trial,
            training,
            status,
            tested,
        }
    }
}

impl Trained {
    fn of(run: &Run, state: State, model: Option<&Model>) -> Result<Self, Error> {
        let validations = trace::read(&run.folder.join("trace.jsonl"))
            .into_iter()
            .filter_map(|line| match line {
                Line::Validation {
                    episode,
                    val_accuracy,
                    val_ci95,
                    ..
                } => Some([episode as f64, 100.0 * val_accuracy, 100.0 * val_ci95]),
                Line::Training { .. } => None,
            });
        let tasks = run.settings.val_tasks()?;
        Ok(Self {
            name: run.name.clone(),
            method: run.method.name,
            protocol: run.protocol,
            command: run.command.clone(),
            episodes: run.episodes(),
            minutes: run.minutes,
            val_task: format!("{}-way {}-shot", tasks.n_way.end(), tasks.n_shot.end()),
            validations: if state.begun {
                validations.collect()
            } else {
                Vec::new()
            },
            checkpoint: model.map(|model| model.checkpoint.progress.episode),
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
