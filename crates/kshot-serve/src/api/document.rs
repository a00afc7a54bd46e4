//! `/openapi.json`: the interface for programs that read it.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::IntoResponse;
use serde_json::json;
use utoipa::OpenApi;

use super::{classes, classify, examples, health, map, samples, store};
use crate::problem::KINDS;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "kshot",
        description = "A classifier that learns classes from a few examples. Errors are problem documents (RFC 9457). \
        Where the server was started with a token, send it as `Authorization: Bearer TOKEN`. `POST /classify` is `POST /v1/classify`."
    ),
    paths(
        classify::classify,
        classes::list,
        classes::add,
        classes::remove_all,
        classes::one,
        classes::rename,
        classes::remove,
        examples::list,
        examples::add,
        examples::picture,
        examples::remove,
        map::map,
        samples::add,
        store::download,
        store::upload,
        health::info,
        health::healthy,
        health::ready,
        health::metrics,
    )
)]
struct Api;

static TEXT: LazyLock<String> = LazyLock::new(|| {
    let mut document = serde_json::to_value(Api::openapi()).unwrap_or_default();
    let kinds = KINDS
        .iter()
        .map(|kind| json!({"name": kind.name, "status": kind.status, "title": kind.title}));
    document["x-problems"] = kinds.collect();
    document["paths"]["/classify"] = document["paths"]["/v1/classify"].clone();
    document["paths"]["/classify"]["post"]["operationId"] = json!("classify_alias");
    document["components"]["securitySchemes"]["token"] = json!({"type": "http", "scheme": "bearer"});
    document["security"] = json!([{}, {"token": []}]);
    document.to_string()
});

/// The document.
pub async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str())
}
