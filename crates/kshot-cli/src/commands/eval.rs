//! `kshot eval`: accuracy of a trained model on episodes of any dataset.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, builder::PossibleValuesParser, value_parser};
use kshot::classifier::reliability;
use kshot::data::{ImageShape, Part, registry::DATASETS};
use kshot::ensemble::Ensemble;
use kshot::learner::Learner;
use kshot::record::{Evaluation, Record};
use kshot::report::{Findings, Kept};
use kshot::settings::{Layer, SETTINGS, Settings};
use kshot::source::Source;
use kshot::trained::Trained;
use kshot::{lake, learning_curve, presentations, pretrained};
use serde::Serialize;

use super::common;
use crate::bar::Bar;
use crate::flags;
use crate::interrupt::Interrupt;

/// Flags of the evaluation and the settings that they set.
const RENAMED: &[(&str, &str, &str)] = &[
    ("way", "test-way", "classes per episode"),
    ("shot", "test-shot", "labelled examples per class"),
    ("query", "test-query", "queries per class"),
    ("episodes", "test-episodes", "test episodes"),
];

pub fn command() -> Command {
    let own = SETTINGS
        .iter()
        .filter(|spec| ["data", "norm", "device"].contains(&spec.name))
        .map(|spec| (spec, "Settings"));
    let datasets = DATASETS
        .iter()
        .flat_map(|entry| entry.options.iter().map(|spec| (spec, "Dataset options")));
    Command::new("eval")
        .args_override_self(true)
        .about("Evaluate a trained model on episodes of classes that it has not seen")
        .after_help(
            "Examples:\n  kshot eval runs/prototypical-glyphs --way 20 --shot 5\n  \
             kshot eval runs/prototypical-glyphs --data omniglot --data-dir data\n  \
             kshot eval omniglot-conv4 --data folder:pictures --train-fraction 0 --val-fraction 0 --way 5\n\n\
             Settings that are not given are those of the model's training.",
        )
        .arg(
            Arg::new("model")
                .value_name("MODEL")
                .required(true)
                .num_args(1..)
                .help(format!(
                    "a run folder (its best checkpoint is taken), one checkpoint's folder, a file of `kshot export`, an ONNX file, or \
                     a built-in model ({}); several answer together",
                    pretrained::names()
                )),
        )
        .arg(
            Arg::new("views")
                .long("views")
                .value_name("V")
                .value_parser(value_parser!(u16).range(1..=256))
                .default_value("1")
                .help("views of each image that are averaged: itself and copies with the run's augmentation"),
        )
        .arg(
            Arg::new("split")
                .long("split")
                .value_name("[PARTITION:]PART")
                .help("train, val or test, and how the classes are divided: test, vinyals, vinyals:val [default: test]"),
        )
        .args(RENAMED.iter().map(|(flag, _, help)| {
            Arg::new(*flag).long(*flag).value_name("N").help(format!("{help} [default: the run's]"))
        }))
        .arg(Arg::new("seed").long("seed").value_name("S").help("seed of the episodes [default: the run's]"))
        .arg(
            Arg::new("protocol")
                .long("protocol")
                .value_parser(PossibleValuesParser::new(["episodes", "alphabet", "lake", "presentations", "steps", "classifier"]))
                .default_value("episodes")
                .help(
                    "episodes drawn from a dataset, each from one alphabet of it, Lake's 20 fixed one-shot runs (needs --data-dir), accuracy by the \
                     n-th presentation of a class in a sequence of images that are named before their label is shown, after \
                     each step of learning a task by the method's own rule, by SGD and by Adam, or \
                     how far the probabilities of `kshot classify` can be believed, with as many unknown classes",
                ),
        )
        .arg(common::data_dir_flag())
        .arg(common::threads_flag())
        .arg(common::json_flag())
        .args(flags::of(own.chain(datasets)))
}

