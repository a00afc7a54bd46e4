//! Omniglot (Lake, Salakhutdinov & Tenenbaum, *Science* 350, 2015): 1,623 handwritten characters of 50 alphabets, each
//! drawn once by 20 people, 105x105 pixels, as its authors publish it in two archives.
//!
//! Drawings are read from the zips, or from the same unzipped, scaled once by exact area averaging, and kept in memory
//! and in a cache (see [`places`]) as one byte per pixel; rotated classes are turned when they are read. Above
//! 105 pixels the published size is kept instead, and each drawing is scaled when it is read.
//!
//! Classes are called `Alphabet/characterNN`, or `Alphabet/characterNN/rot090` when turned (counter-clockwise). Groups
//! are alphabets; an alphabet turned is a group of its own, `Alphabet/rot090`, so that episodes within an alphabet
//! never mix orientations.
//!
//! Partitions:
//! - `official`: the background alphabets for training, but the last 5 of the 30 by name for validation; the 20
//!   evaluation alphabets for the test. Rotated classes in training only.
//! - `vinyals`: the files `splits/vinyals/{train,val,test}.txt` beside the archives: 1,028, 172 and 423 characters,
//!   all with their rotations.
//! - `random`: by the seed, 1,080, 120 and 423 of all characters whatever their alphabet. Rotated classes in training
//!   only.
//! - `koch`: the 30 background alphabets for training; of the evaluation alphabets the 10 without a one-shot run of
//!   Lake's for validation, the 10 of the runs for the test. Rotated classes in training only.
//!
//! With `rotations = episode` a whole episode is turned one way, as in the programs of Relation networks: every rotation is a
//! pool of its own, so that no character meets another one turned differently.
//!
//! With `train-on = trainval` the validation classes are trained on as well, as papers do for their final model. They
//! stay the validation part, which then says nothing about new classes. `generated-alphabets` adds alphabets of the
//! [`glyphs`] dataset to the training part.

mod drawing;
mod drawings;
mod fetch;
pub mod lake;
mod rotation;
mod split;
mod split_file;

use super::cache::PixelCache;
use super::mixed::Mixed;
use super::registry::{DatasetSpec, OpenRequest};
use super::{Class, ClassTable, DataError, Dataset, ImageShape, Part, glyphs, pixels, places};
use crate::options::{OptionKind, OptionSpec};
use drawings::Drawings;
use split::{Choice, Turned};

/// What the registry knows of Omniglot.
pub static SPEC: DatasetSpec = DatasetSpec {
    name: "omniglot",
    argument: "",
    summary: "1,623 handwritten characters of 50 alphabets, 20 drawings each",
    source: "github.com/brendenlake/omniglot (MIT)",
    line_drawings: true,
    partitions: split::PARTITIONS,
    options: &[
        OptionSpec {
            name: "rotations",
            kind: OptionKind::Choice(&["auto", "none", "train", "all", "episode"]),
            default: "auto",
            help: "parts in which characters turned by 90, 180 and 270 degrees are classes of their own (auto: as the partition has \
                   them; episode: in all parts, and the classes of an episode are all turned the same way)",
        },
        OptionSpec {
            name: "train-on",
            kind: OptionKind::Choice(&["train", "trainval"]),
            default: "train",
            help: "trainval trains on the validation classes as well, as papers do for their final model",
        },
        OptionSpec {
            name: "generated-alphabets",
            kind: OptionKind::Integer(0, 20_000),
            default: "0",
            help: "alphabets of glyphs, upright, that are trained on beside Omniglot's",
        },
    ],
    open: |request| open(request, &PixelCache::from_environment()),
    fetch: Some(fetch::fetch),
};

/// Sides that images may have, in pixels.
const SIDES: std::ops::RangeInclusive<usize> = 8..=512;
const DEFAULT_SIDE: usize = 28;

struct Omniglot {
    partition: String,
    shape: ImageShape,
    drawings: Drawings,
    parts: [(ClassTable, Vec<Turned>); 3],
}

/// Omniglot, with generated alphabets where these are asked for.
fn open(request: &OpenRequest, cache: &PixelCache) -> Result<Box<dyn Dataset>, DataError> {
    let omniglot = Box::new(Omniglot::open(request, cache)?);
    let alphabets = request.options.integer("generated-alphabets");
    if alphabets == 0 {
        return Ok(omniglot);
    }
    if request.options.text("rotations") == split::EPISODE {
        return Err(option(
            "generated alphabets are upright and can't be in episodes that are turned as a whole; leave out \
             --generated-alphabets or take other --rotations"
                .to_owned(),
        ));
    }
    let shape = omniglot.shape;
    let generated = glyphs::training(alphabets, request.seed, shape)?;
    Ok(Box::new(Mixed::new(omniglot, generated)))
}

