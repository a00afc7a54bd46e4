//! `GET /v1/map`: where the model puts the examples, in two dimensions.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use crate::plane::Map;
use crate::problem::Problem;
use crate::state::App;

/// The examples in the plane of their embeddings' first two principal components.
#[utoipa::path(get, path = "/v1/map", tag = "map", responses((status = 200, body = Map)))]
pub async fn map(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let map = app.blocking(|workspace| Ok(workspace.map())).await?;
    Ok(Json(map.as_ref()).into_response())
}
