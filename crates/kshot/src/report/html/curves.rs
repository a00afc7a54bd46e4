//! How the training went: loss, accuracy, learning rate and speed over its episodes.

use std::fmt::Write;

use crate::report::Report;
use crate::report::axis::Scale;
use crate::report::chart::{Chart, Series};
use crate::report::numbers::{count, counted, duration, with_interval};
use crate::trace::Line;

/// Validations that the table lists.
const ROWS: usize = 20;

pub fn write(html: &mut String, report: &Report) {
    html.push_str("<section aria-labelledby=\"training\">\n<h2 id=\"training\">Training</h2>\n");
    if report.trace.is_empty() {
        html.push_str("<p>No line of the training was recorded (<code>trace.jsonl</code> is empty or missing).</p>\n</section>\n");
        return;
    }
    let _ = writeln!(
        html,
        "<p>{}</p>\n<div class=\"charts\">",
        report.training_in_words()
    );
    for (title, keys, chart) in charts(report) {
        if let Some(svg) = chart.svg() {
            let keys: String = keys
                .iter()
                .zip(KEYS)
                .map(|(text, key)| format!("<span class=\"key\">{key}{text}</span>"))
                .collect();
            let _ = writeln!(
                html,
                "<figure><figcaption><b>{title}</b>{keys}</figcaption>\n{svg}</figure>"
            );
        }
    }
    html.push_str("</div>\n");
    table(html, report);
    html.push_str("</section>\n");
}

const KEYS: [&str; 2] = [
    "<svg viewBox=\"0 0 26 10\" aria-hidden=\"true\"><path class=\"line first\" d=\"M0 5H26\"/><circle class=\"dot first\" cx=\"13\" cy=\"5\" r=\"3.2\"/></svg>",
    "<svg viewBox=\"0 0 26 10\" aria-hidden=\"true\"><path class=\"line second\" d=\"M0 5H26\"/><rect class=\"dot second\" x=\"10.5\" y=\"2.5\" width=\"5\" height=\"5\"/></svg>",
];

/// Title, names of the lines, chart.
fn charts(report: &Report) -> [(&'static str, Vec<String>, Chart); 4] {
    let of = |value: fn(&Line) -> Option<[f64; 2]>| Series {
        points: report
            .trace
            .iter()
            .filter_map(|line| value(line).map(|[y, half]| [line.episode() as f64, y, half]))
            .collect(),
    };
    let mark = Some((
        report.checkpoint as f64,
        format!("tested: {}", count(report.checkpoint)),
    ));
    let chart = |description: &str, scale, lines: Vec<Series>| Chart {
        description: format!("{description}. {}", outline(&lines)),
        x_label: "training episodes".to_owned(),
        scale,
        ceiling: f64::INFINITY,
        lines,
        mark: mark.clone(),
    };
    let loss = of(|line| match line {
        Line::Training { loss, .. } => Some([*loss, 0.0]),
        Line::Validation { .. } => None,
    });
    let training = of(|line| match line {
        Line::Training { accuracy, .. } => Some([100.0 * accuracy, 0.0]),
        Line::Validation { .. } => None,
    });
    let validation = of(|line| match line {
        Line::Validation {
            val_accuracy,
            val_ci95,
            ..
        } => Some([100.0 * val_accuracy, 100.0 * val_ci95]),
        Line::Training { .. } => None,
    });
    let rate = of(|line| match line {
        Line::Training { lr, .. } => Some([*lr, 0.0]),
        Line::Validation { .. } => None,
    });
    let speed = of(|line| match line {
        Line::Training {
            images_per_second, ..
        } => Some([*images_per_second, 0.0]),
        Line::Validation { .. } => None,
    });
    let accuracy = chart(
        "Accuracy in per cent: validation first, then training",
        Scale::Close,
        vec![validation, training],
    );
    [
        (
            "Accuracy, %",
            vec![
                format!("validation, {}, 95 % band", report.val_task),
                format!("training, {}", report.train_task),
            ],
            Chart {
                ceiling: 100.0,
                ..accuracy
            },
        ),
        (
            "Training loss",
            Vec::new(),
            chart("Training loss", Scale::Powers, vec![loss]),
        ),
        (
            "Learning rate",
            Vec::new(),
            chart("Learning rate", Scale::FromZero, vec![rate]),
        ),
        (
            "Images per second",
            Vec::new(),
            chart("Images per second", Scale::FromZero, vec![speed]),
        ),
    ]
}

/// First and last numbers of each line, for those who can't see it.
fn outline(lines: &[Series]) -> String {
    let ends = |line: &Series| {
        let (first, last) = (line.points.first()?, line.points.last()?);
        Some(format!(
            "From {:.4} at episode {} to {:.4} at episode {}.",
            first[1], first[0], last[1], last[0]
        ))
    };
    lines.iter().filter_map(ends).collect::<Vec<_>>().join(" ")
}

fn table(html: &mut String, report: &Report) {
    let validations: Vec<(u64, f64, f64, f64)> = report
        .trace
        .iter()
        .filter_map(|line| match line {
            Line::Validation {
                episode,
                val_accuracy,
                val_ci95,
                seconds,
            } => Some((*episode, *val_accuracy, *val_ci95, *seconds)),
            Line::Training { .. } => None,
        })
        .collect();
    if validations.is_empty() {
        return;
    }
    let every = validations.len().div_ceil(ROWS);
    let caption = if every == 1 {
        "Validations".to_owned()
    } else {
        format!(
            "{} validations, of which every {every}th and that of the tested checkpoint",
            validations.len()
        )
    };
    let _ = writeln!(
        html,
        "<details><summary>{} as numbers</summary>\n<table><caption>{caption}</caption>\n<thead><tr>\
         <th scope=\"col\" class=\"count\">episodes</th><th scope=\"col\" class=\"count\">accuracy</th>\
         <th scope=\"col\" class=\"count\">training time</th></tr></thead>\n<tbody>",
        counted(validations.len() as u64, "validation", "validations")
    );
    for (place, (episode, accuracy, half, seconds)) in validations.iter().enumerate() {
        let tested = *episode == report.checkpoint;
        if (validations.len() - 1 - place).is_multiple_of(every) || tested {
            let _ = writeln!(
                html,
                "<tr><td class=\"count\">{}{}</td><td class=\"count\">{}</td><td class=\"count\">{}</td></tr>",
                if tested { "tested: " } else { "" },
                count(*episode),
                with_interval(*accuracy, *half),
                duration(*seconds)
            );
        }
    }
    html.push_str("</tbody></table></details>\n");
}
