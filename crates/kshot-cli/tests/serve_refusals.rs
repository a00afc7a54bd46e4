//! What `kshot serve` makes of requests that mean no good, and of more than it can take.

mod common;
mod server;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::json;
use server::{bar, form, read_answer, recognise, start, teach};

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
        "{\"image\": \"data:image/png,abc\"}",
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
fn text_in_a_form_is_passed_over_and_what_is_no_picture_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &[]);
    teach(&server);
    let field = |head: &str, body: &[u8]| {
        let head = format!("--xYz\r\ncontent-disposition: form-data; {head}\r\n\r\n");
        [head.as_bytes(), body, b"\r\n"].concat()
    };
    let note = field("name=\"note\"", b"hello");
    let file = field("name=\"file\"; filename=\"a.png\"", &bar(true, 20));
    let end = b"--xYz--\r\n".to_vec();
    let kind = [("content-type", "multipart/form-data; boundary=xYz")];
    // As `curl -F note=hello -F file=@a.png`.
    let body = [note.clone(), file, end.clone()].concat();
    let answer = server
        .request("POST", "/classify", &kind, &body)
        .expect(200)
        .json();
    assert_eq!(
        (&answer["image"], &answer["ranked"][0]["label"]),
        (&json!("a.png"), &json!("upright"))
    );
    let body = [note, end].concat();
    let detail = server
        .request("POST", "/classify", &kind, &body)
        .problem(400, "bad-request");
    assert!(
        detail.contains("`note`") && detail.contains("no file"),
        "{detail}"
    );
    let detail = server
        .json("POST", "/classify", &json!({"image": "data:image/png,abc"}))
        .problem(400, "bad-request");
    assert!(detail.contains("not in base64"), "{detail}");
}

#[test]
fn invented_methods_and_addresses_are_counted_together() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "correct-horse-battery\n").unwrap();
    let server = start(folder.path(), &["--token-file", token.to_str().unwrap()]);
    for number in 0..200 {
        let method = format!("M{number}{}", "X".repeat(20_000));
        let path = format!("/{number}{}", "y".repeat(5_000));
        server.request(&method, &path, &[], b"").problem(404, "not-found");
    }
    let key = [("authorization", "Bearer correct-horse-battery")];
    let metrics = server.request("GET", "/metrics", &key, b"").expect(200).body;
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(metrics.len() < 20_000, "{} bytes", metrics.len());
    let line = "kshot_http_requests_total{method=\"other\",path=\"other\",status=\"404\"} 200\n";
    assert!(metrics.contains(line), "{metrics}");
}

