//! The table as one page that needs nothing else, with a picture of each column and of each training.

use std::fmt::Write;

use super::dots::{self, Dot, Group, Mark};
use super::markdown::published;
use super::outcome::Validation;
use super::plan::Protocol;
use super::presented::PRESENTATIONS_NOTE;
use super::row::{COLUMNS, Column};
use super::table::{Cell, Form, Ours, Status, Table, Trained};
use crate::norm::Norm;
use crate::report::axis::Scale;
use crate::report::chart::{Chart, Series};
use crate::report::escape;
use crate::report::html::document;
use crate::report::html::headline::command;
use crate::report::numbers::{count, duration};

const TITLE: &str = "The papers' Omniglot table, and ours";

impl Table {
    /// The page.
    pub fn to_html(&self) -> String {
        let mut html = format!(
            "<header>\n<h1 class=\"large\">{}</h1>\n<p>{}</p>\n",
            escape::html(TITLE),
            escape::html(&self.in_words())
        );
        for note in &self.notes {
            let _ = writeln!(html, "<p class=\"note\">{}</p>", escape::html(note));
        }
        html.push_str("</header>\n");
        self.numbers(&mut html);
        self.presentations_as_html(&mut html);
        self.pictures(&mut html);
        self.protocols(&mut html);
        self.trainings(&mut html);
        self.commands(&mut html);
        document(TITLE, &html)
    }

    fn numbers(&self, html: &mut String) {
        html.push_str(
            "<section aria-labelledby=\"numbers\">\n<h2 id=\"numbers\">Numbers</h2>\n<div class=\"scroll\">\
             <table class=\"numbers\">\n<thead><tr><th scope=\"col\">accuracy, %</th>",
        );
        for column in COLUMNS {
            let _ = write!(html, "<th scope=\"col\" class=\"count\">{column}</th>");
        }
        html.push_str("<th scope=\"col\" class=\"count\">Lake, error</th></tr></thead>\n");
        for form in &self.forms {
            let _ = write!(
                html,
                "<tbody>\n<tr><th scope=\"rowgroup\" colspan=\"6\"><b>{}</b> <span class=\"quiet\">{}</span></th></tr>\n\
                 <tr><th scope=\"row\">published</th>",
                escape::html(&form.title()),
                escape::html(form.paper)
            );
            for column in COLUMNS {
                let _ = write!(
                    html,
                    "<td class=\"count\" data-label=\"{column}\">{}</td>",
                    published(form, column)
                );
            }
            html.push_str("<td></td></tr>\n");
            for line in &form.ours {
                let _ = write!(
                    html,
                    "<tr><th scope=\"row\">{}<small class=\"quiet\">{}</small></th>",
                    escape::html(&line.name()),
                    escape::html(&self.effort(line))
                );
                for (column, cell) in COLUMNS.iter().zip(&line.cells) {
                    let cell = self.cell(cell.as_ref());
                    let _ = write!(html, "<td class=\"count\" data-label=\"{column}\">{cell}</td>");
                }
                let lake = self.cell(line.lake.as_ref());
                let _ = writeln!(
                    html,
                    "<td class=\"count\" data-label=\"Lake, error\">{lake}</td></tr>"
                );
            }
            html.push_str("</tbody>\n");
        }
        html.push_str("</table></div>\n</section>\n");
    }

    fn presentations_as_html(&self, html: &mut String) {
        let Some(shown) = self.presentations() else {
            return;
        };
        let _ = write!(
            html,
            "<section aria-labelledby=\"presentations\">\n<h2 id=\"presentations\">By presentation of a class</h2>\n<p>{}</p>\n\
             <div class=\"scroll\"><table class=\"numbers\">\n<thead><tr><th scope=\"col\">presentation</th>",
            escape::html(PRESENTATIONS_NOTE)
        );
        for n in &shown.columns {
            let _ = write!(html, "<th scope=\"col\" class=\"count\">{n}</th>");
        }
        html.push_str("</tr></thead>\n<tbody>\n");
        for line in shown.lines {
            if let Some(title) = line.title {
                let _ = writeln!(
                    html,
                    "<tr><th scope=\"rowgroup\" colspan=\"{}\"><b>{}</b></th></tr>",
                    shown.columns.len() + 1,
                    escape::html(&title)
                );
            }
            let _ = write!(html, "<tr><th scope=\"row\">{}</th>", escape::html(&line.name));
            for (n, cell) in shown.columns.iter().zip(&line.cells) {
                let _ = write!(
                    html,
                    "<td class=\"count\" data-label=\"{n}\">{}</td>",
                    escape::html(cell)
                );
            }
            html.push_str("</tr>\n");
        }
        html.push_str("</tbody>\n</table></div>\n</section>\n");
    }

    /// A number, what it lacks below it.
    fn cell(&self, cell: Option<&Cell>) -> String {
        let Some(cell) = cell else {
            return String::new();
        };
        let text = escape::html(&self.number(cell));
        match (cell.status, text.split_once(" (")) {
            (Status::Finished, _) => format!("<b>{text}</b>"),
            // How far the training is stands beside the line's name.
            (Status::Untested, _) => "<small class=\"quiet\">not tested</small>".to_owned(),
            (_, Some((number, rest))) => format!("{number} <small class=\"quiet\">({rest}</small>"),
            _ => format!("<small class=\"quiet\">{text}</small>"),
        }
    }

