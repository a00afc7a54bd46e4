//! PyTorch state dicts: files of named tensors, in the zip format and in the older pickle formats.
//!
//! A pickle is a program. `pytorch-reader` reads it without running any of it: what is not a tensor or a plain
//! container becomes a name at most, and here even that is refused. Sizes that a file claims are checked before
//! anything is allocated for them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pytorch_reader::{DType, PickleValue, PytorchReader, Tensor};

use crate::error::Error;

/// Largest file that is read, and most bytes that its tensors may have together.
const LIMIT: usize = 512 << 20;

/// The tensors of a file by name, not yet read.
pub struct StateDict {
    path: PathBuf,
    tensors: BTreeMap<String, Tensor>,
}

impl StateDict {
    /// Opens the state dict in `path`.
    ///
    /// # Errors
    /// A file that can't be read, is no PyTorch file, or holds anything beside tensors.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let refused = |problem: String| Error::Checkpoint {
            path: path.to_owned(),
            problem,
        };
        let length = fs::metadata(path).map_err(|error| Error::io(path, error))?.len();
        if length > LIMIT as u64 {
            return Err(refused(format!(
                "{length} bytes, a state dict that can be imported has at most {LIMIT}"
            )));
        }
        let unreadable = |error: pytorch_reader::PytorchError| {
            refused(format!(
                "not a readable PyTorch file ({}); save it by torch.save(model.state_dict(), PATH)",
                error.to_string().replace('\n', " ")
            ))
        };
        match PytorchReader::read_pickle_data(path, None).map_err(unreadable)? {
            PickleValue::Dict(entries) => {
                let foreign = entries
                    .iter()
                    // The versions of modules that `state_dict()` notes beside the tensors.
                    .filter(|(name, value)| name.as_str() != "_metadata" && !is_tensor(value))
                    .min_by_key(|(name, _)| *name);
                if let Some((name, value)) = foreign {
                    let kind = kind(value);
                    return Err(refused(format!(
                        "`{name}` is {kind}, expected a tensor (nothing in the file was run); save it by \
                         torch.save(model.state_dict(), PATH)"
                    )));
                }
            }
            other => {
                let kind = kind(&other);
                return Err(refused(format!(
                    "holds {kind}, expected a dictionary of tensors (nothing in the file was run); save it by \
                     torch.save(model.state_dict(), PATH)"
                )));
            }
        }
        let tensors: BTreeMap<String, Tensor> = PytorchReader::new(path)
            .map_err(unreadable)?
            .into_tensors()
            .into_iter()
            .collect();
        let total = tensors
            .values()
            .fold(0usize, |total, tensor| total.saturating_add(tensor.byte_len()));
        if total > LIMIT {
            return Err(refused(format!(
                "its tensors have {total} bytes, a state dict that can be imported has at most {LIMIT}"
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            tensors,
        })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it has a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The shape of the tensor `name`, which has `D` dimensions.
    ///
    /// # Errors
    /// No such tensor, or one of another number of dimensions.
    pub fn shape<const D: usize>(&self, name: &str) -> Result<[usize; D], Error> {
        let tensor = self.tensors.get(name).ok_or_else(|| self.missing(name))?;
        <[usize; D]>::try_from(tensor.shape()).map_err(|_| {
            self.refused(format!(
                "`{name}` has shape {:?}, expected {D} dimensions",
                tensor.shape()
            ))
        })
    }

    /// Takes out the numbers of the tensor `name`, row-major.
    ///
    /// # Errors
    /// No such tensor, one of another shape or number type, or numbers that are not finite.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        let tensor = self.tensors.remove(name).ok_or_else(|| self.missing(name))?;
        if tensor.shape() != shape {
            return Err(self.refused(format!(
                "`{name}` has shape {:?}, expected {shape:?}",
                tensor.shape()
            )));
        }
        let bytes = tensor
            .read()
            .map_err(|error| self.refused(error.to_string().replace('\n', " ")))?;
        let values: Vec<f32> = match tensor.dtype() {
            DType::F32 => words(&bytes, f32::from_ne_bytes),
            DType::F64 => words(&bytes, |word| f64::from_ne_bytes(word) as f32),
            other => {
                return Err(self.refused(format!("`{name}` holds {other:?}, expected F32 or F64")));
            }
        };
        match values.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(self.refused(format!("`{name}` holds {value}, expected finite numbers"))),
            None => Ok(values),
        }
    }

    /// Checks that nothing is left but what `ignore` names.
    ///
    /// # Errors
    /// A tensor that nobody took.
    pub fn finish(self, ignore: impl Fn(&str) -> bool) -> Result<(), Error> {
        match self.tensors.keys().find(|name| !ignore(name)) {
            None => Ok(()),
            Some(name) => Err(self.refused(format!(
                "`{name}` has no place in this model; is it of another one?"
            ))),
        }
    }

    fn missing(&self, name: &str) -> Error {
        let found: Vec<&str> = self.tensors.keys().take(4).map(String::as_str).collect();
        self.refused(format!(
            "no tensor `{name}`, found {}{}; is it of another model?",
            found.join(", "),
            if self.tensors.len() > found.len() {
                ", ..."
            } else {
                ""
            }
        ))
    }

    fn refused(&self, problem: String) -> Error {
        Error::Checkpoint {
            path: self.path.clone(),
            problem,
        }
    }
}

fn is_tensor(value: &PickleValue) -> bool {
    matches!(value, PickleValue::Unsupported(kind) if kind == "torch.Tensor")
}

/// What a value is, for an error: the type, never the contents.
fn kind(value: &PickleValue) -> String {
    match value {
        PickleValue::None => "None".to_owned(),
        PickleValue::Bool(_) => "a truth value".to_owned(),
        PickleValue::Int(_) | PickleValue::Float(_) => "a number".to_owned(),
        PickleValue::String(_) | PickleValue::Bytes(_) => "a text".to_owned(),
        PickleValue::List(_) => "a list".to_owned(),
        PickleValue::Dict(_) => "a dictionary".to_owned(),
        PickleValue::Unsupported(kind) => {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._".contains(c);
            format!(
                "`{}`",
                kind.chars().filter(|c| plain(*c)).take(80).collect::<String>()
            )
        }
    }
}

fn words<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes
        .as_chunks::<N>()
        .0
        .iter()
        .map(|word| number(*word))
        .collect()
}
