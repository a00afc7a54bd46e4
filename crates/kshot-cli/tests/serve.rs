//! `kshot serve` as a process: its interface, and what it makes of requests that mean no good.

mod common;
mod server;

use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use server::{Server, bar, read_answer, teach};

fn start(folder: &Path, arguments: &[&str]) -> Server {
    Server::start(&folder.join("classes.kshot"), arguments)
}

fn recognise(server: &Server) -> Value {
    server.picture("/classify", &bar(true, 20)).expect(200).json()
}

/// A form with a file for each picture.
fn form(pictures: &[Vec<u8>], field: &str) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (index, picture) in pictures.iter().enumerate() {
        body.extend(format!("--xYz\r\ncontent-disposition: form-data; name=\"{field}\"; filename=\"p{index}.png\"\r\ncontent-type: image/png\r\n\r\n").bytes());
        body.extend(picture);
        body.extend(b"\r\n");
    }
    body.extend(b"--xYz--\r\n");
    ("multipart/form-data; boundary=xYz".to_owned(), body)
}

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
fn bodies_that_mean_no_good_get_a_problem_each_and_the_server_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let limits = [
        "--max-classes",
        "3",
        "--max-examples-per-class",
        "3",
        "--max-examples",
        "5",
        "--max-body",
        "200000",
        "--max-pixels",
        "1000000",
    ];
    let server = start(folder.path(), &limits);
    teach(&server);
    let json_type = [("content-type", "application/json")];
    for body in [
        "",
        "{",
        "[]",
        "{\"image\": 1}",
        "{\"image\": \"?\"}",
        "{\"images\": []}",
        "{}",
        "{\"image\": \"\"}",
    ] {
        server
            .request("POST", "/classify", &json_type, body.as_bytes())
            .problem(400, "bad-request");
    }
    let deep = "[".repeat(100_000);
    server
        .request("POST", "/classify", &json_type, deep.as_bytes())
        .problem(400, "bad-request");
    let form_type = |kind| [("content-type", kind)];
    server
        .request("POST", "/classify", &form_type("multipart/form-data"), b"x")
        .problem(400, "bad-request");
    server
        .request(
            "POST",
            "/classify",
            &form_type("multipart/form-data; boundary=a"),
            b"--a\r\n",
        )
        .problem(400, "bad-request");
    server
        .request("POST", "/classify", &form_type("text/plain"), b"x")
        .problem(415, "unsupported-media-type");
    server
        .picture("/classify", b"not a picture")
        .problem(422, "not-a-picture");
    let good = bar(true, 20);
    for length in [8, 20, 40, good.len() - 20] {
        server
            .picture("/classify", &good[..length])
            .problem(422, "not-a-picture");
    }
    // 10,000 x 10,000 pixels by its head alone, and really there in a few kilobytes.
    let mut head = good.clone();
    head[16..24].copy_from_slice(&[0, 0, 0x27, 0x10, 0, 0, 0x27, 0x10]);
    server.picture("/classify", &head).problem(422, "not-a-picture");
    let mut bomb = std::io::Cursor::new(Vec::new());
    image::GrayImage::new(6000, 6000)
        .write_to(&mut bomb, image::ImageFormat::Png)
        .unwrap();
    let detail = server
        .picture("/classify", &bomb.into_inner())
        .problem(422, "not-a-picture");
    assert!(detail.contains("6000x6000"), "{detail}");
    server
        .picture("/classify", &vec![0; 200_001])
        .problem(413, "too-large");
    server
        .request(
            "POST",
            "/classify",
            &[("content-length", "99999999999999999999")],
            b"",
        )
        .expect(400);

    server
        .json("POST", "/v1/classes", &json!({"name": " "}))
        .problem(422, "unusable");
    server
        .json("POST", "/v1/classes", &json!({"name": "a".repeat(201)}))
        .problem(422, "unusable");
    server
        .json("POST", "/v1/classes", &json!({"name": "x", "more": 1}))
        .problem(400, "bad-request");
    server
        .json("POST", "/v1/classes", &json!({"name": "upright"}))
        .problem(409, "conflict");
    server
        .request("POST", "/v1/classes", &[], b"name")
        .problem(415, "unsupported-media-type");
    server
        .json("POST", "/v1/classes", &json!({"name": "third"}))
        .expect(201);
    server
        .json("POST", "/v1/classes", &json!({"name": "fourth"}))
        .problem(422, "quota");
    let (kind, body) = form(&[bar(true, 10), bar(true, 30)], "images");
    server
        .request(
            "POST",
            "/v1/classes/upright/examples",
            &[("content-type", &kind)],
            &body,
        )
        .problem(422, "quota");
    server
        .request(
            "POST",
            "/v1/classes/third/examples",
            &[("content-type", &kind)],
            &body,
        )
        .problem(422, "quota");
    // A form of which one is no picture adds nothing.
    let (kind, body) = form(&[bar(true, 10), b"no".to_vec()], "images");
    server
        .request(
            "POST",
            "/v1/classes/third/examples",
            &[("content-type", &kind)],
            &body,
        )
        .problem(422, "not-a-picture");
    assert_eq!(server.get("/v1/classes/third").json()["n_examples"], 0);
    server
        .request("PUT", "/v1/store", &[], b"no store")
        .problem(422, "unusable");
    server.get("/v1/classes/%FF").problem(400, "bad-request");
    server
        .get("/v1/classify?top=1001")
        .problem(405, "method-not-allowed");
    server
        .picture("/v1/classify?top=1001", &good)
        .problem(400, "bad-request");
    server
        .picture("/v1/classify?top=-1", &good)
        .problem(400, "bad-request");
    server.get("/nothing").problem(404, "not-found");
    server
        .json(
            "POST",
            "/v1/samples",
            &json!({"n_classes": 1000, "n_examples": 1}),
        )
        .problem(422, "unusable");

    assert_eq!(recognise(&server)["ranked"][0]["label"], "upright");
    assert_eq!(server.get("/healthz").expect(200).body, b"ok\n");
    assert_eq!(server.get("/readyz").expect(200).body, b"ready\n");
    let metrics = String::from_utf8(server.get("/metrics").expect(200).body).unwrap();
    assert!(metrics.contains("kshot_images_classified_total 1\n"), "{metrics}");
    assert!(metrics.contains("kshot_examples 4\n"), "{metrics}");
}

