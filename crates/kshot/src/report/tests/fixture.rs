//! A dataset of hostile names, and reports of models with fresh weights that were really tested on it.

use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::{Best, Progress};
use crate::data::{Class, ClassTable, DataError, Dataset, ImageShape, Part};
use crate::model;
use crate::norm::Norm;
use crate::record::Evaluation;
use crate::report::{Findings, Kept, Report, Sources};
use crate::settings::{Layer, Settings};
use crate::trace::Line;
use rand::RngExt;

pub const HOSTILE: &str = "<script>alert(\"1\")</script> & 'x' | `y`\u{202e}\u{0}";

/// Noise that can't be compressed, or strokes on paper; every class has a hostile name.
pub struct Noise {
    shape: ImageShape,
    table: ClassTable,
    drawing: bool,
}

impl Noise {
    pub fn dataset(side: usize, channels: usize, classes: usize, drawing: bool) -> Arc<dyn Dataset> {
        let mut table = ClassTable::new();
        let class = |index| Class {
            name: format!("{HOSTILE} {index} {}", "long ".repeat(60)),
            n_examples: 20,
        };
        table.push_group("all", (0..classes).map(class));
        Arc::new(Self {
            shape: ImageShape::square(side, channels),
            table,
            drawing,
        })
    }
}

impl Dataset for Noise {
    fn name(&self) -> &str {
        "folder:<b>&\"pictures\""
    }

    fn partition(&self) -> &str {
        "seeded"
    }

    fn shape(&self) -> ImageShape {
        self.shape
    }

    fn classes(&self, _: Part) -> &ClassTable {
        &self.table
    }

    fn read(&self, _: Part, class: usize, example: usize, pixels: &mut [f32]) -> Result<(), DataError> {
        let mut rng = crate::random::stream(9, &[class as u64, example as u64]);
        for pixel in pixels.iter_mut() {
            *pixel = rng.random_range(0.0..1.0);
            if self.drawing && *pixel < 0.7 {
                *pixel = 0.0;
            }
        }
        Ok(())
    }
}

pub fn trace() -> Vec<Line> {
    let training = |episode: u64, loss, accuracy| Line::Training {
        episode,
        loss,
        accuracy,
        lr: 0.001,
        images_per_second: 900.0,
        seconds: episode as f64 / 10.0,
    };
    let validation = |episode: u64, val_accuracy| Line::Validation {
        episode,
        val_accuracy,
        val_ci95: 0.02,
        seconds: episode as f64 / 10.0,
    };
    vec![
        training(25, 1.5, 0.4),
        training(50, 0.9, 0.6),
        validation(50, 0.66),
        training(75, 0.5, 0.7),
        training(100, f64::NAN, 0.72),
        validation(100, 0.64),
    ]
}

/// The report of a model with fresh weights after `episodes` test episodes.
pub fn report(
    dataset: Arc<dyn Dataset>,
    way: usize,
    shot: usize,
    episodes: u64,
    norm: Norm,
    trace: &[Line],
) -> Report {
    let layer: Layer = [
        ("filters", "8"),
        ("way", &way.to_string()),
        ("shot", &shot.to_string()),
        ("test-query", "5"),
        ("data-dir", HOSTILE),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    let settings = Settings::resolve(&[&layer]).unwrap();
    let learner = model::fresh(&settings, dataset.shape()).unwrap();
    let evaluation = Evaluation {
        method: "prototypical".to_owned(),
        encoder: "conv4".to_owned(),
        dataset,
        part: Part::Test,
        tasks: settings.test_tasks().unwrap(),
        episodes,
        seed: 1,
        norm,
        within_group: false,
    };
    let (record, kept) = evaluation.run(learner.as_ref(), Kept::of, |_| true).unwrap();
    let findings = Findings::of(&kept);
    Report::gather(&Sources {
        learner: learner.as_ref(),
        evaluation: &evaluation,
        record: &record,
        findings: &findings,
        settings: &settings,
        progress: &Progress {
            episode: 50,
            best: Some(Best {
                episode: 50,
                accuracy: 0.66,
            }),
            seconds: 5.0,
            ..Progress::default()
        },
        trace,
        folder: Path::new("runs/a <b> & 'c'"),
    })
    .unwrap()
}

pub fn small(trace: &[Line]) -> Report {
    report(Noise::dataset(28, 1, 12, true), 5, 2, 20, Norm::Running, trace)
}
