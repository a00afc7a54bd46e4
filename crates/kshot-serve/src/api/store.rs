//! `/v1/store`: everything as one file.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::body;
use crate::problem::{Document, Problem};
use crate::state::App;
use crate::transfer::UPLOADED;

/// Download the store: classes, examples and what they were made with.
#[utoipa::path(get, path = "/v1/store", tag = "store", responses(
    (status = 200, body = Vec<u8>, content_type = "application/vnd.sqlite3"),
    (status = 503, body = Document, content_type = "application/problem+json", description = "Too many downloads of earlier states: `Retry-After`"),
))]
pub async fn download(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let download = app.blocking(|workspace| workspace.export()).await?;
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/vnd.sqlite3"),
        ),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::from_static("attachment; filename=\"classes.kshot\""),
        ),
        (header::CONTENT_LENGTH, HeaderValue::from(download.length())),
    ];
    Ok((headers, download.body()).into_response())
}

/// Replace everything by a store that was downloaded here or made by `kshot enroll`. It is checked first, and is there as a
/// whole or not at all.
#[utoipa::path(put, path = "/v1/store", tag = "store", request_body(content = Vec<u8>, content_type = "application/octet-stream"), responses(
    (status = 204),
    (status = 413, body = Document, content_type = "application/problem+json"),
    (status = 422, body = Document, content_type = "application/problem+json", description = "Not a store, or one that can't be served here: a name, an embedding, a picture, a quota; nothing is changed"),
))]
pub async fn upload(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let Ok(_place) = app.uploads.try_acquire() else {
        body::drain(body).await;
        return Err(Problem::busy(
            "other stores are being uploaded; try again in a moment",
        ));
    };
    let folder = tempfile::tempdir().map_err(Problem::disk)?;
    let path = folder.path().join(UPLOADED);
    body::to_file(&app, &headers, body, app.config.limits.store, &path).await?;
    app.blocking(move |workspace| workspace.import(folder)).await?;
    Ok(StatusCode::NO_CONTENT)
}
