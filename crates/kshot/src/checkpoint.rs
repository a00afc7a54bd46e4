//! Everything needed to go on with a training at the next episode, on disk.
//!
//! A checkpoint is a folder `episode-NNNNNNNNN`, made under a temporary name and renamed when all of
//! it is on disk:
//! - `weights.safetensors`: the weights that evaluations use;
//! - `training.safetensors`: what only training needs (raw weights, Adam's moments);
//! - `state.json`: the model's description, the progress, and a checksum of each file, itself included.
//!
//! A training keeps its last two checkpoints and its best one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::files;
use crate::named::{self, Named};
use crate::settings::Layer;

const WEIGHTS: &str = "weights.safetensors";
const TRAINING: &str = "training.safetensors";
const STATE: &str = "state.json";
const FORMAT: u32 = 1;
/// Stands in [`STATE`] where its own checksum will, which is taken with this in its place.
const UNSEALED: &str = "00000000";

/// How far a training has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Episodes done: training goes on at the episode of this number.
    pub episode: u64,
    /// Weight updates done.
    pub updates: u64,
    /// Seconds spent in training, over all its sittings.
    pub seconds: f64,
    /// Validation accuracy at this point, when it was measured.
    pub val_accuracy: Option<f64>,
    /// The best validation so far.
    pub best: Option<Best>,
    /// Validations since the best one.
    pub since_best: u64,
}

/// The best validation of a training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Episodes done then.
    pub episode: u64,
    /// In `[0, 1]`.
    pub accuracy: f64,
}

/// A checkpoint in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Every setting of the training that made it.
    pub settings: Layer,
    /// How far it has come.
    pub progress: Progress,
    /// The weights that evaluations use.
    pub weights: Vec<Named>,
    /// What only training needs.
    pub training: Vec<Named>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    format: u32,
    /// CRC-32 of this file with [`UNSEALED`] in its place; earlier versions wrote none. It stands before anything that
    /// could look like it.
    #[serde(default)]
    checksum: Option<String>,
    settings: Layer,
    progress: Progress,
    /// CRC-32 of each other file.
    checksums: BTreeMap<String, u32>,
}

impl Checkpoint {
    /// Writes it below `folder` and gives its path.
    ///
    /// # Errors
    /// [`Error::Io`]; what was there before is untouched then.
    pub fn save(&self, folder: &Path) -> Result<PathBuf, Error> {
        let path = folder.join(name(self.progress.episode));
        let temporary = files::with_suffix(&path, ".tmp");
        let io = |path: &Path| {
            let path = path.to_owned();
            move |error| Error::io(path, error)
        };
        if temporary.exists() {
            fs::remove_dir_all(&temporary).map_err(io(&temporary))?;
        }
        fs::create_dir_all(&temporary).map_err(io(&temporary))?;
        let mut checksums = BTreeMap::new();
        for (file, arrays) in [(WEIGHTS, &self.weights), (TRAINING, &self.training)] {
            let bytes = named::to_bytes(arrays, &path.join(file))?;
            checksums.insert(file.to_owned(), crc32fast::hash(&bytes));
            files::write_synced(&temporary.join(file), &bytes)?;
        }
        let state = State {
            format: FORMAT,
            checksum: Some(UNSEALED.to_owned()),
            settings: self.settings.clone(),
            progress: self.progress.clone(),
            checksums,
        };
        let state = serde_json::to_string_pretty(&state).map_err(|error| Error::io(&path, error.into()))?;
        let checksum = format!("{:08x}", crc32fast::hash(state.as_bytes()));
        let state = state.replacen(UNSEALED, &checksum, 1);
        files::write_synced(&temporary.join(STATE), state.as_bytes())?;
        files::sync_parent(&temporary.join(STATE))?;
        if path.exists() {
            fs::remove_dir_all(&path).map_err(io(&path))?;
        }
        fs::rename(&temporary, &path).map_err(io(&path))?;
        files::sync_parent(&path)?;
        Ok(path)
    }

    /// Reads the checkpoint in `path`.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when a file is missing, damaged or of another version.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let damaged = |problem: String| Error::Checkpoint {
            path: path.to_owned(),
            problem,
        };
        let bytes = read_bounded(&path.join(STATE))?;
        let state: State = serde_json::from_slice(&bytes)
            .map_err(|error| damaged(format!("{STATE} is damaged or not a checkpoint's ({error})")))?;
        if state.format != FORMAT {
            return Err(damaged(format!(
                "format {}, this version reads {FORMAT}; use the version that wrote it",
                state.format
            )));
        }
        if state
            .checksum
            .is_some_and(|checksum| !is_sealed(&bytes, &checksum))
        {
            return Err(damaged(format!(
                "{STATE} is damaged (its checksum doesn't match)"
            )));
        }
        let arrays = |file: &str| -> Result<Vec<Named>, Error> {
            let bytes = read_bounded(&path.join(file))?;
            if state.checksums.get(file) != Some(&crc32fast::hash(&bytes)) {
                return Err(damaged(format!("{file} is damaged (its checksum doesn't match)")));
            }
            named::from_bytes(&bytes, &path.join(file))
        };
        let (weights, training) = (arrays(WEIGHTS)?, arrays(TRAINING)?);
        Ok(Self {
            settings: state.settings,
            progress: state.progress,
            weights,
            training,
        })
    }
}

