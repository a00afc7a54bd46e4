//! Every route, and what stands in front of them.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};

use crate::api::{classes, classify, document, examples, health, map, samples, store};
use crate::large::bounded;
use crate::observe::observe;
use crate::page;
use crate::problem::{METHOD, NOT_FOUND, Problem};
use crate::state::App;

/// The server's routes.
pub fn router(app: Arc<App>) -> Router {
    let guarded = Router::new()
        .route("/classify", post(classify::classify))
        .route("/metrics", get(health::metrics))
        .route("/v1/classify", post(classify::classify))
        .route("/v1/info", get(health::info))
        .route("/v1/map", get(map::map))
        .route("/v1/samples", post(samples::add))
        .route("/v1/store", get(store::download).put(store::upload))
        .route(
            "/v1/classes",
            get(classes::list).post(classes::add).delete(classes::remove_all),
        )
        .route(
            "/v1/classes/{class}",
            get(classes::one).patch(classes::rename).delete(classes::remove),
        )
        .route(
            "/v1/classes/{class}/examples",
            get(examples::list).post(examples::add),
        )
        .route("/v1/classes/{class}/examples/{example}", get(examples::picture))
        .route("/v1/classes/{class}/examples/{example}", delete(examples::remove))
        .layer(middleware::from_fn_with_state(app.clone(), token));
    Router::new()
        .route("/healthz", get(health::healthy))
        .route("/readyz", get(health::ready))
        .route("/openapi.json", get(document::openapi))
        .merge(page::routes())
        .merge(guarded)
        .fallback(async || Problem::new(&NOT_FOUND, "no such address; /docs lists those that there are"))
        .method_not_allowed_fallback(async || {
            Problem::new(&METHOD, "this address knows other methods; /docs lists them")
        })
        .layer(middleware::from_fn_with_state(app.clone(), bounded))
        .layer(middleware::from_fn_with_state(app.clone(), origin))
        .layer(middleware::from_fn_with_state(app.clone(), observe))
        .with_state(app)
}

async fn origin(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match app.guard.origin(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

async fn token(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match app.guard.token(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}
