//! `GET /v1/map`: where the model puts the examples, in two dimensions.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::plane::Map;
use crate::problem::Problem;
use crate::state::App;

/// The examples in the plane of their embeddings' first two principal components.
#[utoipa::path(get, path = "/v1/map", tag = "map", responses((status = 200, body = Map)))]
pub async fn map(State(app): State<Arc<App>>) -> Result<Json<Arc<Map>>, Problem> {
    app.blocking(|workspace| Ok(workspace.map())).await.map(Json)
}
