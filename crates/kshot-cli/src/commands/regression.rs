//! `kshot train maml --data sinusoid`: a regression, which needs none of a classification's episodes.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::ArgMatches;
use kshot::regression::{Outcome, Regression, TEST_TASKS, Training};
use kshot::run;
use kshot::settings::Layer;

use super::common;
use crate::bar::Bar;
use crate::interrupt::Interrupt;

pub fn run(matches: &ArgMatches, given: &Layer, interrupt: &Interrupt) -> Result<()> {
    for (flag, given) in [
        ("resume", matches.get_flag("resume")),
        ("preset", matches.contains_id("preset")),
    ] {
        if given {
            return Err(kshot::Error::Setting {
                name: flag,
                problem: "a regression on sinusoids has no checkpoints and no presets, its defaults are the paper's; run it \
                          without"
                    .to_owned(),
            }
            .into());
        }
    }
    let training = Training::resolve(given)?;
    let folder = matches
        .get_one::<PathBuf>("out")
        .cloned()
        .unwrap_or_else(|| run::free_folder(&PathBuf::from("runs/maml-sinusoid")));
    run::check_free(&folder)?;
    run::make_folder(&folder)?;
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
        let now = regression.step()?;
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
        errors: regression.errors()?,
        training,
    };
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
