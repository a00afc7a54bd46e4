//! `kshot serve` as a process: its interface, and what is left of it when it ends.

mod common;
mod server;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use server::{Server, bar, form, read_answer, recognise, start, teach};

#[test]
fn classes_are_taught_recognised_renamed_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &[]);
    assert!(server.line.contains("a new store"), "{}", server.line);
    server
        .picture("/classify", &bar(true, 20))
        .problem(409, "conflict");
    teach(&server);
    let listed = server.get("/v1/classes").expect(200).json();
    assert_eq!(
        listed,
        json!({"classes": [{"name": "upright", "n_examples": 2}, {"name": "level", "n_examples": 2}]})
    );

    let answer = recognise(&server);
    assert_eq!(answer["ranked"][0]["label"], "upright", "{answer}");
    for key in [
        "image",
        "label",
        "probability",
        "known",
        "none_probability",
        "ranked",
        "evidence",
    ] {
        assert!(answer.get(key).is_some(), "{key}: {answer}");
    }
    assert_eq!(answer["evidence"][0]["label"], "upright");
    let sum: f64 = answer["ranked"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["probability"].as_f64().unwrap())
        .sum();
    assert!((sum - 1.0).abs() < 1e-6);
    let placed = server
        .picture("/v1/classify?place=true&top=1&evidence=0", &bar(true, 20))
        .expect(200)
        .json();
    assert_eq!(placed["place"].as_array().unwrap().len(), 2);
    assert_eq!(
        (
            placed["ranked"].as_array().unwrap().len(),
            placed["evidence"].as_array().unwrap().len()
        ),
        (1, 0)
    );
    assert_eq!(
        server.get("/v1/map").expect(200).json()["points"]
            .as_array()
            .unwrap()
            .len(),
        4
    );

    let examples = server
        .get("/v1/classes/level/examples?pictures=true")
        .expect(200)
        .json();
    let first = &examples["examples"][0];
    assert!(
        first["picture"]
            .as_str()
            .unwrap()
            .starts_with("data:image/png;base64,")
    );
    assert_eq!(first["ink"], true);
    let id = first["id"].as_str().unwrap();
    let png = server
        .get(&format!("/v1/classes/level/examples/{id}"))
        .expect(200);
    assert_eq!(image::load_from_memory(&png.body).unwrap().width(), 40);

    server
        .json("PATCH", "/v1/classes/level", &json!({"name": "upright"}))
        .problem(409, "conflict");
    server
        .json("PATCH", "/v1/classes/level", &json!({"name": "flach & über"}))
        .expect(200);
    let moved = "/v1/classes/flach%20%26%20%C3%BCber";
    assert_eq!(server.get(moved).expect(200).json()["n_examples"], 2);
    server
        .request("DELETE", &format!("{moved}/examples/{id}"), &[], b"")
        .expect(204);
    assert_eq!(server.get(moved).expect(200).json()["n_examples"], 1);
    server.request("DELETE", moved, &[], b"").expect(204);
    server.get(moved).problem(404, "not-found");
    server.request("DELETE", "/v1/classes", &[], b"").expect(204);
    assert_eq!(server.get("/v1/classes").json(), json!({"classes": []}));
}

#[test]
fn pictures_come_raw_in_json_and_as_a_form_one_or_many() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &[]);
    teach(&server);
    let raw = server
        .request("POST", "/classify", &[], &bar(true, 20))
        .expect(200)
        .json();
    let text = base64(&bar(true, 20));
    let in_json = server
        .json("POST", "/classify", &json!({"image": text}))
        .expect(200)
        .json();
    let address = format!("data:image/png;base64,{text}");
    let many = server
        .json("POST", "/classify", &json!({"images": [address, text]}))
        .expect(200)
        .json();
    let (kind, body) = form(&[bar(true, 20)], "file");
    let as_form = server
        .request("POST", "/classify", &[("content-type", &kind)], &body)
        .expect(200)
        .json();
    assert_eq!(as_form["image"], "p0.png");
    for answer in [&in_json, &as_form, &many["results"][0], &many["results"][1]] {
        for key in ["label", "probability", "ranked", "evidence"] {
            assert_eq!(
                answer[key], raw[key],
                "a picture's answer depends on how it came: {key}"
            );
        }
    }
    let (kind, body) = form(&[bar(true, 20), bar(false, 20)], "images");
    let answers = server
        .request("POST", "/v1/classify", &[("content-type", &kind)], &body)
        .expect(200)
        .json();
    assert_eq!(answers["results"][1]["ranked"][0]["label"], "level");
}

