//! Pictures of any size as a model takes them.
//!
//! A model trained on line drawings (`glyphs`, `omniglot`) expects ink 1 on paper 0. Users bring dark strokes on light
//! paper, light ones on a dark board, grey scans: the paper is taken to be what most of the outermost pixels show, the
//! ink what differs from it, darker or lighter, whichever differs more in sum; the strongest ink becomes 1. The whole
//! picture is kept (padded with its paper) and averaged by area, as the drawings of the training were. A picture without
//! ink stays blank.
//!
//! Any other model expects pictures as its training's: made square by the same `--fit`, inverted where that was.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use fast_image_resize::FilterType;
use image::DynamicImage;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::data::features::vector;
use crate::data::folder::Fit;
use crate::data::folder::fit::{Target, fit};
use crate::data::{DataError, ImageShape, pixels};
use crate::error::Error;
use crate::settings::Settings;

/// Least difference from the paper that is taken for ink: scanners and lamps make up to about this much.
const FAINTEST_INK: f32 = 0.1;

/// What pictures a model takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Input {
    /// Size and channels.
    pub shape: ImageShape,
    /// What dark and light mean.
    pub polarity: Polarity,
    /// How a picture is made square.
    pub fit: Fit,
}

/// What dark and light mean to a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Polarity {
    /// Ink is 1 and paper 0, whatever they are in the picture; told by the picture itself.
    Ink,
    /// Light is 1.
    #[default]
    Light,
    /// Dark is 1.
    Dark,
}

/// A number that tells a picture by its content: SHA-256 of its decoded pixels, cut to 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash(pub [u8; 16]);

/// A picture as a model takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    pixels: Arc<[f32]>,
    hash: ContentHash,
}

impl Input {
    /// What a model trained under `settings` takes.
    pub fn of(settings: &Settings, shape: ImageShape) -> Self {
        let options = &settings.dataset_options;
        let (polarity, fit) = if settings.dataset.line_drawings {
            (Polarity::Ink, Fit::Pad)
        } else if options.flag("invert") {
            (Polarity::Dark, Fit::from_name(options.text("fit")))
        } else {
            (Polarity::Light, Fit::from_name(options.text("fit")))
        };
        Self { shape, polarity, fit }
    }

    /// How many features the model takes, if it is one of features that are computed already and not of pictures.
    pub fn features(&self) -> Option<usize> {
        (self.shape.height == 1 && self.shape.width == 1).then_some(self.shape.channels)
    }

    /// A PNG, JPEG, WebP or BMP as the model takes it, turned as its EXIF orientation says; `name` is what an error calls it.
    /// For a model of features an `.npy` file of one vector.
    ///
    /// # Errors
    /// [`Error::Data`] for bytes that are no such picture, a damaged one, or one of more than 32,768 pixels a side or
    /// 512 MiB decoded, which is refused before it is decoded.
    pub fn decode(&self, bytes: &[u8], name: &Path) -> Result<Picture, Error> {
        if let Some(width) = self.features()
            && let Some(read) = vector(bytes, width, name)
        {
            return Picture::from_values(read?);
        }
        pixels::decode(bytes, name, |picture| self.picture(picture, name))?
    }

    /// A decoded picture as the model takes it.
    ///
    /// # Errors
    /// A model of feature vectors, which takes no pictures.
    pub fn picture(&self, picture: DynamicImage, name: &Path) -> Result<Picture, Error> {
        let shape = self.shape;
        if self.features().is_some() || shape.height != shape.width || ![1, 3].contains(&shape.channels) {
            return Err(Error::Data(DataError::Damaged {
                path: name.to_owned(),
                problem: format!(
                    "a picture, and the model takes {} numbers, not pictures; choose a model of pictures",
                    shape.len()
                ),
            }));
        }
        let hash = hash_of(&picture);
        let ink = self.polarity == Polarity::Ink;
        let target = Target {
            side: shape.height,
            channels: shape.channels,
            fit: self.fit,
            invert: self.polarity == Polarity::Dark,
            filter: if ink {
                FilterType::Box
            } else {
                FilterType::Bilinear
            },
        };
        let mut bytes = vec![0; shape.len()];
        fit(picture, name, &target, &mut bytes)?;
        let mut pixels: Vec<f32> = bytes.into_iter().map(pixels::unit).collect();
        if ink {
            to_ink(&mut pixels, shape);
        }
        Ok(Picture {
            pixels: pixels.into(),
            hash,
        })
    }
}

