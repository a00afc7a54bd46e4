//! Stores that are sent to a server: one that can't be served changes nothing, and one that can is there as a whole.
#![cfg(unix)]

mod common;
#[path = "../../kshot-store/tests/common/postgres.rs"]
mod database;
mod server;

use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use database::Server as Database;
use kshot::classifier::{ContentHash, Head};
use kshot::trained::Trained;
use kshot_store::{ClassStore, Library, NewExample, StoredModel, open, open_or_create};
use serde_json::Value;
use server::{Server, ask, bar};

/// Runs a test on a store in a file and on one in a database.
fn on_both(test: impl Fn(&Path, &str)) {
    let folder = tempfile::tempdir().unwrap();
    test(
        folder.path(),
        &folder.path().join("served.kshot").display().to_string(),
    );
    if let Some(database) = Database::shared() {
        let folder = tempfile::tempdir().unwrap();
        test(folder.path(), &database.database());
    }
}

/// The file of a store with these classes, of three examples each, and one without any.
fn store_file(folder: &Path, classes: Range<u32>) -> Vec<u8> {
    changed(folder, None, |store| {
        let model = Trained::find("omniglot-conv4").unwrap();
        let mut library = Library::with_model(store, model, Head::Model).unwrap();
        library.add_class(&format!("none of {}", classes.start)).unwrap();
        for class in classes {
            let files = (0..3).map(|example| (format!("{example}.png"), drawing(class, example)));
            library.add(&format!("class {class}"), files.collect()).unwrap();
        }
    })
}

fn drawing(class: u32, example: u32) -> Vec<u8> {
    // A cross whose place says which class it is.
    let (across, down) = (4 + 4 * (class % 8), 4 + 4 * (class / 8));
    let picture = image::GrayImage::from_fn(40, 40, |x, y| {
        let ink = x.abs_diff(across) < 1 + example % 2 || y.abs_diff(down) < 2 || x + y == 30 + example;
        image::Luma([if ink { 0 } else { 255 }])
    });
    let mut file = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut file, image::ImageFormat::Png).unwrap();
    file.into_inner()
}

/// A store's file after something was done to it, past all that `kshot` does to stores.
fn changed(folder: &Path, file: Option<&[u8]>, change: impl FnOnce(Box<dyn ClassStore>)) -> Vec<u8> {
    let folder = tempfile::tempdir_in(folder).unwrap();
    let path = folder.path().join("s");
    if let Some(file) = file {
        std::fs::write(&path, file).unwrap();
    }
    change(open_or_create(&path.display().to_string()).unwrap());
    std::fs::read(&path).unwrap()
}

fn classes(server: &Server) -> Value {
    server.get("/v1/classes").expect(200).json()
}

/// Another server lists what it has heard of in another order.
fn names(server: &Server) -> Vec<String> {
    let listed = classes(server);
    let names = listed["classes"].as_array().unwrap().iter();
    let mut names: Vec<_> = names.map(|class| class.to_string()).collect();
    names.sort();
    names
}

fn answer(server: &Server) -> Value {
    server.picture("/classify", &drawing(2, 1)).expect(200).json()
}

