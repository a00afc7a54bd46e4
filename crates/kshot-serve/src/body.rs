//! Bodies of requests, within bounds of length, memory and time.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::Bytes;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::budget::Share;
use crate::problem::{BAD_REQUEST, MEDIA_TYPE, Problem, TOO_LARGE, TOO_SLOW};
use crate::state::App;

/// Longest body that holds no picture, in bytes.
const SMALL: usize = 64 << 10;

/// So much of each body, in bytes, lies in memory that no body's rest may take: however many large ones are under way,
/// a picture of usual size still finds room.
pub const FIRST: usize = 1 << 20;

/// What is read of a body that is refused: bytes at most, for so long at most.
const MOST_DRAINED: usize = 8 << 20;
const DRAIN: Duration = Duration::from_secs(2);

/// Bytes of a body that is written to the disk which are collected before they are written.
const BLOCK: usize = 1 << 20;

/// A whole body, and its share of the memory for bodies.
#[derive(Debug)]
pub struct Whole {
    /// What was sent.
    pub bytes: Bytes,
    memory: Memory,
}

impl Whole {
    /// Makes room for `copies` of it beside it.
    ///
    /// # Errors
    /// 503 where too much is under way.
    pub fn copied(&mut self, copies: usize) -> Result<(), Problem> {
        self.memory.grow(self.bytes.len() * (1 + copies))
    }
}

/// A body's share of the memory for bodies.
#[derive(Debug)]
struct Memory {
    first: Share,
    rest: Share,
}

impl Memory {
    fn none(app: &App) -> Result<Self, Problem> {
        match (app.beginnings.take(0), app.bodies.take(0)) {
            (Some(first), Some(rest)) => Ok(Self { first, rest }),
            _ => Err(too_many()),
        }
    }

    /// Makes it `bytes` in all.
    fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        if self.first.grow(bytes.min(FIRST)) && self.rest.grow(bytes.saturating_sub(FIRST)) {
            return Ok(());
        }
        Err(too_many())
    }
}

fn too_many() -> Problem {
    Problem::busy("too many large requests are under way; try again in a moment")
}

/// Reads a body of at most `limit` bytes. Memory is reserved as bytes arrive: who announces much and sends little holds
/// little.
///
/// # Errors
/// 413, 408, 503 where too much is under way, 400 for a body that breaks off.
pub async fn read(app: &App, headers: &HeaderMap, body: Body, limit: usize) -> Result<Whole, Problem> {
    let mut pieces = Pieces::of(app, headers, body, limit).await?;
    let mut memory = Memory::none(app)?;
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await? {
        let needed = bytes.len() + piece.len();
        if needed > bytes.capacity() {
            let capacity = needed.max(2 * bytes.capacity()).min(pieces.most);
            if let Err(problem) = memory.grow(capacity) {
                drop((bytes, memory));
                drain(pieces.body).await;
                return Err(problem);
            }
            bytes.reserve_exact(capacity - bytes.len());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(Whole {
        bytes: bytes.into(),
        memory,
    })
}

/// Writes a body of at most `limit` bytes to a new file. It may take a second more for each MiB that has arrived.
///
/// # Errors
/// As [`read`], and what the disk says.
pub async fn to_file(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    path: &Path,
) -> Result<(), Problem> {
    let mut pieces = Pieces::of(app, headers, body, limit).await?;
    let mut file = File::create_new(path).map_err(Problem::disk)?;
    loop {
        let mut block = Vec::with_capacity(BLOCK);
        while block.len() < BLOCK
            && let Some(piece) = pieces.next().await?
        {
            block.extend_from_slice(&piece);
            pieces.deadline = pieces.began + pieces.patience + Duration::from_secs(pieces.read as u64 >> 20);
        }
        if block.is_empty() {
            return Ok(());
        }
        file = app
            .blocking(move |_| {
                file.write_all(&block).map_err(Problem::disk)?;
                Ok(file)
            })
            .await?;
    }
}

/// A body piece by piece, within a length and a time.
struct Pieces {
    body: Body,
    /// Most bytes that it can have: those that were announced, or the limit.
    most: usize,
    read: usize,
    limit: usize,
    began: Instant,
    patience: Duration,
    deadline: Instant,
}

impl Pieces {
    async fn of(app: &App, headers: &HeaderMap, body: Body, limit: usize) -> Result<Self, Problem> {
        let announced = headers.get(header::CONTENT_LENGTH).map(|value| {
            let number = value.to_str().ok().and_then(|text| text.parse::<usize>().ok());
            number.unwrap_or(usize::MAX)
        });
        let (began, patience) = (Instant::now(), app.config.limits.body_timeout);
        let pieces = Self {
            body,
            // The length of a chunked body shows at its end.
            most: announced.unwrap_or(limit).min(limit),
            read: 0,
            limit,
            began,
            patience,
            deadline: began + patience,
        };
        if announced.is_some_and(|announced| announced > limit) {
            let problem = pieces.too_large();
            drain(pieces.body).await;
            return Err(problem);
        }
        Ok(pieces)
    }

    /// The next one; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let frame = match timeout(left, self.body.frame()).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => {
                    return Err(Problem::new(&BAD_REQUEST, format!("the body broke off: {error}")));
                }
                Err(_) => {
                    let waited = (self.deadline - self.began).as_secs_f64();
                    let problem = format!("the body had not arrived after {waited} s");
                    return Err(Problem::new(&TOO_SLOW, problem));
                }
            };
            let Ok(piece) = frame.into_data() else { continue };
            self.read = self.read.saturating_add(piece.len());
            if self.read > self.most {
                return Err(self.too_large());
            }
            return Ok(Some(piece));
        }
    }

    fn too_large(&self) -> Problem {
        let limit = self.limit;
        let problem = format!(
            "the body is longer than the {limit} bytes that are taken here; send less at once, or smaller pictures"
        );
        Problem::new(&TOO_LARGE, problem)
    }
}

/// Reads a body that is refused for a moment: an answer on a connection with unread bytes may not arrive.
pub async fn drain(mut body: Body) {
    let some = async {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > MOST_DRAINED {
                break;
            }
        }
    };
    let _ = timeout(DRAIN, some).await;
}

/// Reads a small JSON body.
///
/// # Errors
/// As [`read`], 415 for another type, 400 for JSON that says something else than `T`.
pub async fn json<T: DeserializeOwned>(app: &App, headers: &HeaderMap, body: Body) -> Result<T, Problem> {
    if media_type(headers) != "application/json" {
        return Err(Problem::new(
            &MEDIA_TYPE,
            "send JSON, as `Content-Type: application/json`",
        ));
    }
    let whole = read(app, headers, body, SMALL).await?;
    parse(&whole.bytes)
}

/// JSON as a `T`.
///
/// # Errors
/// 400 that says where it differs.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes)
        .map_err(|error| Problem::new(&BAD_REQUEST, format!("the JSON is not as expected: {error}")))
}

/// The type of a body without its parameters, in small letters; empty if none is given.
pub fn media_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let value = value.unwrap_or_default().split(';').next().unwrap_or_default();
    value.trim().to_ascii_lowercase()
}
