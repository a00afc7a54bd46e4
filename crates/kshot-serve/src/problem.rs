//! What the server answers when it can't do something: problem documents (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// One kind of problem: its name in `type`, its status and its title.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Last part of the `type` address.
    pub name: &'static str,
    /// Status code.
    pub status: u16,
    /// Title.
    pub title: &'static str,
}

macro_rules! kinds {
    ($($constant:ident = $name:literal, $status:literal, $title:literal;)*) => {
        $(#[doc = $title] pub const $constant: Kind = Kind { name: $name, status: $status, title: $title };)*
        /// Every kind, as the page of the interface lists them.
        pub const KINDS: &[Kind] = &[$($constant),*];
    };
}

kinds! {
    BAD_REQUEST = "bad-request", 400, "The request can't be understood";
    UNAUTHORIZED = "unauthorized", 401, "A token is needed";
    FOREIGN = "foreign-origin", 403, "The request comes from another site";
    NOT_FOUND = "not-found", 404, "There is no such thing";
    METHOD = "method-not-allowed", 405, "This can't be done here";
    TOO_SLOW = "too-slow", 408, "The request took too long to arrive";
    CONFLICT = "conflict", 409, "That is there already, or can't be done now";
    TOO_LARGE = "too-large", 413, "The request is too large";
    MEDIA_TYPE = "unsupported-media-type", 415, "Bodies of this type aren't read here";
    NOT_A_PICTURE = "not-a-picture", 422, "A picture can't be used";
    UNUSABLE = "unusable", 422, "A value can't be used";
    QUOTA = "quota", 422, "The store is full";
    INTERNAL = "internal", 500, "The server failed";
    BUSY = "busy", 503, "The server is busy";
    NO_ROOM = "no-room", 507, "The server's disk is full";
}

/// A problem: its kind, and what exactly was expected, what was found, and what to do.
#[derive(Debug)]
pub struct Problem {
    kind: &'static Kind,
    detail: String,
    /// Seconds after which to try again.
    retry_after: Option<u32>,
}

/// The document itself.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct Document {
    /// Where this kind of problem is explained.
    #[schema(example = "/docs#quota")]
    r#type: String,
    /// The kind in words.
    title: &'static str,
    /// The status code once more.
    status: u16,
    /// What exactly was wrong, and what to do.
    detail: String,
}

impl Problem {
    /// A problem of a kind.
    pub fn new(kind: &'static Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            retry_after: None,
        }
    }

    /// Too much is under way: the same request will do later.
    pub fn busy(detail: impl Into<String>) -> Self {
        Self {
            kind: &BUSY,
            detail: detail.into(),
            retry_after: Some(1),
        }
    }

    /// Something that must not happen: logged in full, answered without its inside.
    pub fn internal(error: impl std::fmt::Display) -> Self {
        tracing::error!(%error, "internal error");
        Self::new(
            &INTERNAL,
            "an error that is not the request's fault; the server's log says more",
        )
    }

    /// What the disk says.
    pub fn disk(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull => Self::no_room(),
            _ => Self::internal(error),
        }
    }

    /// There is no room on the disk.
    pub fn no_room() -> Self {
        tracing::warn!("no room left on the disk");
        Self::new(
            &NO_ROOM,
            "no room left on the server's disk; nothing was changed. Delete something, or make room there",
        )
    }

    /// Its document, as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let document = Document {
            r#type: format!("/docs#{}", self.kind.name),
            title: self.kind.title,
            status: self.kind.status,
            detail: self.detail.clone(),
        };
        serde_json::to_vec(&document).unwrap_or_default()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.kind.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = self.to_json();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // What was not read of the body must not be taken for the next request.
        if status == StatusCode::REQUEST_TIMEOUT || status == StatusCode::PAYLOAD_TOO_LARGE {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
