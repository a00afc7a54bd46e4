//! How a step is timed, and the one JSON line that says it (`bench/peers/measure.py` is the other side's).

use std::io::{Write, stdin, stdout};
use std::time::Instant;

use anyhow::Result;
use clap::ValueEnum;
use serde_json::{Value, json};

use crate::{Arguments, Task};

/// Steps on a device that come before those that are timed: its kernels are compiled and chosen in the first ones.
const DEVICE_WARM_UP: usize = 5;

/// Warms up and does one run of the steps, or one per line of standard input under `--on-demand`. A step sees `images` images.
pub fn measure(arguments: &Arguments, images: usize, mut step: impl FnMut() -> Result<()>) -> Result<()> {
    let least = if arguments.on_host() { 0 } else { DEVICE_WARM_UP };
    for _ in 0..arguments.iterations.div_ceil(10).max(least) {
        step()?;
    }
    if !arguments.on_demand {
        return say(&report(arguments, images, seconds(arguments, &mut step)?));
    }
    say(&"ready")?;
    for line in stdin().lines() {
        line?;
        // The other program has had the caches since.
        step()?;
        say(&report(arguments, images, seconds(arguments, &mut step)?))?;
    }
    Ok(())
}

/// Of each step.
fn seconds(arguments: &Arguments, step: &mut impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    (0..arguments.iterations)
        .map(|_| {
            let started = Instant::now();
            step()?;
            Ok(started.elapsed().as_secs_f64())
        })
        .collect()
}

fn report(arguments: &Arguments, images: usize, seconds: Vec<f64>) -> Value {
    let tasks = (arguments.task == Task::Maml).then_some(arguments.tasks);
    let median = median(seconds);
    json!({
        "program": "kshot", "version": env!("CARGO_PKG_VERSION"), "device": arguments.device,
        "task": arguments.task.to_possible_value().map(|value| value.get_name().to_owned()),
        "iterations": arguments.iterations, "threads": rayon::current_num_threads(),
        "seconds_per_step": median, "images": images, "images_per_second": images as f64 / median,
        "peak_rss_mib": peak_memory_mib(),
        "tasks": tasks, "inner_steps": tasks.map(|_| arguments.inner_steps),
        "tasks_per_second": tasks.map(|tasks| tasks as f64 / median),
    })
}

/// Prints a line at once: a pipe would keep it.
fn say(line: &impl std::fmt::Display) -> Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// Peak resident memory in MiB, where the system says it (Linux).
fn peak_memory_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace()
        .nth(1)?
        .parse::<f64>()
        .ok()
        .map(|kibibytes| kibibytes / 1024.0)
}
