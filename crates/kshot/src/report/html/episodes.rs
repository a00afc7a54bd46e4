//! Sample episodes: what was shown as support, and what was made of the queries.

use std::fmt::Write;

use super::name;
use crate::report::numbers::whole_percent;
use crate::report::samples::{Query, Row, Sample};
use crate::report::{Report, escape};

/// Classes up to which every episode lies open; of larger ones only the first does.
const OPEN: usize = 10;

pub fn write(html: &mut String, report: &Report) {
    if report.samples.is_empty() {
        return;
    }
    html.push_str(
        "<section aria-labelledby=\"episodes\">\n<h2 id=\"episodes\">Sample episodes</h2>\n\
         <p>The first episodes of the test, not chosen ones. Each line is a class: in the grey box the labelled \
         examples that the learner adapted to, beside it queries that it then had to recognise. \
         <b>✓</b> and a solid frame: recognised. <b>✗ 3</b> and a dashed frame: taken for class 3. The number below is the \
         probability that the learner gave to its answer.</p>\n",
    );
    for (index, sample) in report.samples.iter().enumerate() {
        episode(html, index, sample);
    }
    html.push_str("</section>\n");
}

fn episode(html: &mut String, index: usize, sample: &Sample) {
    let large = index > 0 && sample.rows.len() > OPEN;
    let open = if large { "" } else { " open=\"open\"" };
    let _ = write!(
        html,
        "<details class=\"sample\"{open}>\n<summary><h3>Test episode {}: {} of {} queries recognised</h3></summary>\n",
        sample.index + 1,
        sample.right,
        sample.queries
    );
    if let Some(left_out) = left_out(sample) {
        let _ = writeln!(html, "<p class=\"small quiet\">{left_out}</p>");
    }
    for (label, row) in sample.rows.iter().enumerate() {
        class(html, label, row);
    }
    html.push_str("</details>\n");
}

/// What of the episode is not shown, in a sentence.
fn left_out(sample: &Sample) -> Option<String> {
    let row = sample.rows.first()?;
    let n_query = sample.queries / sample.n_way.max(1);
    let mut parts = Vec::new();
    if sample.rows.len() < sample.n_way {
        parts.push(format!("{} of {} classes", sample.rows.len(), sample.n_way));
    }
    if row.support.len() < sample.n_shot {
        parts.push(format!(
            "{} of {} labelled examples per class",
            row.support.len(),
            sample.n_shot
        ));
    }
    if row.queries.len() < n_query {
        parts.push(format!("{} of {n_query} queries per class", row.queries.len()));
    }
    (!parts.is_empty()).then(|| format!("Shown: {}.", parts.join(", ")))
}

fn class(html: &mut String, label: usize, row: &Row) {
    let number = label + 1;
    let _ = write!(
        html,
        "<div class=\"class\">\n<h4><span class=\"number\">{number}</span> {}</h4>\n<div><div class=\"shots\">",
        name(&row.name)
    );
    for picture in &row.support {
        let _ = write!(
            html,
            "<img class=\"px paper\" width=\"56\" height=\"56\" alt=\"labelled example of class {number}\" src=\"{}\"/>",
            picture.address()
        );
    }
    html.push_str("</div>\n<div class=\"queries\">");
    for query in &row.queries {
        answer(html, number, query);
    }
    html.push_str("</div></div></div>\n");
}

fn answer(html: &mut String, number: usize, query: &Query) {
    let probability = escape::html(&whole_percent(query.probability).replace(' ', "\u{a0}"));
    let (class, alt, verdict) = if query.right {
        (
            "right",
            format!("query of class {number}, recognised"),
            "✓".to_owned(),
        )
    } else {
        let taken = query.predicted + 1;
        let alt = format!(
            "query of class {number}, taken for class {taken}, {}",
            query.predicted_name
        );
        ("wrong", alt, format!("✗ {taken}"))
    };
    let _ = write!(
        html,
        "<figure class=\"{class}\"><img class=\"px paper\" width=\"66\" height=\"66\" alt=\"{alt}\" title=\"{alt}\" src=\"{}\"/>\
         <figcaption><b>{verdict}</b> {probability}</figcaption></figure>",
        query.picture.address(),
        alt = escape::html(&alt),
    );
}
