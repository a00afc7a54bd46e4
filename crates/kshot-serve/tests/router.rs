//! The routes without a network, in front of a model with fresh weights.

use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use kshot::classifier::Head;
use kshot::data::ImageShape;
use kshot::model_file::ModelFile;
use kshot::settings::{Layer, Settings};
use kshot::trained::Trained;
use kshot::{model, named};
use kshot_serve::{Config, Server};
use kshot_store::{Library, open_or_create};
use serde_json::{Value, json};
use tower::ServiceExt;

fn untrained() -> Trained {
    let image = ImageShape::square(28, 1);
    let layer = [("method", "prototypical"), ("filters", "8")];
    let layer = layer.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let settings = Settings::resolve(&[&Layer::from(layer)]).unwrap();
    let learner = model::fresh(&settings, image).unwrap();
    let file = ModelFile {
        name: "untrained".to_owned(),
        settings: settings.layer(),
        image,
        weights: named::from_parameters(learner.parameters(), &learner.read(), ""),
        encoder: None,
        card: String::new(),
        prototypes: None,
    };
    Trained::new(file, Path::new("test")).unwrap()
}

/// Routes in front of a new store, after `change` to the setup.
fn router(folder: &Path, change: impl FnOnce(&mut Config)) -> Router {
    let store = open_or_create(&folder.join("s.kshot").to_string_lossy()).unwrap();
    let library = Library::with_model(store, untrained(), Head::Model).unwrap();
    let mut config = Config::new("127.0.0.1:0".parse().unwrap());
    change(&mut config);
    Server::new(config, library).unwrap().router()
}

fn request(method: &str, path: &str, kind: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost");
    request.header("content-type", kind).body(body.into()).unwrap()
}

async fn send(router: &Router, request: Request<Body>) -> Response<Body> {
    router.clone().oneshot(request).await.unwrap()
}

async fn json_of(response: Response<Body>) -> Value {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{error}: {bytes:?}"))
}

/// A PNG with a bar.
fn bar(upright: bool, at: u32) -> Vec<u8> {
    let picture = image::GrayImage::from_fn(28, 28, |x, y| {
        let across = if upright { x } else { y };
        image::Luma([if across.abs_diff(at) < 2 { 0 } else { 255 }])
    });
    let mut file = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut file, image::ImageFormat::Png).unwrap();
    file.into_inner()
}

async fn teach(router: &Router) {
    for (name, upright) in [("upright", true), ("level", false)] {
        let body = json!({"name": name}).to_string();
        let made = send(router, request("POST", "/v1/classes", "application/json", body)).await;
        assert_eq!(made.status(), StatusCode::CREATED);
        assert_eq!(made.headers()["location"], format!("/v1/classes/{name}"));
        let path = format!("/v1/classes/{name}/examples");
        for at in [10, 14, 18] {
            let added = send(router, request("POST", &path, "image/png", bar(upright, at))).await;
            assert_eq!(added.status(), StatusCode::CREATED);
        }
    }
}

#[tokio::test]
async fn requests_at_the_same_time_get_the_answers_of_each_alone() {
    let folder = tempfile::tempdir().unwrap();
    let router = router(folder.path(), |_| {});
    teach(&router).await;
    let ask = |at: u32| {
        send(
            &router,
            request(
                "POST",
                "/classify?place=true",
                "image/png",
                bar(at.is_multiple_of(2), 5 + at % 18),
            ),
        )
    };
    let mut alone = Vec::new();
    for at in 0..40 {
        alone.push(json_of(ask(at).await).await);
    }
    let tasks: Vec<_> = (0..40)
        .map(|at: u32| {
            let router = router.clone();
            let request = request(
                "POST",
                "/classify?place=true",
                "image/png",
                bar(at.is_multiple_of(2), 5 + at % 18),
            );
            tokio::spawn(async move { json_of(router.oneshot(request).await.unwrap()).await })
        })
        .collect();
    for (task, alone) in tasks.into_iter().zip(alone) {
        let together = task.await.unwrap();
        for key in [
            "label",
            "probability",
            "none_probability",
            "known",
            "ranked",
            "evidence",
            "place",
        ] {
            assert_eq!(together[key], alone[key], "{key} depends on what else is asked");
        }
    }
}

