//! Datasets: labelled images in classes, classes in groups (alphabets), classes divided into parts.
//!
//! Every dataset is one file beside this one and one line in [`registry`]. Nothing here knows a
//! method, a tensor or an episode.

mod archive;
mod cache;
mod error;
mod fetch;
mod mixed;
mod partition;
pub(crate) mod pixels;
pub mod places;
#[cfg(test)]
mod real;
pub mod registry;
mod shape;
pub mod sinusoid;

pub mod features;
pub mod folder;
pub mod glyphs;
pub mod omniglot;
pub mod sheet;

pub use error::DataError;
pub use partition::{Class, ClassTable, Part};
pub use shape::ImageShape;

/// A source of labelled images whose classes are divided into train, validation and test parts.
///
/// A dataset is read-only and shared between threads; [`Dataset::read`] is a pure function of its
/// arguments, so that an episode is one too.
pub trait Dataset: Send + Sync {
    /// The name under which the registry knows it, with its arguments: `omniglot`, `folder:cats`.
    fn name(&self) -> &str;

    /// Whether its pictures are line drawings with ink 1 on paper 0, which people see as dark on light.
    fn is_line_drawing(&self) -> bool {
        false
    }

    /// How its classes are divided, by name: `official`, `vinyals`, `seeded`.
    fn partition(&self) -> &str;

    /// Height, width and channels of every image.
    fn shape(&self) -> ImageShape;

    /// The classes of one part, in a fixed order.
    fn classes(&self, part: Part) -> &ClassTable;

    /// Writes example `example` of class `class` of `part` into `pixels`, `[height, width, channels]`
    /// row-major, in `[0, 1]`; for line drawings ink is 1 and paper 0.
    ///
    /// # Errors
    /// An index out of range, a slice of another length, or an image that can't be decoded.
    fn read(&self, part: Part, class: usize, example: usize, pixels: &mut [f32]) -> Result<(), DataError>;

    /// What its user should be told, one line each: images that were skipped, a set that isn't complete.
    fn warnings(&self) -> &[String] {
        &[]
    }
}
