//! Whether the server is well, what it counts, and what it is.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use crate::entries::ModelEntry;
use crate::problem::{Document, Problem};
use crate::state::App;

/// What the server is, holds and takes.
#[derive(Serialize, ToSchema)]
pub struct Info {
    /// Version of kshot.
    version: &'static str,
    /// The model that recognises.
    model: ModelEntry,
    /// Where the classes lie.
    store: String,
    /// How many there are.
    n_classes: usize,
    /// Examples of all classes together.
    n_examples: usize,
    /// What it refuses.
    limits: Limits,
}

/// What the server refuses.
#[derive(Serialize, ToSchema)]
pub struct Limits {
    /// Longest body with pictures, in bytes.
    body_bytes: usize,
    /// Longest store that is taken, in bytes.
    store_bytes: usize,
    /// Most pixels of a picture.
    pixels: u64,
    /// Most pictures in a request.
    images_per_request: usize,
    /// Most classes.
    classes: usize,
    /// Most examples of a class.
    examples_per_class: usize,
    /// Most examples in all.
    examples: usize,
}

/// Whether the server runs.
#[utoipa::path(get, path = "/healthz", tag = "operation", responses((status = 200, body = String)))]
pub async fn healthy() -> &'static str {
    "ok\n"
}

/// Whether the server can take more: 503 while there is no room for another picture, in its queue or its memory.
#[utoipa::path(get, path = "/readyz", tag = "operation", responses(
    (status = 200, body = String),
    (status = 503, body = Document, content_type = "application/problem+json", description = "The queue or the memory for pictures is full"),
))]
pub async fn ready(State(app): State<Arc<App>>) -> Result<&'static str, Problem> {
    if app.worker.has_room() && app.pictures.take(app.picture()).is_some() {
        Ok("ready\n")
    } else {
        Err(Problem::busy("the queue or the memory for pictures is full"))
    }
}

/// Counters for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operation", responses(
    (status = 200, body = String, content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8"),
))]
pub async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    app.metrics.classes.set(count(app.workspace.n_classes()));
    app.metrics.examples.set(count(app.workspace.n_examples()));
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], app.metrics.text())
}

/// The model, the limits, and how much is stored.
#[utoipa::path(get, path = "/v1/info", tag = "operation", responses((status = 200, body = Info)))]
pub async fn info(State(app): State<Arc<App>>) -> Json<Info> {
    let limits = &app.config.limits;
    Json(Info {
        version: env!("CARGO_PKG_VERSION"),
        model: app.workspace.model(),
        store: app.workspace.place(),
        n_classes: app.workspace.n_classes(),
        n_examples: app.workspace.n_examples(),
        limits: Limits {
            body_bytes: limits.body,
            store_bytes: limits.store,
            pixels: limits.pixels,
            images_per_request: app.most_pictures(),
            classes: limits.classes,
            examples_per_class: limits.examples_per_class,
            examples: limits.examples,
        },
    })
}