#[tokio::test]
async fn the_same_picture_is_one_example_and_the_last_example_leaves_an_empty_class() {
    let folder = tempfile::tempdir().unwrap();
    let router = router(folder.path(), |_| {});
    teach(&router).await;
    let path = "/v1/classes/level/examples";
    let again = json_of(send(&router, request("POST", path, "image/png", bar(false, 10))).await).await;
    let id = again["examples"][0]["id"].as_str().unwrap().to_owned();
    let listed = json_of(send(&router, request("GET", path, "", "")).await).await;
    let examples = listed["examples"].as_array().unwrap();
    assert_eq!(examples.len(), 3);
    assert_eq!(
        examples[0]["id"],
        json!(id),
        "examples come in the order in which they were added"
    );
    for example in examples {
        let path = format!("{path}/{}", example["id"].as_str().unwrap());
        assert_eq!(
            send(&router, request("DELETE", &path, "", "")).await.status(),
            StatusCode::NO_CONTENT
        );
    }
    let class = json_of(send(&router, request("GET", "/v1/classes/level", "", "")).await).await;
    assert_eq!(class, json!({"name": "level", "n_examples": 0}));
    let answer =
        json_of(send(&router, request("POST", "/classify", "image/png", bar(false, 10))).await).await;
    assert_eq!(answer["ranked"].as_array().unwrap().len(), 1, "{answer}");
}

#[tokio::test]
async fn every_answer_carries_its_request_number_and_problems_their_kind() {
    let folder = tempfile::tempdir().unwrap();
    let router = router(folder.path(), |_| {});
    let mut given = request("GET", "/nowhere", "", "");
    given
        .headers_mut()
        .insert("x-request-id", "mine-7".parse().unwrap());
    let answer = send(&router, given).await;
    assert_eq!(answer.headers()["x-request-id"], "mine-7");
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert_eq!(json_of(answer).await["type"], "/docs#not-found");
    let mut forged = request("GET", "/healthz", "", "");
    forged
        .headers_mut()
        .insert("x-request-id", "a b\tc".parse().unwrap());
    let number = send(&router, forged).await.headers()["x-request-id"]
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(number.len(), 16);
}

#[tokio::test]
async fn a_body_that_never_ends_is_given_up_and_one_that_is_too_long_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let router = router(folder.path(), |config| {
        config.limits.body_timeout = Duration::from_millis(100);
        config.limits.body = 1000;
    });
    teach_small(&router).await;
    let (_held, body) = endless();
    let answer = send(&router, request("POST", "/classify", "image/png", body)).await;
    assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT);
    let answer = send(&router, request("POST", "/classify", "image/png", vec![0; 1001])).await;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

