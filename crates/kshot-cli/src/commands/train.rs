//! `kshot train`: meta-train a method, then evaluate it and write the report.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Arg, ArgAction, ArgMatches, Command, builder::PossibleValuesParser, value_parser};
use kshot::checkpoint::{self, Progress};
use kshot::data::{Part, registry::DATASETS};
use kshot::encoder::ENCODERS;
use kshot::eval::Accuracy;
use kshot::learner::Step;
use kshot::method::{self, METHODS};
use kshot::record::Evaluation;
use kshot::report::{Report, Sources};
use kshot::settings::{Layer, SETTINGS, Settings};
use kshot::train::{Ended, Observer, Training};
use kshot::{model, run, trace};
use serde::Serialize;

use super::common;
use crate::bar::Bar;
use crate::flags;
use crate::interrupt::Interrupt;

/// Settings that `--resume` may change: none of them changes what an episode does to the weights.
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

pub fn command() -> Command {
    let options = SETTINGS
        .iter()
        .filter(|spec| !["method", "data-dir"].contains(&spec.name))
        .map(|spec| (spec, "Settings"))
        .chain(
            METHODS
                .iter()
                .flat_map(|entry| entry.options.iter().map(|spec| (spec, "Method options"))),
        )
        .chain(
            DATASETS
                .iter()
                .flat_map(|entry| entry.options.iter().map(|spec| (spec, "Dataset options"))),
        )
        .chain(
            ENCODERS
                .iter()
                .flat_map(|entry| entry.options.iter().map(|spec| (spec, "Encoder options"))),
        );
    Command::new("train")
        .args_override_self(true)
        .about("Meta-train a method, evaluate it on the test classes and write a report")
        .after_help(
            "Examples:\n  kshot train prototypical\n  kshot train prototypical --preset paper --shot 1 --data-dir data\n  \
             kshot train prototypical --data folder:pictures --way 5 --shot 5\n  \
             kshot train --resume --out runs/prototypical-glyphs",
        )
        .arg(
            Arg::new("method")
                .value_name("METHOD")
                .value_parser(PossibleValuesParser::new(METHODS.iter().map(|spec| spec.name)))
                .required_unless_present_any(["config", "resume"])
                .help("the method; see `kshot methods`"),
        )
        .arg(Arg::new("preset").long("preset").value_name("NAME").help("a method's named settings; see `kshot methods`"))
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE.toml")
                .value_parser(value_parser!(PathBuf))
                .help("settings as `name = value` lines; flags win"),
        )
        .arg(
            Arg::new("out")
                .long("out")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("the run folder [default: runs/METHOD-DATA]"),
        )
        .arg(
            Arg::new("resume")
                .long("resume")
                .action(ArgAction::SetTrue)
                .requires("out")
                .help("go on with the run in --out, bit for bit as if it had not stopped"),
        )
        .arg(common::data_dir_flag())
        .arg(common::threads_flag())
        .arg(common::json_flag())
        .args(flags::of(options))
}

pub fn run(matches: &ArgMatches) -> Result<()> {
    common::start_threads(matches)?;
    let interrupt = Interrupt::listen().context("listening for Ctrl-C")?;
    let (mut training, settings, folder) = if matches.get_flag("resume") {
        resume(matches)?
    } else {
        start(matches)?
    };
    let mut watch = Watch::new(
        &training,
        settings.core.integer("episodes") as u64,
        interrupt.clone(),
    );
    let ended = training.run(&mut watch);
    watch.bar.finish();
    if ended? == Ended::Interrupted {
        let episode = training.progress().episode;
        eprintln!(
            "stopped after episode {episode}; go on with: kshot train --resume --out {}",
            folder.display()
        );
        return Ok(());
    }
    finish(&settings, &folder, &interrupt, matches.get_flag("json"))
}

/// A new run from flags, file and preset.
fn start(matches: &ArgMatches) -> Result<(Training, Settings, PathBuf)> {
    let settings = settings(matches)?;
    let dataset = common::open_dataset(&settings)?;
    let settings = resolve_auto(&settings, dataset.as_ref())?;
    let folder = matches.get_one::<PathBuf>("out").cloned().unwrap_or_else(|| {
        run::free_folder(&PathBuf::from(format!(
            "runs/{}-{}",
            settings.method.name, settings.dataset.name
        )))
    });
    let training = Training::new(&settings, dataset, &folder)?;
    run::create(&folder, &settings)?;
    eprintln!("training {} in {}", settings.method.name, folder.display());
    Ok((training, settings, folder))
}

