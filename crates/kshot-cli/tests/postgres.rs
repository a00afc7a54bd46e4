//! Two servers in front of one PostgreSQL store.
#![cfg(unix)]

mod common;
#[path = "../../kshot-store/tests/common/postgres.rs"]
mod database;
mod server;

use std::time::{Duration, Instant};

use database::Server as Database;
use serde_json::{Value, json};
use server::{Server, bar};

fn classes(server: &Server) -> Value {
    server.get("/v1/classes").expect(200).json()
}

/// Asks until it is so, for longer than any machine needs.
fn wait_for(what: &str, mut so: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !so() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
    started.elapsed()
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
fn what_one_server_is_taught_the_other_knows_and_the_database_may_go_away() {
    let Some(mut database) = Database::start() else {
        return;
    };
    let address = database.database();
    let [first, second] = [(); 2].map(|()| Server::start(address.as_ref(), &[]));
    assert!(
        first.line.contains("a new store in postgres://"),
        "{}",
        first.line
    );
    first
        .json("POST", "/v1/classes", &json!({"name": "upright"}))
        .expect(201);
    first
        .picture("/v1/classes/upright/examples", &bar(true, 18))
        .expect(201);
    wait_for("the other server hears of the class", || {
        classes(&second)["classes"][0]["n_examples"] == 1
    });
    let answer = second.picture("/classify", &bar(true, 20)).expect(200).json();
    assert_eq!(answer["ranked"][0]["label"], "upright", "{answer}");

    database.stop();
    // What is known is recognised without the database; what can't be kept is refused.
    first.picture("/classify", &bar(true, 20)).expect(200);
    let refused = first.picture("/v1/classes/upright/examples", &bar(true, 22));
    assert!(refused.status >= 500, "{}", refused.status);
    database.go_on();
    wait_for("the first server has its database again", || {
        first
            .picture("/v1/classes/upright/examples", &bar(true, 22))
            .status
            == 201
    });
    wait_for("and the second hears of it", || {
        classes(&second)["classes"][0]["n_examples"] == 2
    });
}

#[test]
fn a_change_is_seen_by_the_other_server_within_a_second() {
    let Some(database) = Database::start() else {
        return;
    };
    let address = database.database();
    let [first, second] = [(); 2].map(|()| Server::start(address.as_ref(), &[]));
    let mut times = Vec::new();
    let mut seen = |what: &str, wanted: Value| {
        times.push(wait_for(what, || classes(&second)["classes"] == wanted));
    };
    for at in 0..15 {
        // A class without examples, its first example, its new name, and its end.
        first
            .json("POST", "/v1/classes", &json!({"name": "a"}))
            .expect(201);
        seen("a class", json!([{"name": "a", "n_examples": 0}]));
        first
            .picture("/v1/classes/a/examples", &bar(true, 8 + at))
            .expect(201);
        seen("an example", json!([{"name": "a", "n_examples": 1}]));
        first
            .json("PATCH", "/v1/classes/a", &json!({"name": "b"}))
            .expect(200);
        seen("a name", json!([{"name": "b", "n_examples": 1}]));
        first.request("DELETE", "/v1/classes/b", &[], b"").expect(204);
        seen("an end", json!([]));
    }
    let (worst, median) = (
        times.iter().max().copied().unwrap_or_default(),
        median(&mut times),
    );
    eprintln!(
        "{} changes seen by the other server after their answer: median {:.1} ms, worst {:.1} ms",
        times.len(),
        1000.0 * median.as_secs_f64(),
        1000.0 * worst.as_secs_f64()
    );
    // The worst is the machine's: it may have other work.
    assert!(median < Duration::from_secs(1), "{median:?}");
}
