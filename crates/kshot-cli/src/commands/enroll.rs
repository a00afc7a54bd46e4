//! `kshot enroll`: classes from folders of pictures into a store.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Arg, ArgMatches, Command, builder::PossibleValuesParser, value_parser};
use kshot::classifier::{Added, Confusions, Head, Picture};
use kshot::data::features::Rows;
use kshot::data::folder::scan_folder;
use kshot::pretrained;
use kshot::trained::Trained;
use kshot_store::{Library, StoreError, open, open_or_create};
use rayon::prelude::*;
use serde_json::json;

use super::common;
use super::pictures::{self, Source};
use crate::bar::Bar;

/// Pictures that are held at once, and added in one transaction.
const BATCH: usize = 64;
/// Pairs of classes and examples of each that are told of.
const TOLD: (usize, usize) = (5, 3);

pub fn command() -> Command {
    Command::new("enroll")
        .about("Enrol classes from folders of pictures into a store, for `kshot classify`")
        .after_help(
            "Examples:\n  kshot enroll letters.kshot letters/            # letters/<class>/*.png\n  \
             kshot enroll letters.kshot --encoder runs/prototypical-glyphs letters/\n  \
             kshot enroll letters.kshot --encoder omniglot.safetensors --re-embed\n  \
             kshot enroll birds.kshot --model clip.onnx birds/      # with clip.toml beside it\n  \
             kshot enroll clip.kshot features:clip.npz              # features [n, d] and labels [n]\n\n\
             Nothing is trained, and a class may be added at any time. Pictures that are in the store already are left \
             as they are, so that the same command can be given again.",
        )
        .arg(store_argument("the store: a file, made if it isn't there, or the address of a PostgreSQL database"))
        .arg(
            Arg::new("dir")
                .value_name("DIR|features:FILE")
                .value_parser(value_parser!(PathBuf))
                .required_unless_present("re-embed")
                .help("the folder that holds one folder of pictures per class; or features that another program has computed, \
                       with labels (.npz, .npy, .safetensors, .parquet)"),
        )
        .arg(
            Arg::new("encoder")
                .long("encoder")
                .visible_alias("model")
                .value_name("MODEL")
                .help(format!(
                    "a run folder, a checkpoint folder, a file of `kshot export`, an ONNX model with its description beside it, \
                     or the name of a built-in model ({}) \
                     [default: the store's, for a new one {}, with features:FILE the features as they are]",
                    pretrained::names(),
                    pretrained::DEFAULT
                )),
        )
        .arg(common::switch(
            "re-embed",
            "replace the store's model by --encoder, and embed every picture in the store anew",
        ))
        .arg(
            Arg::new("unreadable")
                .long("unreadable")
                .value_parser(PossibleValuesParser::new(["fail", "skip"]))
                .default_value("fail")
                .help("what a picture that can't be read does: end with an error, or be left out with a warning"),
        )
        .arg(common::threads_flag())
        .arg(common::json_flag().help("print a JSON object for each batch when it is on the disk, and one at the end"))
}

pub fn run(matches: &ArgMatches) -> Result<()> {
    common::start_threads(matches)?;
    let (Some(place), json) = (matches.get_one::<String>("store"), matches.get_flag("json")) else {
        bail!("give a store");
    };
    // What is enrolled comes first: a mistyped path must not leave an empty store behind.
    let given = matches
        .get_one::<PathBuf>("dir")
        .map(|dir| given(dir))
        .transpose()?;
    let mut library = library(matches, place, given.as_ref().and_then(|given| given.width))?;
    if let Some(given) = given {
        let skip = matches
            .get_one::<String>("unreadable")
            .is_some_and(|word| word == "skip");
        enroll(&mut library, &given.classes, skip, json)?;
    }
    let classifier = library.classifier();
    let confusions = classifier.confusions();
    let calibration = *classifier.calibration()?;
    if json {
        return common::print_json(&json!({
            "store": library.store().place(),
            "encoder": classifier.model().name(),
            "classes": classifier.classes().len(),
            "examples": classifier.n_examples(),
            "expected_accuracy": calibration.accuracy,
            "left_out": calibration.left_out,
            "confusions": confusions,
        }));
    }
    println!(
        "{}: {} classes, {} examples, model {}",
        library.store().place(),
        classifier.classes().len(),
        classifier.n_examples(),
        classifier.model().name()
    );
    if let Some(accuracy) = calibration.accuracy {
        println!(
            "Left out in turn, {:.1} % of {} examples are recognised by the others.",
            100.0 * accuracy,
            calibration.left_out
        );
    }
    tell(&confusions);
    Ok(())
}

/// `STORE`.
pub fn store_argument(help: &'static str) -> Arg {
    Arg::new("store").value_name("STORE").required(true).help(help)
}

/// What is to be enrolled.
struct Given {
    /// Each class's pictures.
    classes: Vec<(String, Vec<Source>)>,
    /// For features, how many an example has.
    width: Option<usize>,
}