pub fn run(matches: &ArgMatches) -> Result<()> {
    common::start_threads(matches)?;
    let protocol = matches
        .get_one::<String>("protocol")
        .map_or("episodes", String::as_str);
    refuse_without_meaning(matches, protocol)?;
    if protocol == "classifier" {
        return classifier(matches);
    }
    let mut sources = Vec::new();
    for model in models(matches) {
        let source = Source::find(model)?;
        for error in &source.damaged {
            eprintln!("warning: {error}; using {}", source.path.display());
        }
        sources.push(source);
    }
    let Some(first) = sources.first() else {
        bail!("give a run folder or another trained model")
    };
    let (settings, part) = settings(matches, &first.settings)?;
    if protocol == "lake" {
        return lake(matches, &settings, &sources);
    }
    let dataset = common::open_dataset(&settings)?;
    let learner = learner(matches, &settings, &sources, dataset.shape())?;
    let mut evaluation = Evaluation::of(&settings, dataset, part)?;
    if protocol == "alphabet" {
        evaluation = evaluation.within_groups();
    }
    let interrupt = Interrupt::listen()?;
    if protocol == "presentations" {
        return presentations(matches, &evaluation, learner.as_ref(), &interrupt);
    }
    if protocol == "steps" {
        return steps(matches, &evaluation, learner.as_ref(), &interrupt);
    }
    let stop = || interrupt.requested();
    let Some((record, _)) = evaluate(&evaluation, learner.as_ref(), &stop)? else {
        bail!("stopped before the last test episode; run it again");
    };
    if matches.get_flag("json") {
        return common::print_json(&Together::of(matches, record));
    }
    print(&record);
    Ok(())
}

/// Refuses flags that mean nothing under a protocol, and more models than it looks at.
fn refuse_without_meaning(matches: &ArgMatches, protocol: &str) -> Result<(), kshot::Error> {
    let dataset_options = || {
        DATASETS
            .iter()
            .flat_map(|entry| entry.options)
            .map(|spec| spec.name)
    };
    let (flags, why): (Vec<&str>, _) = match protocol {
        "lake" => (
            ["data", "split", "way", "shot", "query", "episodes", "seed"]
                .into_iter()
                .chain(dataset_options())
                .collect(),
            "lake is 20 fixed runs of 20 classes with one labelled drawing and one query each",
        ),
        "presentations" => (
            vec!["shot", "query"],
            "presentations shows each class ten times, all images of it being queries",
        ),
        "classifier" => (
            vec!["views", "norm", "device"],
            "classifier asks one model as `kshot classify` does, each picture alone and in one view",
        ),
        _ => return Ok(()),
    };
    let given: Vec<String> = flags
        .into_iter()
        .filter(|flag| matches.value_source(flag) == Some(ValueSource::CommandLine))
        .map(|flag| format!("--{flag}"))
        .collect();
    let problem = match given.as_slice() {
        [] if protocol == "classifier" && models(matches).count() > 1 => {
            format!("{why}; give one model, found {}", models(matches).count())
        }
        [] => return Ok(()),
        [one] => format!("{why}; {one} means nothing there, leave it out"),
        several => format!("{why}; {} mean nothing there, leave them out", several.join(", ")),
    };
    Err(kshot::Error::Setting {
        name: "protocol",
        problem,
    })
}

/// A result, and who gave it.
#[derive(Serialize)]
struct Together<R> {
    #[serde(flatten)]
    record: R,
    /// Models that answered together.
    models: usize,
    /// Views of each image that were averaged.
    views: u16,
}

impl<R> Together<R> {
    fn of(matches: &ArgMatches, record: R) -> Self {
        Self {
            record,
            models: models(matches).count(),
            views: views(matches),
        }
    }
}

/// The models that are evaluated, by what names them.
fn models(matches: &ArgMatches) -> impl Iterator<Item = &str> {
    matches
        .get_many::<String>("model")
        .into_iter()
        .flatten()
        .map(String::as_str)
}

fn views(matches: &ArgMatches) -> u16 {
    matches.get_one("views").copied().unwrap_or(1)
}

/// The model of the run, or all models and views as one learner.
fn learner(
    matches: &ArgMatches,
    settings: &Settings,
    sources: &[Source],
    image: ImageShape,
) -> Result<Box<dyn Learner>> {
    let mut members = Vec::new();
    for (number, source) in sources.iter().enumerate() {
        // The first model says what is evaluated, each how it was built.
        let own = Settings::resolve(&[&source.settings])?;
        let built = if number == 0 { settings } else { &own };
        members.push(source.learner(built, image)?);
    }
    let views = usize::from(views(matches));
    if views == 1 && members.len() == 1 {
        return Ok(members.remove(0));
    }
    Ok(Box::new(Ensemble::new(members, views, settings.augment())?))
}

