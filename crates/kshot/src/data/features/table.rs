//! Files with features and labels, by their endings.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use zip::ZipArchive;

use super::npy::{Array, half};
use super::{Label, Labelled};
use crate::data::{DataError, pixels};

/// What features are called.
pub const FEATURES: [&str; 5] = ["features", "embeddings", "embedding", "X", "x"];
/// What labels are called.
pub const LABELS: [&str; 6] = ["labels", "label", "y", "targets", "target", "class"];

/// Features, and labels or why there are none.
pub struct Table {
    /// `[n, width]`.
    pub values: Vec<f32>,
    /// Features of an example.
    pub width: usize,
    labels: Result<Vec<Label>, DataError>,
}

impl Table {
    /// With its labels, one for each example; `path` is where it came from.
    pub fn labelled(self, path: &Path) -> Result<Labelled, DataError> {
        let labels = self.labels?;
        let n = self.values.len() / self.width;
        if labels.len() != n {
            return Err(DataError::Damaged {
                path: path.to_owned(),
                problem: format!("{n} examples and {} labels; there must be one each", labels.len()),
            });
        }
        Ok(Labelled {
            values: self.values,
            width: self.width,
            labels,
        })
    }
}

/// Reads `path`, with labels, for the dataset called `name`.
pub fn read(name: &str, path: &Path) -> Result<Labelled, DataError> {
    read_any(name, path)?.labelled(path)
}

/// Reads `path`, with labels or without, for what is called `name`.
pub fn read_any(name: &str, path: &Path) -> Result<Table, DataError> {
    if !path.exists() {
        return Err(DataError::Missing {
            dataset: name.to_owned(),
            path: path.to_owned(),
            hint: "give an .npz, .npy, .safetensors or .parquet file with features and labels".to_owned(),
        });
    }
    let damaged = |problem: String| DataError::Damaged {
        path: path.to_owned(),
        problem,
    };
    let ending = path
        .extension()
        .map(|ending| ending.to_string_lossy().to_lowercase());
    let (shape, values, labels) = match ending.as_deref() {
        Some("npz") => npz(path)?,
        Some("npy") => {
            let bytes = bounded(path)?;
            let array = Array::parse(&bytes).map_err(&damaged)?;
            (
                array.shape.clone(),
                array.floats().map_err(&damaged)?,
                beside(path),
            )
        }
        Some("safetensors") => safetensors(path)?,
        #[cfg(feature = "parquet")]
        Some("parquet") => super::parquet::read(path)?,
        #[cfg(not(feature = "parquet"))]
        Some("parquet") => {
            return Err(damaged(
                "this kshot was built without Parquet; build it with --features parquet".to_owned(),
            ));
        }
        _ => {
            return Err(damaged(
                "features are read from .npz, .npy, .safetensors and .parquet files".to_owned(),
            ));
        }
    };
    let &[n, width] = shape.as_slice() else {
        return Err(damaged(format!(
            "features of shape {shape:?}, expected [examples, features]"
        )));
    };
    if n == 0 || width == 0 {
        return Err(damaged(format!("features of shape {shape:?}: there are none")));
    }
    if width > 100_000 {
        return Err(damaged(format!(
            "{width} features per example, and at most 100000 are taken"
        )));
    }
    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        return Err(damaged(format!(
            "feature {} of example {} is {}; features must be finite",
            at % width,
            at / width,
            values[at]
        )));
    }
    Ok(Table {
        values,
        width,
        labels,
    })
}

/// The shape of the features, the features, and the labels or why there are none.
pub type Found = (Vec<usize>, Vec<f32>, Result<Vec<Label>, DataError>);

fn npz(path: &Path) -> Result<Found, DataError> {
    let damaged = |problem: String| DataError::Damaged {
        path: path.to_owned(),
        problem,
    };
    let file = File::open(path).map_err(|error| DataError::io(path, error))?;
    let mut archive =
        ZipArchive::new(file).map_err(|error| damaged(format!("not a readable .npz file ({error})")))?;
    let names: Vec<String> = archive.file_names().flatten().map(String::from).collect();
    let mut entry = |wanted: &[&str]| -> Result<(String, Vec<u8>), DataError> {
        let name = wanted
            .iter()
            .map(|name| format!("{name}.npy"))
            .find(|name| names.contains(name));
        let name = name.ok_or_else(|| {
            damaged(format!(
                "no array called {}; there are {}",
                wanted.join(", "),
                names
                    .iter()
                    .map(|name| name.trim_end_matches(".npy"))
                    .collect::<Vec<_>>()
                    .join(", ")
            ))
        })?;
        let unreadable = |problem: String| damaged(format!("array {name}: {problem}"));
        let stored = archive
            .by_name(&name)
            .map_err(|error| unreadable(error.to_string()))?;
        let mut bytes = Vec::new();
        // The size that the archive states is not to be trusted: what comes out is counted.
        stored
            .take(pixels::MAX_DATASET + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| unreadable(error.to_string()))?;
        if bytes.len() as u64 > pixels::MAX_DATASET {
            return Err(unreadable(format!("more than {} MiB", pixels::MAX_DATASET >> 20)));
        }
        Ok((name, bytes))
    };
    let (name, bytes) = entry(&FEATURES)?;
    let wrong = |name: &str, problem: String| damaged(format!("array {name}: {problem}"));
    let array = Array::parse(&bytes).map_err(|problem| wrong(&name, problem))?;
    let (shape, values) = (
        array.shape.clone(),
        array.floats().map_err(|problem| wrong(&name, problem))?,
    );
    let labels = entry(&LABELS).and_then(|(name, bytes)| {
        let labels = Array::parse(&bytes).and_then(|array| array.labels());
        labels.map_err(|problem| wrong(&name, problem))
    });
    Ok((shape, values, labels))
}

