//! What several subcommands share.

use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Arg, ArgMatches, value_parser};
use kshot::data::Dataset;
use kshot::settings::Settings;

/// `--threads T`.
pub fn threads_flag() -> Arg {
    Arg::new("threads")
        .long("threads")
        .value_name("T")
        .value_parser(value_parser!(u16).range(1..))
        .help("worker threads [default: all cores]; results don't depend on it")
}

/// `--json`.
pub fn json_flag() -> Arg {
    Arg::new("json")
        .long("json")
        .action(clap::ArgAction::SetTrue)
        .help("print one JSON object on standard output")
}

/// A flag without a value.
pub fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .action(clap::ArgAction::SetTrue)
        .help(help)
}

/// `--data-dir DIR`.
pub fn data_dir_flag() -> Arg {
    Arg::new("data-dir")
        .long("data-dir")
        .value_name("DIR")
        .env("KSHOT_DATA")
        .help("where real datasets lie")
}

/// Sizes the pool of worker threads by `--threads`.
pub fn start_threads(matches: &ArgMatches) -> Result<()> {
    let threads = matches
        .get_one::<u16>("threads")
        .map_or(0, |&threads| usize::from(threads));
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .context("starting the worker threads")
}

/// Opens the dataset that the settings name, and prints what it warns of.
pub fn open_dataset(settings: &Settings) -> Result<Arc<dyn Dataset>, kshot::Error> {
    let dataset = (settings.dataset.open)(&settings.open_request()?)?;
    for warning in dataset.warnings() {
        eprintln!("warning: {warning}");
    }
    Ok(Arc::from(dataset))
}

/// Prints a value as one JSON object.
pub fn print_json(value: &impl serde::Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}
