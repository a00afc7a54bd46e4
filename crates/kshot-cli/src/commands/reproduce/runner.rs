//! Makes what the plan lacks: trainings one after the other, or in turns within a budget, then their tests.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use kshot::data::{DataError, Dataset, ImageShape, Part};
use kshot::presentations::{self, Presentation};
use kshot::record::{Evaluation, Record};
use kshot::reproduce::tested::{self, Model, Tested};
use kshot::reproduce::{Cell, Measure, Plan, Run, Status, Table, Trial};
use kshot::settings::{Layer, Settings};
use kshot::{lake, model};

use super::super::session::{self, Session, Watch};
use super::super::{common, eval};
use crate::interrupt::Interrupt;

/// Turns that each training gets, if the budget is kept exactly.
const ROUNDS: f64 = 4.0;
/// Longest and shortest turn.
const TURN: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(300)];
/// Share of a budget that is kept for tests, at the most.
const FOR_TESTS: f64 = 1.0 / 3.0;
/// Test images per second that are expected before any test was made.
const IMAGES_PER_SECOND: f64 = 6000.0;

/// Why the work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All is there.
    Complete,
    /// A signal.
    Stopped,
    /// The budget.
    Budget,
    /// Everything that may be trained is tested; the rest was not to be trained.
    Untrained,
}

/// Makes what the plan lacks.
pub struct Runner<'a> {
    plan: &'a Plan,
    interrupt: Interrupt,
    deadline: Option<Instant>,
    /// Whether what isn't trained to its end is trained.
    trains: bool,
    datasets: HashMap<String, Arc<dyn Dataset>>,
    /// Whether Lake's runs are not where the data are.
    without_lake: bool,
    /// Trainings that can't go on, and why.
    broken: Vec<(String, String)>,
    /// What the table should say, a sentence each.
    pub notes: Vec<String>,
}

impl<'a> Runner<'a> {
    /// `budget` in minutes from now; without `trains` only what is trained already is tested; `notes` are for the table.
    pub fn new(
        plan: &'a Plan,
        interrupt: Interrupt,
        budget: Option<f64>,
        trains: bool,
        notes: Vec<String>,
    ) -> Self {
        Self {
            plan,
            interrupt,
            deadline: budget.map(|minutes| Instant::now() + Duration::from_secs_f64(60.0 * minutes)),
            trains,
            datasets: HashMap::new(),
            without_lake: false,
            broken: Vec::new(),
            notes,
        }
    }

    /// Trains and tests until all is there, a signal comes or the budget is used up.
    pub fn work(&mut self) -> Result<End> {
        match self.deadline {
            Some(deadline) => self.in_turns(deadline),
            None => self.one_by_one(),
        }
    }

