//! The table as Markdown and as lines for a terminal.

use std::fmt::Write;

use super::presented::PRESENTATIONS_NOTE;
use super::row::{COLUMNS, Measure};
use super::table::{Cell, Form, Ours, Status, Table};
use crate::norm::NormalisedBy;
use crate::report::escape::{line as one_line, markdown as escaped};
use crate::report::numbers::{count, duration};

impl Table {
    /// The table with its notes, trainings and commands.
    pub fn to_markdown(&self) -> String {
        let mut text = format!(
            "# The papers' Omniglot table, and ours\n\n{}\n\n",
            self.in_words()
        );
        for note in &self.notes {
            let _ = writeln!(text, "**{}**\n", escaped(note));
        }
        let columns: String = COLUMNS.iter().map(|column| format!(" {column} |")).collect();
        let _ = writeln!(
            text,
            "| method | |{columns} Lake, error | training |\n|---|---|---:|---:|---:|---:|---:|---|"
        );
        for form in &self.forms {
            let printed: String = COLUMNS
                .iter()
                .map(|column| format!(" {} |", published(form, *column)))
                .collect();
            let _ = writeln!(
                text,
                "| **{}** | published |{printed} | |",
                escaped(&form.title())
            );
            for line in &form.ours {
                let cells: String = line
                    .cells
                    .iter()
                    .map(|cell| {
                        format!(
                            " {} |",
                            cell.as_ref().map_or_else(String::new, |cell| self.number(cell))
                        )
                    })
                    .collect();
                let lake = line
                    .lake
                    .as_ref()
                    .map_or_else(String::new, |cell| self.number(cell));
                let _ = writeln!(
                    text,
                    "| | {} |{cells} {lake} | {} |",
                    line.name(),
                    self.effort(line)
                );
            }
        }
        self.presentations_as_text(&mut text);
        text.push_str("\n## Protocols\n\n");
        for form in &self.forms {
            let _ = write!(
                text,
                "- **{}**: {}; {}.",
                escaped(&form.title()),
                escaped(form.row.published.source),
                escaped(form.row.published.protocol)
            );
            for (what, note) in form.notes() {
                let _ = write!(text, " {what}: {}", escaped(note));
            }
            text.push('\n');
        }
        self.commands_as_text(&mut text);
        text
    }

    /// Accuracy by presentation, where a paper has that.
    fn presentations_as_text(&self, text: &mut String) {
        let Some(shown) = self.presentations() else {
            return;
        };
        let columns: String = shown.columns.iter().map(|n| format!(" {n} |")).collect();
        let _ = write!(
            text,
            "\n## By presentation of a class\n\n{PRESENTATIONS_NOTE}\n\n| presentation | |{columns}\n|---|---|{}\n",
            "---:|".repeat(shown.columns.len())
        );
        for line in shown.lines {
            let cells: String = line.cells.iter().map(|cell| format!(" {cell} |")).collect();
            let title = match line.title {
                Some(title) => format!("**{}**", escaped(&title)),
                None => String::new(),
            };
            let _ = writeln!(text, "| {title} | {} |{cells}", line.name);
        }
    }

    fn commands_as_text(&self, text: &mut String) {
        text.push_str("\n## Trainings and commands\n");
        for (index, training) in self.trainings.iter().enumerate() {
            let _ = write!(
                text,
                "\n### {}\n\n{}, {} of training.\n\n```sh\n{}\n",
                escaped(&training.name),
                training.in_words(),
                duration(training.state.progress.seconds),
                one_line(&training.command)
            );
            for cell in self.cells().filter(|cell| cell.training == index) {
                let _ = writeln!(text, "{}", one_line(&cell.command));
            }
            text.push_str("```\n");
        }
    }

