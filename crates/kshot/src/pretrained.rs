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
pub static PRETRAINED: &[Pretrained] = &[
    Pretrained {
        name: "omniglot-conv4",
        summary: "handwritten characters and symbols: prototypical networks on Omniglot's background alphabets, 28x28 grey",
        bytes: include_bytes!("../../../models/omniglot-conv4.safetensors"),
    },
    Pretrained {
        name: "glyphs-conv4",
        summary: "drawn characters and signs: prototypical networks on procedural alphabets, 28x28 grey",
        bytes: include_bytes!("../../../models/glyphs-conv4.safetensors"),
    },
];

/// The default model's name.
pub const DEFAULT: &str = "omniglot-conv4";

/// The names of all models, for help texts: `omniglot-conv4, glyphs-conv4`.
pub fn names() -> String {
    let names: Vec<_> = PRETRAINED.iter().map(|model| model.name).collect();
    names.join(", ")
}

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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::trained::Trained;

    #[test]
    fn every_model_can_be_used_has_its_name_and_says_where_it_ends() {
        assert_eq!(PRETRAINED[0].name, DEFAULT);
        for model in PRETRAINED {
            let trained = Trained::from_bytes(model.bytes, Path::new(model.name)).unwrap();
            assert_eq!(trained.name(), model.name);
            let card = &trained.file().card;
            for part in ["Data", "Accuracy", "Limits"] {
                assert!(card.contains(part), "{}: {part}", model.name);
            }
        }
        let error = find("glyps-conv4").err().unwrap().to_string();
        assert_eq!(error, "unknown model `glyps-conv4`; did you mean `glyphs-conv4`?");
    }
}
