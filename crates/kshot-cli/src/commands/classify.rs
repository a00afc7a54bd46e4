//! `kshot classify`: which of a store's classes a picture shows, if any.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Arg, ArgMatches, Command, builder::PossibleValuesParser, value_parser};
use kshot::classifier::{Answer, Head, Picture, Show, Unknown};
use kshot_store::{Library, open};
use rayon::prelude::*;
use serde::Serialize;

use super::pictures::{self, Source};
use super::{common, enroll};
use crate::bar::Bar;

/// Pictures that are held at once.
const BATCH: usize = 256;
/// From so many on, progress is shown.
const MANY: usize = 50;

/// A line of `--json`.
#[derive(Serialize)]
struct Line<'a> {
    image: &'a str,
    #[serde(flatten)]
    answer: &'a Answer,
}

pub fn command() -> Command {
    Command::new("classify")
        .about("Say which class of a store a picture shows, or that it shows none of them")
        .after_help(
            "Examples:\n  kshot classify letters.kshot scan.png\n  kshot classify letters.kshot scans/ --csv > answers.csv\n  \
             kshot classify letters.kshot 'scans/*.jpg' --json --top 3\n  \
             curl -s https://example.org/a.png | kshot classify letters.kshot -\n  \
             kshot classify clip.kshot features:new.npy --json\n\n\
             --json prints one object per picture and line: image, label (null for none of the classes), probability, \
             known, ranked, evidence. Probabilities are calibrated on the enrolled examples, each left out in turn.",
        )
        .arg(enroll::store_argument("the store that `kshot enroll` made"))
        .arg(
            Arg::new("image")
                .value_name("IMAGE")
                .required(true)
                .num_args(1..)
                .value_parser(value_parser!(PathBuf))
                .help("picture files, folders of them, patterns, - for standard input, or features:FILE for features of another \
                       program (see `kshot enroll`)"),
        )
        .arg(number("top", "5", "classes to rank"))
        .arg(number("evidence", "5", "enrolled examples to give as evidence"))
        .arg(
            Arg::new("unknown")
                .long("unknown")
                .value_name("auto|never|P")
                .default_value("auto")
                .help(
                    "when a picture is none of the classes: by the boundary that leaving examples out gives, never, or \
                     when the probability of being one of them is below P",
                ),
        )
        .arg(
            Arg::new("head")
                .long("head")
                .value_parser(PossibleValuesParser::new(Head::NAMES))
                .default_value("model")
                .help("how classes are scored: as the model was trained, or otherwise over its embeddings"),
        )
        .arg(common::threads_flag())
        .arg(common::json_flag().help("print a JSON object per picture and line").conflicts_with("csv"))
        .arg(common::switch("csv", "print a table of comma-separated values"))
}

fn number(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name("N")
        .default_value(default)
        .value_parser(value_parser!(u32).range(0..=1000))
        .help(help)
}

pub fn run(matches: &ArgMatches) -> Result<()> {
    common::start_threads(matches)?;
    let text = |name: &str| matches.get_one::<String>(name).map_or("", String::as_str);
    let count = |name: &str| matches.get_one::<u32>(name).map_or(5, |&n| n as usize);
    let mut library = Library::open(open(text("store"))?, Head::from_name(text("head"))?)?;
    library.set_unknown(Unknown::from_text(text("unknown"))?)?;
    if library.classifier().classes().len() == 0 {
        bail!(
            "{}: no class has an example; enrol some first",
            library.store().place()
        );
    }
    let sources = pictures::find(matches.get_many::<PathBuf>("image").into_iter().flatten())?;
    let show = Show {
        top: count("top"),
        evidence: count("evidence"),
    };
    let form = match (matches.get_flag("json"), matches.get_flag("csv")) {
        (true, _) => Form::Json,
        (_, true) => Form::Csv,
        _ => Form::Table,
    };
    let mut bar = (sources.len() >= MANY).then(|| Bar::new("classify", sources.len() as u64));
    let mut out = BufWriter::new(io::stdout().lock());
    let (mut done, mut unreadable) = (0, 0);
    form.head(&mut out, show.top)?;
    for batch in sources.chunks(BATCH) {
        let read: Vec<Result<Picture>> = batch.par_iter().map(|source| read(&library, source)).collect();
        let (mut names, mut found) = (Vec::new(), Vec::new());
        for (source, picture) in batch.iter().zip(read) {
            match picture {
                Ok(picture) => {
                    names.push(source.name());
                    found.push(picture);
                }
                Err(error) => {
                    unreadable += 1;
                    eprintln!("warning: {error:#}");
                }
            }
        }
        for (name, answer) in names.iter().zip(library.classifier().classify_as(&found, show)?) {
            form.line(&mut out, name, &answer, show.top)?;
        }
        out.flush().context("writing the answers")?;
        done += batch.len() as u64;
        if let Some(bar) = &mut bar {
            bar.show(done, String::new);
        }
    }
    if let Some(bar) = bar {
        bar.finish();
    }
    if unreadable > 0 {
        bail!(
            "{unreadable} of {} pictures can't be read; the warnings name them",
            sources.len()
        );
    }
    Ok(())
}

fn read(library: &Library, source: &Source) -> Result<Picture> {
    let bytes = source.read()?;
    let input = library.classifier().model().input();
    Ok(input.decode(&bytes, Path::new(&source.name()))?)
}

/// How answers are printed.
#[derive(Clone, Copy)]
enum Form {
    Table,
    Json,
    Csv,
}

impl Form {
    fn head(self, out: &mut impl Write, top: usize) -> Result<()> {
        if let Self::Csv = self {
            write!(out, "image,label,probability,known")?;
            for place in 1..=top {
                write!(out, ",label_{place},probability_{place}")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    fn line(self, out: &mut impl Write, image: &str, answer: &Answer, top: usize) -> Result<()> {
        match self {
            Self::Json => writeln!(out, "{}", serde_json::to_string(&Line { image, answer })?)?,
            Self::Csv => {
                let label = answer.label.as_deref().unwrap_or_default();
                write!(
                    out,
                    "{},{},{:.6},{}",
                    quoted(image),
                    quoted(label),
                    answer.probability,
                    answer.known
                )?;
                for place in 0..top {
                    match answer.ranked.get(place) {
                        Some(ranked) => write!(out, ",{},{:.6}", quoted(&ranked.label), ranked.probability)?,
                        None => write!(out, ",,")?,
                    }
                }
                writeln!(out)?;
            }
            Self::Table => {
                let label = answer.label.as_deref().unwrap_or("(none of these)");
                let others = answer.ranked.iter().skip(usize::from(answer.known));
                let others: Vec<String> = others
                    .map(|ranked| format!("{} {:.1} %", ranked.label, 100.0 * ranked.probability))
                    .collect();
                writeln!(
                    out,
                    "{image}  {label}  {:.1} %  ({})",
                    100.0 * answer.probability,
                    others.join(", ")
                )?;
            }
        }
        Ok(())
    }
}

/// A field of comma-separated values (RFC 4180).
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn fields_with_commas_and_quotes_are_quoted() {
        assert_eq!(quoted("plain"), "plain");
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