    /// The numbers in lines for a terminal.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for note in &self.notes {
            let _ = writeln!(text, "{}", one_line(note));
        }
        for form in &self.forms {
            let _ = writeln!(text, "{}", form.title());
            for (at, column) in COLUMNS.into_iter().enumerate() {
                let _ = write!(text, "  {column}: published {}", published(form, column));
                for line in &form.ours {
                    if let Some(cell) = &line.cells[at] {
                        let _ = write!(text, "; {} {}", line.name(), self.number(cell));
                    }
                }
                text.push('\n');
            }
            for line in &form.ours {
                if let Some(cell) = &line.lake {
                    let _ = writeln!(
                        text,
                        "  Lake's benchmark, error: {} {}",
                        line.name(),
                        self.number(cell)
                    );
                }
            }
        }
        for line in self.presentations().into_iter().flat_map(|shown| shown.lines) {
            if let Some(title) = line.title {
                let _ = writeln!(text, "{title}, by presentation of a class");
            }
            let _ = writeln!(text, "  {}: {}", line.name, line.cells.join("; "));
        }
        text
    }

    /// What the numbers are.
    pub fn in_words(&self) -> String {
        let mut text = format!(
            "Accuracy in per cent on Omniglot with its 95 % interval, over {} test episodes of 15 queries per class unless \
             said otherwise, seed {}. Strict: the official split, no rotated test classes, and no query sees another one: \
             running averages normalise, or what the line names. Lake's benchmark: error in per cent over 400 trials; people \
             err on 4.5.",
            count(self.test_episodes),
            super::SEED,
        );
        if self.scale < 1.0 {
            let _ = write!(
                text,
                " This table is scaled down: trainings, validations and tests have {} times the planned episodes.",
                self.scale
            );
        }
        text
    }

    /// A cell: its number, and what it lacks.
    pub fn number(&self, cell: &Cell) -> String {
        let training = &self.trainings[cell.training];
        let value = |cell: &Cell| {
            let outcome = cell.tested.as_ref()?;
            Some(match cell.trial.measure {
                Measure::Task(_) | Measure::Presentations => {
                    format!("{:.2} ± {:.2}", 100.0 * outcome.accuracy, 100.0 * outcome.ci95)
                }
                Measure::Lake => format!("{:.2}", 100.0 * (1.0 - outcome.accuracy)),
            })
        };
        match (cell.status, value(cell)) {
            (Status::Finished, Some(value)) => value,
            (Status::Partial, Some(value)) => {
                let trained = cell.tested.as_ref().map_or(0, |tested| tested.trained);
                format!(
                    "{value} (after {} of {} episodes)",
                    count(trained),
                    count(training.episodes)
                )
            }
            (Status::Untrained, _) => "not trained".to_owned(),
            _ => format!(
                "not tested ({} of {} episodes)",
                count(training.state.progress.episode),
                count(training.episodes)
            ),
        }
    }

    /// The trainings behind a line: episodes and time.
    pub fn effort(&self, line: &Ours) -> String {
        let mut indices: Vec<usize> = line.cells.iter().flatten().map(|cell| cell.training).collect();
        indices.sort_unstable();
        indices.dedup();
        let trainings = || indices.iter().map(|&index| &self.trainings[index]);
        let seconds: f64 = trainings().map(|training| training.state.progress.seconds).sum();
        let words: Vec<String> = trainings().map(|training| training.in_words()).collect();
        let same = words.windows(2).all(|pair| pair[0] == pair[1]);
        let episodes = match words.len() {
            1 => words[0].clone(),
            n if same => format!("{n} trainings, each {}", words[0]),
            _ => words.join("; "),
        };
        if seconds > 0.0 {
            format!("{episodes}, {}", duration(seconds))
        } else {
            episodes
        }
    }
}

impl Form {
    /// What our trainings under each protocol do otherwise, where any are planned.
    pub fn notes(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let setups = [
            ("Ours, paper's protocol", &self.row.paper),
            ("Ours, strict", &self.row.strict),
        ];
        setups
            .into_iter()
            .filter(|(_, setup)| !setup.trainings.is_empty() && !setup.note.is_empty())
            .map(|(what, setup)| (what, setup.note))
    }
}

impl Ours {
    /// `ours, strict`, and what normalises where that is not running averages.
    pub fn name(&self) -> String {
        let norm = match self.normalised_by {
            NormalisedBy::RunningAverages => String::new(),
            NormalisedBy::Episode => ", transductive".to_owned(),
            other => format!(", {}", other.short()),
        };
        match self.protocol {
            super::Protocol::Paper => format!("ours, paper's protocol{norm}{}", self.queries()),
            super::Protocol::Strict => format!("ours, strict{norm}{}", self.queries()),
        }
    }

    /// Queries per class where they are not 15.
    fn queries(&self) -> String {
        let queries: Vec<String> = self
            .cells
            .iter()
            .flatten()
            .map(|cell| cell.trial.query.to_string())
            .collect();
        if queries.iter().all(|query| query == "15") {
            return String::new();
        }
        let same = queries.windows(2).all(|pair| pair[0] == pair[1]);
        let queries = if same {
            queries[0].clone()
        } else {
            queries.join("/")
        };
        let word = if queries == "1" { "query" } else { "queries" };
        format!(", {queries} {word}")
    }
}

/// A published number, as it was printed.
pub fn published(form: &Form, column: super::Column) -> String {
    match form.row.published.of(column) {
        None => "–".to_owned(),
        Some((accuracy, ci95)) if ci95 > 0.0 => format!("{accuracy} ± {ci95}"),
        Some((accuracy, _)) if accuracy.fract() == 0.0 => format!("{accuracy:.1}"),
        Some((accuracy, _)) => accuracy.to_string(),
    }
}
