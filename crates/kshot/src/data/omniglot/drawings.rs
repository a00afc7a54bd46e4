//! All characters and their drawings, from the authors' two archives or from the cache.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::drawing;
use crate::data::archive::{Archive, Entry};
use crate::data::cache::PixelCache;
use crate::data::{DataError, pixels};

/// Longest PNG of a drawing that is read, in bytes (the published ones have at most about a thousand).
pub const MAX_PNG: u64 = 1 << 20;

/// The two sets in which Omniglot is published: name of the archive, number of characters.
pub const SETS: [(&str, usize); 2] = [("images_background", 964), ("images_evaluation", 659)];
/// Drawings of each published character, by as many people.
pub const DRAWERS: usize = 20;

/// A character of an alphabet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Character {
    /// `Futurama`.
    pub alphabet: String,
    /// `character03`.
    pub name: String,
    /// Index into [`SETS`]: 0 background, 1 evaluation.
    pub set: usize,
    /// Index of its first drawing.
    pub first: usize,
    /// Number of its drawings, which lie next to each other.
    pub n_examples: usize,
}

/// Every character with the pixels of its drawings.
pub struct Drawings {
    /// Sorted by alphabet, then name.
    pub characters: Vec<Character>,
    /// Side at which the drawings are held, in pixels.
    pub side: usize,
    /// Ink in 0..=255: `[drawings, side, side]`.
    pub ink: Vec<u8>,
    /// What the user should know: an incomplete set, a cache that can't be written.
    pub warnings: Vec<String>,
}

/// Finds an archive called `stem`, zipped or unpacked, in `data_dir/omniglot` or in `data_dir` itself.
pub fn locate(data_dir: &Path, stem: &str) -> Option<PathBuf> {
    [data_dir.join("omniglot"), data_dir.to_owned()]
        .into_iter()
        .find_map(|folder| {
            let zip = folder.join(format!("{stem}.zip"));
            let unpacked = folder.join(stem);
            if zip.is_file() {
                Some(zip)
            } else {
                unpacked.is_dir().then_some(unpacked)
            }
        })
}

/// Whether a file of that name is a drawing.
pub fn is_drawing(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".png")
}

/// Checks that `archive` holds every character of `set` with every drawing, all readable.
///
/// # Errors
/// [`DataError::Damaged`] that says what is missing.
pub fn verify(archive: &Archive, set: usize) -> Result<(), DataError> {
    let (characters, sources) = list(std::slice::from_ref(archive))?;
    let (stem, expected) = SETS[set];
    let whole = characters
        .iter()
        .filter(|character| character.n_examples == DRAWERS)
        .count();
    if (whole, characters.len()) != (expected, expected) {
        return Err(DataError::Damaged {
            path: archive.path().to_owned(),
            problem: format!(
                "{} characters, {whole} of them with {DRAWERS} drawings, and {stem} has {expected}; get the published file",
                characters.len()
            ),
        });
    }
    decode_all(std::slice::from_ref(archive), &sources, 8).map(drop)
}

/// Loads every drawing at `side` pixels.
///
/// # Errors
/// An archive that is missing, damaged or holds something else.
pub fn load(data_dir: &Path, side: usize, cache: &PixelCache) -> Result<Drawings, DataError> {
    let mut archives = Vec::new();
    for (stem, _) in SETS {
        let path = locate(data_dir, stem).ok_or_else(|| DataError::Missing {
            dataset: "omniglot".to_owned(),
            path: data_dir.join("omniglot").join(format!("{stem}.zip")),
            hint: format!(
                "get it with `kshot data fetch omniglot`, or set --data-dir (or KSHOT_DATA) to the folder that holds \
                 omniglot/{stem}.zip or the same unzipped"
            ),
        })?;
        archives.push(Archive::open(&path, |name| {
            name.to_ascii_lowercase().ends_with(".png")
        })?);
    }
    let (characters, sources) = list(&archives)?;
    pixels::check_memory("omniglot", sources.len(), side * side)?;
    let mut warnings = incomplete(&characters);

    let identity = format!(
        "omniglot, {side}x{side}, exact area averaging, ink 255; {}; {}",
        archives[0].identity(),
        archives[1].identity()
    );
    // Sets in different places keep a file each; a set that changes replaces its own.
    let places: Vec<_> = archives
        .iter()
        .flat_map(|archive| archive.path().as_os_str().as_encoded_bytes())
        .copied()
        .collect();
    let name = format!("omniglot-{side}-{:08x}.pixels", crc32fast::hash(&places));
    let length = sources.len() * side * side;
    let ink = match cache.load(&name, &identity, length) {
        Some(ink) => ink,
        None => {
            let ink = decode_all(&archives, &sources, side)?;
            if let Err(error) = cache.store(&name, &identity, &ink) {
                warnings.push(format!(
                    "omniglot: the cache can't be written, so that every start decodes again: {error}; set KSHOT_CACHE to a writable folder"
                ));
            }
            ink
        }
    };
    Ok(Drawings {
        characters,
        side,
        ink,
        warnings,
    })
}

