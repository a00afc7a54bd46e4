//! A training from its settings or its last checkpoint to its report: what `train` and `reproduce` share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use kshot::checkpoint::{self, Progress};
use kshot::data::{Dataset, Part};
use kshot::eval::Accuracy;
use kshot::learner::Step;
use kshot::record::{Evaluation, Record};
use kshot::report::{Report, Sources};
use kshot::settings::{Layer, Settings};
use kshot::train::{Observer, Training};
use kshot::{model, run, trace};
use serde::Serialize;

use super::eval;
use crate::bar::Bar;

/// Settings that going on may change: none of them changes what an episode does to the weights.
const CHANGEABLE: &[&str] = &[
    "data-dir",
    "episodes",
    "patience",
    "report-interval",
    "test-way",
    "test-shot",
    "test-query",
    "test-episodes",
    "norm",
];

/// A training that can be run, in its folder.
pub struct Session {
    pub training: Training,
    pub settings: Settings,
    pub folder: PathBuf,
}

/// Opens the dataset that settings name.
pub type Open<'a> = &'a mut dyn FnMut(&Settings) -> Result<Arc<dyn Dataset>, kshot::Error>;

/// What `report.json` holds.
#[derive(Serialize)]
pub struct TrainRecord {
    #[serde(flatten)]
    pub record: Record,
    pub run: String,
}

impl Session {
    /// A new run in the folder that `place` names.
    pub fn start(
        settings: &Settings,
        open: Open<'_>,
        place: impl FnOnce(&Settings) -> PathBuf,
    ) -> Result<Self> {
        let dataset = open(settings)?;
        let settings = with_found(settings, dataset.as_ref())?;
        let folder = place(&settings);
        let training = Training::new(&settings, dataset, &folder)?;
        run::create(&folder, &settings)?;
        eprintln!("training {} in {}", settings.method.name, folder.display());
        Ok(Self {
            training,
            settings,
            folder,
        })
    }

    /// The run in `folder` with `given` over its settings, from its newest readable checkpoint.
    pub fn resume(folder: &Path, given: &Layer, open: Open<'_>) -> Result<Self> {
        let checkpoints = folder.join(run::CHECKPOINTS);
        let config = folder.join("config.toml");
        let folder = folder.to_owned();
        if checkpoint::list(&checkpoints).is_empty() && config.exists() {
            // It stopped before its first checkpoint: nothing is lost by starting again.
            let settings = Settings::resolve(&[&run::read_config(&config)?, given])?;
            let training = Training::new(&settings, open(&settings)?, &folder)?;
            return Ok(Self {
                training,
                settings,
                folder,
            });
        }
        let (checkpoint, damaged) = checkpoint::latest(&checkpoints)?;
        for error in damaged {
            eprintln!("warning: {error}; going on from an earlier checkpoint");
        }
        for (name, value) in given {
            let before = checkpoint.settings.get(name);
            if !CHANGEABLE.contains(&name.as_str()) && before.is_some_and(|before| before != value) {
                return Err(kshot::Error::Setting {
                    name: "resume",
                    problem: format!(
                        "the run in {} has {name} = {}, found --{name} {value}; only {} can change",
                        folder.display(),
                        before.map_or("", String::as_str),
                        CHANGEABLE.join(", ")
                    ),
                }
                .into());
            }
        }
        let settings = Settings::resolve(&[&checkpoint.settings, given])?;
        let dataset = open(&settings)?;
        let path = checkpoints.join(checkpoint::name(checkpoint.progress.episode));
        let training = Training::resume(&settings, dataset, &folder, &checkpoint, &path)?;
        run::write_config(&folder, &settings)?;
        eprintln!(
            "going on with {} at episode {}",
            folder.display(),
            checkpoint.progress.episode
        );
        Ok(Self {
            training,
            settings,
            folder,
        })
    }
}

/// Evaluates the best checkpoint on the test classes and writes the report; `None` when `stop` said so before the end.
pub fn finish(
    settings: &Settings,
    folder: &Path,
    open: Open<'_>,
    stop: &dyn Fn() -> bool,
) -> Result<Option<(TrainRecord, Report)>> {
    let (checkpoint, path, _) = run::open(folder)?;
    let dataset = open(settings)?;
    let learner = model::with_weights(settings, dataset.shape(), &checkpoint.weights, &path)?;
    let evaluation = Evaluation::of(settings, dataset, Part::Test)?;
    let Some((record, findings)) = eval::evaluate(&evaluation, learner.as_ref(), stop)? else {
        return Ok(None);
    };
    let report = Report::gather(&Sources {
        learner: learner.as_ref(),
        evaluation: &evaluation,
        record: &record,
        findings: &findings,
        settings,
        progress: &checkpoint.progress,
        trace: &trace::read(&folder.join("trace.jsonl")),
        folder,
    })?;
    let result = TrainRecord {
        record,
        run: folder.display().to_string(),
    };
    run::write_file(folder, "report.html", report.to_html().as_bytes())?;
    run::write_file(folder, "report.json", &serde_json::to_vec_pretty(&result)?)?;
    Ok(Some((result, report)))
}

/// Writes what follows from the dataset into the settings, so that the run describes itself.
fn with_found(settings: &Settings, dataset: &dyn Dataset) -> Result<Settings, kshot::Error> {
    let image = dataset.shape();
    let mut found: Layer = [
        ("split", dataset.partition().to_owned()),
        ("image-size", image.height.to_string()),
        ("channels", image.channels.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    if settings.method_options.text("base-classes") == "auto" {
        let classes = dataset.classes(Part::Train).len();
        found.insert("base-classes".to_owned(), classes.to_string());
    }
    Settings::resolve(&[&settings.layer(), &found])
}

/// Shows a training's progress, and stops it when `stop` says so.
pub struct Watch<'a> {
    pub bar: Bar,
    stop: &'a dyn Fn() -> bool,
    loss: Option<f64>,
    validation: Option<Accuracy>,
    images: u64,
    seconds_before: f64,
    images_per_episode: u64,
}

impl<'a> Watch<'a> {
    pub fn new(session: &Session, stop: &'a dyn Fn() -> bool) -> Self {
        let Session {
            training, settings, ..
        } = session;
        let mut bar = Bar::new("train", settings.core.integer("episodes") as u64);
        bar.start_at(training.progress().episode);
        Self {
            bar,
            stop,
            loss: None,
            validation: None,
            images: 0,
            seconds_before: training.progress().seconds,
            images_per_episode: training.images_per_update(),
        }
    }
}

impl Observer for Watch<'_> {
    fn updated(&mut self, progress: &Progress, step: &Step) {
        let loss = self.loss.map_or(f64::from(step.loss), |loss| {
            0.98 * loss + 0.02 * f64::from(step.loss)
        });
        self.loss = Some(loss);
        self.images += self.images_per_episode;
        let speed = self.images as f64 / (progress.seconds - self.seconds_before).max(1e-9);
        let validation = self.validation;
        self.bar.show(progress.episode, || {
            let validation = validation.map_or_else(String::new, |accuracy| format!(", val {accuracy}"));
            format!("loss {loss:.4}{validation}, {speed:.0} images/s")
        });
    }

    fn validated(&mut self, progress: &Progress, accuracy: Accuracy) {
        self.validation = Some(accuracy);
        self.bar
            .note(&format!("episode {}: validation {accuracy}", progress.episode));
    }

    fn stop(&self) -> bool {
        (self.stop)()
    }
}
