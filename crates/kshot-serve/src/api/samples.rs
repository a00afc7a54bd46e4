//! `POST /v1/samples`: classes of generated signs, to begin with.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::entries::ClassEntry;
use crate::problem::{Document, Problem, UNUSABLE};
use crate::samples::{self, Unseen};
use crate::state::App;
use crate::{body, decode, large};

/// How many.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Classes.
    #[schema(minimum = 1, maximum = 20, example = 5)]
    n_classes: usize,
    /// Examples of each.
    #[schema(minimum = 1, maximum = 10, example = 3)]
    n_examples: usize,
}

/// What was made.
#[derive(Serialize, ToSchema)]
pub struct Samples {
    /// The new classes.
    classes: Vec<ClassEntry>,
    /// Further pictures of them that were not enrolled, in a mixed order.
    unseen: Vec<Unseen>,
}

/// Make classes of generated signs.
#[utoipa::path(post, path = "/v1/samples", tag = "samples", request_body = Wanted, responses(
    (status = 201, body = Samples),
    (status = 422, body = Document, content_type = "application/problem+json", description = "A number out of range; a quota"),
))]
pub async fn add(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Samples>), Problem> {
    let Wanted {
        n_classes,
        n_examples,
    } = body::json(&app, &headers, body).await?;
    if !(1..=20).contains(&n_classes) || !(1..=10).contains(&n_examples) {
        return Err(Problem::new(
            &UNUSABLE,
            "`n_classes` is from 1 to 20, `n_examples` from 1 to 10",
        ));
    }
    let shown = n_examples * 2 * decode::LONGEST_THUMBNAIL;
    let mut share = app.answers.take(shown).ok_or_else(large::too_many)?;
    let (classes, unseen) = app
        .blocking(move |workspace| samples::enrol(workspace, n_classes, n_examples, &mut share))
        .await?;
    Ok((StatusCode::CREATED, Json(Samples { classes, unseen })))
}
