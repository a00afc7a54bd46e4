//! Decoded pixels kept on disk between runs: checked before use, replaced atomically, never needed.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{DataError, places};

const MAGIC: &[u8; 16] = b"kshot pixels  1\n";
/// Longest description of the source, in bytes.
const MAX_IDENTITY: usize = 1 << 16;

/// A folder of cached pixels, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PixelCache {
    folder: Option<PathBuf>,
}

impl PixelCache {
    /// The cache in [`places::cache_dir`].
    pub fn from_environment() -> Self {
        Self {
            folder: places::cache_dir(),
        }
    }

    /// The cache in `folder`, which need not exist yet.
    #[cfg(test)]
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: Some(folder.into()),
        }
    }

    /// The `length` bytes stored as `name` for the source that `identity` describes; `None` when there are none,
    /// when they belong to another source, or when a single bit of the file is wrong.
    pub fn load(&self, name: &str, identity: &str, length: usize) -> Option<Vec<u8>> {
        let mut file = fs::File::open(self.folder.as_ref()?.join(name)).ok()?;
        let head = head(identity, length)?;
        // The length is checked before anything of that length is allocated.
        if file.metadata().ok()?.len() != (head.len() + length + 4) as u64 {
            return None;
        }
        let mut found = vec![0; head.len()];
        file.read_exact(&mut found).ok()?;
        if found != head {
            return None;
        }
        let mut bytes = vec![0; length];
        file.read_exact(&mut bytes).ok()?;
        let mut sum = [0; 4];
        file.read_exact(&mut sum).ok()?;
        (u32::from_le_bytes(sum) == checksum(&head, &bytes)).then_some(bytes)
    }

    /// Stores `bytes` as `name` for the source that `identity` describes, in place of what was there.
    ///
    /// # Errors
    /// A folder that can't be made or written. Without a folder nothing is stored, and that is no error.
    pub fn store(&self, name: &str, identity: &str, bytes: &[u8]) -> Result<(), DataError> {
        let (Some(folder), Some(head)) = (&self.folder, head(identity, bytes.len())) else {
            return Ok(());
        };
        fs::create_dir_all(folder).map_err(|error| DataError::io(folder, error))?;
        write_atomically(&folder.join(name), |file| {
            file.write_all(&head)?;
            file.write_all(bytes)?;
            file.write_all(&checksum(&head, bytes).to_le_bytes())
        })
    }
}

/// Writes a file beside `path` and renames it once it is complete and on the disk: a reader sees the old file or the
/// new one, never a part of it.
///
/// # Errors
/// Whatever `write` or the file system says; the file at `path` is then as it was.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut fs::File) -> io::Result<()>,
) -> Result<(), DataError> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}-{count}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = (|| {
        let mut file = fs::File::create(&temporary)?;
        write(&mut file)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        DataError::io(path, error)
    })?;
    // A rename is only lasting once its folder is on the disk; not every system can do that to a folder.
    if let Some(folder) = path.parent().and_then(|folder| fs::File::open(folder).ok()) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// Magic, lengths and identity.
fn head(identity: &str, length: usize) -> Option<Vec<u8>> {
    let identity_length = u32::try_from(identity.len())
        .ok()
        .filter(|&length| length as usize <= MAX_IDENTITY)?;
    let mut head = MAGIC.to_vec();
    head.extend(identity_length.to_le_bytes());
    head.extend((length as u64).to_le_bytes());
    head.extend(identity.as_bytes());
    Some(head)
}

fn checksum(head: &[u8], bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_loaded_for_the_same_source_only() {
        let folder = tempfile::tempdir().unwrap();
        let cache = PixelCache::at(folder.path().join("made/on/demand"));
        assert_eq!(cache.load("a", "source 1", 3), None);
        cache.store("a", "source 1", &[1, 2, 3]).unwrap();
        assert_eq!(cache.load("a", "source 1", 3), Some(vec![1, 2, 3]));
        assert_eq!(cache.load("a", "source 2", 3), None);
        assert_eq!(cache.load("a", "source 1", 4), None);
        cache.store("a", "source 2", &[4]).unwrap();
        assert_eq!(cache.load("a", "source 2", 1), Some(vec![4]));
        assert_eq!(
            fs::read_dir(folder.path().join("made/on/demand"))
                .unwrap()
                .count(),
            1
        );
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = PixelCache::at(folder.path());
        cache.store("a", "source", &[9, 8, 7, 6]).unwrap();
        let path = folder.path().join("a");
        let good = fs::read(&path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, bad).unwrap();
            assert_eq!(cache.load("a", "source", 4), None, "bit {bit}");
        }
        for length in 0..good.len() {
            fs::write(&path, &good[..length]).unwrap();
            assert_eq!(cache.load("a", "source", 4), None, "cut to {length}");
        }
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_temporary_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept");
        fs::write(&path, "old").unwrap();
        let error = write_atomically(&path, |_| Err(io::Error::other("disk full"))).unwrap_err();
        assert!(error.to_string().ends_with("kept: disk full"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
