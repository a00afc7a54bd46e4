//! A trained model as applications hold it: the learner, the pictures that it takes, and what it is.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use sha2::{Digest, Sha256};

use crate::classifier::{Input, Picture};
use crate::data::ImageShape;
use crate::error::Error;
use crate::learner::{self, Learner};
use crate::model_file::ModelFile;
use crate::norm::Norm;
use crate::settings::Settings;
use crate::{model, run};

/// Pictures that are embedded in one pass, and values that they have together: what the pass needs in memory doesn't grow
/// with their number.
const BATCH: usize = 256;
const VALUES: usize = 1 << 20;

/// A trained model. It never changes, and threads share it.
///
/// Pictures are always embedded under [`Norm::Running`]: an embedding belongs to its picture, whatever else is embedded
/// beside it.
pub struct Trained {
    file: ModelFile,
    settings: Settings,
    learner: Box<dyn Learner>,
    input: Input,
    id: String,
}

impl Trained {
    /// What stands on a command line: a run folder (its best checkpoint), a checkpoint folder, a model file, an ONNX file
    /// ([`crate::onnx::OnnxFile`]), or the name of a model of this build ([`crate::pretrained`]).
    ///
    /// # Errors
    /// Nothing there, or nothing that can be read.
    pub fn find(text: &str) -> Result<Self, Error> {
        let path = Path::new(text);
        if path.is_dir() {
            return Self::open(path);
        }
        Self::new(ModelFile::find(text)?, path)
    }

    /// A run folder (its best checkpoint), a checkpoint folder, a model file, or an ONNX file.
    ///
    /// # Errors
    /// Nothing there that can be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if path.is_file() {
            return Self::new(ModelFile::open(path)?, path);
        }
        let (checkpoint, found, _) = run::open(path)?;
        let name = path
            .canonicalize()
            .unwrap_or_else(|_| path.to_owned())
            .file_name()
            .map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned());
        Self::new(ModelFile::from_checkpoint(&name, checkpoint, &found)?, &found)
    }

    /// One that takes `width` features of another program's as they are, and compares them by their angle. Nothing of it was
    /// trained.
    ///
    /// # Errors
    /// No features, or more than any model takes.
    pub fn of_features(width: usize) -> Result<Self, Error> {
        let channels = width.to_string();
        let settings = [
            ("method", "prototypical"),
            ("distance", "cosine"),
            ("encoder", "identity"),
            ("data", "features:elsewhere"),
            ("image-size", "1"),
            ("channels", &channels),
        ];
        let file = ModelFile {
            name: format!("features of {width} numbers"),
            settings: settings
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            image: ImageShape::square(1, width),
            weights: Vec::new(),
            encoder: None,
            card: String::new(),
            prototypes: None,
        };
        Self::new(file, Path::new("features"))
    }

    /// From the bytes of a model file; `path` is where they came from.
    ///
    /// # Errors
    /// Bytes that are no such file.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        Self::new(ModelFile::from_bytes(bytes, path)?, path)
    }

    /// From a model file; `path` is where it came from.
    ///
    /// # Errors
    /// Weights that don't fit the settings.
    pub fn new(file: ModelFile, path: &Path) -> Result<Self, Error> {
        let settings = file.resolve()?;
        let learner = model::with_encoder(&settings, file.image, &file.weights, file.encoder.as_ref(), path)?;
        // What counts is what it computes, not how it is called.
        let mut nameless = file.clone();
        (nameless.name, nameless.card, nameless.prototypes) = (String::new(), String::new(), None);
        nameless.weights.sort_by(|a, b| a.name.cmp(&b.name));
        let digest = Sha256::digest(nameless.to_bytes()?);
        let id = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self {
            input: Input::of(&settings, file.image),
            file,
            settings,
            learner,
            id,
        })
    }

    /// A number in hexadecimal that is the same for the same weights and settings only: embeddings can be kept under it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.file.name
    }

    /// The file that it came from, or would be.
    pub fn file(&self) -> &ModelFile {
        &self.file
    }

    /// The settings of its training.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The learner itself.
    pub fn learner(&self) -> &dyn Learner {
        self.learner.as_ref()
    }

    /// What pictures it takes, and how they are made of any others.
    pub fn input(&self) -> &Input {
        &self.input
    }

    /// The feature vector of each picture.
    ///
    /// # Errors
    /// A picture made for another model, or weights that give no finite numbers.
    pub fn embed(&self, pictures: &[&Picture]) -> Result<Vec<Arc<[f32]>>, Error> {
        let mut vectors = Vec::with_capacity(pictures.len());
        let batch = (VALUES / self.file.image.len().max(1)).clamp(1, BATCH);
        for batch in pictures.chunks(batch) {
            let rows = self.learner.embed(self.tensor(batch)?, Norm::Running);
            let features = rows.dims()[1];
            let values = learner::logits_on_host(rows);
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                return Err(Error::Setting {
                    name: "encoder",
                    problem: format!(
                        "{} gives {value} as a feature; its weights are no good",
                        self.name()
                    ),
                });
            }
            vectors.extend(values.chunks_exact(features).map(Arc::from));
        }
        Ok(vectors)
    }

    /// Pictures where the learner takes them: `[n, height, width, channels]`.
    ///
    /// # Errors
    /// A picture made for another model.
    pub fn tensor(&self, pictures: &[&Picture]) -> Result<Tensor<4>, Error> {
        let shape = self.file.image;
        let mut pixels = Vec::with_capacity(pictures.len() * shape.len());
        for picture in pictures {
            if picture.pixels().len() != shape.len() {
                return Err(Error::Setting {
                    name: "encoder",
                    problem: format!(
                        "{} takes images of {shape}, and a picture has {} values: it was made for another model",
                        self.name(),
                        picture.pixels().len()
                    ),
                });
            }
            pixels.extend_from_slice(picture.pixels());
        }
        let data = TensorData::new(
            pixels,
            [pictures.len(), shape.height, shape.width, shape.channels],
        );
        Ok(Tensor::from_data(data, self.learner.device()))
    }
}

impl std::fmt::Debug for Trained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trained")
            .field("name", &self.file.name)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