/// Whether `checksum` is that of a state's bytes, in which it stands itself.
fn is_sealed(bytes: &[u8], checksum: &str) -> bool {
    let unsealed = str::from_utf8(bytes).map(|text| text.replacen(checksum, UNSEALED, 1));
    unsealed.is_ok_and(|text| format!("{:08x}", crc32fast::hash(text.as_bytes())) == checksum)
}

/// The checkpoints below `folder`: episode and path, oldest first.
pub fn list(folder: &Path) -> Vec<(u64, PathBuf)> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let episode = path
                .file_name()?
                .to_str()?
                .strip_prefix("episode-")?
                .parse()
                .ok()?;
            Some((episode, path))
        })
        .collect();
    found.sort();
    found
}

/// The newest checkpoint below `folder` that can be read, and what is wrong with newer ones.
///
/// # Errors
/// [`Error::Checkpoint`] when there is none, or none can be read.
pub fn latest(folder: &Path) -> Result<(Checkpoint, Vec<Error>), Error> {
    let mut damaged = Vec::new();
    for (_, path) in list(folder).into_iter().rev() {
        match Checkpoint::load(&path) {
            Ok(checkpoint) => return Ok((checkpoint, damaged)),
            Err(error) => damaged.push(error),
        }
    }
    let problem = match damaged.first() {
        None => "no checkpoint here; give a run folder, or train without --resume".to_owned(),
        Some(error) => format!("no checkpoint here can be read; the newest: {error}"),
    };
    Err(Error::Checkpoint {
        path: folder.to_owned(),
        problem,
    })
}

/// Removes the checkpoints that a training no longer needs: all but the last two and `best`.
///
/// # Errors
/// [`Error::Io`].
pub fn prune(folder: &Path, best: Option<u64>) -> Result<(), Error> {
    let all = list(folder);
    let keep_from = all.len().saturating_sub(2);
    for (episode, path) in &all[..keep_from] {
        if Some(*episode) != best {
            fs::remove_dir_all(path).map_err(|error| Error::io(path, error))?;
        }
    }
    Ok(())
}

/// The folder name of the checkpoint after `episode` episodes.
pub fn name(episode: u64) -> String {
    format!("episode-{episode:09}")
}

/// Reads a file of a checkpoint; one larger than any checkpoint's is refused before it is read.
pub(crate) fn read_bounded(path: &Path) -> Result<Vec<u8>, Error> {
    const LIMIT: u64 = 4 << 30;
    let length = fs::metadata(path).map_err(|error| Error::io(path, error))?.len();
    if length > LIMIT {
        let problem = format!("{length} bytes, more than any checkpoint's file ({LIMIT})");
        return Err(Error::Checkpoint {
            path: path.to_owned(),
            problem,
        });
    }
    fs::read(path).map_err(|error| Error::io(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_in_any_byte_of_a_checkpoint_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let array = |name: &str| Named {
            name: name.to_owned(),
            shape: vec![2],
            values: vec![0.5, -1.0],
        };
        let checkpoint = Checkpoint {
            settings: Layer::from([("lr".to_owned(), "0.001".to_owned())]),
            progress: Progress {
                episode: 20,
                updates: 10,
                seconds: 0.1 + 0.2,
                val_accuracy: Some(2.0 / 3.0),
                best: None,
                since_best: 1,
            },
            weights: vec![array("a")],
            training: vec![array("raw.a")],
        };
        let path = checkpoint.save(folder.path()).unwrap();
        assert_eq!(Checkpoint::load(&path).unwrap(), checkpoint);
        for file in [WEIGHTS, TRAINING, STATE] {
            let whole = fs::read(path.join(file)).unwrap();
            for place in 0..whole.len() {
                let mut bytes = whole.clone();
                bytes[place] ^= 1 << (place % 8);
                fs::write(path.join(file), bytes).unwrap();
                let found = Checkpoint::load(&path);
                assert!(found.is_err(), "byte {place} of {file}: {found:?}");
            }
            fs::write(path.join(file), whole).unwrap();
        }
    }

    #[test]
    fn a_checkpoint_without_a_checksum_of_its_state_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = Checkpoint {
            settings: Layer::new(),
            progress: Progress::default(),
            weights: Vec::new(),
            training: Vec::new(),
        }
        .save(folder.path())
        .unwrap();
        let mut state: serde_json::Value =
            serde_json::from_slice(&fs::read(path.join(STATE)).unwrap()).unwrap();
        assert!(state.as_object_mut().unwrap().remove("checksum").is_some());
        fs::write(path.join(STATE), state.to_string()).unwrap();
        assert!(Checkpoint::load(&path).is_ok());
    }
}
