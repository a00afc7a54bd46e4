//! How pictures go into an ONNX model, which its file doesn't say of itself.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::classifier::Polarity;
use crate::data::folder::Fit;
use crate::error::Error;

/// Longest description, in bytes.
const MAX_TEXT: u64 = 1 << 16;
/// Longest side of the images, in pixels.
const MAX_SIDE: usize = 4096;

/// How pictures go into an ONNX model: `NAME.toml` beside `NAME.onnx`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Side of its square images in pixels; needed where the model doesn't say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    /// 1 grey or 3 colour; needed where the model doesn't say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// Where the channels lie; needed where the model's input doesn't tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
    /// Subtracted from pixels in `[0, 1]`: a number for each channel, or one for all.
    pub mean: Vec<f32>,
    /// Divides what is left: a number for each channel, or one for all.
    pub std: Vec<f32>,
    /// The output that is the embedding; needed where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// How a picture is made square.
    #[serde(default)]
    pub fit: Fit,
    /// What dark and light mean.
    #[serde(default)]
    pub polarity: Polarity,
    /// How embeddings are compared where nothing else is said.
    #[serde(default)]
    pub distance: Distance,
}

/// Where the channels of an image lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// `[n, channels, height, width]`.
    Nchw,
    /// `[n, height, width, channels]`.
    Nhwc,
}

/// How embeddings are compared: the names of the methods' option.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Distance {
    /// By their directions.
    #[default]
    Cosine,
    /// By the squares of their differences.
    Euclidean,
}

impl Distance {
    /// `cosine` or `euclidean`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::Euclidean => "euclidean",
        }
    }
}

impl Description {
    /// Where the description of the model in `path` lies.
    pub fn place(path: &Path) -> PathBuf {
        path.with_extension("toml")
    }

    /// The description beside the model in `path`, if there is one.
    ///
    /// # Errors
    /// One that can't be read.
    pub fn beside(path: &Path) -> Result<Option<Self>, Error> {
        let place = Self::place(path);
        if !place.exists() {
            return Ok(None);
        }
        let length = fs::metadata(&place)
            .map_err(|error| Error::io(&place, error))?
            .len();
        if length > MAX_TEXT {
            return Err(wrong(
                &place,
                format!("{length} bytes, and a model's description has {MAX_TEXT} at most"),
            ));
        }
        let text = fs::read_to_string(&place).map_err(|error| Error::io(&place, error))?;
        Self::parse(&text, &place).map(Some)
    }

    /// A description from its text; `path` is where it came from.
    ///
    /// # Errors
    /// Text that is none, and numbers out of their range.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let description: Self = toml::from_str(text).map_err(|error: toml::de::Error| {
            let line = error
                .span()
                .and_then(|span| text.get(..span.start))
                .map_or(1, |before| before.matches('\n').count() + 1);
            wrong(
                path,
                format!(
                    "no description of an ONNX model: line {line}: {}",
                    error.message()
                ),
            )
        })?;
        let check = |right: bool, problem: String| if right { Ok(()) } else { Err(wrong(path, problem)) };
        if let Some(size) = description.size {
            check(
                (1..=MAX_SIDE).contains(&size),
                format!("size must be from 1 to {MAX_SIDE} pixels, found {size}"),
            )?;
        }
        if let Some(channels) = description.channels {
            check(
                [1, 3].contains(&channels),
                format!("channels must be 1 or 3, found {channels}"),
            )?;
        }
        for (name, numbers) in [("mean", &description.mean), ("std", &description.std)] {
            check(
                [1, 3].contains(&numbers.len()) && numbers.iter().all(|number| number.is_finite()),
                format!(
                    "{name} must be one number, or one for each of 3 channels, in a list; found {numbers:?}"
                ),
            )?;
        }
        check(
            description.std.iter().all(|&number| number > 0.0),
            format!("std must be above 0, found {:?}", description.std),
        )?;
        Ok(description)
    }

    /// The text that [`Description::parse`] takes.
    ///
    /// # Errors
    /// None for a description that was parsed.
    pub fn to_text(&self) -> Result<String, Error> {
        toml::to_string(self).map_err(|error| wrong(Path::new("description"), error.to_string()))
    }
}

fn wrong(path: &Path, problem: String) -> Error {
    Error::Checkpoint {
        path: path.to_owned(),
        problem,
    }
}