impl Picture {
    /// One that is already as a model takes it: `[height, width, channels]` row-major, or a feature vector.
    ///
    /// # Errors
    /// A value that isn't finite.
    pub fn from_values(values: Vec<f32>) -> Result<Self, Error> {
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(Error::Setting {
                name: "picture",
                problem: format!("its values must be finite, found {value}"),
            });
        }
        let mut digest = Sha256::new();
        values.iter().for_each(|value| digest.update(value.to_le_bytes()));
        Ok(Self {
            pixels: values.into(),
            hash: ContentHash::cut(digest),
        })
    }

    /// `[height, width, channels]`, row-major.
    pub fn pixels(&self) -> &[f32] {
        &self.pixels
    }

    /// Tells it by its content.
    pub fn hash(&self) -> ContentHash {
        self.hash
    }

    pub(super) fn shared_pixels(&self) -> Arc<[f32]> {
        self.pixels.clone()
    }
}

impl ContentHash {
    fn cut(digest: Sha256) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest.finalize()[..16]);
        Self(bytes)
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for ContentHash {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Setting {
            name: "hash",
            problem: format!(
                "expected 32 hexadecimal digits, found {} characters",
                text.chars().count()
            ),
        };
        let digits = text.as_bytes();
        if digits.len() != 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(wrong());
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

/// The same for the same pixels, whatever the file around them.
fn hash_of(picture: &DynamicImage) -> ContentHash {
    let mut digest = Sha256::new();
    digest.update(picture.width().to_le_bytes());
    digest.update(picture.height().to_le_bytes());
    digest.update(format!("{:?}", picture.color()));
    digest.update(picture.as_bytes());
    ContentHash::cut(digest)
}

/// Light 1 → ink 1; see the module.
fn to_ink(pixels: &mut [f32], shape: ImageShape) {
    for channel in 0..shape.channels {
        let at = |y: usize, x: usize| (y * shape.width + x) * shape.channels + channel;
        let (bottom, right) = (shape.height - 1, shape.width - 1);
        let mut frame: Vec<f32> = (0..shape.width)
            .flat_map(|x| [at(0, x), at(bottom, x)])
            .chain((0..shape.height).flat_map(|y| [at(y, 0), at(y, right)]))
            .map(|index| pixels[index])
            .collect();
        frame.sort_by(f32::total_cmp);
        let paper = frame[frame.len() / 2];
        let own = pixels[channel..].iter_mut().step_by(shape.channels);
        let (mut darker, mut lighter) = (Differences::default(), Differences::default());
        own.for_each(|pixel| {
            // From here on how much darker than the paper it is.
            *pixel = paper - *pixel;
            darker.add(*pixel);
            lighter.add(-*pixel);
        });
        let (sign, strongest) = if darker.sum >= lighter.sum {
            (1.0, darker.strongest)
        } else {
            (-1.0, lighter.strongest)
        };
        let strongest = strongest.max(FAINTEST_INK);
        let own = pixels[channel..].iter_mut().step_by(shape.channels);
        own.for_each(|pixel| *pixel = (sign * *pixel / strongest).clamp(0.0, 1.0));
    }
}

/// How much pixels differ from the paper, to one side.
#[derive(Default)]
struct Differences {
    sum: f32,
    strongest: f32,
}

impl Differences {
    fn add(&mut self, difference: f32) {
        self.sum += difference.max(0.0);
        self.strongest = self.strongest.max(difference);
    }
}
