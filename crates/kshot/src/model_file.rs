//! A trained model in one file, `NAME.safetensors`: its weights, and in the header what they are.
//!
//! The header's one entry of metadata, `kshot`, is a JSON object: the format's number, the model's name, every setting
//! of its training but the places of files, the images that it takes, a card (Markdown), and the classes of the array
//! `prototypes` where there is one. An encoder that is not made of weights (an ONNX file) is the array of bytes
//! `encoder.onnx`. Anything that reads safetensors reads the arrays; nothing in it is executed.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::checkpoint::{Checkpoint, read_bounded};
use crate::data::ImageShape;
use crate::error::Error;
use crate::files;
use crate::named::{self, Named};
use crate::onnx::OnnxFile;
use crate::pretrained;
use crate::settings::{Layer, Settings};

const KEY: &str = "kshot";
const FORMAT: u32 = 1;
const PROTOTYPES: &str = "prototypes";
const ENCODER: &str = "encoder.onnx";
/// Most values that an image of a model may have.
const MAX_IMAGE: usize = 1024 * 1024 * 3;
/// Settings that say where files lie, which is nobody's business elsewhere.
const PLACES: [&str; 1] = ["data-dir"];

/// A trained model as it lies in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelFile {
    /// What it is called: `glyphs-conv4`.
    pub name: String,
    /// Every setting of its training.
    pub settings: Layer,
    /// The images that it takes.
    pub image: ImageShape,
    /// Its weights.
    pub weights: Vec<Named>,
    /// The ONNX file that its encoder is, where that isn't among the weights.
    pub encoder: Option<Arc<[u8]>>,
    /// What it was trained on and how, what was measured, where it ends: Markdown, or empty.
    pub card: String,
    /// Prototypes of classes, where some were enrolled.
    pub prototypes: Option<Prototypes>,
}

/// A class's mean embedding, class by class.
#[derive(Clone, Debug, PartialEq)]
pub struct Prototypes {
    /// Names in the order of the rows.
    pub classes: Vec<String>,
    /// `[classes, features]`, row-major.
    pub values: Vec<f32>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    name: String,
    settings: Layer,
    image: ImageShape,
    #[serde(default)]
    card: String,
    #[serde(default)]
    classes: Option<Vec<String>>,
}

impl ModelFile {
    /// The model of a checkpoint, called `name`.
    ///
    /// # Errors
    /// A checkpoint from before the size of its images was noted, and an encoder's own file that can't be read.
    pub fn from_checkpoint(name: &str, checkpoint: Checkpoint, path: &Path) -> Result<Self, Error> {
        let mut settings = checkpoint.settings;
        let resolved = Settings::resolve(&[&settings])?;
        let external = resolved.encoder.external.as_ref();
        let encoder = external
            .map(|external| (external.bytes)(&resolved.encoder_options))
            .transpose()?;
        if let Some(external) = external {
            settings.remove(external.option);
        }
        settings.retain(|name, _| !PLACES.contains(&name.as_str()));
        // A folder's path is a place too; what matters of it is that it was one.
        if let Some(data) = settings.get_mut("data")
            && let Some((dataset, _)) = data.split_once(':')
        {
            *data = format!("{dataset}:elsewhere");
        }
        let side = |key: &str| settings.get(key).and_then(|text| text.parse::<usize>().ok());
        let (Some(side), Some(channels)) = (side("image-size"), side("channels")) else {
            return Err(Error::Checkpoint {
                path: path.to_owned(),
                problem: "its settings don't say how large its images are; train it again".to_owned(),
            });
        };
        Ok(Self {
            name: name.to_owned(),
            settings,
            image: ImageShape::square(side, channels),
            weights: checkpoint.weights,
            encoder,
            card: String::new(),
            prototypes: None,
        })
    }

    /// What stands on a command line where no folder is meant: a model file, an ONNX file, or the name of a model of this
    /// build ([`crate::pretrained`]).
    ///
    /// # Errors
    /// Nothing there, or nothing that can be read.
    pub fn find(text: &str) -> Result<Self, Error> {
        let path = Path::new(text);
        if path.exists() {
            return Self::open(path);
        }
        match pretrained::find(text) {
            Ok(found) => Self::from_bytes(found.bytes, path),
            Err(unknown) => Err(Error::Checkpoint {
                path: path.to_owned(),
                problem: format!("no run folder, checkpoint or model file is there; or {unknown}"),
            }),
        }
    }

