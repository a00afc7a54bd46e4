//! The table as JSON: flat rows, one for each method, column and line of ours.

use serde_json::{Value, json};

use super::row::COLUMNS;
use super::table::{Cell, Form, Ours, Status, Table, Trained};
use crate::train::Ended;

/// `status` of a row whose training ended.
pub const FINISHED: &str = "finished";
/// `ended` of a training that its patience ended.
pub const FLAT: &str = "flat validation";

impl Table {
    /// The table as one JSON object; accuracies, errors and intervals are in `[0, 1]`.
    pub fn to_json(&self) -> Value {
        let rows: Vec<Value> = self.forms.iter().flat_map(|form| self.rows(form)).collect();
        json!({
            "version": self.machine.version,
            "system": self.machine.system,
            "cores": self.machine.cores,
            "threads": self.machine.threads,
            "simd": self.machine.simd,
            "data": "omniglot",
            "scale": self.scale,
            "test_episodes": self.test_episodes,
            "finished": self.is_finished(),
            "notes": self.notes,
            "methods": self.forms.iter().map(method).collect::<Vec<_>>(),
            "rows": rows,
            "trainings": self.trainings.iter().map(training).collect::<Vec<_>>(),
        })
    }

    fn rows(&self, form: &Form) -> Vec<Value> {
        let columns = COLUMNS.iter().enumerate();
        columns
            .flat_map(|(at, &column)| {
                let lines = form
                    .ours
                    .iter()
                    .filter_map(move |line| Some((line, line.cells[at].as_ref()?)));
                lines.map(move |(line, cell)| {
                    let published = form.row.published.of(column);
                    let mut row = self.row(form, line, cell);
                    row["way"] = json!(column.way);
                    row["shot"] = json!(column.shot);
                    row["published"] = json!(published.map(|(accuracy, _)| share(accuracy)));
                    row["published_ci95"] = json!(
                        published
                            .filter(|(_, ci95)| *ci95 > 0.0)
                            .map(|(_, ci95)| share(ci95))
                    );
                    row
                })
            })
            .chain(form.ours.iter().filter_map(|line| {
                let cell = line.lake.as_ref()?;
                let mut row = self.row(form, line, cell);
                row["error"] = json!(cell.tested.as_ref().map(|tested| 1.0 - tested.accuracy));
                Some(row)
            }))
            .chain(form.ours.iter().filter_map(|line| {
                let cell = line.presentations.as_ref()?;
                let mut row = self.row(form, line, cell);
                let published = form.row.published.presentations.iter();
                row["published"] = published
                    .map(|&(n, accuracy)| json!({"presentation": n, "accuracy": share(accuracy)}))
                    .collect();
                row["presentations"] = json!(cell.tested.as_ref().map(|tested| &tested.presentations));
                Some(row)
            }))
            .collect()
    }

    fn row(&self, form: &Form, line: &Ours, cell: &Cell) -> Value {
        let training = &self.trainings[cell.training];
        let outcome = cell.tested.as_ref();
        json!({
            "method": form.method,
            "variant": form.row.variant,
            "protocol": line.protocol.name(),
            "norm": line.norm.name(),
            "normalised_by": line.normalised_by,
            "query": cell.trial.query,
            "status": status(cell.status),
            "column": cell.trial.measure.name(),
            "accuracy": outcome.map(|outcome| outcome.accuracy),
            "ci95": outcome.map(|outcome| outcome.ci95),
            "episodes": outcome.map(|outcome| outcome.episodes),
            "seed": outcome.map(|outcome| outcome.seed),
            "encoder": outcome.and_then(|outcome| outcome.encoder.as_ref()),
            "partition": outcome.and_then(|outcome| outcome.partition.as_ref()),
            "test_seconds": outcome.and_then(|outcome| outcome.seconds),
            "training": training.name,
            "trained_episodes": outcome.map(|outcome| outcome.trained),
            "checkpoint": outcome.map(|outcome| outcome.checkpoint),
            "weights": outcome.and_then(|outcome| outcome.weights),
            "planned_episodes": training.episodes,
            "training_seconds": training.state.progress.seconds,
            "commands": [training.command, cell.command],
        })
    }
}

/// A published number in per cent as a share, with the decimals that were printed and no more.
fn share(per_cent: f64) -> f64 {
    (per_cent * 1e4).round() / 1e6
}

fn method(form: &Form) -> Value {
    json!({
        "method": form.method,
        "variant": form.row.variant,
        "paper": form.paper,
        "published_source": form.row.published.source,
        "published_protocol": form.row.published.protocol,
        "note_paper": form.row.paper.note,
        "note_strict": form.row.strict.note,
    })
}

fn training(training: &Trained) -> Value {
    let progress = &training.state.progress;
    json!({
        "name": training.name,
        "method": training.method,
        "protocol": training.protocol.name(),
        "command": training.command,
        "episodes": progress.episode,
        "updates": progress.updates,
        "planned_episodes": training.episodes,
        "seconds": progress.seconds,
        "planned_minutes": training.minutes,
        "ended": match training.state.ended {
            None => Value::Null,
            Some(Ended::Patience) => json!(FLAT),
            Some(_) => json!("all episodes"),
        },
        "checkpoint": training.checkpoint,
        "val_task": training.val_task,
        "val_accuracy": progress.val_accuracy,
        "best": progress.best,
        "since_best": progress.since_best,
        "validations": training.validations,
        "machine": training.machine,
    })
}

fn status(status: Status) -> &'static str {
    match status {
        Status::Untrained => "untrained",
        Status::Untested => "untested",
        Status::Partial => "partial",
        Status::Finished => FINISHED,
    }
}
