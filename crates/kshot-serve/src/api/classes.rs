//! `/v1/classes`: the classes.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{InPath, in_path};
use crate::body;
use crate::entries::ClassEntry;
use crate::problem::{Document, Problem};
use crate::state::App;

/// Every class.
#[derive(Serialize, ToSchema)]
pub struct Classes {
    /// In the order in which they were made.
    classes: Vec<ClassEntry>,
}

/// What a class is to be called.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Name {
    /// 1 to 200 bytes of text, no control characters, no space at either end.
    #[schema(example = "alpha")]
    name: String,
}

/// List the classes.
#[utoipa::path(get, path = "/v1/classes", tag = "classes", responses((status = 200, body = Classes)))]
pub async fn list(State(app): State<Arc<App>>) -> Json<Classes> {
    Json(Classes {
        classes: app.workspace.classes(),
    })
}

/// Make a class, without examples yet.
#[utoipa::path(post, path = "/v1/classes", tag = "classes", request_body = Name, responses(
    (status = 201, body = ClassEntry),
    (status = 409, body = Document, content_type = "application/problem+json", description = "A class of that name"),
    (status = 422, body = Document, content_type = "application/problem+json", description = "A name that no class can have; a quota"),
))]
pub async fn add(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let Name { name } = body::json(&app, &headers, body).await?;
    let class = app.blocking(move |workspace| workspace.add_class(&name)).await?;
    let location = [(header::LOCATION, address(&class.name))];
    Ok((StatusCode::CREATED, location, Json(class)).into_response())
}

/// Delete every class.
#[utoipa::path(delete, path = "/v1/classes", tag = "classes", responses((status = 204)))]
pub async fn remove_all(State(app): State<Arc<App>>) -> Result<StatusCode, Problem> {
    app.blocking(|workspace| workspace.remove_all()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// One class.
#[utoipa::path(get, path = "/v1/classes/{class}", tag = "classes", params(("class" = String, Path, example = "alpha")), responses(
    (status = 200, body = ClassEntry),
    (status = 404, body = Document, content_type = "application/problem+json"),
))]
pub async fn one(State(app): State<Arc<App>>, class: InPath<String>) -> Result<Json<ClassEntry>, Problem> {
    app.workspace.class(&in_path(class)?).map(Json)
}

/// Rename a class.
#[utoipa::path(patch, path = "/v1/classes/{class}", tag = "classes", params(("class" = String, Path, example = "alpha")), request_body = Name, responses(
    (status = 200, body = ClassEntry),
    (status = 404, body = Document, content_type = "application/problem+json"),
    (status = 409, body = Document, content_type = "application/problem+json", description = "Another class of that name"),
    (status = 422, body = Document, content_type = "application/problem+json", description = "A name that no class can have"),
))]
pub async fn rename(
    State(app): State<Arc<App>>,
    class: InPath<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ClassEntry>, Problem> {
    let class = in_path(class)?;
    let Name { name } = body::json(&app, &headers, body).await?;
    let class = app
        .blocking(move |workspace| workspace.rename_class(&class, &name))
        .await?;
    Ok(Json(class))
}

/// Delete a class with its examples.
#[utoipa::path(delete, path = "/v1/classes/{class}", tag = "classes", params(("class" = String, Path, example = "alpha")), responses(
    (status = 204),
    (status = 404, body = Document, content_type = "application/problem+json"),
))]
pub async fn remove(State(app): State<Arc<App>>, class: InPath<String>) -> Result<StatusCode, Problem> {
    let class = in_path(class)?;
    app.blocking(move |workspace| workspace.remove_class(&class))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Where a class is.
fn address(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let encode = |byte: u8| {
        if plain(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    let name: String = name.bytes().map(encode).collect();
    format!("/v1/classes/{name}")
}
