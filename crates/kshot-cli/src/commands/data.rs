//! `kshot data`: what the datasets hold.

use anyhow::{Result, bail};
use clap::{Arg, ArgMatches, Command};
use kshot::data::{Part, registry::DATASETS};
use kshot::settings::{Layer, SETTINGS, Settings};

use super::{common, list};
use crate::flags;

pub fn command() -> Command {
    let own = SETTINGS.iter().filter(|spec| ["split", "image-size", "channels", "seed"].contains(&spec.name));
    let datasets = DATASETS.iter().flat_map(|entry| entry.options);
    let specs = own.chain(datasets).map(|spec| (spec, "Dataset options"));
    Command::new("data")
        .about("List, describe, fetch and preview datasets")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("list").about("The datasets that kshot knows").arg(common::json_flag()))
        .subcommand(
            Command::new("info")
                .about("Classes and images of a dataset")
                .arg(Arg::new("data").value_name("NAME").required(true))
                .arg(common::data_dir_flag())
                .arg(common::json_flag())
                .args(flags::of(specs)),
        )
}

pub fn run(matches: &ArgMatches) -> Result<()> {
    match matches.subcommand() {
        Some(("list", matches)) => list::run("datasets", matches),
        Some(("info", matches)) => info(matches),
        _ => bail!("see `kshot data --help`"),
    }
}

fn info(matches: &ArgMatches) -> Result<()> {
    let names = ["data", "data-dir", "split", "image-size", "channels", "seed"].into_iter();
    let names = names.chain(DATASETS.iter().flat_map(|spec| spec.options).map(|spec| spec.name));
    let layer: Layer = flags::given(matches, names);
    let settings = Settings::resolve(&[&layer])?;
    let dataset = common::open_dataset(&settings)?;
    let part = |part: Part| {
        let table = dataset.classes(part);
        let images: usize = table.classes().iter().map(|class| class.n_examples).sum();
        (part.name(), table.groups().len(), table.len(), images)
    };
    if matches.get_flag("json") {
        let parts: serde_json::Map<String, serde_json::Value> = Part::ALL
            .into_iter()
            .map(|p| {
                let (name, groups, classes, images) = part(p);
                (name.to_owned(), serde_json::json!({"groups": groups, "classes": classes, "images": images}))
            })
            .collect();
        return common::print_json(&serde_json::json!({
            "name": dataset.name(), "split": dataset.partition(), "image": dataset.shape(), "parts": parts,
        }));
    }
    println!("{}, split {}, images {}", dataset.name(), dataset.partition(), dataset.shape());
    for (name, groups, classes, images) in Part::ALL.map(part) {
        println!("  {name:5} {classes:7} classes in {groups:5} groups, {images:8} images");
    }
    Ok(())
}
