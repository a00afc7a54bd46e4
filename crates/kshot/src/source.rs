//! Trained weights by what stands on a command line, with the settings that they were trained under.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::data::ImageShape;
use crate::error::Error;
use crate::learner::Learner;
use crate::model_file::ModelFile;
use crate::named::Named;
use crate::settings::{Layer, Settings};
use crate::{model, run};

/// Trained weights, and where they lie.
pub struct Source {
    /// Every setting of the training; of a model file without the places of files.
    pub settings: Layer,
    /// The weights.
    pub weights: Vec<Named>,
    /// The ONNX file that the encoder is, where it came along.
    encoder: Option<Arc<[u8]>>,
    /// The checkpoint's folder, the file, or the name of the model.
    pub path: PathBuf,
    /// What is wrong with checkpoints that were passed over.
    pub damaged: Vec<Error>,
}

impl Source {
    /// A run folder (its best checkpoint), a checkpoint folder, a model file, an ONNX file, or the name of a model of this
    /// build ([`crate::pretrained`]).
    ///
    /// # Errors
    /// Nothing there, or nothing that can be read.
    pub fn find(text: &str) -> Result<Self, Error> {
        if Path::new(text).is_dir() {
            let (checkpoint, path, damaged) = run::open(Path::new(text))?;
            return Ok(Self {
                settings: checkpoint.settings,
                weights: checkpoint.weights,
                encoder: None,
                path,
                damaged,
            });
        }
        let file = ModelFile::find(text)?;
        Ok(Self {
            settings: file.settings,
            weights: file.weights,
            encoder: file.encoder,
            path: PathBuf::from(text),
            damaged: Vec::new(),
        })
    }

    /// The learner with these weights; `settings` are those of the training, or differ in what doesn't change its shape.
    ///
    /// # Errors
    /// As [`model::with_encoder`].
    pub fn learner(&self, settings: &Settings, image: ImageShape) -> Result<Box<dyn Learner>, Error> {
        model::with_encoder(settings, image, &self.weights, self.encoder.as_ref(), &self.path)
    }
}
