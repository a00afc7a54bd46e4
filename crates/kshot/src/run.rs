//! A run folder: `config.toml`, `trace.jsonl`, `checkpoint/` and, at the end, `report.json` and `report.html`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::checkpoint::{self, Checkpoint};
use crate::error::Error;
use crate::files;
use crate::settings::{Layer, Settings};

/// The checkpoints of a run folder.
pub const CHECKPOINTS: &str = "checkpoint";

/// Makes `folder` a new run folder.
///
/// # Errors
/// A folder that already holds a run, or that can't be written.
pub fn create(folder: &Path, settings: &Settings) -> Result<(), Error> {
    if !checkpoint::list(&folder.join(CHECKPOINTS)).is_empty() {
        return Err(Error::Checkpoint {
            path: folder.to_owned(),
            problem: "already holds a run; go on with it by --resume, or choose another --out".to_owned(),
        });
    }
    check_free(folder)?;
    make_folder(folder)?;
    write_config(folder, settings)
}

/// Checks that `folder` holds no report that a new one would replace.
///
/// # Errors
/// A folder that holds a run or the report of one.
pub fn check_free(folder: &Path) -> Result<(), Error> {
    if checkpoint::list(&folder.join(CHECKPOINTS)).is_empty() && !folder.join("report.json").exists() {
        return Ok(());
    }
    Err(Error::Checkpoint {
        path: folder.to_owned(),
        problem: "already holds a run; choose another --out".to_owned(),
    })
}

/// Makes `folder` and those above it.
///
/// # Errors
/// [`Error::Setting`] where a file is in its place, else [`Error::Io`].
pub fn make_folder(folder: &Path) -> Result<(), Error> {
    check_no_file(folder)?;
    fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))
}

/// Checks that no file is where `folder` or one above it should be.
///
/// # Errors
/// [`Error::Setting`] that names the file.
pub fn check_no_file(folder: &Path) -> Result<(), Error> {
    folder
        .ancestors()
        .find(|path| path.is_file())
        .map_or(Ok(()), |file| {
            Err(Error::Setting {
                name: "out",
                problem: format!("{} is a file, not a folder; choose another one", file.display()),
            })
        })
}

/// Writes `config.toml`: every setting, resolved.
///
/// # Errors
/// [`Error::Io`].
pub fn write_config(folder: &Path, settings: &Settings) -> Result<(), Error> {
    let table: toml::Table = settings
        .layer()
        .into_iter()
        .map(|(name, value)| (name, to_toml(&value)))
        .collect();
    let text = format!("# Every setting of this run; `kshot train --config` takes this file.\n{table}");
    files::write_atomically(&folder.join("config.toml"), text.as_bytes())
}

/// Writes a file of the run, as a whole or not at all.
///
/// # Errors
/// [`Error::Io`].
pub fn write_file(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), Error> {
    files::write_atomically(&folder.join(name), bytes)
}

/// Reads settings from a TOML file of plain keys.
///
/// # Errors
/// A file that can't be read, that isn't TOML, or that holds tables or arrays.
pub fn read_config(path: &Path) -> Result<Layer, Error> {
    let text = fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
    let problem = |problem: String| Error::Checkpoint {
        path: path.to_owned(),
        problem,
    };
    let table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| problem(error.to_string().trim().replace('\n', " ")))?;
    table
        .into_iter()
        .map(|(name, value)| match value {
            toml::Value::String(text) => Ok((name, text)),
            toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => {
                Ok((name, value.to_string()))
            }
            _ => Err(problem(format!(
                "`{name}` holds a table, a list or a date; settings are plain `name = value` lines"
            ))),
        })
        .collect()
}

/// A run folder that is free: `base`, or `base-2`, `base-3`, ...
pub fn free_folder(base: &Path) -> PathBuf {
    let taken = |path: &Path| path.exists();
    if !taken(base) {
        return base.to_owned();
    }
    (2u32..)
        .map(|n| files::with_suffix(base, &format!("-{n}")))
        .find(|path| !taken(path))
        .unwrap_or_else(|| base.to_owned())
}

/// A checkpoint by what stands on the command line, and where it lies: a run folder gives its best
/// checkpoint, a checkpoint folder itself. With it comes what is wrong with checkpoints passed over.
///
/// # Errors
/// Nothing readable there.
pub fn open(path: &Path) -> Result<(Checkpoint, PathBuf, Vec<Error>), Error> {
    if path.join("state.json").exists() {
        return Ok((Checkpoint::load(path)?, path.to_owned(), Vec::new()));
    }
    if !path.exists() {
        return Err(Error::Checkpoint {
            path: path.to_owned(),
            problem: "is not there; give a run folder or a checkpoint folder".to_owned(),
        });
    }
    let folder = path.join(CHECKPOINTS);
    if checkpoint::list(&folder).is_empty() {
        return Err(Error::Checkpoint {
            path: path.to_owned(),
            problem: "neither a run folder nor a checkpoint folder: no checkpoint is here".to_owned(),
        });
    }
    let (latest, mut damaged) = checkpoint::latest(&folder)?;
    let latest_path = folder.join(checkpoint::name(latest.progress.episode));
    let best = latest
        .progress
        .best
        .map(|best| folder.join(checkpoint::name(best.episode)));
    match best.filter(|best| *best != latest_path) {
        None => Ok((latest, latest_path, damaged)),
        Some(best) => match Checkpoint::load(&best) {
            Ok(checkpoint) => Ok((checkpoint, best, damaged)),
            Err(error) => {
                damaged.push(error);
                Ok((latest, latest_path, damaged))
            }
        },
    }
}

/// Numbers and truth values as such, everything else as text.
fn to_toml(value: &str) -> toml::Value {
    if let Ok(number) = value.parse::<i64>() {
        toml::Value::Integer(number)
    } else if let Ok(number) = value
        .parse::<f64>()
        .map_err(drop)
        .and_then(|n| if n.is_finite() { Ok(n) } else { Err(()) })
    {
        toml::Value::Float(number)
    } else if let Ok(truth) = value.parse::<bool>() {
        toml::Value::Boolean(truth)
    } else {
        toml::Value::String(value.to_owned())
    }
}
