//! What can go wrong with data.

use std::path::PathBuf;

/// An error of a dataset: what was expected, what was found, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file or folder can't be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A dataset is not where it was looked for.
    #[error("{dataset}: {path} is not there; {hint}", path = path.display())]
    Missing {
        /// Which dataset.
        dataset: String,
        /// What was looked for.
        path: PathBuf,
        /// What to do.
        hint: String,
    },
    /// A file is there but damaged or of another format.
    #[error("{path}: {problem}", path = path.display())]
    Damaged {
        /// Where; inside an archive, the archive's path joined with the entry's.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A name that no registry knows.
    #[error("unknown {what} `{name}`{hint}")]
    Unknown {
        /// What kind of thing: `dataset`, `partition`.
        what: &'static str,
        /// The name that was given.
        name: String,
        /// A suggestion or the list of known names, starting with `; `.
        hint: String,
    },
    /// An option's value that this dataset can't take.
    #[error("{dataset}: {problem}")]
    Option {
        /// Which dataset.
        dataset: String,
        /// What was wrong and what is allowed.
        problem: String,
    },
    /// A class or example that doesn't exist, or a buffer of another length.
    #[error("{dataset}: {problem}")]
    OutOfRange {
        /// Which dataset.
        dataset: String,
        /// What was asked and what there is.
        problem: String,
    },
}

impl DataError {
    /// An [`DataError::Io`] for `path`.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io {
            path: path.into(),
            source,
        }
    }
}
