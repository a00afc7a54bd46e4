//! `/openapi.json`: the interface for programs that read it.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::{classes, classify, examples, health, map, samples, store};
use crate::problem::{
    BAD_REQUEST, BUSY, FOREIGN, INTERNAL, KINDS, Kind, MEDIA_TYPE, NO_ROOM, TOO_LARGE, TOO_SLOW,
    UNAUTHORIZED, UNUSABLE,
};

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
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    for (path, operations) in paths {
        for (method, operation) in operations.as_object_mut().into_iter().flat_map(Map::iter_mut) {
            let common = common_problems(path, method, operation);
            let Some(responses) = operation["responses"].as_object_mut() else {
                continue;
            };
            for kind in common {
                responses.entry(kind.status.to_string()).or_insert_with(|| {
                    let schema = json!({"schema": {"$ref": "#/components/schemas/Problem"}});
                    json!({"description": kind.title, "content": {"application/problem+json": schema}})
                });
            }
        }
    }
    document.to_string()
});

/// What can go wrong with any operation of its kind, whatever it does.
fn common_problems(path: &str, method: &str, operation: &Value) -> Vec<&'static Kind> {
    let mut problems = vec![&FOREIGN, &INTERNAL, &BUSY];
    if path == "/v1/store" || method != "get" && !path.ends_with("/classify") {
        problems.push(&NO_ROOM);
    }
    if !["/healthz", "/readyz"].contains(&path) {
        problems.push(&UNAUTHORIZED);
    }
    let body = &operation["requestBody"]["content"];
    if operation["parameters"].is_array() || body.is_object() {
        problems.push(&BAD_REQUEST);
    }
    if body.is_object() {
        problems.extend([&TOO_SLOW, &TOO_LARGE, &UNUSABLE]);
    }
    if body["application/json"].is_object() {
        problems.push(&MEDIA_TYPE);
    }
    problems
}

/// The document.
pub async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str())
}
