//! What is PostgreSQL's own: addresses, a server that goes away, changes that are announced.
#![cfg(all(unix, feature = "postgres"))]

mod common;

use std::time::{Duration, Instant};

use common::postgres::Server;
use common::{new_example, stored_model};
use kshot_store::{StoreError, open, open_or_create};

#[test]
fn a_database_without_a_store_is_not_changed_by_opening_it() {
    let Some(server) = Server::shared() else { return };
    let address = server.database();
    for _ in 0..2 {
        let error = open(&address).err().unwrap();
        assert!(matches!(error, StoreError::Missing { .. }), "{error}");
    }
    drop(open_or_create(&address).unwrap());
    open(&address).unwrap();
}

#[test]
fn an_error_names_the_place_and_never_the_password() {
    let unreachable = "postgres://someone:secret@127.0.0.1:1/none?connect_timeout=1";
    for (address, said) in [
        (unreachable, "can't be reached"),
        ("postgres://someone:secret@host:port/none", "write postgres://"),
    ] {
        let error = open(address).err().unwrap().to_string();
        assert!(error.contains(said) && !error.contains("secret"), "{error}");
    }
}

#[test]
fn a_store_of_a_newer_version_is_left_to_the_newer_program() {
    let Some(server) = Server::shared() else { return };
    let address = server.database();
    drop(open_or_create(&address).unwrap());
    postgres::Client::connect(&address, postgres::NoTls)
        .unwrap()
        .batch_execute("UPDATE kshot.version SET version = 99")
        .unwrap();
    let error = open(&address).err().unwrap().to_string();
    assert!(error.contains("version 99"), "{error}");
}

#[test]
fn a_change_is_heard_at_once() {
    let Some(server) = Server::shared() else { return };
    let address = server.database();
    let (first, second) = (open_or_create(&address).unwrap(), open(&address).unwrap());
    first.set_model(&stored_model("m"), &[]).unwrap();
    let mut watcher = second.watcher();
    // The first call connects.
    watcher.wait(Duration::from_secs(10));
    for number in 1..4 {
        let heard = std::thread::scope(|scope| {
            let heard = scope.spawn(|| {
                let started = Instant::now();
                watcher.wait(Duration::from_secs(30));
                started.elapsed()
            });
            first.add("m", "a", &[new_example(number)]).unwrap();
            heard.join().unwrap()
        });
        // Far from a limit of the machine: without the announcement it would be 30 s.
        assert!(heard < Duration::from_secs(15), "{heard:?}");
        assert_eq!(
            second.contents().unwrap().classes[0].examples.len(),
            usize::from(number)
        );
    }
}

#[test]
fn a_server_that_comes_back_is_used_again_and_has_lost_nothing() {
    let Some(mut server) = Server::start() else { return };
    let store = open_or_create(&server.database()).unwrap();
    let mut watcher = store.watcher();
    store.set_model(&stored_model("m"), &[]).unwrap();
    store.add("m", "a", &[new_example(1)]).unwrap();
    watcher.wait(Duration::from_millis(1));
    server.stop();
    // The first call may find the connection cut, the later ones find no server.
    for _ in 0..3 {
        let error = store.add("m", "a", &[new_example(2)]).unwrap_err();
        assert!(matches!(error, StoreError::Database { .. }), "{error}");
        watcher.wait(Duration::from_millis(10));
    }
    server.go_on();
    store.add("m", "b", &[new_example(3)]).unwrap();
    let usage = store.usage().unwrap();
    assert_eq!((usage.classes, usage.examples), (2, 2));
    watcher.wait(Duration::from_millis(10));
}