/// The run in `--out`, from its newest readable checkpoint.
fn resume(matches: &ArgMatches) -> Result<(Training, Settings, PathBuf)> {
    let folder = matches
        .get_one::<PathBuf>("out")
        .cloned()
        .context("--resume needs --out DIR")?;
    let checkpoints = folder.join(run::CHECKPOINTS);
    let config = folder.join("config.toml");
    if checkpoint::list(&checkpoints).is_empty() && config.exists() {
        // It stopped before its first checkpoint: nothing is lost by starting again.
        let settings = Settings::resolve(&[&run::read_config(&config)?, &given(matches)?])?;
        let training = Training::new(&settings, common::open_dataset(&settings)?, &folder)?;
        return Ok((training, settings, folder));
    }
    let (checkpoint, damaged) = checkpoint::latest(&checkpoints)?;
    for error in damaged {
        eprintln!("warning: {error}; going on from an earlier checkpoint");
    }
    let given = given(matches)?;
    for (name, value) in &given {
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
    let settings = Settings::resolve(&[&checkpoint.settings, &given])?;
    let dataset = common::open_dataset(&settings)?;
    let path = checkpoints.join(checkpoint::name(checkpoint.progress.episode));
    let training = Training::resume(&settings, dataset, &folder, &checkpoint, &path)?;
    run::write_config(&folder, &settings)?;
    eprintln!(
        "going on with {} at episode {}",
        folder.display(),
        checkpoint.progress.episode
    );
    Ok((training, settings, folder))
}

/// Flags over file over preset.
fn settings(matches: &ArgMatches) -> Result<Settings> {
    let given = given(matches)?;
    let preset = match matches.get_one::<String>("preset") {
        None => Layer::new(),
        Some(name) => preset(given.get("method").map_or("prototypical", String::as_str), name)?,
    };
    Ok(Settings::resolve(&[&preset, &given])?)
}

/// Flags over file.
fn given(matches: &ArgMatches) -> Result<Layer> {
    let mut layer = match matches.get_one::<PathBuf>("config") {
        Some(path) => run::read_config(path)?,
        None => Layer::new(),
    };
    let names = SETTINGS
        .iter()
        .chain(METHODS.iter().flat_map(|spec| spec.options))
        .chain(DATASETS.iter().flat_map(|spec| spec.options))
        .chain(ENCODERS.iter().flat_map(|spec| spec.options))
        .map(|spec| spec.name);
    layer.extend(flags::given(matches, names));
    Ok(layer)
}

fn preset(method: &str, name: &str) -> Result<Layer, kshot::Error> {
    let presets = method::find(method)?.presets;
    let preset = presets
        .iter()
        .find(|preset| preset.name == name)
        .ok_or_else(|| kshot::Error::Unknown {
            what: "preset",
            name: name.to_owned(),
            hint: format!(
                "; method {method} has {}",
                presets
                    .iter()
                    .map(|preset| preset.name)
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        })?;
    Ok(preset
        .settings
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect())
}

/// Writes what follows from the dataset into the settings, so that the run describes itself.
fn resolve_auto(settings: &Settings, dataset: &dyn kshot::data::Dataset) -> Result<Settings, kshot::Error> {
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

/// Evaluates the best checkpoint on the test classes and writes the report.
fn finish(settings: &Settings, folder: &Path, interrupt: &Interrupt, json: bool) -> Result<()> {
    let (checkpoint, path, _) = run::open(folder)?;
    let dataset = common::open_dataset(settings)?;
    let learner = model::with_weights(settings, dataset.shape(), &checkpoint.weights, &path)?;
    let evaluation = Evaluation::of(settings, dataset, Part::Test)?;
    let (record, findings) = super::eval::evaluate(&evaluation, learner.as_ref(), interrupt)?;
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
    run::write_file(folder, "report.json", &serde_json::to_vec_pretty(&result)?)?;
    run::write_file(folder, "report.html", report.to_html().as_bytes())?;
    if json {
        common::print_json(&result)?;
    } else {
        print!("{}", report.to_text());
        println!("report: {}", folder.join("report.html").display());
    }
    Ok(())
}

#[derive(Serialize)]
struct TrainRecord {
    #[serde(flatten)]
    record: kshot::record::Record,
    run: String,
}

/// Shows a training's progress.
struct Watch {
    bar: Bar,
    interrupt: Interrupt,
    loss: Option<f64>,
    validation: Option<Accuracy>,
    images: u64,
    seconds_before: f64,
    images_per_episode: u64,
}

impl Watch {
    fn new(training: &Training, episodes: u64, interrupt: Interrupt) -> Self {
        let mut bar = Bar::new("train", episodes);
        bar.start_at(training.progress().episode);
        Self {
            bar,
            interrupt,
            loss: None,
            validation: None,
            images: 0,
            seconds_before: training.progress().seconds,
            images_per_episode: training.images_per_update(),
        }
    }
}

impl Observer for Watch {
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
        self.interrupt.requested()
    }
}
