//! `kshot reproduce`: train and test what the papers' table needs, and write the table.

mod runner;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, builder::PossibleValuesParser, value_parser};
use kshot::method::METHODS;
use kshot::reproduce::{Earlier, Plan, Request, Run, Table, line as one_line};
use kshot::run;
use serde_json::json;

use super::common;
use crate::interrupt::Interrupt;
use runner::{End, Runner};

pub fn command() -> Command {
    let methods = METHODS
        .iter()
        .filter(|spec| !spec.rows.is_empty())
        .map(|spec| spec.name);
    Command::new("reproduce")
        .about("The papers' Omniglot table, ours beside it: train what is planned, test it, write the table")
        .after_help(
            "Examples:\n  kshot reproduce --list\n  kshot reproduce --data-dir data\n  \
             kshot reproduce --method prototypical --budget 60 --data-dir data\n  \
             kshot reproduce --no-training --results there/table.json --results here/table.json --out both\n\n\
             What is there already is not made again: stopped at any moment, even by force, the same command goes on. \
             --results takes what another --out has finished from its table.json alone, without its run folders.",
        )
        .arg(
            Arg::new("method")
                .long("method")
                .value_name("NAME")
                .action(ArgAction::Append)
                .value_parser(PossibleValuesParser::new(methods))
                .help("only this method; can be given again [default: all]"),
        )
        .arg(
            Arg::new("budget")
                .long("budget")
                .value_name("MINUTES")
                .value_parser(positive)
                .allow_negative_numbers(true)
                .help("stop after so many minutes, tests included; trainings take turns, so that all advance"),
        )
        .arg(
            Arg::new("out")
                .long("out")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("where the runs and the table lie [default: runs/reproduce, scaled: runs/reproduce-SCALE]"),
        )
        .arg(
            Arg::new("results")
                .long("results")
                .value_name("FILE")
                .action(ArgAction::Append)
                .value_parser(value_parser!(PathBuf))
                .help(
                    "a table.json of an earlier table: its finished results are kept, in the place of trainings that \
                     --out has not; can be given again",
                ),
        )
        .arg(
            Arg::new("scale")
                .long("scale")
                .value_name("SHARE")
                .default_value("1")
                .value_parser(positive)
                .allow_negative_numbers(true)
                .help("share of the planned episodes, to try it out; the table says so"),
        )
        .arg(
            common::switch(
                "no-training",
                "train nothing: test what is trained to its end, and write the table",
            )
            .conflicts_with("budget"),
        )
        .arg(common::switch("list", "print the plan and how far it is"))
        .arg(common::data_dir_flag())
        .arg(common::threads_flag())
        .arg(common::json_flag())
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number < 1e6 => Ok(number),
        _ => Err("expected a number above 0".to_owned()),
    }
}

pub fn run(matches: &ArgMatches) -> Result<()> {
    let mut plan = plan(matches)?;
    let notes = keep(matches, &mut plan)?;
    let begun = plan.selected().map(Run::state).collect::<Result<Vec<_>, _>>()?;
    if matches.get_flag("list") {
        return list(&plan, matches.get_flag("json"), notes);
    }
    run::check_no_file(&plan.folder)?;
    common::start_threads(matches)?;
    let interrupt = Interrupt::listen().context("listening for Ctrl-C")?;
    let budget = matches.get_one::<f64>("budget").copied();
    let again = again(matches, &plan);
    if begun.iter().any(|state| state.begun && !state.kept) {
        eprintln!("going on in {}", plan.folder.display());
    }
    let trains = !matches.get_flag("no-training");
    let mut runner = Runner::new(&plan, interrupt, budget, trains, notes);
    let end = runner.work();
    let mut notes = runner.notes.clone();
    notes.extend(match &end {
        Ok(End::Complete) => None,
        Ok(End::Untrained) => Some(format!(
            "Some trainings are not at their end. Train them with: {again}"
        )),
        Ok(End::Stopped) => Some(format!("Stopped before its end. Go on with: {again}")),
        Ok(End::Budget) => Some(format!(
            "The budget of {} minutes was used up before the plan's end. Go on with: {again}",
            budget.unwrap_or_default()
        )),
        Err(error) => Some(format!("Stopped by an error: {error}. Then go on with: {again}")),
    });
    if end.is_err() && !plan.folder.exists() {
        // Nothing was made: there is nothing to show but the error.
        return end.map(drop);
    }
    let table = Table::gather(&plan, notes)?;
    write(&plan.folder, &table)?;
    let failed = runner.failed();
    match (end, failed) {
        (Err(error), _) => Err(error),
        (Ok(_), Some(error)) => Err(error),
        (Ok(end), None) => {
            if matches.get_flag("json") {
                common::print_json(&table.to_json())?;
            } else {
                print!("{}", table.to_text());
                println!("table: {}", plan.folder.join("table.html").display());
            }
            if end != End::Complete {
                eprintln!("go on with: {again}");
            }
            Ok(())
        }
    }
}