    fn pictures(&self, html: &mut String) {
        html.push_str(
            "<section aria-labelledby=\"columns\">\n<h2 id=\"columns\">Beside each other</h2>\n<p>Accuracy in per cent with its 95 % \
             interval. The axes do not begin at zero. <span class=\"nowrap\">A hollow mark</span> is of a training that had \
             not ended.</p>\n<div class=\"charts\">\n",
        );
        for (at, column) in COLUMNS.into_iter().enumerate() {
            let groups: Vec<Group> = self
                .forms
                .iter()
                .map(|form| group(form, column, at))
                .filter(|group| group.dots.len() > 1)
                .collect();
            if let Some(svg) = dots::svg(&description(column, &groups), &groups) {
                let _ = writeln!(
                    html,
                    "<figure class=\"dots\"><figcaption><b>{column}</b></figcaption>\n{svg}</figure>"
                );
            }
        }
        html.push_str("</div>\n</section>\n");
    }

    fn protocols(&self, html: &mut String) {
        html.push_str("<section aria-labelledby=\"protocols\">\n<h2 id=\"protocols\">Protocols</h2>\n");
        for form in &self.forms {
            let _ = writeln!(
                html,
                "<h3>{}</h3>\n<p>Published: {}. {}.</p>",
                escape::html(&form.title()),
                escape::html(form.row.published.source),
                escape::html(&capital(form.row.published.protocol))
            );
            for (what, note) in form.notes() {
                let _ = writeln!(html, "<p>{what}: {}</p>", escape::html(note));
            }
        }
        html.push_str("</section>\n");
    }

    fn trainings(&self, html: &mut String) {
        html.push_str(
            "<section aria-labelledby=\"trainings\">\n<h2 id=\"trainings\">Validation over training</h2>\n<div class=\"charts\">\n",
        );
        for training in &self.trainings {
            if let Some(svg) = curve(training).svg() {
                let _ = writeln!(
                    html,
                    "<figure><figcaption><b>{}</b><span class=\"key\">{}, 95 % band; {}, {}</span></figcaption>\n{svg}</figure>",
                    escape::html(&training.name),
                    escape::html(&training.val_task),
                    escape::html(&training.in_words()),
                    duration(training.state.progress.seconds)
                );
            }
        }
        html.push_str(
            "</div>\n<p class=\"small quiet\">Where a training has the validation classes in it as well, as papers have for their \
             final model, its validation accuracy says nothing about new classes. Training time leaves out validations and \
             tests.</p>\n</section>\n",
        );
    }

    fn commands(&self, html: &mut String) {
        html.push_str("<section aria-labelledby=\"commands\">\n<h2 id=\"commands\">Commands</h2>\n");
        for (index, training) in self.trainings.iter().enumerate() {
            let _ = write!(
                html,
                "<details><summary>{}</summary>\n<p>{}</p>\n<pre><code>{}",
                escape::html(&training.name),
                escape::html(&capital(&self.made(training))),
                command(&training.command)
            );
            for cell in self.cells().filter(|cell| cell.training == index) {
                let _ = write!(html, "\n{}", command(&cell.command));
            }
            html.push_str("</code></pre></details>\n");
        }
        let _ = writeln!(
            html,
            "<p class=\"small quiet\">{}.</p>\n</section>",
            escape::html(&self.machine.in_words())
        );
    }

    /// How far `training` is, and on which machine if that is not the table's.
    fn made(&self, training: &Trained) -> String {
        let words = training.in_words();
        match &training.machine {
            Some(other) if *other != self.machine => format!("{words}; on {}", other.in_words()),
            _ => words,
        }
    }
}

fn group(form: &Form, column: Column, at: usize) -> Group {
    let printed = form.row.published.of(column).map(|(value, half)| Dot {
        label: "published",
        mark: Mark::Published,
        value,
        half,
        partial: false,
    });
    let ours = form.ours.iter().filter_map(|line| {
        let cell = line.cells[at].as_ref()?;
        let outcome = cell.tested.as_ref()?;
        Some(Dot {
            label: label(line),
            mark: match line.protocol {
                Protocol::Paper => Mark::Paper,
                Protocol::Strict => Mark::Strict,
            },
            value: 100.0 * outcome.accuracy,
            half: 100.0 * outcome.ci95,
            partial: cell.status == Status::Partial,
        })
    });
    Group {
        title: form.title(),
        dots: printed.into_iter().chain(ours).collect(),
    }
}

fn label(line: &Ours) -> &'static str {
    match (line.protocol, line.norm) {
        (Protocol::Paper, Norm::Running) => "paper's protocol",
        (Protocol::Paper, Norm::Episode) => "transductive",
        (Protocol::Strict, Norm::Running) => "strict",
        (Protocol::Strict, Norm::Episode) => "strict, transd.",
    }
}

/// The numbers in words, for those who can't see them.
fn description(column: Column, groups: &[Group]) -> String {
    let groups: Vec<String> = groups
        .iter()
        .map(|group| {
            let dots: Vec<String> = group
                .dots
                .iter()
                .map(|dot| format!("{} {:.2}", dot.label, dot.value))
                .collect();
            format!("{}: {}", group.title, dots.join(", "))
        })
        .collect();
    format!("{column} accuracy in per cent. {}.", groups.join("; "))
}

fn curve(training: &Trained) -> Chart {
    let last = training.validations.last();
    let point = |at: &Validation| [at.episode as f64, 100.0 * at.accuracy, 100.0 * at.ci95];
    Chart {
        description: last.map_or_else(String::new, |last| {
            format!(
                "Validation accuracy of {} in per cent: {:.2} after {} episodes",
                training.name,
                100.0 * last.accuracy,
                count(last.episode)
            )
        }),
        x_label: "training episodes".to_owned(),
        scale: Scale::Close,
        ceiling: 100.0,
        lines: vec![Series {
            points: training.validations.iter().map(point).collect(),
        }],
        mark: training
            .checkpoint
            .map(|checkpoint| (checkpoint as f64, format!("tested: {}", count(checkpoint)))),
    }
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(characters).collect()
    })
}
