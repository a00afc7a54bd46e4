//! The web page: files that are part of the program.

use std::sync::LazyLock;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// Scripts, styles and pictures from here alone, nothing inline; pictures that the page itself made.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
                      connect-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

struct File {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

macro_rules! files {
    ($($path:literal, $kind:ident, $file:literal;)*) => {
        static FILES: &[File] = &[$(File { path: $path, kind: $kind, bytes: include_bytes!(concat!("../page/", $file)) }),*];
    };
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

files! {
    "/", HTML, "index.html";
    "/docs", HTML, "docs.html";
    "/style.css", CSS, "style.css";
    "/icon.svg", SVG, "icon.svg";
    "/answer.js", JS, "answer.js";
    "/api.js", JS, "api.js";
    "/app.js", JS, "app.js";
    "/camera.js", JS, "camera.js";
    "/classes.js", JS, "classes.js";
    "/dialog.js", JS, "dialog.js";
    "/docs.js", JS, "docs.js";
    "/dom.js", JS, "dom.js";
    "/files.js", JS, "files.js";
    "/map.js", JS, "map.js";
    "/pad.js", JS, "pad.js";
    "/recogniser.js", JS, "recogniser.js";
    "/state.js", JS, "state.js";
}

/// One tag for all: a new version of any is a new version of the page.
static TAG: LazyLock<HeaderValue> = LazyLock::new(|| {
    // FNV-1a.
    let bytes = FILES.iter().flat_map(|file| file.bytes);
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    HeaderValue::from_str(&format!("\"{hash:016x}\"")).unwrap_or(HeaderValue::from_static("\"page\""))
});

/// The page's routes.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.iter().fold(Router::new(), |router, file| {
        router.route(
            file.path,
            get(async move |headers: HeaderMap| answer(file, &headers)),
        )
    })
}

fn answer(file: &'static File, asked: &HeaderMap) -> Response {
    let known = asked.get(header::IF_NONE_MATCH).is_some_and(|tag| tag == *TAG);
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Body::from(file.bytes).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.kind));
    headers.insert(header::ETAG, TAG.clone());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(
        "permissions-policy",
        HeaderValue::from_static("camera=(self), microphone=(), geolocation=()"),
    );
    headers.insert(
        "cross-origin-opener-policy",
        HeaderValue::from_static("same-origin"),
    );
    response
}
