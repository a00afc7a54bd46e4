//! Single pictures of classes.

use super::escape;
use super::findings::{Findings, Pair};
use super::picture::{Look, Picture, side_within};
use crate::data::{Dataset, Part};
use crate::error::Error;

/// Size of the pictures of the hardest pairs together in the page, in bytes.
const BYTES: usize = 256 << 10;

/// Two classes that were mixed up, with what is needed to show them.
#[derive(Clone, Debug, PartialEq)]
pub struct HardPair {
    /// How often.
    pub pair: Pair,
    /// The names of its two classes.
    pub names: [String; 2],
    /// An example of each.
    pub pictures: [Picture; 2],
}

/// The hardest pairs of `findings`.
///
/// # Errors
/// A picture that can't be read.
pub fn hard_pairs(
    findings: &Findings,
    dataset: &dyn Dataset,
    part: Part,
    look: Look,
) -> Result<Vec<HardPair>, Error> {
    let table = dataset.classes(part).classes();
    let side = side_within(BYTES, 2 * findings.pairs.len(), dataset.shape().channels);
    let show = |pair: &Pair| -> Result<HardPair, Error> {
        let [one, other] = pair.classes;
        Ok(HardPair {
            pair: *pair,
            names: [one, other].map(|class| escape::short(&table[class].name)),
            pictures: [
                picture(dataset, part, one, look, side)?,
                picture(dataset, part, other, look, side)?,
            ],
        })
    };
    findings.pairs.iter().map(show).collect()
}

/// The first example of a class.
///
/// # Errors
/// It can't be read.
pub fn picture(
    dataset: &dyn Dataset,
    part: Part,
    class: usize,
    look: Look,
    side: u32,
) -> Result<Picture, Error> {
    Picture::new(&read(dataset, part, class, 0)?, dataset.shape(), look, side)
}

/// One image, `[height, width, channels]`.
///
/// # Errors
/// It can't be read.
pub fn read(dataset: &dyn Dataset, part: Part, class: usize, example: usize) -> Result<Vec<f32>, Error> {
    let mut pixels = vec![0.0; dataset.shape().len()];
    dataset.read(part, class, example, &mut pixels)?;
    Ok(pixels)
}
