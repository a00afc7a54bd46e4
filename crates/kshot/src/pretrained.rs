//! Models that are part of this build: `enroll` works without a training and without a network.
//!
//! One file `models/<name>.safetensors` (see [`crate::model_file`]; its card is inside), and one line here.

use crate::error::Error;

/// A model that is part of this build.
pub struct Pretrained {
    /// `glyphs-conv4`.
    pub name: &'static str,
    /// One line.
    pub summary: &'static str,
    /// A [`crate::model_file::ModelFile`].
    pub bytes: &'static [u8],
}

/// Every model of this build; the first is the default.
pub static PRETRAINED: &[Pretrained] = &[];

/// The default model's name.
pub const DEFAULT: &str = "glyphs-conv4";

/// Finds a model by name.
///
/// # Errors
/// [`Error::Unknown`] with the nearest known name.
pub fn find(name: &str) -> Result<&'static Pretrained, Error> {
    PRETRAINED
        .iter()
        .find(|model| model.name == name)
        .ok_or_else(|| Error::Unknown {
            what: "model",
            name: name.to_owned(),
            hint: crate::suggest::hint(name, PRETRAINED.iter().map(|model| model.name)),
        })
}
