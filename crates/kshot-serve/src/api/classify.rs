//! `POST /classify` and `POST /v1/classify`: what a picture is.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State, rejection::QueryRejection};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use kshot::classifier::Show;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::in_query;
use crate::answer::Found;
use crate::budget::Share;
use crate::problem::{BAD_REQUEST, CONFLICT, Document, Problem};
use crate::state::App;
use crate::upload::InJson;
use crate::worker::Wish;
use crate::{decode, large, upload};

/// Most entries that an answer lists.
const MOST: usize = 1_000;
/// Memory for an entry, in bytes: its names, of 200 bytes or so, twice while the answer is written as text.
const ENTRY: usize = 1_024;

/// How much of an answer is wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// Most classes in `ranked`.
    #[serde(default = "five")]
    #[param(default = 5, maximum = 1000)]
    top: usize,
    /// Most examples in `evidence`.
    #[serde(default = "five")]
    #[param(default = 5, maximum = 1000)]
    evidence: usize,
    /// Whether the place on the map is wanted.
    #[serde(default)]
    place: bool,
}

fn five() -> usize {
    5
}

/// The answer to one picture.
#[derive(Serialize, ToSchema)]
pub struct Answer {
    /// What the request calls the picture.
    image: String,
    #[serde(flatten)]
    found: Found,
}

/// The answers to several pictures.
#[derive(Serialize, ToSchema)]
pub struct Answers {
    /// In the order of the request.
    results: Vec<Answer>,
}

/// One, or several.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    /// For one picture.
    One(Box<Answer>),
    /// For a form with several files or a field `images`, and for JSON with `images`.
    Many(Answers),
}

/// Recognise a picture: the picture itself as the body, base64 in JSON, or a form with one file; or several, as a form
/// or as JSON with `images`. Each is answered for itself, whatever the others are.
#[utoipa::path(post, path = "/v1/classify", tag = "classify", params(Wanted), request_body(content(
        (Vec<u8> = "image/png"),
        (InJson = "application/json"),
        (Vec<u8> = "multipart/form-data"),
    )), responses(
    (status = 200, body = OneOrMany),
    (status = 409, body = Document, content_type = "application/problem+json", description = "No class has an example yet"),
    (status = 413, body = Document, content_type = "application/problem+json"),
    (status = 422, body = Document, content_type = "application/problem+json", description = "Not a picture, or one of too many pixels"),
    (status = 503, body = Document, content_type = "application/problem+json", description = "The queue is full, or the memory for pictures or answers is: `Retry-After`"),
))]
pub async fn classify(
    State(app): State<Arc<App>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Wanted { top, evidence, place } = in_query(wanted)?;
    if top > MOST || evidence > MOST {
        return Err(Problem::new(
            &BAD_REQUEST,
            format!("`top` and `evidence` go up to {MOST}"),
        ));
    }
    if app.workspace.is_empty() {
        return Err(Problem::new(
            &CONFLICT,
            "no class has an example yet; add some first",
        ));
    }
    let upload = upload::read(&app, &headers, body).await?;
    let many = upload.many;
    let (decoded, room) = decode::pictures(&app, upload).await?;
    let (names, pictures): (Vec<_>, Vec<_>) = decoded.into_iter().map(|one| (one.name, one.picture)).unzip();
    let wish = Wish {
        show: Show { top, evidence },
        place,
    };
    let share = memory(&app, pictures.len(), wish.show)?;
    let found = app.worker.recognise(pictures, room, wish).await?;
    let mut results = names
        .into_iter()
        .zip(found)
        .map(|(image, found)| Answer { image, found });
    let answer = if many {
        OneOrMany::Many(Answers {
            results: results.collect(),
        })
    } else {
        let one = results
            .next()
            .ok_or_else(|| Problem::internal("no answer to a picture"))?;
        OneOrMany::One(Box::new(one))
    };
    Ok(match share {
        Some(share) => large::holding(share, Json(answer)),
        None => Json(answer).into_response(),
    })
}

/// Memory for the answers to so many pictures, where they may be large.
fn memory(app: &App, n: usize, show: Show) -> Result<Option<Share>, Problem> {
    if n * (show.top + show.evidence) * ENTRY <= large::SMALL {
        return Ok(None);
    }
    let classes = show.top.min(app.workspace.n_classes());
    let examples = show.evidence.min(app.workspace.n_examples());
    let share = app.answers.take(n * (classes + examples) * ENTRY);
    share.map(Some).ok_or_else(large::too_many)
}
