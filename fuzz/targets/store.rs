//! Stores that are sent to a server (`PUT /v1/store`): whole files, or a right one after changes that the bytes say.
//! What is refused must leave the classes as they were; what is taken must be served.
#![no_main]

use std::sync::OnceLock;

use kshot_fuzz::server::{Answer, ask, library};
use libfuzzer_sys::fuzz_target;
use rusqlite::types::Value;

/// What the changes may reach.
const COLUMNS: [(&str, &str); 16] = [
    ("classes", "name"),
    ("classes", "created"),
    ("classes", "id"),
    ("examples", "id"),
    ("examples", "class_id"),
    ("examples", "name"),
    ("examples", "hash"),
    ("examples", "size"),
    ("examples", "embedding"),
    ("pictures", "bytes"),
    ("pictures", "example_id"),
    ("model", "id"),
    ("model", "name"),
    ("model", "bytes"),
    ("totals", "change"),
    ("totals", "examples"),
];

fuzz_target!(|bytes: &[u8]| {
    static RIGHT: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
    let (right, listed) = RIGHT.get_or_init(|| {
        drop(library("right.kshot"));
        let right = std::fs::read(kshot_fuzz::folder().join("right.kshot")).expect("it was made");
        let answer = put(&right);
        assert_eq!(answer.status, 204, "{}", String::from_utf8_lossy(&answer.body));
        (right, classes())
    });
    let file = if bytes.starts_with(b"SQLite format 3\0") {
        bytes.to_vec()
    } else {
        changed(right, bytes)
    };
    let answer = put(&file);
    match answer.status {
        204 => {
            classes();
            let answer = ask(
                "POST",
                "/classify?place=true",
                b"image/png",
                &kshot_fuzz::drawing(),
            );
            // Classes without an example recognise nothing.
            assert!([200, 409].contains(&answer.status), "{}", answer.status);
            assert_eq!(ask("GET", "/v1/map", b"", b"").status, 200);
            assert_eq!(put(right).status, 204);
        }
        413 | 422 => {}
        other => panic!("{other}: {}", String::from_utf8_lossy(&answer.body)),
    }
    assert_eq!(classes(), *listed);
});

fn put(file: &[u8]) -> Answer {
    ask("PUT", "/v1/store", b"application/octet-stream", file)
}

fn classes() -> Vec<u8> {
    let answer = ask("GET", "/v1/classes", b"", b"");
    assert_eq!(answer.status, 200);
    answer.body
}

/// A right store after changes of four bytes and more each: which column, which row, a value's kind and length, the value.
fn changed(right: &[u8], mut bytes: &[u8]) -> Vec<u8> {
    let path = kshot_fuzz::write("changed.kshot", right);
    let connection = rusqlite::Connection::open(&path).expect("it can be opened");
    let lax = "PRAGMA journal_mode = DELETE; PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF;
               PRAGMA ignore_check_constraints = ON; BEGIN";
    connection.execute_batch(lax).expect("it is right");
    while let [column, row, kind, length, rest @ ..] = bytes {
        let (value, after) = rest.split_at(rest.len().min(usize::from(*length)));
        bytes = after;
        let (table, column) = COLUMNS[usize::from(*column) % COLUMNS.len()];
        let value = match kind % 4 {
            0 => Value::Text(String::from_utf8_lossy(value).into_owned()),
            1 => Value::Blob(value.to_vec()),
            2 => Value::Integer(value.iter().fold(0, |sum, &byte| (sum << 8) | i64::from(byte))),
            // Floats of one value, as many as a right embedding has and some more or fewer.
            _ => Value::Blob(f32::from(*row).to_le_bytes().repeat(usize::from(*length))),
        };
        let set = format!("UPDATE OR IGNORE {table} SET {column} = ?1 WHERE rowid = ?2");
        // What even SQLite refuses is no change.
        let _ = connection.execute(&set, rusqlite::params![value, row % 4]);
    }
    connection.execute_batch("COMMIT").expect("the folder has room");
    drop(connection);
    std::fs::read(&path).expect("it was written")
}
