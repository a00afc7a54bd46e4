//! Features that are computed already, by any program: `features:FILE`.
//!
//! - `.npz`: an array of features `[n, d]` called `features`, `embeddings`, `embedding`, `X` or `x`, and labels `[n]` called
//!   `labels`, `label`, `y`, `targets`, `target` or `class`: whole numbers or text.
//! - `.npy`: features `[n, d]`; the labels lie beside it, as `NAME.labels.npy`, or as `NAME.labels.txt` with one a line.
//! - `.safetensors`: features `[n, d]` and labels `[n]` under the same names; the labels are whole numbers.
//! - `.parquet` (feature `parquet`): a column of lists of floats and a column of labels under the same names; or, without such
//!   lists, a column of floats for each feature, in the order of the table. Other columns of text are passed over.
//!
//! Each vector is an "image" of 1x1 pixel with d channels, which `--encoder identity` passes on to the method. Classes are
//! the labels, in one group, ordered as numbers or as text. The partition is that of a folder of pictures.

mod npy;
#[cfg(feature = "parquet")]
mod parquet;
mod rows;
mod table;

use std::collections::BTreeMap;
use std::path::Path;

use super::registry::{DatasetSpec, OpenRequest};
use super::{Class, ClassTable, DataError, Dataset, ImageShape, Part, folder};
use crate::options::{OptionKind, OptionSpec};

pub use rows::{Classes, Rows, vector, vector_file};

/// What the registry knows of features.
pub static SPEC: DatasetSpec = DatasetSpec {
    name: "features",
    argument: "FILE",
    summary: "features that are computed already (CLIP, DINOv2, ...): .npz, .npy, .safetensors or .parquet, with --encoder identity",
    source: "yours",
    line_drawings: false,
    partitions: &["seeded"],
    options: &[
        OptionSpec {
            name: "train-fraction",
            kind: OptionKind::Number(0.0, 1.0),
            default: "0.6",
            help: "share of the classes that are training classes",
        },
        OptionSpec {
            name: "val-fraction",
            kind: OptionKind::Number(0.0, 1.0),
            default: "0.2",
            help: "share of the classes that are validation classes; the rest are test classes (all, when both are 0)",
        },
        OptionSpec {
            name: "unit-length",
            kind: OptionKind::Flag,
            default: "false",
            help: "divide each vector of features by its length",
        },
    ],
    open: |request| Ok(Box::new(Features::open(request)?)),
    fetch: None,
};

/// Features with a label each, as a file gives them.
struct Labelled {
    /// `[n, width]`.
    values: Vec<f32>,
    width: usize,
    /// `[n]`.
    labels: Vec<Label>,
}

/// A class in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Number(i64),
    Text(String),
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

struct Features {
    name: String,
    shape: ImageShape,
    values: Vec<f32>,
    /// For each part its table and, class by class, the rows of its examples.
    parts: [(ClassTable, Vec<Vec<usize>>); 3],
}

impl Features {
    fn open(request: &OpenRequest) -> Result<Self, DataError> {
        let name = format!("{}:{}", SPEC.name, request.argument);
        let option = |problem: String| DataError::Option {
            dataset: name.clone(),
            problem,
        };
        let path = Path::new(&request.argument);
        let fractions = ["train-fraction", "val-fraction"].map(|name| request.options.number(name));
        if fractions[0] + fractions[1] > 1.0 + 1e-9 {
            return Err(option(format!(
                "train-fraction {} and val-fraction {} are more than 1 together; lower one",
                fractions[0], fractions[1]
            )));
        }
        let Labelled {
            mut values,
            width,
            labels,
        } = table::read(&name, path)?;
        let shape = ImageShape {
            height: 1,
            width: 1,
            channels: width,
        };
        if request.image_size.is_some_and(|side| side != 1) || request.channels.is_some_and(|n| n != width) {
            return Err(option(format!(
                "has vectors of {width} features, asked for {} and {} channels; give neither --image-size nor --channels",
                request.image_size.unwrap_or(1),
                request.channels.unwrap_or(width)
            )));
        }
        if request.options.flag("unit-length") {
            for row in values.chunks_exact_mut(width) {
                let length = row
                    .iter()
                    .map(|x| x * x)
                    .sum::<f32>()
                    .sqrt()
                    .max(f32::MIN_POSITIVE);
                row.iter_mut().for_each(|x| *x /= length);
            }
        }
        let classes = by_class(&labels);
        let parts = folder::partition(classes.len(), fractions, request.seed).map(|chosen| {
            let mut table = ClassTable::new();
            if !chosen.is_empty() {
                let class = |&index: &usize| Class {
                    name: classes[index].0.clone(),
                    n_examples: classes[index].1.len(),
                };
                table.push_group("all", chosen.iter().map(class));
            }
            (
                table,
                chosen.into_iter().map(|index| classes[index].1.clone()).collect(),
            )
        });
        Ok(Self {
            name,
            shape,
            values,
            parts,
        })
    }
}

/// The classes, ordered as numbers or as text, and the rows of each.
fn by_class(labels: &[Label]) -> Classes {
    let mut classes: BTreeMap<&Label, Vec<usize>> = BTreeMap::new();
    for (row, label) in labels.iter().enumerate() {
        classes.entry(label).or_default().push(row);
    }
    let named = classes.into_iter().map(|(label, rows)| (label.to_string(), rows));
    named.collect()
}

impl Dataset for Features {
    fn name(&self) -> &str {
        &self.name
    }

    fn partition(&self) -> &str {
        SPEC.partitions[0]
    }

    fn shape(&self) -> ImageShape {
        self.shape
    }

    fn classes(&self, part: Part) -> &ClassTable {
        &self.parts[part as usize].0
    }

    fn read(&self, part: Part, class: usize, example: usize, pixels: &mut [f32]) -> Result<(), DataError> {
        let out_of_range = |problem| DataError::OutOfRange {
            dataset: self.name.clone(),
            problem,
        };
        let rows = self.parts[part as usize].1.get(class);
        let Some(&row) = rows.and_then(|rows| rows.get(example)) else {
            return Err(out_of_range(format!(
                "no example {example} of class {class} of {part}"
            )));
        };
        let width = self.shape.len();
        if pixels.len() != width {
            return Err(out_of_range(format!(
                "a vector takes {width} values, not {}",
                pixels.len()
            )));
        }
        pixels.copy_from_slice(&self.values[row * width..][..width]);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
