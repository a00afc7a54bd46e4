//! The report as Markdown: what can be said without pictures.

use std::fmt::Write;

use super::Report;
use super::escape::markdown as cell;
use super::numbers::{count, duration, percent, with_interval};

/// The whole text.
pub fn page(report: &Report) -> String {
    let record = &report.record;
    let mut text = format!(
        "# {}\n\n**{}** (95 % interval). {}\n\n{}\n\n",
        cell(&report.title()),
        with_interval(record.accuracy, record.ci95),
        report.in_words(),
        report.normalised_by.in_words(),
    );
    table(
        &mut text,
        ["", ""],
        &[
            ("method", cell(&format!("{} ({})", record.method, report.paper))),
            ("encoder", cell(&record.encoder)),
            ("dataset", cell(&record.data)),
            (
                "classes",
                cell(&format!(
                    "{}:{}, {}",
                    record.partition,
                    record.split,
                    count(report.classes as u64)
                )),
            ),
            (
                "task",
                format!(
                    "{}-way {}-shot, {} queries per class",
                    record.way, record.shot, record.query
                ),
            ),
            ("test episodes", count(record.episodes as u64)),
            ("seed", record.seed.to_string()),
            ("normalisation", report.norm()),
            (
                "checkpoint",
                format!("after {} episodes", count(report.checkpoint)),
            ),
            ("training time", duration(report.training_seconds)),
        ],
    );
    // A fence longer than any run of backticks in the command, so that nothing in it ends the block.
    let longest = report
        .command
        .split(|c| c != '`')
        .map(str::len)
        .max()
        .unwrap_or(0);
    let fence = "`".repeat((longest + 1).max(3));
    let _ = write!(
        text,
        "\nThis command repeats the evaluation:\n\n{fence}sh\n{}\n{fence}\n\n## Training\n\n{}\n",
        super::escape::line(&report.command),
        report.training_in_words()
    );
    pairs(&mut text, report);
    text.push_str("\n## Settings\n");
    for group in &report.settings {
        let _ = write!(text, "\n### {}\n\n", cell(&group.title));
        let rows: Vec<(&str, String)> = group
            .rows
            .iter()
            .map(|row| (row.name, cell(&row.value)))
            .collect();
        table(&mut text, ["setting", "value"], &rows);
    }
    text.push_str("\n## Machine\n\n");
    table(
        &mut text,
        ["", ""],
        &report.machine.facts().map(|(name, value)| (name, cell(&value))),
    );
    text
}

fn pairs(text: &mut String, report: &Report) {
    if report.pairs.is_empty() {
        return;
    }
    text.push_str(
        "\n## Hardest pairs\n\n| A | B | mixed up | A taken for B | B taken for A | episodes |\n| --- | --- | ---: | ---: | ---: | ---: |\n",
    );
    for hard in &report.pairs {
        let pair = &hard.pair;
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} of {} | {} of {} | {} |",
            cell(&hard.names[0]),
            cell(&hard.names[1]),
            percent(pair.rate()),
            count(pair.taken[0]),
            count(pair.queries),
            count(pair.taken[1]),
            count(pair.queries),
            count(pair.episodes)
        );
    }
}

fn table(text: &mut String, head: [&str; 2], rows: &[(&str, String)]) {
    let _ = writeln!(text, "| {} | {} |\n| --- | --- |", head[0], head[1]);
    for (name, value) in rows {
        let _ = writeln!(text, "| {name} | {value} |");
    }
}