fn lake(matches: &ArgMatches, settings: &Settings, sources: &[Source]) -> Result<()> {
    let side = settings.core.integer("image-size");
    let image = ImageShape::square(side, settings.core.integer("channels"));
    let learner = learner(matches, settings, sources, image)?;
    let names = (settings.method.name, settings.encoder.name);
    let data_dir = Path::new(settings.core.text("data-dir"));
    let found = lake::evaluate(learner.as_ref(), names, data_dir, image, settings.norm())?;
    if matches.get_flag("json") {
        return common::print_json(&Together::of(matches, found));
    }
    print(&found.record);
    println!("error {:.2} % of 400 trials; by run:", 100.0 * found.error);
    for run in &found.runs {
        println!("  {}: {:.0} %", run.run, 100.0 * run.error);
    }
    Ok(())
}

/// How far a model's probabilities can be believed.
fn classifier(matches: &ArgMatches) -> Result<()> {
    let Some(name) = models(matches).next() else {
        bail!("give a model")
    };
    let model = Arc::new(Trained::find(name)?);
    let (settings, part) = settings(matches, &model.file().settings)?;
    let evaluation = Evaluation::of(&settings, common::open_dataset(&settings)?, part)?;
    let interrupt = Interrupt::listen()?;
    let mut bar = Bar::new("test", evaluation.episodes);
    let found = reliability::evaluate(&evaluation, &model, |done| {
        bar.show(done, String::new);
        !interrupt.requested()
    });
    bar.finish();
    let found = found?;
    if (found.episodes as u64) < evaluation.episodes {
        bail!("stopped before the last test episode; run it again");
    }
    if matches.get_flag("json") {
        return common::print_json(&found);
    }
    println!(
        "{} on {} ({}): {} classes of {} examples and as many unknown ones, {} pictures of each, {} episodes, seed {}",
        found.model, found.data, found.split, found.way, found.shot, found.query, found.episodes, found.seed
    );
    println!(
        "accuracy: {:.2} ± {:.2} %",
        100.0 * found.accuracy,
        100.0 * found.ci95
    );
    println!(
        "expected calibration error: {:.2} % (without calibration {:.2} %)",
        100.0 * found.ece,
        100.0 * found.ece_before
    );
    println!(
        "none of these: area under the curve {:.4} ± {:.4}; {:.1} % of the known are accepted, {:.1} % of the unknown refused",
        found.auroc,
        found.auroc_ci95,
        100.0 * found.accepted,
        100.0 * found.refused
    );
    Ok(())
}

fn presentations(
    matches: &ArgMatches,
    evaluation: &Evaluation,
    learner: &dyn Learner,
    interrupt: &Interrupt,
) -> Result<()> {
    let mut bar = Bar::new("test", evaluation.episodes);
    let found = presentations::evaluate(evaluation, learner, |done| {
        bar.show(done, String::new);
        !interrupt.requested()
    });
    bar.finish();
    let found = found?;
    if (found.record.episodes as u64) < evaluation.episodes {
        bail!("stopped before the last test episode; run it again");
    }
    if matches.get_flag("json") {
        return common::print_json(&found);
    }
    print(&found.record);
    println!("by presentation of a class:");
    for n in &found.presentations {
        println!(
            "  {:2}: {:.2} ± {:.2} %",
            n.presentation,
            100.0 * n.accuracy,
            100.0 * n.ci95
        );
    }
    Ok(())
}

/// How tasks are learned step by step.
fn steps(
    matches: &ArgMatches,
    evaluation: &Evaluation,
    learner: &dyn Learner,
    interrupt: &Interrupt,
) -> Result<()> {
    let mut bar = Bar::new("test, in per cent", 100);
    let found = learning_curve::evaluate(evaluation, learner, |share| {
        bar.show((100.0 * share) as u64, String::new);
        !interrupt.requested()
    });
    bar.finish();
    let Some(found) = found? else {
        bail!("stopped before the last test episode; run it again");
    };
    if matches.get_flag("json") {
        return common::print_json(&found);
    }
    print(&found.record);
    println!(
        "after each step, accuracy in % and loss in nats; the rates are the best of several on validation classes:"
    );
    print!("step");
    for curve in &found.curves {
        let name = curve
            .rate
            .map_or_else(|| curve.rule.clone(), |rate| format!("{} at {rate}", curve.rule));
        print!("  {name:>24}");
    }
    println!();
    let steps = found.curves.first().map_or(0, |curve| curve.points.len());
    for step in 0..steps {
        print!("{step:4}");
        for point in found.curves.iter().filter_map(|curve| curve.points.get(step)) {
            let accuracy = format!("{:.2} ± {:.2}", 100.0 * point.accuracy, 100.0 * point.ci95);
            print!("  {accuracy:>16} {:7.4}", point.loss);
        }
        println!();
    }
    Ok(())
}

