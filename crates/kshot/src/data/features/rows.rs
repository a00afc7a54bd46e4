//! Features one by one, as a classifier enrols and recognises them.

use std::path::Path;

use super::npy::Array;
use super::{SPEC, by_class, table};
use crate::data::DataError;

/// The features of a file; see [`super`] for what can be read.
pub struct Rows {
    /// `[n, width]`.
    values: Vec<f32>,
    width: usize,
}

/// Each class of a file with the numbers of its rows, ordered as numbers or as text.
pub type Classes = Vec<(String, Vec<usize>)>;

impl Rows {
    /// A file's features; labels in it are passed over.
    ///
    /// # Errors
    /// A file that isn't there or can't be read.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let table = table::read_any(&name(path), path)?;
        Ok(Self {
            values: table.values,
            width: table.width,
        })
    }

    /// A file's features, and for each class the numbers of its rows.
    ///
    /// # Errors
    /// As [`Rows::open`], and a file without labels.
    pub fn open_labelled(path: &Path) -> Result<(Self, Classes), DataError> {
        let table = table::read(&name(path), path)?;
        let classes = by_class(&table.labels);
        let rows = Self {
            values: table.values,
            width: table.width,
        };
        Ok((rows, classes))
    }

    /// Numbers in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The rows, in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.width)
    }
}

fn name(path: &Path) -> String {
    format!("{}:{}", SPEC.name, path.display())
}

/// The bytes of an `.npy` file of one vector, as a store keeps it.
pub fn vector_file(values: &[f32]) -> Vec<u8> {
    let shape = values.len();
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape},), }}");
    // NumPy wants what follows to begin at a multiple of 64.
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

/// The one vector of the bytes of an `.npy` file; `None` for other bytes.
///
/// # Errors
/// An `.npy` file of something else than `width` numbers; `path` is where it came from.
pub fn vector(bytes: &[u8], width: usize, path: &Path) -> Option<Result<Vec<f32>, DataError>> {
    if !bytes.starts_with(b"\x93NUMPY") {
        return None;
    }
    let read = || {
        let array = Array::parse(bytes)?;
        let expected = [vec![width], vec![1, width]];
        if !expected.contains(&array.shape) {
            return Err(format!(
                "numbers of shape {:?}, and the model takes {width} features",
                array.shape
            ));
        }
        array.floats()
    };
    Some(read().map_err(|problem| DataError::Damaged {
        path: path.to_owned(),
        problem,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_read_as_it_was_written_and_nothing_else_is() {
        let path = Path::new("a.npy");
        let bytes = vector_file(&[1.0, -2.5, 3.25]);
        assert_eq!(bytes.len() % 64, 12);
        assert_eq!(vector(&bytes, 3, path).unwrap().unwrap(), [1.0, -2.5, 3.25]);
        let error = vector(&bytes, 4, path).unwrap().unwrap_err().to_string();
        assert!(
            error.contains("shape [3]") && error.contains("4 features"),
            "{error}"
        );
        assert!(vector(b"\x89PNG", 3, path).is_none());
        assert!(vector(&bytes[..20], 3, path).unwrap().is_err());
    }
}
