//! `kshot data`: list, describe, fetch and look at datasets.

use std::cell::RefCell;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Arg, ArgMatches, Command, builder::PossibleValuesParser, value_parser};
use kshot::augment::Augment;
use kshot::data::registry::{self, DATASETS, FetchRequest};
use kshot::data::sheet::{Cell, ContactSheet, QUERY, SUPPORT};
use kshot::data::{Dataset, Part, sinusoid};
use kshot::episode::Episode;
use kshot::sampler::{Sampler, TaskRange};
use kshot::settings::{Layer, SETTINGS, Settings};

use super::{common, list};
use crate::bar::Bar;
use crate::flags;

/// General settings that say which dataset it is.
const DATASET_SETTINGS: [&str; 4] = ["split", "image-size", "channels", "seed"];

pub fn command() -> Command {
    Command::new("data")
        .about("List, describe, fetch and preview datasets")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("list")
                .about("The datasets that kshot knows")
                .arg(common::json_flag()),
        )
        .subcommand(
            on_dataset("info")
                .about("Classes and images of a dataset")
                .arg(common::json_flag()),
        )
        .subcommand(fetch_command())
        .subcommand(
            on_dataset("preview")
                .about("Draw an episode: support pictures, queries and labels, as a PNG file")
                .arg(
                    Arg::new("out")
                        .long("out")
                        .value_name("FILE.png")
                        .required(true)
                        .value_parser(value_parser!(PathBuf)),
                )
                .arg(number("way", "5", "classes"))
                .arg(number("shot", "5", "support pictures per class"))
                .arg(number("query", "5", "queries per class"))
                .arg(number("index", "0", "which episode"))
                .arg(
                    Arg::new("part")
                        .long("part")
                        .default_value("train")
                        .value_parser(Part::ALL.map(Part::name))
                        .help("which classes"),
                )
                .arg(common::switch(
                    "within-alphabet",
                    "draw the episode from one alphabet",
                )),
        )
}

fn fetch_command() -> Command {
    let names = DATASETS
        .iter()
        .filter(|spec| spec.fetch.is_some())
        .map(|spec| spec.name);
    Command::new("fetch")
        .about("Get a dataset's files from its authors, or from a folder that holds them already")
        .arg(
            Arg::new("data")
                .value_name("NAME")
                .required(true)
                .value_parser(PossibleValuesParser::new(names)),
        )
        .arg(
            Arg::new("from")
                .long("from")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("take the files from this folder instead of the network"),
        )
        .arg(
            Arg::new("url")
                .long("url")
                .value_name("URL")
                .help("download from this mirror instead of the authors' place"),
        )
        .arg(common::data_dir_flag().required(true))
}

fn fetch(matches: &ArgMatches) -> Result<()> {
    let (Some(name), Some(data_dir)) = (
        matches.get_one::<String>("data"),
        matches.get_one::<String>("data-dir"),
    ) else {
        bail!("give a dataset and --data-dir")
    };
    let (spec, _) = registry::find(name).map_err(kshot::Error::from)?;
    let Some(fetch) = spec.fetch else {
        bail!("{name} has no files to fetch")
    };
    let bar = RefCell::new(Bar::new("fetch", 0));
    let done = fetch(&FetchRequest {
        data_dir: PathBuf::from(data_dir),
        from: matches.get_one::<PathBuf>("from").cloned(),
        base_url: matches.get_one::<String>("url").cloned(),
        progress: &|file, done, total| {
            let mut bar = bar.borrow_mut();
            bar.set_length(total);
            bar.show(done, || format!("bytes of {file}"));
        },
    });
    bar.borrow().finish();
    println!("{}", done.map_err(kshot::Error::from)?);
    Ok(())
}

fn on_dataset(name: &'static str) -> Command {
    let own = SETTINGS
        .iter()
        .filter(|spec| DATASET_SETTINGS.contains(&spec.name));
    let datasets = DATASETS.iter().flat_map(|entry| entry.options);
    Command::new(name)
        .arg(
            Arg::new("data")
                .value_name("NAME")
                .required(true)
                .help("glyphs, omniglot, folder:DIR, features:FILE, sinusoid"),
        )
        .arg(common::data_dir_flag())
        .args(flags::of(
            own.chain(datasets).map(|spec| (spec, "Dataset options")),
        ))
}

fn number(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name("N")
        .default_value(default)
        .value_parser(value_parser!(u32))
        .help(help)
}

