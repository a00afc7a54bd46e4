//! A folder of pictures, `DIR/<class>/*.{png,jpg,jpeg,webp,bmp}`: what a user with pictures of their own has.
//!
//! Every picture is decoded once, turned as its EXIF orientation says, made square, scaled and kept in memory as bytes.
//! Its content tells its format; hidden files and folders are left out. Classes are the folders, ordered by the bytes
//! of their names, in one group, `all`; a class's examples are its pictures, ordered likewise.
//!
//! The partition `seeded` draws classes by the seed: `train-fraction` of them for training, `val-fraction` for
//! validation (both rounded to whole classes) and the rest for the test; with both 0, every class is a test class.

pub(crate) mod fit;
mod load;
mod scan;

use std::path::PathBuf;

use fast_image_resize::FilterType;
use rand_chacha::rand_core::Rng;

use super::registry::{DatasetSpec, OpenRequest};
use super::{Class, ClassTable, DataError, Dataset, ImageShape, Part, pixels};
use crate::options::{OptionKind, OptionSpec};
use crate::random::stream;
pub use fit::Fit;
use fit::Target;
use load::Loaded;
pub use scan::{Scanned, is_picture, scan as scan_folder};

/// What the registry knows of folders.
pub static SPEC: DatasetSpec = DatasetSpec {
    name: "folder",
    argument: "DIR",
    summary: "your own pictures: DIR/<class>/*.{png,jpg,jpeg,webp,bmp}",
    source: "yours",
    line_drawings: false,
    partitions: &["seeded"],
    options: &[
        OptionSpec {
            name: "train-fraction",
            kind: OptionKind::Number(0.0, 1.0),
            default: "0.6",
            help: "share of the classes that are training classes",
        },
        OptionSpec {
            name: "val-fraction",
            kind: OptionKind::Number(0.0, 1.0),
            default: "0.2",
            help: "share of the classes that are validation classes; the rest are test classes (all, when both are 0)",
        },
        OptionSpec {
            name: "fit",
            kind: OptionKind::Choice(&["crop", "pad", "stretch"]),
            default: "crop",
            help: "how a picture is made square: cut to its centre, padded, or stretched",
        },
        OptionSpec {
            name: "invert",
            kind: OptionKind::Flag,
            default: "false",
            help: "swap dark and light, for dark drawings on light paper where ink should be 1",
        },
        OptionSpec {
            name: "unreadable",
            kind: OptionKind::Choice(&["fail", "skip"]),
            default: "fail",
            help: "what a picture that can't be read does: end with an error, or be left out with a warning",
        },
    ],
    open: |request| Ok(Box::new(Folder::open(request)?)),
    fetch: None,
};

/// Sides that images may have, in pixels.
const SIDES: std::ops::RangeInclusive<usize> = 8..=1024;
const DEFAULT_SIDE: usize = 28;
/// Names the stream of the partition under the dataset's seed.
const PARTITION_STREAM: u64 = 0x666f_6c64;

struct Folder {
    name: String,
    shape: ImageShape,
    loaded: Loaded,
    /// For each part its table and, class by class, the index into `loaded.classes`.
    parts: [(ClassTable, Vec<usize>); 3],
}

impl Folder {
    fn open(request: &OpenRequest) -> Result<Self, DataError> {
        let name = format!("{}:{}", SPEC.name, request.argument);
        let option = |problem: String| DataError::Option {
            dataset: name.clone(),
            problem,
        };
        if !SPEC.partitions.contains(&&*request.partition) {
            return Err(DataError::Unknown {
                what: "partition",
                name: request.partition.clone(),
                hint: crate::suggest::hint(&request.partition, SPEC.partitions.iter().copied()),
            });
        }
        let side = request.image_size.unwrap_or(DEFAULT_SIDE);
        let channels = request.channels.unwrap_or(1);
        if !SIDES.contains(&side) || ![1, 3].contains(&channels) {
            return Err(option(format!(
                "images have 8 to 1024 pixels a side and 1 or 3 channels, asked for {side} and {channels}"
            )));
        }
        let fractions = ["train-fraction", "val-fraction"].map(|name| request.options.number(name));
        if fractions[0] + fractions[1] > 1.0 + 1e-9 {
            return Err(option(format!(
                "train-fraction {} and val-fraction {} are more than 1 together; lower one",
                fractions[0], fractions[1]
            )));
        }
        let target = Target {
            side,
            channels,
            fit: Fit::from_name(request.options.text("fit")),
            invert: request.options.flag("invert"),
            filter: FilterType::Bilinear,
        };
        let scanned = scan::scan(&name, &PathBuf::from(&request.argument))?;
        let loaded = load::load(
            &name,
            scanned,
            &target,
            request.options.text("unreadable") == "skip",
        )?;
        let parts = partition(loaded.classes.len(), fractions, request.seed).map(|classes| {
            let mut table = ClassTable::new();
            if !classes.is_empty() {
                let class = |&index: &usize| {
                    let (name, pictures) = &loaded.classes[index];
                    Class {
                        name: name.clone(),
                        n_examples: pictures.len(),
                    }
                };
                table.push_group("all", classes.iter().map(class));
            }
            (table, classes)
        });
        Ok(Self {
            name,
            shape: ImageShape::square(side, channels),
            loaded,
            parts,
        })
    }
}

impl Dataset for Folder {
    fn name(&self) -> &str {
        &self.name
    }

    fn partition(&self) -> &str {
        SPEC.partitions[0]
    }

    fn shape(&self) -> ImageShape {
        self.shape
    }

    fn classes(&self, part: Part) -> &ClassTable {
        &self.parts[part as usize].0
    }

    fn warnings(&self) -> &[String] {
        &self.loaded.warnings
    }

    fn read(&self, part: Part, class: usize, example: usize, pixels: &mut [f32]) -> Result<(), DataError> {
        let out_of_range = |problem| DataError::OutOfRange {
            dataset: self.name.clone(),
            problem,
        };
        let classes = &self.parts[part as usize].1;
        let Some(&class) = classes.get(class) else {
            return Err(out_of_range(format!(
                "class {class} of {part}, which has {}",
                classes.len()
            )));
        };
        let (name, pictures) = &self.loaded.classes[class];
        if example >= pictures.len() {
            return Err(out_of_range(format!(
                "example {example} of {name}, which has {}",
                pictures.len()
            )));
        }
        let length = self.shape.len();
        if pixels.len() != length {
            return Err(out_of_range(format!(
                "an image of {} takes {length} values, not {}",
                self.shape,
                pixels.len()
            )));
        }
        let bytes = &self.loaded.pixels[(pictures.start + example) * length..][..length];
        pixels
            .iter_mut()
            .zip(bytes)
            .for_each(|(pixel, &byte)| *pixel = pixels::unit(byte));
        Ok(())
    }
}

/// Indices of the train, validation and test classes, each in order: the first of them in a seeded order train, the
/// next validate, the rest test.
pub(super) fn partition(n_classes: usize, fractions: [f64; 2], seed: u64) -> [Vec<usize>; 3] {
    let mut generator = stream(seed, &[PARTITION_STREAM]);
    let mut order: Vec<(u64, usize)> = (0..n_classes)
        .map(|index| (generator.next_u64(), index))
        .collect();
    order.sort_unstable();
    let mut order = order.into_iter().map(|(_, index)| index);
    let [n_train, n_val] = fractions.map(|fraction| (fraction * n_classes as f64).round() as usize);
    [n_train, n_val, n_classes].map(|n| {
        let mut part: Vec<usize> = order.by_ref().take(n).collect();
        part.sort_unstable();
        part
    })
}

#[cfg(test)]
mod tests;