/// The run's settings with the flags over them, and the part to evaluate on.
fn settings(matches: &ArgMatches, trained: &Layer) -> Result<(Settings, Part)> {
    let mut layer = trained.clone();
    let dataset_options = || {
        DATASETS
            .iter()
            .flat_map(|spec| spec.options)
            .map(|spec| spec.name)
    };
    let names = ["data", "data-dir", "norm", "device", "seed"]
        .into_iter()
        .chain(dataset_options());
    let mut given = flags::given(matches, names);
    if given
        .get("data")
        .is_some_and(|data| Some(data) != trained.get("data"))
    {
        layer.retain(|name, _| !dataset_options().any(|option| option == name) && name != "split");
    }
    for (flag, setting, _) in RENAMED {
        if let Some(value) = matches.get_one::<String>(flag) {
            given.insert((*setting).to_owned(), value.clone());
        }
    }
    let mut part = Part::Test;
    for word in matches
        .get_one::<String>("split")
        .iter()
        .flat_map(|split| split.split(':'))
    {
        match Part::ALL.into_iter().find(|part| part.name() == word) {
            Some(named) => part = named,
            None => {
                given.insert("split".to_owned(), word.to_owned());
            }
        }
    }
    let settings = Settings::resolve(&[&layer, &given]).map_err(|error| by_its_flag(matches, error))?;
    Ok((settings, part))
}

/// An error in the value of a flag names that flag, not the setting that it sets.
fn by_its_flag(matches: &ArgMatches, error: kshot::Error) -> kshot::Error {
    let flag = |setting: &str| {
        let renamed = RENAMED.iter().find(|(_, of, _)| *of == setting);
        let flag = renamed.map(|(flag, ..)| *flag);
        flag.filter(|flag| matches.contains_id(flag))
    };
    match error {
        kshot::Error::Option(mut error) => {
            if let Some(flag) = flag(&error.name) {
                flag.clone_into(&mut error.name);
            }
            kshot::Error::Option(error)
        }
        kshot::Error::Setting { name, problem } => kshot::Error::Setting {
            name: flag(name).unwrap_or(name),
            problem,
        },
        other => other,
    }
}

/// Runs an evaluation with a progress bar; gives its record and what a report needs of each episode, or nothing when
/// `stop` says so before its end.
pub fn evaluate(
    evaluation: &Evaluation,
    learner: &dyn Learner,
    stop: &dyn Fn() -> bool,
) -> Result<Option<(Record, Findings)>, kshot::Error> {
    let mut bar = Bar::new("test", evaluation.episodes);
    let answered = evaluation.run(learner, Kept::of, |done| {
        bar.show(done, String::new);
        !stop()
    });
    bar.finish();
    let (record, kept) = answered?;
    let complete = record.episodes as u64 == evaluation.episodes;
    Ok(complete.then(|| (record, Findings::of(&kept))))
}

/// The record in words.
pub fn print(record: &Record) {
    println!(
        "{} ({}), {} {}:{}{}, {}-way {}-shot, norm {}{}: {:.2} ± {:.2} % over {} episodes ({:.0} per second, seed {})",
        record.method,
        record.encoder,
        record.data,
        record.partition,
        record.split,
        if record.protocol == "alphabet" {
            " within one alphabet"
        } else {
            ""
        },
        record.way,
        record.shot,
        record.norm,
        record
            .normalised_by
            .map_or_else(String::new, |by| format!(" ({})", by.short())),
        100.0 * record.accuracy,
        100.0 * record.ci95,
        record.episodes,
        record.episodes_per_second,
        record.seed,
    );
}