#[test]
fn a_store_that_cannot_be_served_changes_nothing() {
    on_both(|folder, place| {
        let good = store_file(folder, 0..8);
        let with = |class: &'static str, example: NewExample| {
            let file = changed(folder, Some(&good), |store| {
                let model = store.model().unwrap().unwrap();
                store.add(&model.id, class, &[example]).unwrap();
            });
            (class, file)
        };
        let features = changed_features(folder, &good);
        let example = |embedding: &[f32], picture: Vec<u8>| NewExample {
            name: "x.png".to_owned(),
            hash: ContentHash([7; 16]),
            picture,
            embedding: embedding.into(),
        };
        let picture = || bar(true, 20);
        let other = Trained::find("glyphs-conv4").unwrap();
        let other = StoredModel {
            id: other.id().to_owned(),
            name: other.name().to_owned(),
            bytes: other.file().to_bytes().unwrap(),
        };
        let another_model = |change: fn(&StoredModel, &StoredModel) -> StoredModel| {
            changed(folder, Some(&good), |store| {
                let own = store.model().unwrap().unwrap();
                let examples = store.contents().unwrap().classes;
                let examples = examples.into_iter().flat_map(|class| class.examples);
                let same: Vec<_> = examples.map(|example| (example.id, example.embedding)).collect();
                store.set_model(&change(&own, &other), &same).unwrap();
            })
        };
        let mut broken = good.clone();
        let half = broken.len() / 2;
        broken[half..half + 4096].fill(0xa5);
        let bad = [
            with("short", example(&features[1..], picture())),
            with(
                "not a number",
                example(&vec![f32::NAN; features.len()], picture()),
            ),
            with(
                "!not of its picture",
                example(&vec![1.0; features.len()], picture()),
            ),
            with("not a picture", example(&features, b"a picture".to_vec())),
            with("a\u{7}b", example(&features, picture())),
            with("..", example(&features, picture())),
            (
                "the embeddings of another model",
                another_model(|_, other| other.clone()),
            ),
            (
                "a model under another number",
                another_model(|own, other| StoredModel {
                    id: other.id.clone(),
                    ..own.clone()
                }),
            ),
            (
                "too many classes",
                changed(folder, Some(&good), |store| {
                    for class in 0..30 {
                        store.add_class(&format!("more {class}")).unwrap();
                    }
                }),
            ),
            ("half a file", good[..half].to_vec()),
            ("all but the end", good[..good.len() - 4096].to_vec()),
            ("a damaged page", broken),
            ("nothing", Vec::new()),
            ("a text", b"no store at all".repeat(500)),
        ];
        let start = || Server::start(place.as_ref(), &["--max-classes", "30"]);
        let server = start();
        server.request("PUT", "/v1/store", &[], &good).expect(204);
        let before = (classes(&server), answer(&server));
        assert_eq!(before.0["classes"].as_array().unwrap().len(), 9);
        for (what, file) in &bad {
            let refused = server.request("PUT", "/v1/store", &[], file);
            assert_eq!(refused.status, 422, "{what}: {refused:?}");
            assert!(
                !String::from_utf8_lossy(&refused.body).contains("/uploaded"),
                "{what}"
            );
            assert_eq!((classes(&server), answer(&server)), before, "{what}");
        }
        server.kill();
        let server = start();
        assert_eq!((classes(&server), answer(&server)), before);
    });
}

/// An embedding as the store's model makes them.
fn changed_features(folder: &Path, file: &[u8]) -> Vec<f32> {
    let mut features = Vec::new();
    changed(folder, Some(file), |store| {
        let classes = store.contents().unwrap().classes;
        features.extend_from_slice(&classes[1].examples[0].embedding);
    });
    features
}

#[test]
fn an_uploaded_store_is_seen_by_the_other_servers() {
    on_both(|folder, place| {
        let [first, second] = [(); 2].map(|()| Server::start(place.as_ref(), &[]));
        first
            .request("PUT", "/v1/store", &[], &store_file(folder, 0..8))
            .expect(204);
        let started = Instant::now();
        while names(&second) != names(&first) {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "{}",
                classes(&second)
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(answer(&second)["label"], answer(&first)["label"]);
        // And it can be added to at once.
        second
            .picture("/v1/classes/none%20of%200/examples", &bar(true, 20))
            .expect(201);
    });
}

#[test]
fn a_server_killed_during_an_upload_has_all_of_the_old_store_or_all_of_the_new_one() {
    on_both(|folder, place| {
        let files = [store_file(folder, 0..40), store_file(folder, 30..55)];
        let mut server = Server::start(place.as_ref(), &[]);
        let mut longest = Duration::ZERO;
        let listed = files.each_ref().map(|file| {
            let started = Instant::now();
            server.request("PUT", "/v1/store", &[], file).expect(204);
            longest = longest.max(started.elapsed());
            classes(&server)
        });
        let kills = common::kills(20);
        let (mut holds, mut replaced) = (1, 0);
        for trial in 0..kills {
            let next = 1 - holds;
            let addr = server.addr;
            // From the first moment of an upload to one after its end.
            let delay = longest.mul_f64(1.2 * (trial as f64 + 0.5) / kills as f64);
            let answered = std::thread::scope(|scope| {
                let sent =
                    scope.spawn(|| ask(addr, "PUT", "/v1/store", "application/octet-stream", &files[next]));
                std::thread::sleep(delay);
                server.kill();
                sent.join().unwrap()
            });
            server = Server::start(place.as_ref(), &[]);
            let found = classes(&server);
            let Some(now) = listed.iter().position(|listed| *listed == found) else {
                panic!("killed after {delay:?}, neither store: {found}");
            };
            if answered.is_some_and(|answer| answer.status == 204) {
                assert_eq!(now, next, "what was acknowledged is gone");
            }
            assert!(answer(&server)["known"].is_boolean());
            replaced += u64::from(now == next);
            holds = now;
        }
        drop(server);
        let store = open(place).unwrap();
        for class in store.contents().unwrap().classes {
            for example in class.examples {
                assert!(store.picture(&class.name, example.hash).unwrap().is_some());
            }
        }
        eprintln!(
            "{kills} kills within uploads: the new store {replaced} times, the old one {} times, never a part",
            kills - replaced
        );
    });
}
