//! `kshot export`: a model in one file, with the prototypes of a store's classes.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Arg, ArgMatches, Command, value_parser};
use kshot::classifier::Head;
use kshot::model_file::{ModelFile, Prototypes};
use kshot::trained::Trained;
use kshot::{pretrained, run};
use kshot_store::{Library, is_address, open};

pub fn command() -> Command {
    Command::new("export")
        .about("Write a trained model into one safetensors file, with the prototypes of a store's classes, or its encoder as ONNX")
        .after_help(
            "Examples:\n  kshot export runs/prototypical-glyphs --to glyphs.safetensors\n  \
             kshot export letters.kshot --to letters.safetensors\n  \
             kshot export glyphs-conv4 --to encoder.onnx\n\n\
             Any reader of safetensors reads the arrays: the weights by their names, and `prototypes` [classes, features] \
             in the order of `classes` in the header. `kshot enroll --encoder` takes the file. An .onnx file takes `images` \
             [n, height, width, channels] in [0, 1] and gives `embeddings` [n, features]; `kshot enroll --model` takes it too.",
        )
        .arg(
            Arg::new("from")
                .value_name("RUN|CHECKPOINT|MODEL|STORE")
                .required(true)
                .help("a run folder (its best checkpoint is taken), a checkpoint folder, a model file, the name of a \
                       built-in model, or a store"),
        )
        .arg(
            Arg::new("to")
                .long("to")
                .value_name("FILE.safetensors|FILE.onnx")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("the file to write"),
        )
        .arg(
            Arg::new("name")
                .long("name")
                .value_name("NAME")
                .help("what the model is called [default: the file's name]"),
        )
        .arg(
            Arg::new("card")
                .long("card")
                .value_name("FILE.md")
                .value_parser(value_parser!(PathBuf))
                .help("a text on what it was trained on, how well it does and where it ends, to go into the file"),
        )
}

pub fn run(matches: &ArgMatches) -> Result<()> {
    let (Some(from), Some(to)) = (
        matches.get_one::<String>("from"),
        matches.get_one::<PathBuf>("to"),
    ) else {
        bail!("give a run and --to FILE.safetensors or FILE.onnx");
    };
    let ending = to.extension().map(|ending| ending.to_string_lossy().into_owned());
    let as_onnx = match ending.as_deref() {
        Some("safetensors") => false,
        Some("onnx") => true,
        _ => bail!("{}: .safetensors and .onnx files can be written", to.display()),
    };
    let mut file = if is_store(from) {
        of_store(from)?
    } else {
        trained(from)?.file().clone()
    };
    if let Some(stem) = to.file_stem() {
        file.name = stem.to_string_lossy().into_owned();
    }
    if let Some(name) = matches.get_one::<String>("name") {
        file.name.clone_from(name);
    }
    if let Some(card) = matches.get_one::<PathBuf>("card") {
        file.card = std::fs::read_to_string(card).with_context(|| card.display().to_string())?;
    }
    if as_onnx {
        std::fs::write(to, kshot::onnx::encoder(&file)?).with_context(|| to.display().to_string())?;
        println!("{}: encoder of {}", to.display(), file.name);
        return Ok(());
    }
    file.save(to)?;
    let classes = file.prototypes.map_or_else(String::new, |prototypes| {
        format!(", prototypes of {} classes", prototypes.classes.len())
    });
    println!("{}: model {}{classes}", to.display(), file.name);
    Ok(())
}

/// A trained model, or what can be exported.
fn trained(from: &str) -> Result<Trained> {
    let folder = Path::new(from);
    if folder.is_dir() && !folder.join("state.json").exists() && !folder.join(run::CHECKPOINTS).is_dir() {
        bail!(
            "{from}: holds no trained model; export takes a run folder, a checkpoint folder, a model file, the name of a \
             built-in model ({}) or a store; on a folder of pictures train first (kshot train --data folder:{from}), or \
             enrol it into a store (kshot enroll classes.kshot {from})",
            pretrained::names()
        );
    }
    Ok(Trained::find(from)?)
}

fn is_store(from: &str) -> bool {
    if is_address(from) {
        return true;
    }
    let mut start = [0; 16];
    File::open(from)
        .and_then(|mut file| file.read_exact(&mut start))
        .is_ok()
        && start == *b"SQLite format 3\0"
}

fn of_store(place: &str) -> Result<ModelFile> {
    let library = Library::open(open(place)?, Head::Model)?;
    let classifier = library.classifier();
    if classifier.classes().len() == 0 {
        bail!(
            "{}: no class has an example; enrol some first",
            library.store().place()
        );
    }
    let mut file = classifier.model().file().clone();
    file.prototypes = Some(Prototypes {
        classes: classifier
            .classes()
            .map(|class| class.name().to_owned())
            .collect(),
        values: classifier.classes().flat_map(|class| class.mean()).collect(),
    });
    Ok(file)
}