/// The labels beside an `.npy` file.
fn beside(path: &Path) -> Result<Vec<Label>, DataError> {
    let candidates: [PathBuf; 2] = ["labels.npy", "labels.txt"].map(|ending| path.with_extension(ending));
    let damaged = |path: &Path, problem: String| DataError::Damaged {
        path: path.to_owned(),
        problem,
    };
    if candidates[0].exists() {
        let bytes = bounded(&candidates[0])?;
        let labels = Array::parse(&bytes).and_then(|array| array.labels());
        return labels.map_err(|problem| damaged(&candidates[0], problem));
    }
    if candidates[1].exists() {
        let text = String::from_utf8(bounded(&candidates[1])?)
            .map_err(|_| damaged(&candidates[1], "not UTF-8 text".to_owned()))?;
        return Ok(text
            .lines()
            .map(|line| Label::Text(line.trim().to_owned()))
            .collect());
    }
    Err(damaged(
        path,
        format!(
            "no labels lie beside it; put them into {} (whole numbers or text) or {} (one a line), or save an .npz \
             with both",
            candidates[0].display(),
            candidates[1].display()
        ),
    ))
}

fn safetensors(path: &Path) -> Result<Found, DataError> {
    let damaged = |problem: String| DataError::Damaged {
        path: path.to_owned(),
        problem,
    };
    let bytes = bounded(path)?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| damaged(format!("not a readable safetensors file ({error})")))?;
    let find = |wanted: &[&str]| -> Result<TensorView<'_>, DataError> {
        let found = wanted.iter().find_map(|name| file.tensor(name).ok());
        found.ok_or_else(|| {
            damaged(format!(
                "no array called {}; there are {}",
                wanted.join(", "),
                file.names().join(", ")
            ))
        })
    };
    let features = find(&FEATURES)?;
    let values = match features.dtype() {
        Dtype::F32 => each(features.data(), f32::from_le_bytes),
        Dtype::F64 => each(features.data(), |bytes: [u8; 8]| f64::from_le_bytes(bytes) as f32),
        Dtype::F16 => each(features.data(), |bytes: [u8; 2]| half(u16::from_le_bytes(bytes))),
        Dtype::BF16 => each(features.data(), |bytes: [u8; 2]| {
            f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
        }),
        other => {
            return Err(damaged(format!(
                "features of type {other:?}, expected F32, F64, F16 or BF16"
            )));
        }
    };
    let labels = find(&LABELS).and_then(|labels| {
        let numbers = match labels.dtype() {
            Dtype::I64 => each(labels.data(), i64::from_le_bytes),
            Dtype::I32 => each(labels.data(), |bytes: [u8; 4]| i32::from_le_bytes(bytes).into()),
            Dtype::I16 => each(labels.data(), |bytes: [u8; 2]| i16::from_le_bytes(bytes).into()),
            Dtype::U8 => each(labels.data(), |[byte]: [u8; 1]| byte.into()),
            other => {
                return Err(damaged(format!(
                    "labels of type {other:?}, expected whole numbers (I64)"
                )));
            }
        };
        Ok(numbers.into_iter().map(Label::Number).collect())
    });
    Ok((features.shape().to_vec(), values, labels))
}

fn each<const N: usize, T>(bytes: &[u8], convert: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes
        .as_chunks::<N>()
        .0
        .iter()
        .map(|bytes| convert(*bytes))
        .collect()
}

fn bounded(path: &Path) -> Result<Vec<u8>, DataError> {
    let length = fs::metadata(path)
        .map_err(|error| DataError::io(path, error))?
        .len();
    if length > pixels::MAX_DATASET {
        return Err(DataError::Damaged {
            path: path.to_owned(),
            problem: format!(
                "{} MiB, and at most {} are read",
                length >> 20,
                pixels::MAX_DATASET >> 20
            ),
        });
    }
    fs::read(path).map_err(|error| DataError::io(path, error))
}
