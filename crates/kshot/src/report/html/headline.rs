//! The result, under which protocol, and how to repeat it.

use std::fmt::Write;

use crate::report::numbers::{count, counted, percent};
use crate::report::{Report, escape};

pub fn write(html: &mut String, report: &Report) {
    let record = &report.record;
    let interval = if record.episodes > 1 {
        format!(
            "± {:.2} % <span class=\"quiet\">(95 % interval)</span>",
            100.0 * record.ci95
        )
    } else {
        "(one episode has no interval)".to_owned()
    };
    let _ = write!(
        html,
        "<header>\n<h1>{}</h1>\n<p class=\"result\">{:.2} % <small>{interval}</small></p>\n<p>{}</p>\n",
        escape::html(&report.title()),
        100.0 * record.accuracy,
        escape::html(&report.in_words()),
    );
    let facts = [
        ("method", record.method.clone()),
        ("encoder", record.encoder.clone()),
        ("dataset", record.data.clone()),
        ("classes", format!("{}:{}", record.partition, record.split)),
        ("task", format!("{}-way {}-shot", record.way, record.shot)),
        ("queries", format!("{} per class", record.query)),
        ("test episodes", count(record.episodes as u64)),
        ("seed", record.seed.to_string()),
        ("normalisation", report.norm()),
        (
            "checkpoint",
            format!("after {}", counted(report.checkpoint, "episode", "episodes")),
        ),
    ];
    html.push_str("<dl class=\"facts\">\n");
    for (name, value) in facts {
        let _ = writeln!(
            html,
            "<div><dt>{name}</dt><dd>{}</dd></div>",
            escape::html(&value)
        );
    }
    html.push_str("</dl>\n");
    let _ = write!(
        html,
        "<p class=\"note\">{}</p>\n<p class=\"small quiet\">{}{}</p>\n\
         <p>This command repeats the evaluation:</p>\n<pre><code>{}</code></pre>\n</header>\n",
        escape::html(report.normalised_by.in_words()),
        escape::html(&report.paper),
        spread(report),
        command(&report.command),
    );
}

/// A command line that is broken between its options, if it must be.
pub(crate) fn command(line: &str) -> String {
    let mut words = line.split(" --");
    let mut html = escape::html(words.next().unwrap_or_default());
    for option in words {
        let _ = write!(
            html,
            " <span class=\"unbroken\">--{}</span>",
            escape::html(option)
        );
    }
    html
}

fn spread(report: &Report) -> String {
    match report.range {
        Some([lowest, median, highest]) if report.record.episodes > 1 => format!(
            ". Single episodes: from {} to {}, median {}.",
            percent(lowest),
            percent(highest),
            percent(median)
        ),
        _ => String::new(),
    }
}