fn plan(matches: &ArgMatches) -> Result<Plan, kshot::Error> {
    let scale = matches.get_one::<f64>("scale").copied().unwrap_or(1.0);
    let methods: Vec<String> = matches
        .get_many::<String>("method")
        .into_iter()
        .flatten()
        .cloned()
        .collect();
    let folder = matches.get_one::<PathBuf>("out").cloned().unwrap_or_else(|| {
        PathBuf::from(if scale < 1.0 {
            format!("runs/reproduce-{scale}")
        } else {
            "runs/reproduce".to_owned()
        })
    });
    Plan::of(&Request {
        methods: &methods,
        scale,
        data_dir: matches.get_one::<String>("data-dir").map(String::as_str),
        folder: &folder,
    })
}

/// Lets the results of the earlier tables that were given stand in for trainings; gives what the table should say of it.
fn keep(matches: &ArgMatches, plan: &mut Plan) -> Result<Vec<String>> {
    let tables = results(matches)
        .map(|path| Earlier::read(path))
        .collect::<Result<Vec<_>, _>>()?;
    let notes = plan.keep(&tables);
    for note in &notes {
        eprintln!("warning: {note}");
    }
    let target = plan.folder.join("table.json").canonicalize().ok();
    let overwritten = |path: &PathBuf| target.is_some() && path.canonicalize().ok() == target;
    if !notes.is_empty() && !matches.get_flag("list") && results(matches).any(overwritten) {
        bail!(
            "{} would be written anew without the results that are left out; copy it to another place first, or choose another --out",
            plan.folder.join("table.json").display()
        );
    }
    if !tables.is_empty() && matches.get_flag("no-training") && !matches.contains_id("method") {
        plan.select_what_is_there();
    }
    Ok(notes)
}

fn results(matches: &ArgMatches) -> impl Iterator<Item = &PathBuf> {
    matches.get_many::<PathBuf>("results").into_iter().flatten()
}

/// The command that goes on.
fn again(matches: &ArgMatches, plan: &Plan) -> String {
    let mut command = "kshot reproduce".to_owned();
    let mut add =
        |name: &str, value: &str| command.push_str(&format!(" --{name} {}", kshot::reproduce::shell(value)));
    let mut methods: Vec<&str> = plan.selected().map(|run| run.method.name).collect();
    methods.dedup();
    if plan.runs.iter().any(|run| !run.selected) {
        for method in methods {
            add("method", method);
        }
    }
    if plan.scale < 1.0 {
        add("scale", &plan.scale.to_string());
    }
    if let Some(budget) = matches.get_one::<f64>("budget") {
        add("budget", &budget.to_string());
    }
    if let Some(data_dir) = matches.get_one::<String>("data-dir") {
        add("data-dir", data_dir);
    }
    for file in results(matches) {
        add("results", &file.display().to_string());
    }
    add("out", &plan.folder.display().to_string());
    command
}

/// Writes the table in its three forms.
fn write(folder: &Path, table: &Table) -> Result<()> {
    run::make_folder(folder)?;
    run::write_file(folder, "table.md", table.to_markdown().as_bytes())?;
    run::write_file(
        folder,
        "table.json",
        &serde_json::to_vec_pretty(&table.to_json())?,
    )?;
    run::write_file(folder, "table.html", table.to_html().as_bytes())?;
    Ok(())
}

/// Prints the plan: a training with its command, planned minutes, state and tests.
fn list(plan: &Plan, as_json: bool, notes: Vec<String>) -> Result<()> {
    let table = Table::gather(plan, notes)?;
    let cells = |index: usize| table.cells().filter(move |cell| cell.training == index);
    if as_json {
        let mut value = table.to_json();
        for (index, training) in value["trainings"]
            .as_array_mut()
            .into_iter()
            .flatten()
            .enumerate()
        {
            training["tests"] = json!(cells(index).map(|cell| cell.command.as_str()).collect::<Vec<_>>());
        }
        return common::print_json(&json!({"scale": plan.scale, "trainings": value["trainings"].take()}));
    }
    for (index, training) in table.trainings.iter().enumerate() {
        println!(
            "{}: {:.1} minutes planned; {}",
            training.name,
            training.minutes,
            training.in_words()
        );
        println!("    {}", one_line(&training.command));
        for cell in cells(index) {
            println!("    {}  # {}", one_line(&cell.command), table.number(cell));
        }
    }
    let minutes: f64 = table.trainings.iter().map(|training| training.minutes).sum();
    println!(
        "{} trainings, {minutes:.0} minutes planned",
        table.trainings.len()
    );
    Ok(())
}