async fn teach_small(router: &Router) {
    let body = json!({"name": "a"}).to_string();
    send(router, request("POST", "/v1/classes", "application/json", body)).await;
    let added = send(
        router,
        request("POST", "/v1/classes/a/examples", "image/png", bar(true, 9)),
    )
    .await;
    assert_eq!(added.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn large_bodies_that_stop_on_the_way_leave_room_for_pictures_and_for_answers() {
    let folder = tempfile::tempdir().unwrap();
    let router = router(folder.path(), |config| {
        config.limits.bodies_memory = 16 << 20;
        config.limits.body = 8 << 20;
        config.limits.body_timeout = Duration::from_secs(6);
    });
    teach(&router).await;
    let mut held = Vec::new();
    let mut stopped = Vec::new();
    for _ in 0..4 {
        let (sender, body) = stopping(vec![0; 7 << 20]);
        held.push(sender);
        let request = request("POST", "/classify", "image/png", body);
        stopped.push(tokio::spawn(router.clone().oneshot(request)));
    }
    // As many as there is memory for wait for the rest, the others have been sent away.
    let refused = async {
        while stopped.iter().filter(|task| task.is_finished()).count() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), refused)
        .await
        .unwrap();
    let answer = send(&router, request("POST", "/classify", "image/png", bar(true, 9))).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let mut statuses = Vec::new();
    for task in stopped {
        statuses.push(task.await.unwrap().unwrap().status().as_u16());
    }
    statuses.sort();
    assert_eq!(statuses, [408, 408, 503, 503]);
}

#[tokio::test]
async fn large_answers_that_are_not_read_leave_room_for_small_ones() {
    let folder = tempfile::tempdir().unwrap();
    let router = router(folder.path(), |config| config.limits.answers_memory = 150 << 10);
    for index in 0..400 {
        let body = json!({"name": format!("{index} {}", "x".repeat(190))}).to_string();
        let made = send(&router, request("POST", "/v1/classes", "application/json", body)).await;
        assert_eq!(made.status(), StatusCode::CREATED);
    }
    let unread = send(&router, request("GET", "/v1/classes", "", "")).await;
    assert_eq!(unread.status(), StatusCode::OK);
    let refused = send(&router, request("GET", "/v1/classes", "", "")).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(
        send(&router, request("GET", "/v1/info", "", "")).await.status(),
        StatusCode::OK
    );
    drop(unread);
    assert_eq!(
        send(&router, request("GET", "/v1/classes", "", ""))
            .await
            .status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn more_pictures_at_once_than_there_is_memory_for_are_refused_and_nothing_of_it_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    // Two of 28x28 pixels.
    let router = router(folder.path(), |config| config.limits.pictures_memory = 8 << 10);
    teach(&router).await;
    let many = |n: u32| {
        let picture = |at| STANDARD.encode(bar(true, 5 + at));
        json!({"images": (0..n).map(picture).collect::<Vec<_>>()}).to_string()
    };
    let ask = |path, n| send(&router, request("POST", path, "application/json", many(n)));
    for _ in 0..5 {
        for path in ["/classify", "/v1/classes/upright/examples"] {
            let refused = ask(path, 3).await;
            assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE, "{path}");
            let detail = json_of(refused).await["detail"].to_string();
            assert!(detail.contains("more than 2 pictures"), "{detail}");
            assert!(ask(path, 2).await.status().is_success(), "{path}");
        }
    }
}

#[tokio::test]
async fn what_another_server_has_deleted_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = [(); 2].map(|()| router(folder.path(), |_| {}));
    teach(&first).await;
    let listed = send(&second, request("GET", "/v1/classes/level/examples", "", "")).await;
    assert_eq!(listed.status(), StatusCode::NOT_FOUND, "not yet taken in");
    let examples = json_of(send(&first, request("GET", "/v1/classes/level/examples", "", "")).await).await;
    let example = format!(
        "/v1/classes/level/examples/{}",
        examples["examples"][0]["id"].as_str().unwrap()
    );
    // A change takes in what the other has done.
    let taken = json!({"name": "level"}).to_string();
    let taken = send(&second, request("POST", "/v1/classes", "application/json", taken)).await;
    assert_eq!(taken.status(), StatusCode::CONFLICT);
    for path in ["/v1/classes/upright", &example] {
        let gone = send(&first, request("DELETE", path, "", "")).await;
        assert_eq!(gone.status(), StatusCode::NO_CONTENT, "{path}");
        let gone = send(&second, request("DELETE", path, "", "")).await;
        assert_eq!(gone.status(), StatusCode::NOT_FOUND, "{path}");
    }
    send(&first, request("DELETE", "/v1/classes", "", "")).await;
    let name = json!({"name": "flat"}).to_string();
    let renamed = send(
        &second,
        request("PATCH", "/v1/classes/level", "application/json", name),
    );
    assert_eq!(renamed.await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn signs_that_are_asked_for_at_the_same_time_are_all_made_and_those_beyond_a_quota_not_begun() {
    let folder = tempfile::tempdir().unwrap();
    let router = router(folder.path(), |config| config.limits.classes = 13);
    let ask = || {
        let wanted = json!({"n_classes": 2, "n_examples": 1}).to_string();
        let (router, request) = (
            router.clone(),
            request("POST", "/v1/samples", "application/json", wanted),
        );
        tokio::spawn(async move { router.oneshot(request).await.unwrap().status() })
    };
    let asked: Vec<_> = (0..6).map(|_| ask()).collect();
    for one in asked {
        assert_eq!(one.await.unwrap(), StatusCode::CREATED);
    }
    assert_eq!(ask().await.unwrap(), StatusCode::UNPROCESSABLE_ENTITY);
    let classes = json_of(send(&router, request("GET", "/v1/classes", "", "")).await).await;
    assert_eq!(classes["classes"].as_array().unwrap().len(), 12);
}

#[tokio::test]
async fn deleting_every_class_leaves_a_server_that_can_be_taught_anew() {
    let folder = tempfile::tempdir().unwrap();
    let router = router(folder.path(), |_| {});
    for _ in 0..2 {
        teach(&router).await;
        let gone = send(&router, request("DELETE", "/v1/classes", "", "")).await;
        assert_eq!(gone.status(), StatusCode::NO_CONTENT);
        let listed = json_of(send(&router, request("GET", "/v1/classes", "", "")).await).await;
        assert_eq!(listed, json!({"classes": []}));
        let asked = send(&router, request("POST", "/classify", "image/png", bar(true, 9))).await;
        assert_eq!(asked.status(), StatusCode::CONFLICT);
    }
}

#[tokio::test]
async fn downloads_of_one_state_share_a_file_and_those_of_many_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let router = router(folder.path(), |_| {});
    teach(&router).await;
    let download = || send(&router, request("GET", "/v1/store", "", ""));
    let mut unread = Vec::new();
    for at in [3, 4, 5, 6] {
        for _ in 0..5 {
            let answer = download().await;
            assert_eq!(answer.status(), StatusCode::OK);
            unread.push(answer);
        }
        let path = "/v1/classes/level/examples";
        send(&router, request("POST", path, "image/png", bar(false, at))).await;
    }
    assert_eq!(download().await.status(), StatusCode::SERVICE_UNAVAILABLE);
    let oldest: Vec<_> = unread.drain(..5).collect();
    let mut files = Vec::new();
    for answer in oldest {
        let length: usize = answer.headers()["content-length"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(bytes.len(), length);
        files.push(bytes);
    }
    assert!(files[0].starts_with(b"SQLite format 3\0") && files.iter().all(|file| *file == files[0]));
    assert_eq!(download().await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_store_of_features_is_not_taken_for_one_of_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let router = router(folder.path(), |_| {});
    teach(&router).await;
    let place = folder.path().join("features.kshot");
    let store = open_or_create(&place.to_string_lossy()).unwrap();
    let mut library = Library::with_model(store, Trained::of_features(4).unwrap(), Head::Model).unwrap();
    let vector = kshot::data::features::vector_file(&[1.0, 2.0, 3.0, 4.0]);
    library.add("a", vec![("a.npy".to_owned(), vector)]).unwrap();
    drop(library);
    let body = std::fs::read(place).unwrap();
    let answer = send(
        &router,
        request("PUT", "/v1/store", "application/octet-stream", body),
    )
    .await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let detail = json_of(answer).await["detail"].to_string();
    assert!(detail.contains("features of 4 numbers"), "{detail}");
    let answer = send(&router, request("POST", "/classify", "image/png", bar(true, 9))).await;
    assert_eq!(answer.status(), StatusCode::OK);
}

/// A body of which nothing ever comes.
fn endless() -> (tokio::sync::oneshot::Sender<()>, Body) {
    stopping(Vec::new())
}

/// A body of which no more comes after some bytes.
fn stopping(bytes: Vec<u8>) -> (tokio::sync::oneshot::Sender<()>, Body) {
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    (sender, Body::new(Never(receiver, bytes)))
}

struct Never(tokio::sync::oneshot::Receiver<()>, Vec<u8>);

impl hyper::body::Body for Never {
    type Data = hyper::body::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        if !self.1.is_empty() {
            let bytes = std::mem::take(&mut self.1).into();
            return std::task::Poll::Ready(Some(Ok(hyper::body::Frame::data(bytes))));
        }
        let ended = Future::poll(std::pin::Pin::new(&mut self.0), context).is_ready();
        if ended {
            std::task::Poll::Ready(None)
        } else {
            std::task::Poll::Pending
        }
    }
}

#[tokio::test]
async fn the_page_is_there_whole_and_is_not_sent_twice() {
    let folder = tempfile::tempdir().unwrap();
    let router = router(folder.path(), |_| {});
    let page = send(&router, request("GET", "/", "", "")).await;
    let tag = page.headers()["etag"].clone();
    let text = String::from_utf8(page.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert!(
        !text.contains("http://") && !text.contains("https://"),
        "the page asks for something elsewhere"
    );
    assert!(
        !text.contains(" style=") && !text.contains("<style") && !text.contains(" onclick"),
        "inline code or style"
    );
    for part in text
        .split(['"', '\''])
        .filter(|part| part.ends_with(".js") || part.ends_with(".css") || part.ends_with(".svg"))
    {
        let file = send(&router, request("GET", &format!("/{part}"), "", "")).await;
        assert_eq!(file.status(), StatusCode::OK, "{part}");
        let script =
            String::from_utf8(file.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
        for import in script.split("from './").skip(1) {
            let name = import.split('\'').next().unwrap();
            let file = send(&router, request("GET", &format!("/{name}"), "", "")).await;
            assert_eq!(file.status(), StatusCode::OK, "{part} imports {name}");
        }
    }
    let mut again = request("GET", "/", "", "");
    again.headers_mut().insert("if-none-match", tag);
    assert_eq!(send(&router, again).await.status(), StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn what_another_program_enrols_is_recognised_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let router = router(folder.path(), |_| {});
    let mut other = Library::open(
        kshot_store::open(&folder.path().join("s.kshot").to_string_lossy()).unwrap(),
        Head::Model,
    )
    .unwrap();
    other
        .add("from elsewhere", vec![("a.png".to_owned(), bar(true, 9))])
        .unwrap();
    // Without the server's own look at the store, a change through it takes the others' in.
    teach(&router).await;
    let listed = json_of(send(&router, request("GET", "/v1/classes", "", "")).await).await;
    let names: Vec<&str> = listed["classes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"from elsewhere") && names.len() == 3, "{names:?}");
}

#[tokio::test]
async fn a_class_that_would_have_no_address_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let router = router(folder.path(), |_| {});
    teach(&router).await;
    for name in [".", ".."] {
        let body = format!("{{\"name\": \"{name}\"}}");
        for (method, path) in [("POST", "/v1/classes"), ("PATCH", "/v1/classes/upright")] {
            let answer = send(&router, request(method, path, "application/json", body.clone())).await;
            assert_eq!(
                answer.status(),
                StatusCode::UNPROCESSABLE_ENTITY,
                "{method} {name}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_enrolled_while_the_server_starts_is_recognised_as_soon_as_it_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("s.kshot").to_string_lossy().into_owned();
    let library = Library::with_model(open_or_create(&place).unwrap(), untrained(), Head::Model).unwrap();
    let mut other = Library::open(kshot_store::open(&place).unwrap(), Head::Model).unwrap();
    other
        .add("meanwhile", vec![("a.png".to_owned(), bar(true, 9))])
        .unwrap();
    let config = Config::new("127.0.0.1:0".parse().unwrap());
    let router = Server::new(config, library).unwrap().router();
    let listed = json_of(send(&router, request("GET", "/v1/classes", "", "")).await).await;
    assert_eq!(listed["classes"][0]["n_examples"], 1, "{listed}");
    let answer = send(&router, request("POST", "/classify", "image/png", bar(true, 9))).await;
    assert_eq!(answer.status(), StatusCode::OK);
}
