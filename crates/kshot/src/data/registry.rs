//! Every dataset that kshot knows: one line each.

use std::path::PathBuf;

use super::{DataError, Dataset, features, folder, glyphs, omniglot, sinusoid};
use crate::options::{OptionError, OptionSpec, Options};

/// What the registry holds of a dataset.
pub struct DatasetSpec {
    /// `glyphs`, `omniglot`, `folder`.
    pub name: &'static str,
    /// What stands after `name:` on the command line, empty when nothing does: `DIR`.
    pub argument: &'static str,
    /// One line.
    pub summary: &'static str,
    /// Where it comes from, with its licence.
    pub source: &'static str,
    /// Whether its pictures are line drawings, given as ink 1 on paper 0 (see [`Dataset::is_line_drawing`]).
    pub line_drawings: bool,
    /// Names of the ways to divide its classes; the first is the default.
    pub partitions: &'static [&'static str],
    /// Options of its own.
    pub options: &'static [OptionSpec],
    /// Opens it.
    pub open: fn(&OpenRequest) -> Result<Box<dyn Dataset>, DataError>,
    /// Gets its files; `None` for a dataset that has none to get.
    pub fetch: Option<Fetch>,
}

/// Gets a dataset's files; gives a sentence that says what was done.
pub type Fetch = fn(&FetchRequest<'_>) -> Result<String, DataError>;

/// Every dataset, in the order of listings.
pub static DATASETS: &[&DatasetSpec] = &[
    &glyphs::SPEC,
    &omniglot::SPEC,
    &folder::SPEC,
    &features::SPEC,
    &sinusoid::SPEC,
];

/// What a dataset needs to know to open.
pub struct OpenRequest {
    /// What stood after the colon: the folder of `folder:DIR`.
    pub argument: String,
    /// Where real datasets lie, when the caller said so.
    pub data_dir: Option<PathBuf>,
    /// One of [`DatasetSpec::partitions`].
    pub partition: String,
    /// Side of the square images in pixels; `None` for the dataset's own default.
    pub image_size: Option<usize>,
    /// 1 grey or 3 colour; `None` for the dataset's own default.
    pub channels: Option<usize>,
    /// Seed of everything random about the dataset itself: generated classes, seeded partitions.
    pub seed: u64,
    /// The dataset's own options.
    pub options: Options,
}

/// What a dataset needs to know to get its files.
pub struct FetchRequest<'a> {
    /// Where real datasets lie; the files go into the dataset's own folder there.
    pub data_dir: PathBuf,
    /// A folder with the files, to take them from instead of the network.
    pub from: Option<PathBuf>,
    /// Where to download from instead of the authors' own place: a mirror.
    pub base_url: Option<String>,
    /// Told the name of the file under way, the bytes done and the bytes in all (0 when unknown).
    pub progress: &'a dyn Fn(&str, u64, u64),
}

impl DatasetSpec {
    /// Resolves the options given by name against this dataset's declarations.
    ///
    /// # Errors
    /// An option that it doesn't have, or a value that isn't allowed.
    pub fn options(
        &self,
        given: &std::collections::BTreeMap<String, String>,
    ) -> Result<Options, OptionError> {
        Options::resolve(self.options, given)
    }
}

/// Finds a dataset by what stands on the command line: `glyphs`, `folder:DIR`. Gives it with its argument.
///
/// # Errors
/// [`DataError::Unknown`] with the nearest known name.
pub fn find(text: &str) -> Result<(&'static DatasetSpec, &str), DataError> {
    let (name, argument) = text.split_once(':').unwrap_or((text, ""));
    let names = || DATASETS.iter().map(|spec| spec.name);
    let spec = DATASETS
        .iter()
        .find(|spec| spec.name == name)
        .ok_or_else(|| DataError::Unknown {
            what: "dataset",
            name: name.to_owned(),
            hint: crate::suggest::hint(name, names()),
        })?;
    match (spec.argument.is_empty(), argument.is_empty()) {
        (false, true) => Err(DataError::Option {
            dataset: name.to_owned(),
            problem: format!("expected {name}:{}", spec.argument),
        }),
        (true, false) => Err(DataError::Option {
            dataset: name.to_owned(),
            problem: format!("takes no argument, found `{argument}`"),
        }),
        _ => Ok((spec, argument)),
    }
}
