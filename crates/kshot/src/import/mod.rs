//! Published checkpoints of other programs as checkpoints of ours.
//!
//! One file per method whose authors publish weights, and one line in [`IMPORTERS`]: it says which files there are,
//! what their arrays are called, and what they are here.

pub mod pytorch;
mod relation;

use std::path::{Path, PathBuf};

use crate::checkpoint::{Checkpoint, Progress};
use crate::data::ImageShape;
use crate::error::Error;
use crate::model;
use crate::named::{self, Named};
use crate::settings::{Layer, Settings};
use pytorch::StateDict;

/// Every importer, in the order of the help.
pub static IMPORTERS: &[&Importer] = &[&relation::IMPORTER];

/// What the registry holds of an importer.
pub struct Importer {
    /// The method that its files are of.
    pub method: &'static str,
    /// Which files, in words.
    pub files: &'static str,
    /// Makes weights of ours of them; the second argument is the side of the images, where it was given.
    pub convert: fn(Vec<StateDict>, Option<usize>) -> Result<Imported, Error>,
}

/// A model that was found in other programs' files.
pub struct Imported {
    /// Settings that build the model and say how it is meant to be evaluated.
    pub settings: Layer,
    /// All its weights and running averages.
    pub weights: Vec<Named>,
}

/// The model in `files` as a checkpoint at episode 0, which can be evaluated and transferred from, but not resumed.
///
/// # Errors
/// A method without an importer; files that are not its authors' state dicts.
pub fn checkpoint(method: &str, files: &[PathBuf], image_size: Option<usize>) -> Result<Checkpoint, Error> {
    let importer = IMPORTERS
        .iter()
        .find(|importer| importer.method == method)
        .ok_or_else(|| Error::Unknown {
            what: "method to import",
            name: method.to_owned(),
            hint: crate::suggest::hint(method, IMPORTERS.iter().map(|importer| importer.method)),
        })?;
    let dicts = files
        .iter()
        .map(|path| StateDict::read(path))
        .collect::<Result<_, _>>()?;
    let Imported { settings, weights } = (importer.convert)(dicts, image_size)?;
    let settings = Settings::resolve(&[&settings])?;
    let mut image = ImageShape::square(settings.core.integer("image-size"), 1);
    image.channels = settings.core.integer("channels");
    let path = files.first().map_or(Path::new(""), PathBuf::as_path);
    let learner = model::with_weights(&settings, image, &weights, path)?;
    Ok(Checkpoint {
        settings: settings.layer(),
        progress: Progress::default(),
        weights: named::from_parameters(learner.parameters(), &learner.read(), ""),
        training: Vec::new(),
    })
}
