//! A server without a network, in front of classes by a model of one filter.

use std::path::Path;
use std::sync::OnceLock;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use kshot::classifier::Head;
use kshot::trained::Trained;
use kshot_serve::{Config, Server};
use kshot_store::{ClassStore, Library, open_or_create};
use tokio::runtime::Runtime;
use tower::ServiceExt;

/// Longest answer that is read, in bytes.
const LONGEST: usize = 64 << 20;

/// An answer.
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// Asks the server, which two classes of one example each were put into when it was first asked, and a class without any.
pub fn ask(method: &str, path: &str, kind: &[u8], body: &[u8]) -> Answer {
    static SERVER: OnceLock<(Runtime, Router)> = OnceLock::new();
    let (runtime, router) = SERVER.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("threads can be started");
        let mut config = Config::new(([127, 0, 0, 1], 0).into());
        // That larger ones are refused by their heads is tested elsewhere, and decoding them is slow.
        config.limits.pixels = crate::MOST_PIXELS;
        let server = Server::new(config, library("served.kshot")).expect("the store is right");
        (runtime, server.router())
    });
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .header("content-type", kind)
        .body(Body::from(body.to_vec()))
        .expect("method, path and type are right");
    runtime.block_on(async {
        let response = router.clone().oneshot(request).await.expect("a router answers");
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), LONGEST).await;
        Answer {
            status,
            body: body.expect("an answer has an end").to_vec(),
        }
    })
}

/// The classes in a new store of this name.
pub fn library(name: &str) -> Library {
    let model = include_bytes!("seeds/model_file/prototypical.safetensors");
    let model = Trained::from_bytes(model, Path::new("model")).expect("the seed is right");
    let place = crate::folder().join(name).display().to_string();
    let store: Box<dyn ClassStore> = open_or_create(&place).expect("a store can be made");
    let mut library = Library::with_model(store, model, Head::Model).expect("the store is new");
    for (class, picture) in [("a", crate::drawing()), ("b", crate::bar())] {
        let files = vec![("x.png".to_owned(), picture)];
        library.add(class, files).expect("the picture is right");
    }
    library.add_class("none").expect("the name is right");
    library
}
