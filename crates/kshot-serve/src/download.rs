//! Stores on their way out: a file on the disk, sent piece by piece.
//!
//! All who ask while nothing changes share one file, which goes with the last of them. So a download costs a piece of memory
//! and a place on the network, however large the store is and however slowly its reader takes it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use hyper::body::Bytes;
use tempfile::TempDir;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::problem::Problem;

/// Files at a time: the store as it is now, and as it was when readers began who are still reading.
const MOST: usize = 4;
/// Bytes that are read at once.
const PIECE: u64 = 64 << 10;

/// The store as it was after one change.
#[derive(Debug)]
pub struct Download {
    file: Mutex<File>,
    length: u64,
    change: u64,
    // After the file, which lies in it.
    _folder: TempDir,
}

/// Those that somebody is reading.
#[derive(Debug, Default)]
pub struct Downloads(Mutex<Vec<Weak<Download>>>);

impl Downloads {
    /// The store as it is after `change`; `write` makes its file where there is none.
    ///
    /// # Errors
    /// 503 where too many older ones are still being read; what `write` says.
    pub fn of(
        &self,
        change: u64,
        write: impl FnOnce(&Path) -> Result<(), Problem>,
    ) -> Result<Arc<Download>, Problem> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|one| one.strong_count() > 0);
        let current = known
            .iter()
            .filter_map(Weak::upgrade)
            .find(|one| one.change == change);
        if let Some(current) = current {
            return Ok(current);
        }
        if known.len() >= MOST {
            return Err(Problem::busy(
                "the store is being downloaded as it was before its last changes; try again in a moment",
            ));
        }
        let folder = tempfile::tempdir().map_err(Problem::disk)?;
        let path = folder.path().join("classes.kshot");
        write(&path)?;
        let file = File::open(&path).map_err(Problem::internal)?;
        let length = file.metadata().map_err(Problem::internal)?.len();
        let download = Arc::new(Download {
            file: Mutex::new(file),
            length,
            change,
            _folder: folder,
        });
        known.push(Arc::downgrade(&download));
        Ok(download)
    }
}

impl Download {
    /// How long it is, in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The whole file as the body of an answer.
    pub fn body(self: Arc<Self>) -> Body {
        Body::from_stream(Pieces {
            download: self,
            at: 0,
            reading: None,
        })
    }

    fn piece(&self, at: u64) -> io::Result<Bytes> {
        let mut bytes = vec![0; usize::try_from(PIECE.min(self.length - at)).unwrap_or(0)];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

struct Pieces {
    download: Arc<Download>,
    at: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl futures_core::Stream for Pieces {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let at = self.at;
        if at >= self.download.length {
            return Poll::Ready(None);
        }
        let download = self.download.clone();
        let reading = self
            .reading
            .get_or_insert_with(|| spawn_blocking(move || download.piece(at)));
        let read =
            ready!(Pin::new(reading).poll(context)).unwrap_or_else(|error| Err(io::Error::other(error)));
        self.reading = None;
        self.at += PIECE;
        Poll::Ready(Some(read))
    }
}
