//! The classes that were mixed up most.

use std::fmt::Write;

use super::name;
use crate::report::Report;
use crate::report::classes::HardPair;
use crate::report::numbers::{count, counted, percent};

pub fn write(html: &mut String, report: &Report) {
    html.push_str("<section aria-labelledby=\"pairs\">\n<h2 id=\"pairs\">Hardest pairs</h2>\n");
    if report.pairs.is_empty() {
        html.push_str("<p>No query of the test was taken for another class.</p>\n</section>\n");
        return;
    }
    let _ = writeln!(
        html,
        "<p>{} of classes were mixed up in the test. These most: the share counts the queries of both classes, over the \
         episodes in which both occurred, that were taken for the other one. They are ranked by the lower end of that \
         share's 95 % interval, so that two classes that met once, by chance badly, don't come first.</p>\n<ol class=\"pairs\">",
        counted(report.mixed_up as u64, "pair", "pairs")
    );
    for pair in &report.pairs {
        item(html, pair);
    }
    html.push_str("</ol>\n</section>\n");
}

fn item(html: &mut String, hard: &HardPair) {
    let figure = |place: usize| {
        format!(
            "<figure><img class=\"px paper\" width=\"84\" height=\"84\" alt=\"an example\" src=\"{}\"/><figcaption>{}</figcaption></figure>",
            hard.pictures[place].address(),
            name(&hard.names[place])
        )
    };
    let pair = &hard.pair;
    let _ = writeln!(
        html,
        "<li><div class=\"both\">{}<span class=\"arrow\" aria-hidden=\"true\">⇄</span>{}</div>\n\
         <p><strong>{}</strong> mixed up in {}</p><div class=\"bar\" aria-hidden=\"true\"><i style=\"width:{:.0}%\"></i></div>\n\
         <p class=\"quiet\">left taken for right: {} of {}<br/>right taken for left: {} of {}</p></li>",
        figure(0),
        figure(1),
        percent(pair.rate()),
        counted(pair.episodes, "episode", "episodes"),
        100.0 * pair.rate(),
        count(pair.taken[0]),
        count(pair.queries),
        count(pair.taken[1]),
        count(pair.queries),
    );
}
