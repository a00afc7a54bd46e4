//! Files that are either there as a whole or not at all.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Writes `bytes` to `path`: a temporary file beside it, synced, then renamed over it.
///
/// # Errors
/// [`Error::Io`]; the old file, if any, is still there then.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temporary = with_suffix(path, ".tmp");
    write_synced(&temporary, bytes)?;
    fs::rename(&temporary, path).map_err(|error| Error::io(path, error))?;
    sync_parent(path)
}

/// Writes and syncs a file.
///
/// # Errors
/// [`Error::Io`].
pub fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let write = || -> std::io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error| Error::io(path, error))
}

/// Makes a rename in the folder of `path` durable.
///
/// # Errors
/// [`Error::Io`].
pub fn sync_parent(path: &Path) -> Result<(), Error> {
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return Ok(());
    };
    // Folders can't be opened as files everywhere; where they can't, the rename alone must do.
    match File::open(parent) {
        Ok(folder) => {
            let _ = folder.sync_all();
            Ok(())
        }
        Err(error) if cfg!(windows) => {
            let _ = error;
            Ok(())
        }
        Err(error) => Err(Error::io(parent, error)),
    }
}

/// `path` with `suffix` behind its name.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
