//! Picture files that a user names: one by one, by folder, by pattern; and features in place of pictures.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use kshot::data::features::{Rows, vector_file};
use kshot::data::folder::is_picture;

/// Longest picture file that is read, in bytes.
const MAX_FILE: u64 = 64 << 20;
/// Folders within folders that are followed.
const DEPTH: usize = 16;

/// A picture to be read, or features in its place.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// Standard input.
    Standard,
    /// A row of a file of features: its name, and its bytes as those of an `.npy` file.
    Row(String, Vec<u8>),
}

/// The file of features that a word names: `features:FILE`.
pub fn features(word: &Path) -> Option<PathBuf> {
    word.to_str()?.strip_prefix("features:").map(PathBuf::from)
}

/// Each row of a file of features.
pub fn rows<'a>(path: &Path, rows: &'a Rows) -> impl Iterator<Item = Source> + use<'a> {
    let file = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let named = rows.iter().enumerate();
    named.map(move |(index, row)| Source::Row(format!("{file}[{index}]"), vector_file(row)))
}

impl Source {
    /// How the user would name it.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Standard => "-".to_owned(),
            Self::Row(name, _) => name.clone(),
        }
    }

    /// What it is called among the examples of a class.
    pub fn short_name(&self) -> String {
        match self {
            Self::File(path) => path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            _ => self.name(),
        }
    }

    /// Its bytes.
    pub fn read(&self) -> Result<Vec<u8>> {
        match self {
            Self::File(path) => read(path),
            Self::Standard => bounded(std::io::stdin().lock(), "standard input"),
            Self::Row(_, bytes) => Ok(bytes.clone()),
        }
    }
}

/// Files for each word: itself, the pictures in a folder and the folders within it, the matches of a pattern, `-`, or the
/// rows of `features:FILE`.
pub fn find<'a>(words: impl Iterator<Item = &'a PathBuf>) -> Result<Vec<Source>> {
    let mut found = Vec::new();
    for word in words {
        let text = word.to_string_lossy();
        if text == "-" {
            if found.contains(&Source::Standard) {
                bail!("`-` (standard input) can be read once only");
            }
            found.push(Source::Standard);
        } else if let Some(file) = features(word) {
            let read = Rows::open(&file).map_err(kshot::Error::from)?;
            found.extend(rows(&file, &read));
        } else if word.is_dir() {
            let before = found.len();
            walk(word, DEPTH, &mut found)?;
            if found.len() == before {
                bail!("{text}: no picture (.png, .jpg, .jpeg, .webp, .bmp) is in this folder");
            }
        } else if !word.exists() && text.contains(['*', '?', '[']) {
            let mut matches = glob::glob(&text)
                .with_context(|| format!("{text}: not a pattern"))?
                .filter_map(Result::ok)
                .filter(|path| path.is_file())
                .peekable();
            if matches.peek().is_none() {
                bail!("{text}: no file matches this pattern");
            }
            found.extend(matches.map(Source::File));
        } else {
            found.push(Source::File(word.clone()));
        }
    }
    Ok(found)
}

/// A file's bytes, if it isn't longer than any picture's.
fn read(path: &Path) -> Result<Vec<u8>> {
    let name = path.display().to_string();
    let file = File::open(path).with_context(|| name.clone())?;
    bounded(file, &name)
}

fn bounded(from: impl Read, name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .with_context(|| name.to_owned())?;
    if bytes.len() as u64 > MAX_FILE {
        bail!(
            "{name}: longer than the {} MiB that a picture may have; scale it down",
            MAX_FILE >> 20
        );
    }
    Ok(bytes)
}

fn walk(folder: &Path, depth: usize, found: &mut Vec<Source>) -> Result<()> {
    let name = || folder.display().to_string();
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(name)? {
        let entry = entry.with_context(name)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    for path in paths {
        if path.is_dir() {
            if depth > 0 {
                walk(&path, depth - 1, found)?;
            }
        } else if is_picture(&path) {
            found.push(Source::File(path));
        }
    }
    Ok(())
}