#[test]
fn who_sends_slowly_is_cut_off_and_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &["--head-timeout", "1", "--body-timeout", "2"]);
    teach(&server);
    let mut slow_head = server.connect();
    slow_head
        .write_all(b"POST /classify HTTP/1.1\r\nhost: local")
        .unwrap();
    let mut slow_body = server.connect();
    slow_body
        .write_all(b"POST /classify HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\nabc")
        .unwrap();
    let start = Instant::now();
    recognise(&server);
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "others wait for a slow sender"
    );
    let mut nothing = Vec::new();
    let _ = slow_head.read_to_end(&mut nothing);
    let text = String::from_utf8_lossy(&nothing);
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 408"), "{text}");
    read_answer(&mut slow_body).problem(408, "too-slow");
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_token_is_asked_for_and_without_one_nobody_beyond_this_computer_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "correct-horse-battery\n").unwrap();
    let server = start(folder.path(), &["--token-file", token.to_str().unwrap()]);
    for path in ["/v1/classes", "/v1/store", "/metrics", "/v1/info"] {
        server.get(path).problem(401, "unauthorized");
        server
            .request(
                "GET",
                path,
                &[("authorization", "Bearer correct-horse-batterx")],
                b"",
            )
            .problem(401, "unauthorized");
        server
            .request(
                "GET",
                path,
                &[("authorization", "Bearer correct-horse-battery")],
                b"",
            )
            .expect(200);
    }
    server
        .picture("/classify", &bar(true, 20))
        .problem(401, "unauthorized");
    for path in ["/", "/app.js", "/docs", "/openapi.json", "/healthz"] {
        server.get(path).expect(200);
    }
    drop(server);
    let store = folder.path().join("s.kshot");
    let mut open = common::kshot();
    open.arg("serve").arg(&store).args(["--addr", "0.0.0.0:0"]);
    let error = common::fail(&mut open, 1);
    assert!(
        error.contains("--insecure-open") && error.contains("KSHOT_TOKEN"),
        "{error}"
    );
    assert!(!store.exists());
    std::fs::write(&token, "short").unwrap();
    let mut short = common::kshot();
    short.arg("serve").arg(&store).arg("--token-file").arg(&token);
    assert!(common::fail(&mut short, 1).contains("16 characters"));
}

#[test]
fn pages_of_other_sites_cannot_use_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &[]);
    let foreign = [
        ("origin", "http://example.org"),
        ("content-type", "application/json"),
    ];
    server
        .request("POST", "/v1/classes", &foreign, b"{\"name\": \"x\"}")
        .problem(403, "foreign-origin");
    let own = format!("http://{}", server.addr);
    let own = [("origin", own.as_str()), ("content-type", "application/json")];
    server
        .request("POST", "/v1/classes", &own, b"{\"name\": \"x\"}")
        .expect(201);
    let mut stream = server.connect();
    stream
        .write_all(b"GET /v1/classes HTTP/1.1\r\nhost: rebound.example.org\r\nconnection: close\r\n\r\n")
        .unwrap();
    read_answer(&mut stream).problem(403, "foreign-origin");
    let page = server.get("/").expect(200);
    let head = page.head.to_lowercase();
    assert!(
        head.contains("content-security-policy: default-src 'none'; script-src 'self'"),
        "{head}"
    );
    assert!(
        !head.contains("unsafe-inline") && head.contains("x-content-type-options: nosniff"),
        "{head}"
    );
}

#[test]
fn a_full_queue_sends_away_with_a_time_to_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &["--queue", "2"]);
    teach(&server);
    let (kind, body) = form(&[bar(true, 20), bar(true, 20), bar(true, 20)], "images");
    let answer = server.request("POST", "/classify", &[("content-type", &kind)], &body);
    assert!(
        answer.head.to_lowercase().contains("retry-after: 1"),
        "{}",
        answer.head
    );
    answer.problem(503, "busy");
    recognise(&server);
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