pub fn run(matches: &ArgMatches) -> Result<()> {
    match matches.subcommand() {
        Some(("list", matches)) => list::run("datasets", matches),
        Some(("info", matches)) => info(matches),
        Some(("fetch", matches)) => fetch(matches),
        Some(("preview", matches)) => preview(matches),
        _ => bail!("see `kshot data --help`"),
    }
}

fn settings(matches: &ArgMatches) -> Result<Settings, kshot::Error> {
    let names = ["data", "data-dir"].into_iter().chain(DATASET_SETTINGS);
    let options = DATASETS
        .iter()
        .flat_map(|spec| spec.options)
        .map(|spec| spec.name);
    let layer: Layer = flags::given(matches, names.chain(options));
    Settings::resolve(&[&layer])
}

fn info(matches: &ArgMatches) -> Result<()> {
    let settings = settings(matches)?;
    if settings.dataset.name == sinusoid::SPEC.name {
        if matches.get_flag("json") {
            return common::print_json(&serde_json::json!({
                "name": settings.dataset.name, "kind": "regression", "description": sinusoid::description(), "parts": {},
            }));
        }
        println!("{}", sinusoid::description());
        return Ok(());
    }
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
                (
                    name.to_owned(),
                    serde_json::json!({"groups": groups, "classes": classes, "images": images}),
                )
            })
            .collect();
        return common::print_json(&serde_json::json!({
            "name": dataset.name(), "split": dataset.partition(), "image": dataset.shape(), "parts": parts,
        }));
    }
    println!(
        "{}, split {}, images {}",
        dataset.name(),
        dataset.partition(),
        dataset.shape()
    );
    for (name, groups, classes, images) in Part::ALL.map(part) {
        println!("  {name:5} {classes:7} classes in {groups:5} groups, {images:8} images");
    }
    Ok(())
}

fn preview(matches: &ArgMatches) -> Result<()> {
    let settings = settings(matches)?;
    let dataset = common::open_dataset(&settings)?;
    let number = |name: &str| matches.get_one::<u32>(name).map_or(1, |&number| number as usize);
    let part = Part::ALL
        .into_iter()
        .find(|part| {
            matches
                .get_one::<String>("part")
                .is_some_and(|name| name == part.name())
        })
        .unwrap_or(Part::Train);
    let (n_way, n_shot) = (number("way"), number("shot"));
    let tasks = TaskRange {
        n_way: n_way..=n_way,
        n_shot: n_shot..=n_shot,
        n_query: number("query"),
    };
    let within = matches.get_flag("within-alphabet");
    let sampler = Sampler::new(
        dataset.clone(),
        part,
        tasks,
        settings.seed(),
        within,
        Augment::default(),
    )
    .map_err(kshot::Error::from)?;
    let episode = sampler
        .episode(number("index") as u64)
        .map_err(kshot::Error::from)?;
    let Some(path) = matches.get_one::<PathBuf>("out") else {
        bail!("--out FILE.png says where to write")
    };
    let sheet = sheet(dataset.as_ref(), part, &episode).map_err(kshot::Error::from)?;
    sheet
        .save(path)
        .with_context(|| format!("{}: the picture can't be written", path.display()))?;
    println!(
        "{}: {} of {} ({}:{part})",
        path.display(),
        episode.task,
        dataset.name(),
        dataset.partition()
    );
    Ok(())
}

fn sheet(
    dataset: &dyn Dataset,
    part: Part,
    episode: &Episode,
) -> Result<kshot::data::sheet::RgbImage, kshot::data::DataError> {
    let task = episode.task;
    let title = format!("{} ({}:{part})", dataset.name(), dataset.partition());
    let mut sheet = ContactSheet::new(title, episode.image)
        .dark_ink(dataset.is_line_drawing())
        .legend("support", SUPPORT)
        .legend("query", QUERY);
    let cells = |pixels: &[f32], label: usize, per_class: usize, border| {
        let class = &pixels[label * per_class * episode.image.len()..][..per_class * episode.image.len()];
        let cell = |pixels: &[f32]| Cell {
            pixels: pixels.to_vec(),
            border: Some(border),
        };
        class
            .chunks_exact(episode.image.len())
            .map(cell)
            .collect::<Vec<_>>()
    };
    for (label, &class) in episode.classes.iter().enumerate() {
        let mut row = cells(&episode.support, label, task.n_shot, SUPPORT);
        row.extend(cells(&episode.query, label, task.n_query, QUERY));
        sheet.row(
            format!("{label}  {}", dataset.classes(part).classes()[class].name),
            row,
        )?;
    }
    sheet.render()
}