#[test]
fn many_at_a_time_are_answered_as_one_is_alone() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &[]);
    teach(&server);
    let alone: Vec<Value> = (14..26)
        .map(|at| server.picture("/classify", &bar(true, at)).expect(200).json())
        .collect();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for (at, expected) in (14..26).zip(&alone) {
                    let answer = server.picture("/classify", &bar(true, at)).expect(200).json();
                    assert_eq!(
                        (&answer["label"], &answer["known"]),
                        (&expected["label"], &expected["known"])
                    );
                    // A batch of another size may be convolved in another order of sums.
                    let probability = |answer: &Value| answer["probability"].as_f64().unwrap();
                    assert!((probability(&answer) - probability(expected)).abs() < 1e-3);
                }
            });
        }
    });
}

#[test]
fn a_killed_server_has_what_it_acknowledged_and_a_terminated_one_answers_first() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &[]);
    teach(&server);
    let before = recognise(&server);
    server.kill();
    let server = start(folder.path(), &[]);
    assert!(server.line.contains("the classes"), "{}", server.line);
    assert_eq!(recognise(&server), before);

    // Half a request is under way when the signal comes; the other half still gets its answer.
    let picture = bar(true, 20);
    let mut stream = server.connect();
    let head = format!(
        "POST /classify HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\r\n",
        server.addr,
        picture.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&picture[..50]).unwrap();
    // An answered request on another connection shows that the first one has been read.
    recognise(&server);
    server.terminate();
    let start_of_wait = Instant::now();
    while std::net::TcpStream::connect(server.addr).is_ok() {
        assert!(
            start_of_wait.elapsed() < Duration::from_secs(20),
            "still accepting after the signal"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    stream.write_all(&picture[50..]).unwrap();
    let answer = read_answer(&mut stream).expect(200).json();
    assert_eq!(answer["ranked"], before["ranked"]);
    assert_eq!(server.wait(Duration::from_secs(30)), Some(0));
    let server = start(folder.path(), &[]);
    assert_eq!(recognise(&server), before);
}

#[test]
fn a_class_without_examples_outlives_a_kill_and_so_do_its_new_name_and_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &[]);
    for name in ["zero", "one", "two"] {
        server
            .json("POST", "/v1/classes", &json!({"name": name}))
            .expect(201);
    }
    server
        .json("PATCH", "/v1/classes/zero", &json!({"name": "nil"}))
        .expect(200);
    server.request("DELETE", "/v1/classes/one", &[], b"").expect(204);
    let before = server.get("/v1/classes").expect(200).json();
    assert_eq!(
        before,
        json!({"classes": [{"name": "nil", "n_examples": 0}, {"name": "two", "n_examples": 0}]})
    );
    server.kill();
    let server = start(folder.path(), &[]);
    assert_eq!(server.get("/v1/classes").expect(200).json(), before);
    server
        .picture("/classify", &bar(true, 20))
        .problem(409, "conflict");
    // From the shell too such a store is one.
    let file = folder.path().join("bar.png");
    std::fs::write(&file, bar(true, 20)).unwrap();
    let store = folder.path().join("classes.kshot");
    let error = common::fail(common::kshot().arg("classify").arg(&store).arg(&file), 1);
    assert!(error.contains("no class has an example"), "{error}");

    teach(&server);
    let examples = server.get("/v1/classes/level/examples").expect(200).json();
    for example in examples["examples"].as_array().unwrap() {
        let path = format!("/v1/classes/level/examples/{}", example["id"].as_str().unwrap());
        server.request("DELETE", &path, &[], b"").expect(204);
    }
    let before = server.get("/v1/classes").expect(200).json();
    assert_eq!(before["classes"][3], json!({"name": "level", "n_examples": 0}));
    let copy = server.get("/v1/store").expect(200).body;
    server.kill();
    let server = start(folder.path(), &[]);
    assert_eq!(server.get("/v1/classes").expect(200).json(), before);
    let answer = recognise(&server);
    assert_eq!(answer["ranked"].as_array().unwrap().len(), 1, "{answer}");
    assert_eq!(
        server.get("/v1/map").expect(200).json()["points"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    server.request("DELETE", "/v1/classes", &[], b"").expect(204);
    server.request("PUT", "/v1/store", &[], &copy).expect(204);
    assert_eq!(server.get("/v1/classes").expect(200).json(), before);
    // Enrolling fills it.
    let root = folder.path().join("pictures/nil");
    std::fs::create_dir_all(&root).unwrap();
    std::fs::write(root.join("bar.png"), bar(false, 20)).unwrap();
    common::succeed(
        common::kshot()
            .arg("enroll")
            .arg(&store)
            .arg(folder.path().join("pictures")),
    );
    let waiting = Instant::now();
    while server.get("/v1/classes/nil").expect(200).json()["n_examples"] != 1 {
        assert!(waiting.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_store_that_was_downloaded_works_elsewhere_and_replaces_everything() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &[]);
    teach(&server);
    let before = recognise(&server);
    let file = server.get("/v1/store").expect(200).body;
    let copy = folder.path().join("copy.kshot");
    std::fs::write(&copy, &file).unwrap();
    let other = Server::start(&copy, &[]);
    assert_eq!(recognise(&other), before);
    other
        .json("POST", "/v1/samples", &json!({"n_classes": 3, "n_examples": 2}))
        .expect(201);
    assert_eq!(
        other.get("/v1/classes").json()["classes"]
            .as_array()
            .unwrap()
            .len(),
        5
    );
    other.request("PUT", "/v1/store", &[], &file).expect(204);
    assert_eq!(recognise(&other), before);
    assert_eq!(other.get("/v1/classes").json(), server.get("/v1/classes").json());
    other
        .request("PUT", "/v1/store", &[], &file[..file.len() / 2])
        .problem(422, "unusable");
    assert_eq!(recognise(&other), before);
}

#[test]
fn without_a_store_it_makes_one_of_the_users_own_and_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = common::kshot();
    command
        .args(["serve", "--addr", "127.0.0.1:0"])
        .env("XDG_DATA_HOME", folder.path())
        .env("HOME", folder.path());
    let server = Server::spawn(command);
    let place = server.get("/v1/info").json()["store"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        server.line.contains(&place) && Path::new(&place).starts_with(folder.path()),
        "{}",
        server.line
    );
    assert!(Path::new(&place).is_file());
}

#[test]
fn every_route_is_in_the_document_and_every_operation_answers() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &[]);
    teach(&server);
    let document = server.get("/openapi.json").expect(200).json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() >= 13, "{:?}", paths.keys());
    for (path, methods) in paths {
        for method in methods
            .as_object()
            .unwrap()
            .keys()
            .filter(|method| *method != "parameters")
        {
            let address = path
                .replace("{class}", "upright")
                .replace("{example}", &"0".repeat(32));
            let answer = server.request(
                &method.to_uppercase(),
                &address,
                &[("content-type", "text/x-none")],
                b"",
            );
            assert!(
                ![404, 405, 500].contains(&answer.status) || path.contains("{example}"),
                "{method} {path}: {answer:?}"
            );
            if method == "delete" && ["/v1/classes", "/v1/classes/{class}"].contains(&path.as_str()) {
                teach_again(&server);
            }
        }
    }
}

fn teach_again(server: &Server) {
    server.request("DELETE", "/v1/classes", &[], b"").expect(204);
    teach(server);
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three
            .iter()
            .fold(0u32, |bits, &byte| (bits << 8) | u32::from(byte))
            << (8 * (3 - three.len()));
        for index in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * index)) as usize & 63];
            text.push(if index <= three.len() {
                char::from(letter)
            } else {
                '='
            });
        }
    }
    text
}
