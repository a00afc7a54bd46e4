//! Decodes every picture of a folder, in parallel and within bounds.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::fit::{Target, fit};
use super::scan::Scanned;
use crate::data::{DataError, pixels};

/// Longest picture file that is read, in bytes.
const MAX_FILE: u64 = 256 << 20;
/// Unreadable pictures that are warned of one by one.
const MAX_WARNINGS: usize = 100;

/// All classes with the pixels of their pictures.
#[derive(Debug)]
pub struct Loaded {
    /// Name and range of pictures of each class.
    pub classes: Vec<(String, Range<usize>)>,
    /// `[pictures, side, side, channels]`.
    pub pixels: Vec<u8>,
    /// What was left out.
    pub warnings: Vec<String>,
}

/// Decodes what was scanned for the dataset called `name`; unreadable pictures are left out with a warning (`skip`), or
/// end it.
///
/// # Errors
/// More pictures than memory is allowed for; an unreadable picture unless `skip`, and a class that has no other.
pub fn load(name: &str, scanned: Scanned, target: &Target, skip: bool) -> Result<Loaded, DataError> {
    let Scanned {
        classes: scanned,
        mut warnings,
    } = scanned;
    let paths: Vec<&PathBuf> = scanned.iter().flat_map(|(_, paths)| paths).collect();
    let length = target.side * target.side * target.channels;
    pixels::check_memory(name, paths.len(), length)?;
    let mut pixels = vec![0; paths.len() * length];
    let mut errors: Vec<Option<DataError>> = pixels
        .par_chunks_exact_mut(length)
        .zip(&paths)
        .map(|(pixels, path)| decode(path, target, pixels).err())
        .collect();

    let n_unreadable = errors.iter().flatten().count();
    if !skip && let Some(first) = errors.iter_mut().find_map(Option::take) {
        return Err(unreadable(first, n_unreadable));
    }
    // The readable ones move up, class by class.
    let (mut classes, mut kept) = (Vec::new(), 0);
    let mut errors = errors.into_iter().enumerate();
    for (class, paths) in &scanned {
        let start = kept;
        for (index, error) in errors.by_ref().take(paths.len()) {
            match error {
                None => {
                    pixels.copy_within(index * length..(index + 1) * length, kept * length);
                    kept += 1;
                }
                Some(error) if warnings.len() < MAX_WARNINGS => {
                    warnings.push(format!("{name}: left out: {error}"))
                }
                Some(_) => {}
            }
        }
        if start == kept {
            return Err(DataError::Damaged {
                path: paths[0].parent().unwrap_or(Path::new("")).to_owned(),
                problem: format!(
                    "none of its {} pictures can be read; replace them, or remove the folder",
                    paths.len()
                ),
            });
        }
        classes.push((class.clone(), start..kept));
    }
    if n_unreadable > 0 {
        warnings.push(format!(
            "{name}: {n_unreadable} of {} pictures left out as unreadable",
            paths.len()
        ));
    }
    pixels.truncate(kept * length);
    pixels.shrink_to_fit();
    Ok(Loaded {
        classes,
        pixels,
        warnings,
    })
}

fn decode(path: &Path, target: &Target, into: &mut [u8]) -> Result<(), DataError> {
    let io = |error| DataError::io(path, error);
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(io)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(DataError::Damaged {
            path: path.to_owned(),
            problem: format!(
                "longer than the {} MiB that a picture may have; scale it down",
                MAX_FILE >> 20
            ),
        });
    }
    pixels::decode(&bytes, path, |picture| fit(picture, path, target, into))?
}

/// The first error, with the way out.
fn unreadable(error: DataError, n_unreadable: usize) -> DataError {
    let others = match n_unreadable - 1 {
        0 => String::new(),
        n => format!(" ({n} more can't be read)"),
    };
    match error {
        DataError::Damaged { path, problem } => DataError::Damaged {
            path,
            problem: format!("{problem}, or leave such pictures out with --unreadable skip{others}"),
        },
        error => error,
    }
}
