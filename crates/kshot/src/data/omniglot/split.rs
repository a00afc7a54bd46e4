//! Which characters, turned which way, are the classes of which part.

use std::collections::BTreeSet;
use std::path::Path;

use rand_chacha::rand_core::Rng;

use super::drawings::Character;
use super::rotation::Rotation;
use super::split_file;
use crate::data::DataError;
use crate::random::stream;

/// The ways to divide the characters; the first is the default.
pub const PARTITIONS: &[&str] = &["official", "vinyals", "random", "koch"];

/// The evaluation alphabets of Lake's one-shot runs, two runs each.
const LAKE_ALPHABETS: [&str; 10] = [
    "Atlantean",
    "Ge_ez",
    "Glagolitic",
    "Gurmukhi",
    "Kannada",
    "Malayalam",
    "Manipuri",
    "Old_Church_Slavonic_(Cyrillic)",
    "Tengwar",
    "Tibetan",
];

/// Characters of the random split that are kept for the test, of all 1,623.
const RANDOM_TEST: (usize, usize) = (423, 1623);
/// Names the stream of the random split under the dataset's seed.
const RANDOM_STREAM: u64 = 0x6f6d_6e69;

/// The choice of rotations that turns a whole episode one way.
pub const EPISODE: &str = "episode";

/// A class: a character (index) turned one way.
pub type Turned = (usize, Rotation);

/// What the user chose.
pub struct Choice<'a> {
    /// One of [`PARTITIONS`].
    pub partition: &'a str,
    /// `auto`, `none`, `train`, `all` or [`EPISODE`].
    pub rotations: &'a str,
    /// Whether the validation classes are trained on, too.
    pub train_on_val: bool,
    /// Seed of the random split.
    pub seed: u64,
    /// Folder of Vinyals' split files.
    pub split_files: &'a Path,
}

/// The classes of the train, validation and test part, each sorted by alphabet, rotation and character, with [`EPISODE`]
/// by rotation first.
///
/// # Errors
/// An unknown partition; split files that are missing, malformed or name an unknown character.
pub fn split(characters: &[Character], choice: &Choice<'_>) -> Result<[Vec<Turned>; 3], DataError> {
    let (mut parts, listed) = match choice.partition {
        "official" => (official(characters), false),
        "random" => (random(characters.len(), choice.seed), false),
        "koch" => (koch(characters), false),
        "vinyals" => (split_file::read_all(choice.split_files, characters)?, true),
        name => {
            let known = PARTITIONS.iter().copied();
            return Err(DataError::Unknown {
                what: "partition",
                name: name.to_owned(),
                hint: crate::suggest::hint(name, known),
            });
        }
    };
    for (index, part) in parts.iter_mut().enumerate() {
        let turned: &[Rotation] = match choice.rotations {
            "auto" if listed => continue,
            "auto" | "train" if index == 0 => &Rotation::ALL,
            "all" | EPISODE => &Rotation::ALL,
            _ => &[Rotation::R0],
        };
        let characters: BTreeSet<usize> = part.iter().map(|&(character, _)| character).collect();
        *part = characters
            .into_iter()
            .flat_map(|character| turned.iter().map(move |&r| (character, r)))
            .collect();
    }
    if choice.train_on_val {
        let with_val: BTreeSet<usize> = parts[1].iter().map(|&(character, _)| character).collect();
        let turned: BTreeSet<Rotation> = parts[0].iter().map(|&(_, rotation)| rotation).collect();
        parts[0].extend(
            with_val
                .into_iter()
                .flat_map(|character| turned.iter().map(move |&r| (character, r))),
        );
    }
    for part in &mut parts {
        part.sort_by_key(|&(character, rotation)| {
            let pool = (choice.rotations == EPISODE).then_some(rotation);
            (pool, &characters[character].alphabet, rotation, character)
        });
    }
    Ok(parts)
}

/// The published sets: background alphabets for training, the last sixth of them by name (5 of 30) for validation,
/// evaluation alphabets for the test.
fn official(characters: &[Character]) -> [Vec<Turned>; 3] {
    let mut alphabets: Vec<&str> = characters
        .iter()
        .filter(|character| character.set == 0)
        .map(|character| &*character.alphabet)
        .collect();
    alphabets.dedup();
    let for_val: BTreeSet<&str> = alphabets[alphabets.len() - alphabets.len() / 6..]
        .iter()
        .copied()
        .collect();
    let mut parts = [const { Vec::new() }; 3];
    for (index, character) in characters.iter().enumerate() {
        let part = match character.set {
            0 => usize::from(for_val.contains(&*character.alphabet)),
            _ => 2,
        };
        parts[part].push((index, Rotation::R0));
    }
    parts
}

/// Koch et al. 2015, section 4.1: the 30 background alphabets for training, the 10 evaluation alphabets that Lake's runs
/// leave out for validation, the 10 of the runs for the test.
fn koch(characters: &[Character]) -> [Vec<Turned>; 3] {
    let mut parts = [const { Vec::new() }; 3];
    for (index, character) in characters.iter().enumerate() {
        let part = match character.set {
            0 => 0,
            _ => 1 + usize::from(LAKE_ALPHABETS.contains(&&*character.alphabet)),
        };
        parts[part].push((index, Rotation::R0));
    }
    parts
}

/// All characters in a seeded order: the first 1,200 of 1,623 for training, every tenth of these (120) for validation,
/// the other 423 for the test.
fn random(n_characters: usize, seed: u64) -> [Vec<Turned>; 3] {
    let mut generator = stream(seed, &[RANDOM_STREAM]);
    let mut order: Vec<(u64, usize)> = (0..n_characters)
        .map(|index| (generator.next_u64(), index))
        .collect();
    order.sort_unstable();
    let order: Vec<Turned> = order
        .into_iter()
        .map(|(_, index)| (index, Rotation::R0))
        .collect();
    let n_test = n_characters * RANDOM_TEST.0 / RANDOM_TEST.1;
    let (learned, test) = order.split_at(n_characters - n_test);
    let (val, train) = learned.split_at(learned.len() / 10);
    [train.to_vec(), val.to_vec(), test.to_vec()]
}
