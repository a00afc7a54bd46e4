//! Bodies of requests, within bounds of length, memory and time.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Bytes;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::budget::Share;
use crate::problem::{BAD_REQUEST, MEDIA_TYPE, Problem, TOO_LARGE, TOO_SLOW};
use crate::state::App;

/// Longest body that holds no picture, in bytes.
const SMALL: usize = 64 << 10;

/// What is read of a body that is refused: bytes at most, for so long at most.
const MOST_DRAINED: usize = 8 << 20;
const DRAIN: Duration = Duration::from_secs(2);

/// A whole body, and its share of the memory for bodies.
#[derive(Debug)]
pub struct Whole {
    /// What was sent.
    pub bytes: Bytes,
    _share: Share,
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// 413, 408, 503 where too much is under way, 400 for a body that breaks off.
pub async fn read(app: &App, headers: &HeaderMap, body: Body, limit: usize) -> Result<Whole, Problem> {
    let limits = &app.config.limits;
    let too_large = || {
        Problem::new(
            &TOO_LARGE,
            format!(
                "the body is longer than the {limit} bytes that are taken here; send less at once, or smaller pictures"
            ),
        )
    };
    let announced = match headers.get(header::CONTENT_LENGTH) {
        Some(value) => value
            .to_str()
            .ok()
            .and_then(|text| text.parse::<usize>().ok())
            .unwrap_or(usize::MAX),
        // The length of a chunked body shows at its end.
        None => limit,
    };
    if announced > limit {
        drain(body).await;
        return Err(too_large());
    }
    let Some(share) = app.bodies.take(announced) else {
        return Err(Problem::busy(
            "too many large requests are under way; try again in a moment",
        ));
    };
    match timeout(limits.body_timeout, Limited::new(body, limit).collect()).await {
        Err(_) => Err(Problem::new(
            &TOO_SLOW,
            format!(
                "the body had not arrived after {} s",
                limits.body_timeout.as_secs_f64()
            ),
        )),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => Err(too_large()),
        Ok(Err(error)) => Err(Problem::new(&BAD_REQUEST, format!("the body broke off: {error}"))),
        Ok(Ok(collected)) => Ok(Whole {
            bytes: collected.to_bytes(),
            _share: share,
        }),
    }
}

/// Reads a body that is refused for a moment: an answer on a connection with unread bytes may not arrive.
async fn drain(mut body: Body) {
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