    /// A file of [`ModelFile::save`], or an ONNX file with its description beside it.
    ///
    /// # Errors
    /// As [`ModelFile::load`] and [`OnnxFile::open`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let ending = path.extension();
        if ending.is_some_and(|ending| ending.eq_ignore_ascii_case("onnx")) {
            return Ok(OnnxFile::open(path)?.to_model_file());
        }
        Self::load(path)
    }

    /// The bytes of the file; the same model gives the same bytes.
    ///
    /// # Errors
    /// Arrays whose shapes contradict their lengths.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let path = Path::new(&self.name);
        let header = Header {
            format: FORMAT,
            name: self.name.clone(),
            settings: self.settings.clone(),
            image: self.image,
            card: self.card.clone(),
            classes: self
                .prototypes
                .as_ref()
                .map(|prototypes| prototypes.classes.clone()),
        };
        let header = serde_json::to_string(&header).map_err(|error| Error::io(path, error.into()))?;
        let mut arrays = self.weights.clone();
        if let Some(Prototypes { classes, values }) = &self.prototypes {
            arrays.push(Named {
                name: PROTOTYPES.to_owned(),
                shape: vec![classes.len(), values.len() / classes.len().max(1)],
                values: values.clone(),
            });
        }
        let encoder = self.encoder.as_deref().map(|bytes| (ENCODER, bytes));
        named::to_described_bytes(&arrays, Some((KEY, &header)), encoder, path)
    }

    /// Writes the file, as a whole or not at all.
    ///
    /// # Errors
    /// As [`ModelFile::to_bytes`], and [`Error::Io`].
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        files::write_atomically(path, &self.to_bytes()?)
    }

    /// Reads `path`.
    ///
    /// # Errors
    /// As [`ModelFile::from_bytes`], and [`Error::Io`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::from_bytes(&read_bounded(path)?, path)
    }

    /// Reads the bytes of a file; `path` is where they came from.
    ///
    /// # Errors
    /// Bytes that are no such file, of another version, or that describe images beyond any model's.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        let wrong = |problem: String| Error::Checkpoint {
            path: path.to_owned(),
            problem,
        };
        let text = named::description(bytes, KEY, path)?.ok_or_else(|| {
            wrong("a safetensors file that says nothing of its model; make one by `kshot export`".to_owned())
        })?;
        let header: Header = serde_json::from_str(&text)
            .map_err(|error| wrong(format!("its description is damaged ({error})")))?;
        if header.format != FORMAT {
            return Err(wrong(format!(
                "format {}, this version reads {FORMAT}; use the version that wrote it",
                header.format
            )));
        }
        let ImageShape {
            height,
            width,
            channels,
        } = header.image;
        let values = height.checked_mul(width).and_then(|n| n.checked_mul(channels));
        if !values.is_some_and(|n| (1..=MAX_IMAGE).contains(&n)) {
            return Err(wrong(format!(
                "its images are said to be {}, and a model's have 1 to {MAX_IMAGE} values",
                header.image
            )));
        }
        let mut weights = named::from_bytes(bytes, path)?;
        let at = weights.iter().position(|array| array.name == PROTOTYPES);
        let prototypes = match (at.map(|at| weights.swap_remove(at)), header.classes) {
            (Some(array), Some(classes)) if array.shape.first() == Some(&classes.len()) => Some(Prototypes {
                classes,
                values: array.values,
            }),
            (None, None) => None,
            _ => return Err(wrong("its prototypes and their classes don't match".to_owned())),
        };
        Ok(Self {
            name: header.name,
            settings: header.settings,
            image: header.image,
            weights,
            encoder: named::file(bytes, ENCODER, path)?.map(Arc::from),
            card: header.card,
            prototypes,
        })
    }

    /// Its settings, checked; applications run on the CPU whatever it was trained on.
    ///
    /// # Errors
    /// Settings of another version.
    pub fn resolve(&self) -> Result<Settings, Error> {
        let here = Layer::from([("device".to_owned(), "flex".to_owned())]);
        Settings::resolve(&[&self.settings, &here])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> ModelFile {
        ModelFile {
            name: "tiny".to_owned(),
            settings: Layer::from([("method".to_owned(), "prototypical".to_owned())]),
            image: ImageShape::square(28, 1),
            weights: vec![Named {
                name: "encoder.weight".to_owned(),
                shape: vec![2, 2],
                values: vec![1.0, 2.0, 3.0, -0.5],
            }],
            encoder: Some(b"an ONNX file".as_slice().into()),
            card: "# Tiny".to_owned(),
            prototypes: Some(Prototypes {
                classes: vec!["a".to_owned(), "b".to_owned()],
                values: vec![0.0; 6],
            }),
        }
    }

    #[test]
    fn a_model_comes_back_from_its_bytes_and_has_the_same_bytes_again() {
        let bytes = tiny().to_bytes().unwrap();
        let again = ModelFile::from_bytes(&bytes, Path::new("tiny")).unwrap();
        assert_eq!(again, tiny());
        assert_eq!(again.to_bytes().unwrap(), bytes);
    }

    #[test]
    fn every_truncation_and_a_foreign_file_are_refused() {
        let bytes = tiny().to_bytes().unwrap();
        for length in 0..bytes.len() {
            assert!(
                ModelFile::from_bytes(&bytes[..length], Path::new("x")).is_err(),
                "{length}"
            );
        }
        let foreign = named::to_bytes(&tiny().weights, Path::new("x")).unwrap();
        let error = ModelFile::from_bytes(&foreign, Path::new("x"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("kshot export"), "{error}");
    }

    #[test]
    fn images_beyond_any_model_are_refused_before_anything_is_made_for_them() {
        let mut large = tiny();
        large.image = ImageShape::square(1 << 40, 3);
        let error = ModelFile::from_bytes(&large.to_bytes().unwrap(), Path::new("x")).unwrap_err();
        assert!(error.to_string().contains("values"), "{error}");
    }
}
