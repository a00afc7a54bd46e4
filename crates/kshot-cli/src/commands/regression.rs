//! `kshot train maml --data sinusoid`: a regression, which needs none of a classification's episodes.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::ArgMatches;
use kshot::inner::Order;
use kshot::regression::{Outcome, Regression, TEST_TASKS, Training};
use kshot::run;
use kshot::settings::Layer;

use super::common;
use crate::bar::Bar;
use crate::interrupt::Interrupt;

/// What may be set, under the names of a classification's settings.
const NAMES: [&str; 9] = [
    "method",
    "data",
    "episodes",
    "meta-batch",
    "shot",
    "inner-steps",
    "inner-lr",
    "lr",
    "order",
];

pub fn run(matches: &ArgMatches, given: &Layer, interrupt: &Interrupt) -> Result<()> {
    let training = training(given)?;
    let mut regression = Regression::new(training.clone());
    let started = Instant::now();
    let mut bar = Bar::new("train", training.updates);
    let mut loss = f64::NAN;
    while regression.done() < training.updates {
        if interrupt.requested() {
            bar.finish();
            bail!(
                "stopped after {} updates; a regression takes seconds and is not kept: run it again",
                regression.done()
            );
        }
        let now = regression.step();
        loss = if loss.is_nan() {
            now
        } else {
            0.99 * loss + 0.01 * now
        };
        bar.show(regression.done(), || format!("loss {loss:.3}"));
    }
    bar.finish();
    let outcome = Outcome {
        method: "maml",
        data: "sinusoid",
        seconds: started.elapsed().as_secs_f64(),
        test_tasks: TEST_TASKS,
        errors: regression.errors(),
        training,
    };
    let folder = matches
        .get_one::<PathBuf>("out")
        .cloned()
        .unwrap_or_else(|| run::free_folder(&PathBuf::from("runs/maml-sinusoid")));
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let json = serde_json::to_vec_pretty(&outcome)?;
    run::write_file(&folder, "report.json", &json)?;
    run::write_file(&folder, "report.html", regression.page(&outcome).as_bytes())?;
    if matches.get_flag("json") {
        return common::print_json(&outcome);
    }
    println!("maml on sinusoid: mean squared error over {TEST_TASKS} new sinusoids");
    for error in &outcome.errors {
        println!(
            "  {:2} points, {:2} steps: {:.3} ± {:.3}",
            error.shots, error.steps, error.mse, error.ci95
        );
    }
    println!("report: {}", folder.join("report.html").display());
    Ok(())
}

fn training(given: &Layer) -> Result<Training> {
    if let Some(name) = given
        .keys()
        .find(|name| *name != "seed" && !NAMES.contains(&name.as_str()))
    {
        bail!(
            "--{name} means nothing to the regression on sinusoids; it takes {} and --seed",
            flags()
        );
    }
    if given.get("method").is_some_and(|method| method != "maml") {
        bail!("sinusoids are a regression: only maml learns them (--order 2 or 1)");
    }
    let mut training = Training::default();
    training.updates = number(given, "episodes", training.updates)?;
    training.tasks = number(given, "meta-batch", training.tasks)?;
    training.shots = number(given, "shot", training.shots)?;
    training.inner_steps = number(given, "inner-steps", training.inner_steps)?;
    training.inner_lr = number(given, "inner-lr", training.inner_lr)?;
    training.lr = number(given, "lr", training.lr)?;
    training.seed = number(given, "seed", training.seed)?;
    if given.get("order").is_some_and(|order| order == "1") {
        training.order = Order::First;
    }
    let counts = [training.tasks, training.shots, training.inner_steps];
    if training.updates == 0 || counts.contains(&0) || counts.iter().any(|&count| count > 100_000) {
        bail!("--episodes, --meta-batch, --shot and --inner-steps are numbers from 1 to 100,000");
    }
    Ok(training)
}

fn flags() -> String {
    NAMES[2..]
        .iter()
        .map(|name| format!("--{name}"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn number<T: std::str::FromStr>(given: &Layer, name: &str, default: T) -> Result<T> {
    match given.get(name) {
        None => Ok(default),
        Some(text) => text
            .parse()
            .ok()
            .with_context(|| format!("--{name}: expected a number, found `{text}`")),
    }
}