#[test]
fn one_connection_too_many_is_told_so_whatever_it_asks() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &["--max-connections", "2"]);
    let held = [server.connect(), server.connect()];
    for path in ["/v1/classes", "/readyz", "/healthz"] {
        let answer = server.get(path);
        assert!(answer.head.contains("Retry-After: 1"), "{}", answer.head);
        let detail = answer.problem(503, "busy");
        assert!(detail.contains("connections"), "{detail}");
    }
    drop(held);
    let start = Instant::now();
    while server.get("/healthz").status != 200 {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "the places are not given back"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn bodies_that_are_announced_and_do_not_come_take_no_memory_from_others() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &[]);
    teach(&server);
    let announcing: Vec<_> = (0..40)
        .map(|number| {
            let mut stream = server.connect();
            let length = match number % 2 {
                0 => "content-length: 33554432",
                _ => "transfer-encoding: chunked",
            };
            let head = format!("POST /classify HTTP/1.1\r\nhost: localhost\r\n{length}\r\n\r\n2\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    // They are under way: the server counts them among its connections.
    while !metrics(&server).contains("kshot_connections 41\n") {
        std::thread::sleep(Duration::from_millis(20));
    }
    for _ in 0..20 {
        recognise(&server);
    }
    drop(announcing);
}

#[test]
fn who_asks_for_much_and_reads_nothing_takes_little_memory_and_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &["--write-timeout", "2"]);
    teach(&server);
    // More than the network's own buffers take.
    for seed in 0..24 {
        let mut file = std::io::Cursor::new(Vec::new());
        server::noise(seed, 1000)
            .write_to(&mut file, image::ImageFormat::Png)
            .unwrap();
        server
            .picture("/v1/classes/upright/examples", &file.into_inner())
            .expect(201);
    }
    let whole = server.get("/v1/store").expect(200).body;
    assert!(whole.len() > 20 << 20, "{}", whole.len());
    let before = server.peak_memory_mib();
    let mut silent: Vec<_> = (0..60)
        .map(|_| {
            let mut stream = server.connect();
            stream
                .write_all(b"GET /v1/store HTTP/1.1\r\nhost: localhost\r\n\r\n")
                .unwrap();
            stream
        })
        .collect();
    // Meanwhile others get theirs, whole and at once.
    assert_eq!(server.get("/v1/store").expect(200).body.len(), whole.len());
    let start = Instant::now();
    recognise(&server);
    while !metrics(&server).contains("kshot_connections 1\n") {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "they are still connected"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let grown = server.peak_memory_mib() - before;
    assert!(grown < 64, "{grown} MiB more");
    let mut part = Vec::new();
    let _ = silent[0].read_to_end(&mut part);
    assert!(part.len() < whole.len(), "all of it was sent to who didn't read");
}

#[test]
fn stored_pictures_that_many_want_to_see_at_once_take_the_memory_of_a_few() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &[]);
    teach(&server);
    // 8 MB as pixels, little as a file.
    let flat = image::ImageBuffer::from_pixel(1000, 1000, image::Rgba([9_000u16, 60_000, 30_000, 65_535]));
    let mut file = std::io::Cursor::new(Vec::new());
    flat.write_to(&mut file, image::ImageFormat::Png).unwrap();
    let added = server
        .picture("/v1/classes/upright/examples", &file.into_inner())
        .expect(201);
    let id = added.json()["examples"][0]["id"].as_str().unwrap().to_owned();
    let one = format!("/v1/classes/upright/examples/{id}");
    let before = server.peak_memory_mib();
    std::thread::scope(|scope| {
        for _ in 0..60 {
            scope.spawn(|| server.get(&one).expect(200));
            scope.spawn(|| {
                server
                    .get("/v1/classes/upright/examples?pictures=true")
                    .expect(200)
            });
        }
    });
    let grown = server.peak_memory_mib() - before;
    // Threads keep some of what they had.
    assert!(grown < 200, "{grown} MiB more");
}

#[test]
fn where_to_listen_is_an_address_or_localhost() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = common::kshot();
    command
        .arg("serve")
        .arg(folder.path().join("s"))
        .args(["--addr", "localhost:0"]);
    let server = server::Server::spawn(command);
    assert!(server.addr.ip().is_loopback() && server.get("/healthz").status == 200);
    for address in ["example.org:80", "8080", "localhost"] {
        let error = common::fail(common::kshot().args(["serve", "--addr", address]), 2);
        assert!(
            error.contains("give an IP address and a port, as in 127.0.0.1:8080"),
            "{error}"
        );
    }
}

#[test]
fn a_store_beyond_the_limit_is_refused_and_one_of_any_length_within_it_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &["--max-body", "100000", "--max-store", "2000000"]);
    teach(&server);
    let store = server.get("/v1/store").expect(200).body;
    assert!((100_000..2_000_000).contains(&store.len()), "{}", store.len());
    server.request("PUT", "/v1/store", &[], &store).expect(204);
    server
        .request("PUT", "/v1/store", &[], &[store, vec![0; 2_000_000]].concat())
        .problem(413, "too-large");
    recognise(&server);
}

fn metrics(server: &server::Server) -> String {
    String::from_utf8(server.get("/metrics").expect(200).body).unwrap()
}
