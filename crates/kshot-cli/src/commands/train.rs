//! `kshot train`: meta-train a method, then evaluate it and write the report.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, builder::PossibleValuesParser, value_parser};
use kshot::data::registry::DATASETS;
use kshot::encoder::ENCODERS;
use kshot::method::{self, METHODS};
use kshot::run;
use kshot::settings::{Layer, SETTINGS, Settings};
use kshot::train::Ended;

use super::session::{self, Session, Watch};
use super::{common, regression};
use crate::flags;
use crate::interrupt::Interrupt;

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
             kshot train prototypical --data folder:pictures --way 5 --shot 5\n  kshot train maml --data sinusoid\n  \
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
    let stop = || interrupt.requested();
    let given = given(matches)?;
    if given.get("data").is_some_and(|data| data == "sinusoid") {
        return regression::run(matches, &given, &interrupt);
    }
    let mut session = session(matches, &given)?;
    let mut watch = Watch::new(&session, &stop);
    let ended = session.training.run(&mut watch);
    watch.bar.finish();
    let folder = &session.folder;
    if ended? == Ended::Interrupted {
        let episode = session.training.progress().episode;
        eprintln!(
            "stopped after episode {episode}; go on with: kshot train --resume --out {}",
            folder.display()
        );
        return Ok(());
    }
    let Some((result, report)) =
        session::finish(&session.settings, folder, &mut common::open_dataset, &stop)?
    else {
        bail!(
            "stopped in the test; make it with: kshot train --resume --out {}",
            folder.display()
        );
    };
    if matches.get_flag("json") {
        common::print_json(&result)?;
    } else {
        print!("{}", report.to_text());
        println!("report: {}", folder.join("report.html").display());
    }
    Ok(())
}

/// A new run from flags, file and preset, or with `--resume` the one in `--out`.
fn session(matches: &ArgMatches, given: &Layer) -> Result<Session> {
    let out = matches.get_one::<PathBuf>("out").cloned();
    if matches.get_flag("resume") {
        let folder = out.context("--resume needs --out DIR")?;
        return Session::resume(&folder, given, &mut common::open_dataset);
    }
    Session::start(
        &settings(matches, given)?,
        &mut common::open_dataset,
        |settings| {
            out.unwrap_or_else(|| {
                run::free_folder(&PathBuf::from(format!(
                    "runs/{}-{}",
                    settings.method.name, settings.dataset.name
                )))
            })
        },
    )
}

/// Flags over file over preset.
fn settings(matches: &ArgMatches, given: &Layer) -> Result<Settings> {
    let preset = match matches.get_one::<String>("preset") {
        None => Layer::new(),
        Some(name) => {
            method::find(given.get("method").map_or("prototypical", String::as_str))?.preset(name)?
        }
    };
    Ok(Settings::resolve(&[&preset, given])?)
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
