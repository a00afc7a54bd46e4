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
        std::thread::sleep(Duration::from_millis(20));
    }
    started.elapsed()
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
    let taken = wait_for("the other server hears of the class", || {
        classes(&second)["classes"][0]["n_examples"] == 1
    });
    eprintln!("seen by the other server after {} ms", taken.as_millis());
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
