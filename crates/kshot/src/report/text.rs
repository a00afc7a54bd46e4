//! The report in a few lines for a terminal.

use std::fmt::Write;

use super::numbers::{percent, with_interval};
use super::{Report, escape};

/// Pairs of classes that are named.
const PAIRS: usize = 3;

/// What a terminal shows.
pub fn summary(report: &Report) -> String {
    let record = &report.record;
    let mut text = format!(
        "{}: {}\n{}:{}, {} queries per class, {} episodes, seed {}\n{}\ntraining: {}\n",
        escape::line(&report.title()),
        with_interval(record.accuracy, record.ci95),
        record.partition,
        record.split,
        record.query,
        record.episodes,
        record.seed,
        report.normalised_by.in_words(),
        report.training_in_words(),
    );
    for hard in report.pairs.iter().take(PAIRS) {
        let [one, other] = hard.names.each_ref().map(|name| escape::line(name));
        let _ = writeln!(text, "mixed up: {one} and {other}, {}", percent(hard.pair.rate()));
    }
    let _ = writeln!(text, "again: {}", escape::line(&report.command));
    text
}