impl Omniglot {
    fn open(request: &OpenRequest, cache: &PixelCache) -> Result<Self, DataError> {
        let data_dir = places::data_dir(request.data_dir.as_deref()).ok_or_else(|| {
            option(
                "where are the data? set --data-dir (or KSHOT_DATA) to the folder that holds omniglot/"
                    .to_owned(),
            )
        })?;
        let side = request.image_size.unwrap_or(DEFAULT_SIDE);
        let channels = request.channels.unwrap_or(1);
        if !SIDES.contains(&side) || ![1, 3].contains(&channels) {
            return Err(option(format!(
                "images have 8 to 512 pixels a side and 1 or 3 channels, asked for {side} and {channels}"
            )));
        }
        let drawings = drawings::load(&data_dir, side.min(drawing::SIDE), cache)?;
        let splits = ["omniglot/splits/vinyals", "splits/vinyals"].map(|folder| data_dir.join(folder));
        let choice = Choice {
            partition: &request.partition,
            rotations: request.options.text("rotations"),
            train_on_val: request.options.text("train-on") == "trainval",
            seed: request.seed,
            split_files: splits.iter().find(|folder| folder.is_dir()).unwrap_or(&splits[0]),
        };
        let parts = split::split(&drawings.characters, &choice)?;
        let divided = choice.rotations == split::EPISODE;
        let parts = parts.map(|classes| (table(&drawings, &classes, divided), classes));
        Ok(Self {
            partition: request.partition.clone(),
            shape: ImageShape::square(side, channels),
            drawings,
            parts,
        })
    }
}

impl Dataset for Omniglot {
    fn name(&self) -> &str {
        SPEC.name
    }

    fn is_line_drawing(&self) -> bool {
        true
    }

    fn partition(&self) -> &str {
        &self.partition
    }

    fn shape(&self) -> ImageShape {
        self.shape
    }

    fn classes(&self, part: Part) -> &ClassTable {
        &self.parts[part as usize].0
    }

    fn warnings(&self) -> &[String] {
        &self.drawings.warnings
    }

    fn read(&self, part: Part, class: usize, example: usize, pixels: &mut [f32]) -> Result<(), DataError> {
        let (table, classes) = &self.parts[part as usize];
        let Some(&(character, rotation)) = classes.get(class) else {
            return Err(out_of_range(format!(
                "class {class} of {part}, which has {}",
                table.len()
            )));
        };
        let character = &self.drawings.characters[character];
        if example >= character.n_examples {
            return Err(out_of_range(format!(
                "example {example} of {}, which has {}",
                table.classes()[class].name,
                character.n_examples
            )));
        }
        if pixels.len() != self.shape.len() {
            return Err(out_of_range(format!(
                "an image of {} takes {} values, not {}",
                self.shape,
                self.shape.len(),
                pixels.len()
            )));
        }
        let held = self.drawings.side;
        let ink = &self.drawings.ink[(character.first + example) * held * held..][..held * held];
        let side = self.shape.height;
        let scaled;
        let ink = if side == held {
            ink
        } else {
            let mut enlarged = vec![0; side * side];
            drawing::scale(ink, held, &mut enlarged, side);
            scaled = enlarged;
            &scaled
        };
        let channels = self.shape.channels;
        let mut at = 0;
        rotation.for_each_pixel(ink, side, |byte| {
            pixels[at..at + channels].fill(pixels::unit(byte));
            at += channels;
        });
        Ok(())
    }
}

/// The classes of a part; `divided` with a pool for each rotation.
fn table(drawings: &Drawings, classes: &[Turned], divided: bool) -> ClassTable {
    let alphabet = |character: usize| &*drawings.characters[character].alphabet;
    let mut table = ClassTable::new();
    let mut last = None;
    for group in classes.chunk_by(|a, b| (alphabet(a.0), a.1) == (alphabet(b.0), b.1)) {
        let (first, rotation) = group[0];
        if divided && last.replace(rotation) != Some(rotation) {
            table.start_pool();
        }
        let classes = group.iter().map(|&(character, _)| {
            let character = &drawings.characters[character];
            Class {
                name: rotation.suffix(&format!("{}/{}", character.alphabet, character.name)),
                n_examples: character.n_examples,
            }
        });
        table.push_group(rotation.suffix(alphabet(first)), classes);
    }
    table
}

fn option(problem: String) -> DataError {
    DataError::Option {
        dataset: SPEC.name.to_owned(),
        problem,
    }
}

fn out_of_range(problem: String) -> DataError {
    DataError::OutOfRange {
        dataset: SPEC.name.to_owned(),
        problem,
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tiny;
