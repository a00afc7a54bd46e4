//! `kshot import`: published checkpoints of other programs as a run that `kshot eval` takes.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Arg, ArgAction, ArgMatches, Command, builder::PossibleValuesParser, value_parser};
use kshot::import::{self, IMPORTERS};
use kshot::run;
use kshot::settings::Settings;
use serde_json::json;

use super::common;

pub fn command() -> Command {
    let files: Vec<String> = IMPORTERS
        .iter()
        .map(|importer| format!("  {}: {}", importer.method, importer.files))
        .collect();
    Command::new("import")
        .about("Make a run of a published PyTorch checkpoint; nothing in the files is run")
        .after_help(format!(
            "Methods and their files:\n{}\n\nExample:\n  kshot import encoder.pkl module.pkl --method relation --out \
             runs/published\n  kshot eval runs/published --data-dir data",
            files.join("\n")
        ))
        .arg(
            Arg::new("files")
                .value_name("FILE")
                .required(true)
                .action(ArgAction::Append)
                .num_args(1..)
                .value_parser(value_parser!(PathBuf))
                .help("state dicts, as torch.save writes them now or wrote them before 1.6"),
        )
        .arg(
            Arg::new("method")
                .long("method")
                .required(true)
                .value_name("NAME")
                .value_parser(PossibleValuesParser::new(
                    IMPORTERS.iter().map(|importer| importer.method),
                ))
                .help("the method that the files are of"),
        )
        .arg(
            Arg::new("out")
                .long("out")
                .required(true)
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("the run folder"),
        )
        .arg(
            Arg::new("image-size")
                .long("image-size")
                .value_name("N")
                .value_parser(value_parser!(u32).range(1..=4096))
                .help("side of the images that it was trained on [default: the authors']"),
        )
        .arg(common::json_flag())
}

pub fn run(matches: &ArgMatches) -> Result<()> {
    let files: Vec<PathBuf> = matches.get_many("files").into_iter().flatten().cloned().collect();
    let method = matches
        .get_one::<String>("method")
        .context("give --method NAME")?;
    let out = matches.get_one::<PathBuf>("out").context("give --out DIR")?;
    let image_size = matches.get_one::<u32>("image-size").map(|&side| side as usize);
    let checkpoint = import::checkpoint(method, &files, image_size)?;
    let settings = Settings::resolve(&[&checkpoint.settings])?;
    run::create(out, &settings)?;
    checkpoint.save(&out.join(run::CHECKPOINTS))?;
    if matches.get_flag("json") {
        return common::print_json(&json!({
            "run": out.display().to_string(),
            "method": settings.method.name,
            "encoder": settings.encoder.name,
            "settings": checkpoint.settings,
        }));
    }
    println!(
        "{} ({}), images of {}x{}, in {}; evaluate it with: kshot eval {}",
        settings.method.name,
        settings.encoder.name,
        settings.core.text("image-size"),
        settings.core.text("image-size"),
        out.display(),
        out.display()
    );
    Ok(())
}
