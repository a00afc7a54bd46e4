//! Gets Omniglot's two archives: from its authors, or from a folder.

use std::fs;
use std::io::Write;
use std::path::Path;

use super::drawings::{self, DRAWERS, SETS};
use super::option;
use crate::data::DataError;
use crate::data::archive::Archive;
use crate::data::cache::write_atomically;
use crate::data::fetch::{Published, download, md5};
use crate::data::registry::FetchRequest;

/// Where the authors publish the archives.
const BASE_URL: &str = "https://github.com/brendenlake/omniglot/raw/master/python";
/// Most bytes of an archive (the published ones have 9 and 6 MiB).
const MAX_LENGTH: u64 = 64 << 20;

/// The archives in the order of [`SETS`].
const ARCHIVES: [Published; 2] = [
    Published {
        name: "images_background.zip",
        md5: "68d2efa1b9178cc56df9314c21c6e718",
        max_length: MAX_LENGTH,
    },
    Published {
        name: "images_evaluation.zip",
        md5: "6b91aef0f799c5bb55b94e3f2daec811",
        max_length: MAX_LENGTH,
    },
];

/// Puts both archives into `data_dir/omniglot`: those that are there and whole stay; others are downloaded and must have
/// the published MD5, or are copied from `from`. A copy may be packed anew, and its content is then checked instead.
/// Vinyals' split files are copied along when `from` has them.
///
/// # Errors
/// A failed download, a missing or incomplete copy, a folder that can't be written. What was there before stays.
pub fn fetch(request: &FetchRequest<'_>) -> Result<String, DataError> {
    fetch_files(request, &ARCHIVES)
}

fn fetch_files(request: &FetchRequest<'_>, archives: &[Published; 2]) -> Result<String, DataError> {
    let folder = request.data_dir.join("omniglot");
    let done = match &request.from {
        Some(from) => copy(from, archives, &folder)?,
        None => download_missing(request, archives, &folder)?,
    };
    Ok(format!("{} in {}", done.join("; "), folder.display()))
}

/// Downloads the archives that aren't there or aren't whole; says what was done with each.
fn download_missing(
    request: &FetchRequest<'_>,
    archives: &[Published; 2],
    folder: &Path,
) -> Result<Vec<String>, DataError> {
    let base_url = request.base_url.as_deref().unwrap_or(BASE_URL);
    let hint = "check the connection, or get the file in another way and give its folder with --from DIR";
    fs::create_dir_all(folder).map_err(|error| DataError::io(folder, error))?;
    let mut done = Vec::new();
    for (set, file) in archives.iter().enumerate() {
        let path = folder.join(file.name);
        let what = match check(&path, file, set) {
            Ok(what) => format!("already there, {what}"),
            Err(_) => {
                let progress = |done, total| (request.progress)(file.name, done, total);
                download(base_url, file, &path, hint, &progress)?;
                "downloaded, the published file (MD5)".to_owned()
            }
        };
        done.push(format!("{}: {what}", file.name));
    }
    Ok(done)
}

/// Checks both archives in `from`, then copies them and the split files; says what was copied.
fn copy(from: &Path, archives: &[Published; 2], folder: &Path) -> Result<Vec<String>, DataError> {
    let mut checked = Vec::new();
    for (set, file) in archives.iter().enumerate() {
        let source = drawings::locate(from, SETS[set].0).ok_or_else(|| DataError::Missing {
            dataset: "omniglot".to_owned(),
            path: from.join(file.name),
            hint: format!("give the folder that holds {} with --from", file.name),
        })?;
        if source.is_dir() {
            return Err(option(format!(
                "{} is unpacked already; use it where it is with --data-dir {}",
                source.display(),
                from.display()
            )));
        }
        let what = check(&source, file, set)?;
        checked.push((file.name, source, what));
    }
    fs::create_dir_all(folder).map_err(|error| DataError::io(folder, error))?;
    let mut done = Vec::new();
    for (name, source, what) in checked {
        let bytes = fs::read(&source).map_err(|error| DataError::io(&source, error))?;
        write_atomically(&folder.join(name), |out| out.write_all(&bytes))?;
        done.push(format!("{name}: copied, {what}"));
    }
    if copy_splits(from, folder)? {
        done.push("splits/vinyals: copied".to_owned());
    }
    Ok(done)
}

/// Whether the archive at `path` is the published one or holds the same; says which.
fn check(path: &Path, file: &Published, set: usize) -> Result<String, DataError> {
    let length = fs::metadata(path)
        .map_err(|error| DataError::io(path, error))?
        .len();
    if length > file.max_length {
        return Err(DataError::Damaged {
            path: path.to_owned(),
            problem: format!(
                "{length} bytes, more than the {} that it may have; is it the right file?",
                file.max_length
            ),
        });
    }
    let bytes = fs::read(path).map_err(|error| DataError::io(path, error))?;
    if md5(&bytes) == file.md5 {
        return Ok("the published file (MD5)".to_owned());
    }
    drawings::verify(&Archive::open(path, drawings::is_drawing)?, set)?;
    Ok(format!(
        "packed anew (its MD5 is not the published one), with all {} characters of {DRAWERS} drawings",
        SETS[set].1
    ))
}

/// Copies Vinyals' split files; says whether there were any.
fn copy_splits(from: &Path, folder: &Path) -> Result<bool, DataError> {
    let splits = ["omniglot/splits/vinyals", "splits/vinyals"].map(|splits| from.join(splits));
    let Some(source) = splits.into_iter().find(|splits| splits.is_dir()) else {
        return Ok(false);
    };
    let target = folder.join("splits").join("vinyals");
    fs::create_dir_all(&target).map_err(|error| DataError::io(&target, error))?;
    let mut copied = false;
    for name in super::split_file::FILES {
        let path = source.join(name);
        if path.is_file() {
            let text = super::split_file::read(&path)?;
            write_atomically(&target.join(name), |out| out.write_all(text.as_bytes()))?;
            copied = true;
        }
    }
    Ok(copied)
}

#[cfg(all(test, feature = "fetch"))]
#[path = "fetch_tests.rs"]
mod tests;