/// What stands on the command line: a folder of classes, or a file of features.
fn given(dir: &Path) -> Result<Given> {
    if let Some(file) = pictures::features(dir) {
        let (rows, classes) = Rows::open_labelled(&file).map_err(kshot::Error::from)?;
        let sources: Vec<Source> = pictures::rows(&file, &rows).collect();
        let of = |rows: Vec<usize>| rows.into_iter().map(|row| sources[row].clone()).collect();
        return Ok(Given {
            classes: classes
                .into_iter()
                .map(|(class, rows)| (class, of(rows)))
                .collect(),
            width: Some(rows.width()),
        });
    }
    if !dir.is_dir() {
        bail!(
            "{}: not a folder; give the folder that holds one folder of pictures per class, or features:FILE",
            dir.display()
        );
    }
    let scanned = scan_folder("enroll", dir).map_err(kshot::Error::from)?;
    for warning in &scanned.warnings {
        eprintln!("warning: {warning}");
    }
    let files = |files: Vec<PathBuf>| files.into_iter().map(Source::File).collect();
    let classes = scanned.classes.into_iter();
    Ok(Given {
        classes: classes.map(|(class, paths)| (class, files(paths))).collect(),
        width: None,
    })
}

/// The store with its model, which is of `width` features where such are enrolled.
fn library(matches: &ArgMatches, place: &str, width: Option<usize>) -> Result<Library> {
    let given = matches.get_one::<String>("encoder");
    let model = given.map(|text| Trained::find(text)).transpose()?;
    let fits = |model: &Trained| match width {
        Some(width) if model.input().features() != Some(width) => bail!(
            "the model {} takes {}, and the file holds vectors of {width} features; enrol them into a store of their own",
            model.name(),
            match model.input().features() {
                Some(other) => format!("{other} features"),
                None => "pictures".to_owned(),
            }
        ),
        _ => Ok(()),
    };
    model.iter().try_for_each(fits)?;
    if matches.get_flag("re-embed") {
        let Some(model) = model else {
            bail!("--re-embed needs --encoder: the model to embed the store's pictures with");
        };
        return Ok(Library::re_embed(open(place)?, model, Head::Model)?);
    }
    match (open(place), model) {
        (Ok(store), Some(model)) => Ok(Library::with_model(store, model, Head::Model)?),
        (Ok(store), None) if store.model()?.is_some() => {
            let library = Library::open(store, Head::Model)?;
            fits(library.classifier().model())?;
            Ok(library)
        }
        (Ok(_) | Err(StoreError::Missing { .. }), model) => {
            let model = match (model, width) {
                (Some(model), _) => model,
                (None, Some(width)) => Trained::of_features(width)?,
                (None, None) => Trained::find(pretrained::DEFAULT)?,
            };
            Ok(Library::with_model(open_or_create(place)?, model, Head::Model)?)
        }
        (Err(error), _) => Err(error.into()),
    }
}

fn enroll(library: &mut Library, classes: &[(String, Vec<Source>)], skip: bool, json: bool) -> Result<()> {
    let total = classes.iter().map(|(_, pictures)| pictures.len() as u64).sum();
    let bar = &mut Bar::new("enroll", total);
    let mut done = 0;
    for (class, pictures) in classes {
        for batch in pictures.chunks(BATCH) {
            let read: Vec<_> = batch.par_iter().map(|source| readable(library, source)).collect();
            let (mut files, mut pictures) = (Vec::new(), Vec::new());
            for result in read {
                match result {
                    Ok((name, bytes, picture)) => {
                        files.push((name, bytes));
                        pictures.push(picture);
                    }
                    Err(error) if skip => bar.note(&format!("warning: left out: {error:#}")),
                    Err(error) => {
                        bail!(
                            "{error:#}; what was enrolled before it stays, and the same command goes on from there, \
                             with --unreadable skip without such pictures"
                        )
                    }
                }
            }
            if !files.is_empty() {
                add(library, class, files, pictures, json)?;
            }
            done += batch.len() as u64;
            bar.show(done, || class.clone());
        }
    }
    bar.finish();
    Ok(())
}

/// A picture's name, its bytes, and how the model takes it.
fn readable(library: &Library, source: &Source) -> Result<(String, Vec<u8>, Picture)> {
    let bytes = source.read()?;
    let input = library.classifier().model().input();
    let picture = input.decode(&bytes, Path::new(&source.name()))?;
    Ok((source.short_name(), bytes, picture))
}

fn add(
    library: &mut Library,
    class: &str,
    files: Vec<(String, Vec<u8>)>,
    pictures: Vec<Picture>,
    json: bool,
) -> Result<()> {
    let added = library.add_decoded(class, files, pictures)?;
    if json {
        let new = added.iter().filter(|added| **added == Added::New).count();
        common::print_json(&json!({"class": class, "added": new, "known": added.len() - new}))?;
        std::io::stdout().flush().context("writing")?;
    }
    Ok(())
}

fn tell(confusions: &Confusions) {
    if confusions.pairs.is_empty() {
        return;
    }
    println!(
        "Hard to tell apart ({} pairs of classes):",
        confusions.pairs.len()
    );
    for pair in confusions.pairs.iter().take(TOLD.0) {
        let examples: Vec<String> = pair
            .examples
            .iter()
            .take(TOLD.1)
            .map(|confused| {
                let same = if confused.same_picture { " (in both)" } else { "" };
                format!("{}/{}{same}", confused.label, confused.example)
            })
            .collect();
        let more = pair.examples.len().saturating_sub(TOLD.1);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        println!(
            "  {} and {}: {}{more}",
            pair.classes[0],
            pair.classes[1],
            examples.join(", ")
        );
    }
    if confusions.checked < confusions.examples {
        println!(
            "  (of {} examples {} were looked at)",
            confusions.examples, confusions.checked
        );
    }
}
