//! Accuracy by the n-th presentation of a class, as lines of a table of its own.

use super::table::{Form, Ours, Status, Table};
use crate::presentations::PRESENTATIONS;

/// What the numbers are.
pub const PRESENTATIONS_NOTE: &str = "Accuracy in per cent when a class is shown for the n-th time in a sequence of 5 classes with 10 images \
     each, in random order; the label of an image follows after its answer. At the first presentation only \
     elimination helps: 20 is chance, 45.7 what a perfect memory of the labels that are taken reaches.";

/// The table of presentations.
pub struct Presented {
    /// n.
    pub columns: Vec<usize>,
    /// Its lines.
    pub lines: Vec<Line>,
}

/// A line of it.
pub struct Line {
    /// The method, above its first line.
    pub title: Option<String>,
    /// Whose numbers.
    pub name: String,
    /// A number for each column, or a dash.
    pub cells: Vec<String>,
}

impl Table {
    /// Accuracy by presentation of the methods whose paper has it; `None` where there is none.
    pub fn presentations(&self) -> Option<Presented> {
        let forms: Vec<&Form> = self
            .forms
            .iter()
            .filter(|form| !form.row.published.presentations.is_empty())
            .collect();
        let columns: Vec<usize> = (1..=PRESENTATIONS).collect();
        let lines = |form: &&Form| {
            let published = columns.iter().map(|n| {
                let printed = form.row.published.presentations;
                printed
                    .iter()
                    .find(|(printed, _)| printed == n)
                    .map_or_else(|| "–".to_owned(), |(_, accuracy)| format!("{accuracy:.1}"))
            });
            let published = Line {
                title: Some(form.title()),
                name: "published".to_owned(),
                cells: published.collect(),
            };
            let ours: Vec<Line> = form
                .ours
                .iter()
                .filter_map(|line| ours(line, columns.len()))
                .collect();
            std::iter::once(published).chain(ours)
        };
        let lines: Vec<Line> = forms.iter().flat_map(lines).collect();
        (!lines.is_empty()).then_some(Presented { columns, lines })
    }
}

fn ours(line: &Ours, columns: usize) -> Option<Line> {
    let cell = line.presentations.as_ref()?;
    let tested = cell.tested.as_ref();
    let mut cells: Vec<String> = tested
        .iter()
        .flat_map(|tested| &tested.presentations)
        .map(|n| format!("{:.2} ± {:.2}", 100.0 * n.accuracy, 100.0 * n.ci95))
        .collect();
    cells.resize(columns, "–".to_owned());
    let unfinished = match cell.status {
        Status::Finished => "",
        Status::Partial => ", of a training that had not ended",
        Status::Untested => ", not tested",
        Status::Untrained => ", not trained",
    };
    Some(Line {
        title: None,
        name: format!("{}{unfinished}", line.name()),
        cells,
    })
}
