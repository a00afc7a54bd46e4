//! An ONNX model at work: images as kshot has them in, embeddings out.

use rayon::prelude::*;

#[cfg(not(feature = "onnx"))]
use super::absent::Engine;
use super::description::Layout;
#[cfg(feature = "onnx")]
use super::engine::Engine;
use super::file::OnnxFile;
use crate::data::ImageShape;
use crate::error::Error;

/// Most numbers of an embedding.
const MAX_FEATURES: usize = 100_000;

/// An ONNX model that is ready to embed images.
#[derive(Debug)]
pub struct Session {
    engine: Engine,
    name: String,
    image: ImageShape,
    layout: Layout,
    /// What each channel is multiplied by, and what is then added.
    affine: Vec<(f32, f32)>,
    features: usize,
}

impl Session {
    /// Makes a model ready, and embeds a grey image to see that it can.
    ///
    /// # Errors
    /// A build without the feature `onnx`; a model that is damaged, too large, or uses what isn't supported.
    pub fn open(file: &OnnxFile) -> Result<Self, Error> {
        let wrong = |problem: String| Error::Checkpoint {
            path: file.path().to_owned(),
            problem,
        };
        let (image, layout) = (file.image(), file.layout());
        let ImageShape {
            height,
            width,
            channels,
        } = image;
        let sizes = match layout {
            Layout::Nchw => [1, channels, height, width],
            Layout::Nhwc => [1, height, width, channels],
        };
        let engine = Engine::load(file.bytes(), sizes, file.output()).map_err(wrong)?;
        let (mean, std) = (&file.description().mean, &file.description().std);
        let of = |numbers: &[f32], channel: usize| numbers[channel % numbers.len()];
        let affine = (0..channels)
            .map(|channel| {
                let scale = 1.0 / of(std, channel);
                (scale, -of(mean, channel) * scale)
            })
            .collect();
        let mut session = Self {
            engine,
            name: file.path().display().to_string(),
            image,
            layout,
            affine,
            features: 0,
        };
        let grey = session.run(&vec![0.5; image.len()]).map_err(wrong)?;
        if !(1..=MAX_FEATURES).contains(&grey.len()) {
            return Err(wrong(format!(
                "its output `{}` has {} numbers, and embeddings have 1 to {MAX_FEATURES}; choose another output",
                file.output(),
                grey.len()
            )));
        }
        if let Some(value) = grey.iter().find(|value| !value.is_finite()) {
            return Err(wrong(format!(
                "it gives {value} for a grey image; its weights are no good"
            )));
        }
        session.features = grey.len();
        Ok(session)
    }

    /// The images that it takes.
    pub fn image(&self) -> ImageShape {
        self.image
    }

    /// Numbers of an embedding.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Embeddings `[n, features]` of images `[n, height, width, channels]` in `[0, 1]`, both row-major. Images are embedded
    /// one by one: none depends on the others.
    ///
    /// # Errors
    /// Values that are not whole images, and a model that fails on one of them.
    pub fn embed(&self, pixels: &[f32]) -> Result<Vec<f32>, Error> {
        let wrong = |problem: String| Error::Setting {
            name: "encoder",
            problem: format!("{}: {problem}", self.name),
        };
        let images = pixels.par_chunks_exact(self.image.len());
        if !images.remainder().is_empty() {
            return Err(wrong(format!(
                "takes images of {}, and {} values are not whole ones",
                self.image,
                pixels.len()
            )));
        }
        let rows: Result<Vec<Vec<f32>>, String> = images
            .map(|image| {
                let row = self.run(image)?;
                if row.len() == self.features {
                    Ok(row)
                } else {
                    Err(format!(
                        "gave {} features for one image and {} for another",
                        self.features,
                        row.len()
                    ))
                }
            })
            .collect();
        Ok(rows.map_err(wrong)?.concat())
    }

    fn run(&self, image: &[f32]) -> Result<Vec<f32>, String> {
        let channels = self.affine.len();
        let of = |pixel: usize, channel: usize| {
            let (scale, shift) = self.affine[channel];
            image[pixel * channels + channel] * scale + shift
        };
        let pixels = image.len() / channels;
        let values: Vec<f32> = match self.layout {
            Layout::Nchw => (0..channels)
                .flat_map(|channel| (0..pixels).map(move |pixel| (pixel, channel)))
                .map(|(pixel, channel)| of(pixel, channel))
                .collect(),
            Layout::Nhwc => (0..image.len())
                .map(|at| of(at / channels, at % channels))
                .collect(),
        };
        self.engine.run(&values)
    }
}
