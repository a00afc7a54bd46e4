//! Named arrays in safetensors files: how weights and optimizer states lie on disk.

use std::collections::HashMap;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::error::Error;
use crate::parameters::Parameter;

/// One named array of 32-bit floats.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// Unique in its file.
    pub name: String,
    /// Row-major shape.
    pub shape: Vec<usize>,
    /// The numbers.
    pub values: Vec<f32>,
}

/// A model's flat values with their names and shapes.
pub fn from_parameters(parameters: &[Parameter], values: &[Tensor<1>], prefix: &str) -> Vec<Named> {
    let named = |(parameter, value): (&Parameter, &Tensor<1>)| Named {
        name: format!("{prefix}{}", parameter.name),
        shape: parameter.shape.clone(),
        values: value.to_data().iter::<f32>().collect(),
    };
    parameters.iter().zip(values).map(named).collect()
}

/// The values of `parameters` by name, flat on `device`.
///
/// # Errors
/// An array that is missing or of another shape; `path` is where they came from.
pub fn to_parameters(
    parameters: &[Parameter],
    arrays: &[Named],
    prefix: &str,
    path: &Path,
    device: &Device,
) -> Result<Vec<Tensor<1>>, Error> {
    let by_name: HashMap<&str, &Named> = arrays.iter().map(|array| (array.name.as_str(), array)).collect();
    let find = |parameter: &Parameter| {
        let name = format!("{prefix}{}", parameter.name);
        let array = by_name.get(name.as_str()).ok_or_else(|| Error::Checkpoint {
            path: path.to_owned(),
            problem: format!("no array `{name}`; was it made with another method or encoder?"),
        })?;
        if array.shape != parameter.shape {
            return Err(Error::Checkpoint {
                path: path.to_owned(),
                problem: format!(
                    "array `{name}` has shape {:?}, the model needs {:?}; was it made with another encoder?",
                    array.shape, parameter.shape
                ),
            });
        }
        Ok(on_device(&array.values, device))
    };
    parameters.iter().map(find).collect()
}

/// A vector on `device`.
pub fn on_device(values: &[f32], device: &Device) -> Tensor<1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}

/// The bytes of a safetensors file; the same arrays give the same bytes.
///
/// # Errors
/// Two arrays of one name, or an array whose shape doesn't match its length.
pub fn to_bytes(arrays: &[Named], path: &Path) -> Result<Vec<u8>, Error> {
    to_described_bytes(arrays, None, None, path)
}

/// As [`to_bytes`], with one entry (key and text) of metadata in the file's header, and a file (name and content) as an array
/// of bytes. There is one entry at most, since several would be written in no fixed order.
///
/// # Errors
/// As [`to_bytes`].
pub fn to_described_bytes(
    arrays: &[Named],
    description: Option<(&str, &str)>,
    file: Option<(&str, &[u8])>,
    path: &Path,
) -> Result<Vec<u8>, Error> {
    let problem = |error: safetensors::SafeTensorError| Error::Checkpoint {
        path: path.to_owned(),
        problem: error.to_string(),
    };
    let bytes: Vec<Vec<u8>> = arrays
        .iter()
        .map(|array| {
            array
                .values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect()
        })
        .collect();
    let mut views = Vec::with_capacity(arrays.len());
    for (array, bytes) in arrays.iter().zip(&bytes) {
        let view = TensorView::new(Dtype::F32, array.shape.clone(), bytes).map_err(problem)?;
        views.push((array.name.as_str(), view));
    }
    if let Some((name, content)) = file {
        let view = TensorView::new(Dtype::U8, vec![content.len()], content).map_err(problem)?;
        views.push((name, view));
    }
    let metadata = description.map(|(key, text)| HashMap::from([(key.to_owned(), text.to_owned())]));
    safetensors::serialize(views, metadata).map_err(problem)
}

/// The text under `key` in the header of a safetensors file, if there is one.
///
/// # Errors
/// Bytes that are not such a file.
pub fn description(bytes: &[u8], key: &str, path: &Path) -> Result<Option<String>, Error> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| Error::Checkpoint {
        path: path.to_owned(),
        problem: format!("not a readable safetensors file ({error})"),
    })?;
    Ok(metadata
        .metadata()
        .as_ref()
        .and_then(|entries| entries.get(key).cloned()))
}

/// The file that an array of bytes called `name` is, if there is one.
///
/// # Errors
/// Bytes that are not a safetensors file.
pub fn file<'a>(bytes: &'a [u8], name: &str, path: &Path) -> Result<Option<&'a [u8]>, Error> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| Error::Checkpoint {
        path: path.to_owned(),
        problem: format!("not a readable safetensors file ({error})"),
    })?;
    let view = file.tensor(name).ok();
    Ok(view
        .filter(|view| view.dtype() == Dtype::U8)
        .map(|view| view.data()))
}

/// The arrays of a safetensors file, but for those of bytes, which are files (see [`file()`]).
///
/// # Errors
/// Bytes that are not such a file, or an array of another number type.
pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Vec<Named>, Error> {
    let damaged = |problem: String| Error::Checkpoint {
        path: path.to_owned(),
        problem,
    };
    let file = SafeTensors::deserialize(bytes)
        .map_err(|error| damaged(format!("not a readable safetensors file ({error})")))?;
    let mut arrays = Vec::with_capacity(file.len());
    for (name, view) in file.tensors() {
        if view.dtype() == Dtype::U8 {
            continue;
        }
        if view.dtype() != Dtype::F32 {
            return Err(damaged(format!(
                "array `{name}` holds {:?}, expected F32",
                view.dtype()
            )));
        }
        let values = view
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        arrays.push(Named {
            name,
            shape: view.shape().to_vec(),
            values,
        });
    }
    Ok(arrays)
}
