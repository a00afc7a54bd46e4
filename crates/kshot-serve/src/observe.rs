//! Around every request: its number, a line in the log, the counters, and headers that every answer carries.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

use crate::metrics;
use crate::server::Peer;
use crate::state::App;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest number that is taken over from the request.
const LONGEST: usize = 64;
/// Methods that are called by their names in counters and in the log.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// So much of a request's path goes into the log, in characters.
const LONGEST_PATH: usize = 256;

/// Numbers, observes and completes a request.
pub async fn observe(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let start = Instant::now();
    let id = request_id(&request);
    let method = known(request.method());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("other", MatchedPath::as_str)
        .to_owned();
    let peer = request
        .extensions()
        .get::<Peer>()
        .map(|peer| peer.0.to_string())
        .unwrap_or_default();
    let path = beginning(request.uri().path()).to_owned();
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default());
    let mut response = next.run(request).instrument(span.clone()).await;
    let elapsed = start.elapsed();
    let status = response.status().as_u16();
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(
        "cross-origin-resource-policy",
        HeaderValue::from_static("same-origin"),
    );
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    let labels = metrics::Request {
        method,
        path: route,
        status,
    };
    app.metrics.requests.get_or_create(&labels).inc();
    app.metrics.seconds.observe(elapsed.as_secs_f64());
    let ms = elapsed.as_micros() as f64 / 1000.0;
    span.in_scope(|| match status {
        500.. => tracing::error!(method, path, status, ms, peer, "answered"),
        _ => tracing::info!(method, path, status, ms, peer, "answered"),
    });
    response
}

/// A method by name. Clients can make up others without end, and each would be counted for itself, for good.
fn known(method: &Method) -> &'static str {
    let name = METHODS.into_iter().find(|name| *name == method.as_str());
    name.unwrap_or("other")
}

/// As much of a path as the log takes.
fn beginning(path: &str) -> &str {
    let end = path.char_indices().nth(LONGEST_PATH);
    &path[..end.map_or(path.len(), |(at, _)| at)]
}

/// The number that the request carries, or a new one.
fn request_id(request: &Request) -> HeaderValue {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    static RANDOM: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let given = request.headers().get(&REQUEST_ID).filter(|value| {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        (1..=LONGEST).contains(&value.len()) && value.as_bytes().iter().all(|&byte| fine(byte))
    });
    given.cloned().unwrap_or_else(|| {
        let number = RANDOM.hash_one(NEXT.fetch_add(1, Ordering::Relaxed));
        HeaderValue::from_str(&format!("{number:016x}")).unwrap_or(HeaderValue::from_static("0"))
    })
}
