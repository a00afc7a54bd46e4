//! Named files read alike from a zip or from a folder, with bounds on everything that a stranger's file claims.

use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use zip::ZipArchive;

use super::DataError;

/// Longest zip that is read, in bytes.
const MAX_ZIP: u64 = 1 << 30;
/// Most entries that are looked at in a zip or a folder.
const MAX_ENTRIES: usize = 1_000_000;
/// Most bytes that all wanted entries together may unpack to.
const MAX_TOTAL: u64 = 4 << 30;
/// How deep folders are searched.
const MAX_DEPTH: usize = 8;

/// One file of an [`Archive`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path inside the archive, with `/` between its parts.
    pub name: String,
    /// Length in bytes when unpacked, as the zip or the file system says.
    pub length: u64,
    /// Changes when the content does: a zip entry's CRC-32, a file's time of modification.
    stamp: u64,
    index: usize,
}

/// A zip file, held in memory, or a folder.
pub struct Archive {
    path: PathBuf,
    zip: Option<ZipArchive<Cursor<Arc<[u8]>>>>,
    entries: Vec<Entry>,
}

impl Archive {
    /// Opens the zip or folder at `path` and lists its files for which `wanted` holds, sorted by name. Hidden files
    /// and the resource forks that macOS packs (`__MACOSX`) are left out.
    ///
    /// # Errors
    /// A path that can't be read, a damaged zip, or more or larger entries than the bounds allow.
    pub fn open(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<Self, DataError> {
        let metadata = fs::metadata(path).map_err(|error| DataError::io(path, error))?;
        let wanted = |name: &str| {
            wanted(name)
                && !name
                    .split('/')
                    .any(|part| part.starts_with('.') || part == "__MACOSX")
        };
        let mut archive = Self {
            path: path.to_owned(),
            zip: None,
            entries: Vec::new(),
        };
        if metadata.is_dir() {
            archive.list_folder(path, "", 0, &wanted)?;
        } else {
            archive.list_zip(metadata.len(), &wanted)?;
        }
        let total = archive
            .entries
            .iter()
            .map(|entry| entry.length)
            .fold(0, u64::saturating_add);
        if total > MAX_TOTAL {
            return Err(archive.damaged(format!(
                "its files unpack to {total} bytes, more than the {MAX_TOTAL} allowed; is it the right file?"
            )));
        }
        archive.entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(archive)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its wanted files, sorted by name.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The archive's path joined with the entry's, for messages.
    pub fn path_of(&self, entry: &Entry) -> PathBuf {
        self.path.join(&entry.name)
    }

    /// The content of an entry, at most `limit` bytes.
    ///
    /// # Errors
    /// An entry that is longer, damaged, packed in an unsupported way or gone.
    pub fn read(&self, entry: &Entry, limit: u64) -> Result<Vec<u8>, DataError> {
        let path = self.path_of(entry);
        let damaged = |problem: String| DataError::Damaged {
            path: path.clone(),
            problem,
        };
        if entry.length > limit {
            let length = entry.length;
            return Err(damaged(format!(
                "{length} bytes, more than the {limit} allowed; is it the right file?"
            )));
        }
        let mut bytes = Vec::with_capacity(entry.length as usize);
        match &self.zip {
            Some(zip) => {
                // A clone shares the directory and the bytes; it only holds a position of its own.
                let mut zip = zip.clone();
                let again = "copy or download the archive again";
                let file = zip
                    .by_index(entry.index)
                    .map_err(|error| damaged(format!("{error}; {again}")))?;
                file.take(limit + 1)
                    .read_to_end(&mut bytes)
                    .map_err(|error| damaged(format!("{error}; {again}")))?;
            }
            None => {
                let file = fs::File::open(&path).map_err(|error| DataError::io(&path, error))?;
                file.take(limit + 1)
                    .read_to_end(&mut bytes)
                    .map_err(|error| DataError::io(&path, error))?;
            }
        }
        if bytes.len() as u64 > limit {
            return Err(damaged(format!(
                "unpacks to more than the {limit} bytes allowed; is it the right file?"
            )));
        }
        Ok(bytes)
    }

    /// Names the wanted content: differs when a file is added, removed or changed.
    pub fn identity(&self) -> String {
        let mut hasher = crc32fast::Hasher::new();
        for entry in &self.entries {
            hasher.update(entry.name.as_bytes());
            hasher.update(&[0]);
            hasher.update(&entry.length.to_le_bytes());
            hasher.update(&entry.stamp.to_le_bytes());
        }
        let kind = if self.zip.is_some() { "zip" } else { "folder" };
        let total: u64 = self.entries.iter().map(|entry| entry.length).sum();
        format!(
            "{kind} of {} files, {total} bytes, listing {:08x}",
            self.entries.len(),
            hasher.finalize()
        )
    }

    fn damaged(&self, problem: String) -> DataError {
        DataError::Damaged {
            path: self.path.clone(),
            problem,
        }
    }

    fn list_zip(&mut self, length: u64, wanted: &dyn Fn(&str) -> bool) -> Result<(), DataError> {
        if length > MAX_ZIP {
            return Err(self.damaged(format!(
                "{length} bytes, more than the {MAX_ZIP} that a zip may have; unpack it into a folder instead"
            )));
        }
        let bytes = fs::read(&self.path).map_err(|error| DataError::io(&self.path, error))?;
        let mut zip = ZipArchive::new(Cursor::new(Arc::from(bytes))).map_err(|error| {
            self.damaged(format!("not a readable zip ({error}); copy or download it again"))
        })?;
        if zip.len() > MAX_ENTRIES {
            return Err(self.damaged(format!(
                "{} entries, more than the {MAX_ENTRIES} allowed; is it the right file?",
                zip.len()
            )));
        }
        for index in 0..zip.len() {
            let listed = (|| {
                let file = zip.by_index_raw(index)?;
                let name = file.name()?.into_owned();
                Ok(file.is_file().then(|| Entry {
                    name,
                    length: file.size(),
                    stamp: u64::from(file.crc32()),
                    index,
                }))
            })();
            let entry = listed.map_err(|error: zip::result::ZipError| {
                self.damaged(format!(
                    "entry {index} can't be read ({error}); copy or download it again"
                ))
            })?;
            self.entries.extend(entry.filter(|entry| wanted(&entry.name)));
        }
        self.zip = Some(zip);
        Ok(())
    }

    fn list_folder(
        &mut self,
        folder: &Path,
        prefix: &str,
        depth: usize,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<(), DataError> {
        for item in fs::read_dir(folder).map_err(|error| DataError::io(folder, error))? {
            let item = item.map_err(|error| DataError::io(folder, error))?;
            let Ok(name) = item.file_name().into_string() else {
                continue;
            };
            let name = format!("{prefix}{name}");
            let path = item.path();
            let Ok(metadata) = fs::metadata(&path) else {
                continue;
            };
            if metadata.is_dir() && depth < MAX_DEPTH {
                self.list_folder(&path, &format!("{name}/"), depth + 1, wanted)?;
            } else if metadata.is_file() && wanted(&name) {
                let modified = metadata
                    .modified()
                    .ok()
                    .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                let stamp = modified.map_or(0, |time| time.as_nanos() as u64);
                let index = self.entries.len();
                self.entries.push(Entry {
                    name,
                    length: metadata.len(),
                    stamp,
                    index,
                });
            }
            if self.entries.len() > MAX_ENTRIES {
                return Err(self.damaged(format!(
                    "more than the {MAX_ENTRIES} files allowed; is it the right folder?"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    /// A zip with one entry `a.png` of `length` zeros.
    fn zeros(path: &Path, length: usize) {
        let mut zip = ZipWriter::new(fs::File::create(path).unwrap());
        zip.start_file("a.png", SimpleFileOptions::default()).unwrap();
        zip.write_all(&vec![0; length]).unwrap();
        zip.finish().unwrap();
    }

    fn open(path: &Path) -> Result<Archive, DataError> {
        Archive::open(path, |name| name.ends_with(".png"))
    }

    #[test]
    fn an_entry_longer_than_allowed_is_refused_whatever_length_it_claims() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bomb.zip");
        zeros(&path, 5000);
        let archive = open(&path).unwrap();
        assert_eq!(archive.read(&archive.entries()[0], 5000).unwrap(), vec![0; 5000]);
        let text = archive.read(&archive.entries()[0], 4999).unwrap_err().to_string();
        assert!(
            text.ends_with("bomb.zip/a.png: 5000 bytes, more than the 4999 allowed; is it the right file?"),
            "{text}"
        );
        // The same, but the lengths in both of its headers say 10.
        let mut bytes = fs::read(&path).unwrap();
        let claims: Vec<usize> = (0..bytes.len() - 4)
            .filter(|&at| bytes[at..at + 4] == 5000u32.to_le_bytes())
            .collect();
        assert_eq!(claims.len(), 2);
        claims
            .iter()
            .for_each(|&at| bytes[at..at + 4].copy_from_slice(&10u32.to_le_bytes()));
        fs::write(&path, bytes).unwrap();
        let archive = open(&path).unwrap();
        let text = archive.read(&archive.entries()[0], 100).unwrap_err().to_string();
        assert!(text.contains("bomb.zip/a.png: "), "{text}");
    }

    #[test]
    fn entries_that_claim_more_than_the_total_are_refused_before_any_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bomb.zip");
        let mut zip = ZipWriter::new(fs::File::create(&path).unwrap());
        for name in ["a.png", "b.png"] {
            zip.start_file(name, SimpleFileOptions::default()).unwrap();
            zip.write_all(&[0; 5000]).unwrap();
        }
        zip.finish().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() - 4 {
            if bytes[at..at + 4] == 5000u32.to_le_bytes() {
                bytes[at..at + 4].copy_from_slice(&(3u32 << 30).to_le_bytes());
            }
        }
        fs::write(&path, bytes).unwrap();
        let text = open(&path).err().unwrap().to_string();
        assert!(
            text.contains("its files unpack to 6442450944 bytes, more than the 4294967296 allowed"),
            "{text}"
        );
    }

    #[test]
    fn the_identity_follows_the_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.zip");
        let identity = |length| {
            zeros(&path, length);
            open(&path).unwrap().identity()
        };
        assert_eq!(identity(7), identity(7));
        assert_ne!(identity(7), identity(8));
    }

    #[test]
    fn what_is_no_archive_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let text = open(&folder.path().join("nothing")).err().unwrap().to_string();
        assert!(text.contains("nothing: "), "{text}");
        fs::write(folder.path().join("text"), "hello").unwrap();
        let text = open(&folder.path().join("text")).err().unwrap().to_string();
        assert!(text.contains("text: not a readable zip ("), "{text}");
    }
}
