//! Large answers: what lies in memory until it is sent has a share of a budget, so that clients who ask for much and read
//! nothing don't take more together than there is for them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::body::{Body as _, Bytes, Frame, SizeHint};

use crate::budget::Share;
use crate::problem::Problem;
use crate::state::App;

/// Answers of fewer bytes are bounded by the number of connections.
pub const SMALL: usize = 64 << 10;

/// Marks an answer that has its share already.
#[derive(Clone, Copy)]
struct Held;

/// An answer that gives its share back when it is sent, or when its connection ends.
pub fn holding(share: Share, response: impl IntoResponse) -> Response {
    let mut response = response
        .into_response()
        .map(|body| Body::new(Holding { body, _share: share }));
    response.extensions_mut().insert(Held);
    response
}

/// Gives each large answer its share, or sends it away.
pub async fn bounded(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let length = response.body().size_hint().exact().unwrap_or(0);
    if length <= SMALL as u64 || response.extensions().get::<Held>().is_some() {
        return response;
    }
    match app.answers.take(usize::try_from(length).unwrap_or(usize::MAX)) {
        Some(share) => holding(share, response),
        None => too_many().into_response(),
    }
}

/// 503: other large answers take the memory that there is for them.
pub fn too_many() -> Problem {
    Problem::busy("too many large answers are on their way to others; try again in a moment")
}

struct Holding {
    body: Body,
    _share: Share,
}

impl hyper::body::Body for Holding {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
