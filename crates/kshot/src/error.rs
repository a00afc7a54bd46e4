//! What can go wrong in the library outside data and sampling.

use std::path::PathBuf;

use crate::data::{DataError, ImageShape};
use crate::options::OptionError;
use crate::sampler::SamplerError;

/// An error of kshot: what was expected, what was found, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Data can't be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// No episode can be drawn.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// An option has a value that it can't take.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// A name that no registry knows.
    #[error("unknown {what} `{name}`{hint}")]
    Unknown {
        /// What kind of thing: `method`, `encoder`, `device`.
        what: &'static str,
        /// The name that was given.
        name: String,
        /// A suggestion or the list of known names, starting with `; `.
        hint: String,
    },
    /// A setting out of its range, or settings that contradict each other.
    #[error("{name}: {problem}")]
    Setting {
        /// Which setting, as on the command line.
        name: &'static str,
        /// What was found and what is allowed.
        problem: String,
    },
    /// Images that an encoder can't take.
    #[error(
        "encoder {encoder} needs images of at least {smallest}x{smallest} pixels, found {image}; raise --image-size, or for features take --encoder identity"
    )]
    ImageTooSmall {
        /// Which encoder.
        encoder: &'static str,
        /// What was found.
        image: ImageShape,
        /// The smallest side.
        smallest: usize,
    },
    /// A file or folder can't be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A checkpoint or run folder that can't be used.
    #[error("{path}: {problem}", path = path.display())]
    Checkpoint {
        /// Where.
        path: PathBuf,
        /// What was expected, what was found, and what to do.
        problem: String,
    },
    /// A file of results that can't be used.
    #[error(
        "{path}: {problem}; expected a table.json that `kshot reproduce` wrote: give another file, or make the table anew",
        path = path.display()
    )]
    Results {
        /// Where.
        path: PathBuf,
        /// What was found.
        problem: String,
    },
    /// A class or an example that can't be enrolled, changed or scored.
    #[error("class `{class}`: {problem}")]
    Class {
        /// Which class.
        class: String,
        /// What was found and what to do.
        problem: String,
    },
    /// The loss became infinite or not a number.
    #[error("the loss of {place} is {loss}{kept}; start again with a lower {lower}, or with another --seed")]
    NotFinite {
        /// Where in the training: `episode 10`.
        place: String,
        /// What it was.
        loss: f32,
        /// What is left, starting with `; `, or empty.
        kept: String,
        /// The rates that may be too high: `--lr or --inner-lr`.
        lower: String,
    },
}

impl Error {
    /// An [`Error::Io`] for `path`.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io {
            path: path.into(),
            source,
        }
    }
}
