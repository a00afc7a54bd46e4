//! The embedding of a few classes, in the plane.

use rand::seq::index;

use super::pca;
use super::picture::{Look, Picture, side_within};
use super::{classes, escape};
use crate::data::{Dataset, Part};
use crate::episode;
use crate::error::Error;
use crate::learner::{self, Learner};
use crate::norm::Norm;
use crate::random;

/// Classes that are shown.
const CLASSES: usize = 10;
/// Examples of each.
const EXAMPLES: usize = 15;
/// Values of all images that are embedded at once.
const VALUES: usize = 8 << 20;
/// Size of all these pictures together in the page, in bytes.
const BYTES: usize = 512 << 10;
/// Largest side of a picture here, where they lie close together.
const SIDE: u32 = 32;
/// The stream that draws the classes, below an evaluation's seed.
const STREAM: u64 = 0x706c_616e;

/// Middle tones, each at a contrast of 3 or more with the page in light and in dark.
pub const COLOURS: [[u8; 3]; CLASSES] = [
    [0x1f, 0x77, 0xd0],
    [0xd3, 0x5a, 0x00],
    [0x16, 0x8a, 0x5b],
    [0xc2, 0x3b, 0x8f],
    [0x8b, 0x63, 0xd9],
    [0x9a, 0x7a, 0x00],
    [0xd6, 0x3c, 0x3c],
    [0x1a, 0x8c, 0x99],
    [0x80, 0x80, 0x80],
    [0x6b, 0x8e, 0x23],
];

/// Some classes in the plane of their embeddings' first two principal components.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// The classes, at most as many as there are colours.
    pub clusters: Vec<Cluster>,
    /// Share of the variance along each axis, in `[0, 1]`.
    pub explained: [f64; 2],
    /// Classes in the whole part.
    pub classes: usize,
    /// Length of an embedding.
    pub features: usize,
    /// How the pictures look.
    pub look: Look,
}

/// One class.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// One example, for the legend.
    pub picture: Picture,
    /// Its examples: picture (a line drawing in the class's colour on nothing, or as it is) and place.
    pub examples: Vec<(Picture, [f64; 2])>,
}

/// Embeds some classes of `part`, drawn by `seed`; `None` where their embeddings span no plane.
///
/// # Errors
/// A picture that can't be read.
pub fn gather(
    learner: &dyn Learner,
    dataset: &dyn Dataset,
    part: Part,
    norm: Norm,
    seed: u64,
    look: Look,
) -> Result<Option<Embedding>, Error> {
    let image = dataset.shape();
    let table = dataset.classes(part).classes();
    let mut rng = random::stream(seed, &[STREAM]);
    let chosen = index::sample(&mut rng, table.len(), CLASSES.min(table.len())).into_vec();
    let most = (VALUES / CLASSES / image.len().max(1)).clamp(2, EXAMPLES);
    let mut pixels = Vec::new();
    for &class in &chosen {
        for example in 0..table[class].n_examples.min(most) {
            pixels.extend(classes::read(dataset, part, class, example)?);
        }
    }
    let images = episode::images(&pixels, image, learner.device());
    let embedded = learner.embed(images, norm);
    let [n, features] = embedded.dims();
    let rows = learner::logits_on_host(embedded);
    let Some(plane) = pca::plane(&rows, features) else {
        return Ok(None);
    };
    // A picture of the legend is twice as high and wide.
    let channels = if look == Look::Drawing { 4 } else { image.channels };
    let side = side_within(BYTES, n + 4 * CLASSES, channels).min(SIDE);
    let mut places = pixels.chunks_exact(image.len()).zip(plane.points);
    let mut clusters = Vec::with_capacity(chosen.len());
    for (&class, colour) in chosen.iter().zip(COLOURS) {
        let examples: Vec<(Picture, [f64; 2])> = places
            .by_ref()
            .take(table[class].n_examples.min(most))
            .map(|(pixels, place)| {
                let picture = match look {
                    Look::Drawing => Picture::tinted(pixels, image, colour, side)?,
                    Look::Photo => Picture::new(pixels, image, look, side)?,
                };
                Ok((picture, place))
            })
            .collect::<Result<_, Error>>()?;
        clusters.push(Cluster {
            name: escape::short(&table[class].name),
            picture: classes::picture(dataset, part, class, look, 2 * side)?,
            examples,
        });
    }
    Ok(Some(Embedding {
        clusters,
        explained: plane.explained,
        classes: table.len(),
        features,
        look,
    }))
}

#[cfg(test)]
mod tests {
    use super::COLOURS;

    fn luminance(colour: [u8; 3]) -> f64 {
        let linear = |byte: u8| {
            let value = f64::from(byte) / 255.0;
            if value <= 0.040_45 {
                value / 12.92
            } else {
                ((value + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * linear(colour[0]) + 0.7152 * linear(colour[1]) + 0.0722 * linear(colour[2])
    }

    #[test]
    fn every_colour_stands_out_in_light_and_in_dark() {
        // Contrast as in WCAG 2.2, section 1.4.11; the pages' backgrounds are those of `style.css`.
        let contrast = |a: f64, b: f64| (a.max(b) + 0.05) / (a.min(b) + 0.05);
        for colour in COLOURS {
            for page in [[0xff, 0xff, 0xff], [0x13, 0x16, 0x1b]] {
                let contrast = contrast(luminance(colour), luminance(page));
                assert!(contrast >= 3.0, "{colour:02x?} on {page:02x?}: {contrast:.2}");
            }
        }
    }
}