    /// The error of trainings that could not go on.
    pub fn failed(&self) -> Option<anyhow::Error> {
        let (name, error) = self.broken.first()?;
        let more = match self.broken.len() - 1 {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        Some(anyhow!("{name}: {error}{more}"))
    }

    fn one_by_one(&mut self) -> Result<End> {
        for run in self.plan.selected() {
            self.train(run, None)?;
            for trial in &run.trials {
                self.test(run, trial)?;
            }
            if self.interrupt.requested() {
                return Ok(End::Stopped);
            }
            super::write(&self.plan.folder, &Table::gather(self.plan, self.notes.clone())?)?;
        }
        for run in self.plan.selected() {
            if run.state()?.ended.is_none() {
                return Ok(End::Untrained);
            }
        }
        Ok(End::Complete)
    }

    fn in_turns(&mut self, deadline: Instant) -> Result<End> {
        let until = deadline - self.reserve(deadline)?;
        loop {
            let mut waiting = Vec::new();
            for run in self.plan.selected() {
                let state = run.state()?;
                if state.ended.is_none() && !self.is_broken(run) {
                    waiting.push((state.progress.seconds, run));
                }
            }
            if waiting.is_empty() {
                break;
            }
            // Those that had least go first, so that many short budgets are as fair as a long one.
            waiting.sort_by(|(a, _), (b, _)| a.total_cmp(b));
            let left = until.saturating_duration_since(Instant::now());
            let turn = left
                .div_f64(ROUNDS * waiting.len() as f64)
                .clamp(TURN[0], TURN[1]);
            for (_, run) in waiting {
                if Instant::now() >= until || self.interrupt.requested() {
                    break;
                }
                self.train(run, Some((turn, until)))?;
            }
            if self.interrupt.requested() {
                return Ok(End::Stopped);
            }
            if Instant::now() >= until {
                break;
            }
        }
        let most = self
            .plan
            .selected()
            .map(|run| run.trials.len())
            .max()
            .unwrap_or(0);
        for place in 0..most {
            for run in self.plan.selected() {
                if let Some(trial) = run.trials.get(place) {
                    self.test(run, trial)?;
                }
            }
        }
        if self.interrupt.requested() {
            return Ok(End::Stopped);
        }
        let table = Table::gather(self.plan, Vec::new())?;
        let missing = |cell: &Cell| match cell.trial.measure {
            Measure::Lake if self.without_lake => false,
            _ => {
                let training = &table.trainings[cell.training];
                // A kept result has no model to test.
                let can_be_made = !training.state.kept && self.plan.is_selected(&training.name);
                cell.status != Status::Finished && can_be_made
            }
        };
        Ok(if table.cells().any(missing) {
            End::Budget
        } else {
            End::Complete
        })
    }

    /// Time for the tests that are still to be made, from what such tests took before.
    fn reserve(&self, deadline: Instant) -> Result<Duration> {
        let known: Vec<Tested> = self
            .plan
            .runs
            .iter()
            .flat_map(|run| tested::read(&run.folder))
            .collect();
        let mut seconds = 0.0;
        for run in self.plan.selected() {
            if run.state()?.kept {
                continue;
            }
            for trial in &run.trials {
                let before = known.iter().find(|tested| trial.is(&tested.record));
                let column = trial
                    .measure
                    .column()
                    .map_or(0, |column| column.way * (column.shot + trial.query));
                let images = column as f64 * trial.episodes as f64;
                seconds += before.map_or(images / IMAGES_PER_SECOND, |tested| tested.record.seconds);
            }
        }
        let all = deadline.saturating_duration_since(Instant::now());
        Ok(Duration::from_secs_f64(seconds).min(all.mul_f64(FOR_TESTS)))
    }

    /// Trains `run` to its end, or for a turn that ends at a given moment at the latest.
    fn train(&mut self, run: &Run, turn: Option<(Duration, Instant)>) -> Result<()> {
        let state = run.state()?;
        if !self.trains || state.ended.is_some() || self.is_broken(run) || self.interrupt.requested() {
            return Ok(());
        }
        eprintln!(
            "{}: {} of {} episodes done",
            run.name,
            state.progress.episode,
            run.episodes()
        );
        let datasets = &mut self.datasets;
        let mut open = |settings: &Settings| open(datasets, settings);
        let mut session = if state.begun {
            Session::resume(&run.folder, &going_on(run), &mut open)?
        } else {
            Session::start(&run.settings, &mut open, |_| run.folder.clone())?
        };
        let end = turn.map(|(turn, until)| (Instant::now() + turn).min(until));
        let interrupt = &self.interrupt;
        let stop = || interrupt.requested() || end.is_some_and(|end| Instant::now() >= end);
        let mut watch = Watch::new(&session, &stop);
        let ended = session.training.run(&mut watch);
        watch.bar.finish();
        match ended {
            Ok(_) => Ok(()),
            Err(error @ kshot::Error::NotFinite { .. }) => {
                self.notes.push(format!("{} can't go on: {error}.", run.name));
                self.broken.push((run.name.clone(), error.to_string()));
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes `trial` on the model that `run` has, unless that was done before.
    fn test(&mut self, run: &Run, trial: &Trial) -> Result<()> {
        let state = run.state()?;
        // Without a budget only what ended is tested.
        let ready = state.ended.is_some() || self.deadline.is_some();
        if !state.begun || state.kept || !ready || self.is_over() {
            return Ok(());
        }
        let model = Model::of(&run.folder)?;
        let done = tested::read(&run.folder).iter().any(|tested| {
            trial.is(&tested.record)
                && tested.weights == model.weights
                && tested.trained == state.progress.episode
        });
        if done {
            return Ok(());
        }
        let record = if state.ended.is_some() {
            self.report(run, &model)?.filter(|record| trial.is(record))
        } else {
            None
        };
        let found = match record {
            Some(record) => Some((record, Vec::new())),
            None => self.evaluate(run, trial, &model)?,
        };
        let Some((record, presentations)) = found else {
            return Ok(());
        };
        let tested = Tested {
            trained: state.progress.episode,
            checkpoint: model.checkpoint.progress.episode,
            weights: model.weights,
            record,
            presentations,
        };
        Ok(tested::keep(&run.folder, trial, tested)?)
    }

    /// The test in the report of a training that ended; the report is made where there is none.
    fn report(&mut self, run: &Run, model: &Model) -> Result<Option<Record>> {
        if let Some(record) = tested::reported(&run.folder) {
            return Ok(Some(record));
        }
        if self.is_over() {
            return Ok(None);
        }
        let settings = Settings::resolve(&[&model.checkpoint.settings, &data_dir(run)])?;
        let (interrupt, deadline) = (&self.interrupt, self.deadline);
        let stop = || interrupt.requested() || deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let datasets = &mut self.datasets;
        let finished = session::finish(
            &settings,
            &run.folder,
            &mut |settings| open(datasets, settings),
            &stop,
        )?;
        Ok(finished.map(|(result, _)| result.record))
    }

    /// What comes of `trial`, with the accuracy by presentation where that is the test.
    fn evaluate(
        &mut self,
        run: &Run,
        trial: &Trial,
        model: &Model,
    ) -> Result<Option<(Record, Vec<Presentation>)>> {
        if self.is_over() {
            return Ok(None);
        }
        let settings = Settings::resolve(&[&model.checkpoint.settings, &data_dir(run), &trial.layer()])?;
        eprintln!("{}", run.test_command(trial));
        let (weights, path) = (&model.checkpoint.weights, &model.path);
        if trial.measure == Measure::Lake {
            let image = ImageShape::square(
                settings.core.integer("image-size"),
                settings.core.integer("channels"),
            );
            let learner = model::with_weights(&settings, image, weights, path)?;
            let names = (settings.method.name, settings.encoder.name);
            let folder = kshot::data::places::data_dir(settings.open_request()?.data_dir.as_deref());
            let folder = folder.unwrap_or_default();
            return match lake::evaluate(learner.as_ref(), names, &folder, image, settings.norm()) {
                Ok(found) => Ok(Some((found.record, Vec::new()))),
                Err(error @ kshot::Error::Data(DataError::Missing { .. })) => {
                    self.without_lake = true;
                    self.note(format!("Lake's benchmark is left out: {error}."));
                    Ok(None)
                }
                Err(error) => Err(error.into()),
            };
        }
        let dataset = open(&mut self.datasets, &settings)?;
        let learner = model::with_weights(&settings, dataset.shape(), weights, path)?;
        let evaluation = Evaluation::of(&settings, dataset, Part::Test)?;
        let (interrupt, deadline) = (&self.interrupt, self.deadline);
        let stop = || interrupt.requested() || deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if trial.measure == Measure::Presentations {
            let found = presentations::evaluate(&evaluation, learner.as_ref(), |_| !stop())?;
            let complete = found.record.episodes as u64 == trial.episodes;
            return Ok(complete.then_some((found.record, found.presentations)));
        }
        let evaluated = eval::evaluate(&evaluation, learner.as_ref(), &stop)?;
        Ok(evaluated.map(|(record, _)| (record, Vec::new())))
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            eprintln!("warning: {note}");
            self.notes.push(note);
        }
    }

    fn is_over(&self) -> bool {
        self.interrupt.requested() || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    fn is_broken(&self, run: &Run) -> bool {
        self.broken.iter().any(|(name, _)| *name == run.name)
    }
}

/// What going on with a run may change of its settings.
fn going_on(run: &Run) -> Layer {
    let mut layer = data_dir(run);
    layer.insert(
        "patience".to_owned(),
        run.settings.core.text("patience").to_owned(),
    );
    layer
}

/// Where the data lie, when it was said now: a run may have found them elsewhere.
fn data_dir(run: &Run) -> Layer {
    let given = run.settings.core.text("data-dir");
    let layer = (!given.is_empty()).then(|| ("data-dir".to_owned(), given.to_owned()));
    layer.into_iter().collect()
}

/// Opens the dataset that `settings` name, once.
fn open(
    datasets: &mut HashMap<String, Arc<dyn Dataset>>,
    settings: &Settings,
) -> Result<Arc<dyn Dataset>, kshot::Error> {
    let text = |name| settings.core.text(name).to_owned();
    let options: Vec<(&str, &str)> = settings.dataset_options.iter().collect();
    let key = |side: String, channels: String| {
        let own = [text("data"), text("data-dir"), text("seed"), side, channels];
        format!("{own:?} {} {options:?}", settings.partition())
    };
    let asked = key(text("image-size"), text("channels"));
    if let Some(dataset) = datasets.get(&asked) {
        return Ok(dataset.clone());
    }
    let dataset = common::open_dataset(settings)?;
    // A run that has begun names the size that was found.
    let shape = dataset.shape();
    for key in [asked, key(shape.height.to_string(), shape.channels.to_string())] {
        datasets.insert(key, dataset.clone());
    }
    Ok(dataset)
}
