//! Every setting, and where the run was made.

use std::fmt::Write;

use super::name;
use crate::report::facts::Group;
use crate::report::numbers::duration;
use crate::report::{Report, escape};

pub fn write(html: &mut String, report: &Report) {
    html.push_str("<section aria-labelledby=\"settings\">\n<h2 id=\"settings\">Settings</h2>\n");
    for group in &report.settings {
        table(html, group);
    }
    html.push_str("</section>\n<section aria-labelledby=\"machine\">\n<h2 id=\"machine\">Machine</h2>\n<dl class=\"facts\">\n");
    let times = [
        ("training time", duration(report.training_seconds)),
        ("test time", duration(report.record.seconds)),
        (
            "test episodes per second",
            format!("{:.0}", report.record.episodes_per_second),
        ),
    ];
    for (name, value) in report.machine.facts().into_iter().chain(times) {
        let _ = writeln!(
            html,
            "<div><dt>{name}</dt><dd>{}</dd></div>",
            escape::html(&value)
        );
    }
    html.push_str("</dl>\n<p class=\"small quiet\">Training time leaves out validations, the test and this report.</p>\n</section>\n");
}

fn table(html: &mut String, group: &Group) {
    let _ = writeln!(
        html,
        "<div class=\"scroll\"><table><caption>{}</caption>\n<thead><tr><th scope=\"col\">setting</th><th scope=\"col\">value</th>\
         <th scope=\"col\">meaning</th></tr></thead>\n<tbody>",
        escape::html(&group.title)
    );
    for row in &group.rows {
        let changed = row.value != row.default;
        let value = match name(&row.value) {
            _ if row.value.is_empty() => "<span class=\"quiet\">none</span>".to_owned(),
            value if changed => format!("<b>{value}</b>"),
            value => value,
        };
        let default = match row.default {
            _ if !changed => String::new(),
            "" => "; default none".to_owned(),
            default => format!("; default {default}"),
        };
        let _ = writeln!(
            html,
            "<tr><th scope=\"row\" class=\"mono\">{}</th><td class=\"value\">{value}</td><td class=\"quiet\">{}{}</td></tr>",
            escape::html(row.name),
            escape::html(row.help),
            escape::html(&default)
        );
    }
    html.push_str("</tbody></table></div>\n");
}