/// The characters in order, and in the order of their drawings each one's archive and entry.
type Listing<'a> = (Vec<Character>, Vec<(usize, &'a Entry)>);

/// Groups the entries `.../alphabet/character/drawing.png` of all archives.
fn list(archives: &[Archive]) -> Result<Listing<'_>, DataError> {
    let mut grouped: BTreeMap<(&str, &str), (usize, Vec<&Entry>)> = BTreeMap::new();
    for (set, archive) in archives.iter().enumerate() {
        for entry in archive.entries() {
            let damaged = |problem: &str| DataError::Damaged {
                path: archive.path_of(entry),
                problem: problem.to_owned(),
            };
            let mut parts = entry.name.rsplit('/').skip(1);
            let (Some(name), Some(alphabet)) = (parts.next(), parts.next()) else {
                return Err(damaged(
                    "expected alphabet/characterNN/drawing.png; get the published files",
                ));
            };
            let (first_set, entries) = grouped.entry((alphabet, name)).or_insert((set, Vec::new()));
            if *first_set != set {
                return Err(damaged(
                    "this character is in the background set, too; get the published files",
                ));
            }
            entries.push(entry);
        }
        if archive.entries().is_empty() {
            return Err(DataError::Damaged {
                path: archive.path().to_owned(),
                problem: "no alphabet/characterNN/drawing.png in it; get the published files".to_owned(),
            });
        }
    }
    let (mut characters, mut sources) = (Vec::new(), Vec::new());
    for ((alphabet, name), (set, entries)) in grouped {
        characters.push(Character {
            alphabet: alphabet.to_owned(),
            name: name.to_owned(),
            set,
            first: sources.len(),
            n_examples: entries.len(),
        });
        sources.extend(entries.into_iter().map(|entry| (set, entry)));
    }
    Ok((characters, sources))
}

fn decode_all(archives: &[Archive], sources: &[(usize, &Entry)], side: usize) -> Result<Vec<u8>, DataError> {
    let mut ink = vec![0; sources.len() * side * side];
    ink.par_chunks_exact_mut(side * side)
        .zip(sources)
        .try_for_each(|(ink, &(set, entry))| {
            let archive = &archives[set];
            drawing::decode(&archive.read(entry, MAX_PNG)?, &archive.path_of(entry), side, ink)
        })?;
    Ok(ink)
}

/// A warning when this isn't the whole of Omniglot, whose published numbers then mean something else.
fn incomplete(characters: &[Character]) -> Vec<String> {
    let mut warnings = Vec::new();
    for (set, (stem, expected)) in SETS.into_iter().enumerate() {
        let found = characters.iter().filter(|character| character.set == set).count();
        if found != expected {
            warnings.push(format!(
                "omniglot: {stem} holds {found} characters and the published one {expected}, so that accuracies can't be compared; get the published file"
            ));
        }
    }
    let uneven = characters
        .iter()
        .filter(|character| character.n_examples != DRAWERS)
        .count();
    if uneven > 0 {
        warnings.push(format!("omniglot: {uneven} characters don't have the published {DRAWERS} drawings; get the published files"));
    }
    warnings
}
