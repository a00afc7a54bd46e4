//! `/v1/classes/{class}/examples`: the pictures that a class is known by.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State, rejection::QueryRejection};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;
use utoipa::{IntoParams, ToSchema};

use super::{InPath, in_path, in_query};
use crate::entries::ExampleEntry;
use crate::problem::{Document, Problem};
use crate::state::App;
use crate::upload::InJson;
use crate::workspace::Workspace;
use crate::{decode, large, upload};

/// Examples of a class.
#[derive(Serialize, ToSchema)]
pub struct Examples {
    /// In the order in which they were added.
    examples: Vec<ExampleEntry>,
}

/// What to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// Whether each example comes with its picture, as a `data:` address.
    #[serde(default)]
    pictures: bool,
}

/// List a class's examples.
#[utoipa::path(get, path = "/v1/classes/{class}/examples", tag = "examples",
    params(("class" = String, Path, example = "alpha"), Wanted), responses(
    (status = 200, body = Examples),
    (status = 404, body = Document, content_type = "application/problem+json"),
    (status = 503, body = Document, content_type = "application/problem+json", description = "Too many large answers are under way: `Retry-After`"),
))]
pub async fn list(
    State(app): State<Arc<App>>,
    class: InPath<String>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Problem> {
    let (class, wanted) = (in_path(class)?, in_query(wanted)?);
    let place = match wanted.pictures {
        true => Some(place(&app).await?),
        false => None,
    };
    let mut share = app.answers.take(0).ok_or_else(large::too_many)?;
    let list = move |workspace: &Workspace| {
        let _place = place;
        let examples = workspace.examples(&class, wanted.pictures.then_some(&mut share))?;
        Ok((examples, share))
    };
    let (examples, share) = app.blocking(list).await?;
    Ok(large::holding(share, Json(Examples { examples })))
}

/// Add examples: a picture as the body, several as a form, or base64 in JSON. All are added, or none. A picture that is
/// an example of the class already stays the one that it is.
#[utoipa::path(post, path = "/v1/classes/{class}/examples", tag = "examples", params(("class" = String, Path, example = "alpha")),
    request_body(content(
        (Vec<u8> = "image/png"),
        (InJson = "application/json"),
        (Vec<u8> = "multipart/form-data"),
    )), responses(
    (status = 201, body = Examples),
    (status = 404, body = Document, content_type = "application/problem+json"),
    (status = 409, body = Document, content_type = "application/problem+json", description = "The model was replaced meanwhile"),
    (status = 413, body = Document, content_type = "application/problem+json"),
    (status = 422, body = Document, content_type = "application/problem+json", description = "Not a picture; a quota"),
))]
pub async fn add(
    State(app): State<Arc<App>>,
    class: InPath<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let class = in_path(class)?;
    // Before the pictures are read, which may take long.
    app.workspace.class(&class)?;
    let upload = upload::read(&app, &headers, body).await?;
    let pixels = decode::admit(&app, &upload).await?;
    // Before anything is added: what was added is not answered by a refusal.
    let shown = upload.pictures.len() * 2 * decode::LONGEST_THUMBNAIL;
    let mut share = app.answers.take(shown).ok_or_else(large::too_many)?;
    let add = move |workspace: &Workspace| {
        let _pixels = pixels;
        let examples = workspace.add_examples(&class, upload.pictures, &mut share)?;
        Ok((examples, share))
    };
    let (examples, share) = app.blocking(add).await?;
    let answer = (StatusCode::CREATED, Json(Examples { examples }));
    Ok(large::holding(share, answer))
}

/// An example's picture, as a PNG of at most 160 pixels a side.
#[utoipa::path(get, path = "/v1/classes/{class}/examples/{example}", tag = "examples",
    params(("class" = String, Path, example = "alpha"), ("example" = String, Path)), responses(
    (status = 200, body = Vec<u8>, content_type = "image/png"),
    (status = 404, body = Document, content_type = "application/problem+json"),
))]
pub async fn picture(
    State(app): State<Arc<App>>,
    path: InPath<(String, String)>,
) -> Result<Response, Problem> {
    let (class, example) = in_path(path)?;
    let place = place(&app).await?;
    let shown = move |workspace: &Workspace| {
        let _place = place;
        workspace.picture(&class, &example)
    };
    let png = app.blocking(shown).await?;
    let headers = [
        (header::CONTENT_TYPE, "image/png"),
        // An example's picture never changes.
        (header::CACHE_CONTROL, "private, max-age=31536000, immutable"),
    ];
    Ok((headers, png).into_response())
}

/// Delete an example.
#[utoipa::path(delete, path = "/v1/classes/{class}/examples/{example}", tag = "examples",
    params(("class" = String, Path, example = "alpha"), ("example" = String, Path)), responses(
    (status = 204),
    (status = 404, body = Document, content_type = "application/problem+json"),
))]
pub async fn remove(
    State(app): State<Arc<App>>,
    path: InPath<(String, String)>,
) -> Result<StatusCode, Problem> {
    let (class, example) = in_path(path)?;
    app.blocking(move |workspace| workspace.remove_example(&class, &example))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A place among those who look at stored pictures; it goes with the work.
async fn place(app: &App) -> Result<OwnedSemaphorePermit, Problem> {
    app.shown.clone().acquire_owned().await.map_err(Problem::internal)
}
