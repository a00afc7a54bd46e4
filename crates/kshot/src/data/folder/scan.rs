//! Which classes and pictures a folder holds.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::data::DataError;

/// Endings of pictures, in lower case.
const ENDINGS: [&str; 5] = ["png", "jpg", "jpeg", "webp", "bmp"];
/// Endings of pictures that aren't read, and are worth a word when they lie there.
const FOREIGN: [&str; 7] = ["heic", "heif", "avif", "gif", "tif", "tiff", "jxl"];
/// Most files in all.
const MAX_FILES: usize = 10_000_000;

/// The classes of a folder.
#[derive(Debug)]
pub struct Scanned {
    /// Name and pictures of each class, both ordered by the bytes of their names.
    pub classes: Vec<(String, Vec<PathBuf>)>,
    /// What was left out that the user may have meant to be in.
    pub warnings: Vec<String>,
}

/// Whether a file's name ends as a picture's.
pub fn is_picture(path: &Path) -> bool {
    let ending = path
        .extension()
        .map(|ending| ending.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| ENDINGS.contains(&&*ending))
}

/// Lists `folder` for the dataset called `name`.
///
/// # Errors
/// A folder that is missing, holds no class, or a class without a picture.
pub fn scan(name: &str, folder: &Path) -> Result<Scanned, DataError> {
    let damaged = |path: &Path, problem: String| DataError::Damaged {
        path: path.to_owned(),
        problem,
    };
    let hint = "give the folder that holds one folder of pictures per class";
    if let Err(error) = fs::metadata(folder) {
        return Err(match error.kind() {
            ErrorKind::NotFound => DataError::Missing {
                dataset: name.to_owned(),
                path: folder.to_owned(),
                hint: hint.to_owned(),
            },
            _ => DataError::io(folder, error),
        });
    }
    let top = Listing::of(folder)?;
    let mut warnings = Vec::new();
    if !top.pictures.is_empty() {
        let n = top.pictures.len();
        warnings.push(format!(
            "{name}: {n} pictures lie in no class folder and are left out; move them into one"
        ));
    }
    if top.folders.is_empty() {
        return Err(damaged(folder, format!("no class folders in it; {hint}")));
    }
    let (mut classes, mut n_files) = (Vec::new(), 0);
    for path in top.folders {
        let class = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
            damaged(
                &path,
                "the class's name isn't UTF-8 text; rename the folder".to_owned(),
            )
        })?;
        let listing = Listing::of(&path)?;
        let foreign: Vec<String> = listing
            .foreign
            .iter()
            .map(|(ending, n)| format!("{n} .{ending}"))
            .collect();
        if listing.pictures.is_empty() {
            let found = match (foreign.is_empty(), listing.folders.len()) {
                (false, _) => format!(
                    "found {}, which can't be read: convert them, or remove the folder",
                    foreign.join(", ")
                ),
                (true, 0) => "add some, or remove the folder".to_owned(),
                (true, n) => format!("found {n} folders in it; {hint}"),
            };
            return Err(damaged(
                &path,
                format!("no picture (.{}) of this class; {found}", ENDINGS.join(", .")),
            ));
        }
        if !foreign.is_empty() {
            warnings.push(format!(
                "{name}: class {class}: {} can't be read and are left out; convert them",
                foreign.join(", ")
            ));
        }
        if !listing.folders.is_empty() {
            let n = listing.folders.len();
            warnings.push(format!(
                "{name}: class {class}: {n} folders within it are left out; move their pictures up"
            ));
        }
        n_files += listing.pictures.len();
        if n_files > MAX_FILES {
            return Err(damaged(
                folder,
                format!("more than the {MAX_FILES} pictures allowed; give a smaller folder"),
            ));
        }
        classes.push((class.to_owned(), listing.pictures));
    }
    Ok(Scanned { classes, warnings })
}

/// What lies in one folder and isn't hidden, in order.
#[derive(Default)]
struct Listing {
    folders: Vec<PathBuf>,
    pictures: Vec<PathBuf>,
    foreign: BTreeMap<String, usize>,
}

impl Listing {
    fn of(folder: &Path) -> Result<Self, DataError> {
        let mut listing = Self::default();
        for item in fs::read_dir(folder).map_err(|error| DataError::io(folder, error))? {
            let item = item.map_err(|error| DataError::io(folder, error))?;
            let path = item.path();
            if item.file_name().as_encoded_bytes().starts_with(b".") || item.file_name() == "__MACOSX" {
                continue;
            }
            // Follows links, so that a class may be a link to a folder elsewhere.
            let is_folder = fs::metadata(&path).is_ok_and(|metadata| metadata.is_dir());
            let ending = path
                .extension()
                .map(|ending| ending.to_string_lossy().to_lowercase());
            match ending {
                _ if is_folder => listing.folders.push(path),
                Some(ending) if ENDINGS.contains(&&*ending) => listing.pictures.push(path),
                Some(ending) if FOREIGN.contains(&&*ending) => {
                    *listing.foreign.entry(ending).or_default() += 1
                }
                _ => {}
            }
        }
        listing.folders.sort();
        listing.pictures.sort();
        Ok(listing)
    }
}
