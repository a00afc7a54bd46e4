//! `/v1/store`: everything as one file.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::body;
use crate::problem::{Document, Problem};
use crate::state::App;

/// Download the store: classes, examples and what they were made with.
#[utoipa::path(get, path = "/v1/store", tag = "store", responses(
    (status = 200, body = Vec<u8>, content_type = "application/vnd.sqlite3"),
))]
pub async fn download(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let bytes = app.blocking(|workspace| workspace.export()).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/vnd.sqlite3"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"classes.kshot\"",
        ),
    ];
    Ok((headers, bytes).into_response())
}

/// Replace everything by a store that was downloaded here or made by `kshot enroll`.
#[utoipa::path(put, path = "/v1/store", tag = "store", request_body(content = Vec<u8>, content_type = "application/octet-stream"), responses(
    (status = 204),
    (status = 413, body = Document, content_type = "application/problem+json"),
    (status = 422, body = Document, content_type = "application/problem+json", description = "Not a store, or one of another model"),
))]
pub async fn upload(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let whole = body::read(&app, &headers, body, app.config.limits.store).await?;
    app.blocking(move |workspace| workspace.import(&whole.bytes))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
