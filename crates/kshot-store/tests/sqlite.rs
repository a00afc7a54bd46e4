//! What else may lie where a store is looked for.

mod common;

use std::fs;

use common::{new_example, stored_model};
use kshot_store::sqlite::SqliteStore;
use kshot_store::{StoreError, open, open_or_create};

#[test]
fn a_missing_store_is_not_made_by_opening_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none");
    let error = open(&path.display().to_string()).err().unwrap();
    assert!(matches!(error, StoreError::Missing { .. }), "{error}");
    assert!(!path.exists());
}

#[test]
fn what_is_no_store_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    fs::write(
        &text,
        "not a database, but a text that is long enough to be taken for one. ".repeat(100),
    )
    .unwrap();
    let foreign = folder.path().join("foreign");
    rusqlite::Connection::open(&foreign)
        .unwrap()
        .execute_batch("CREATE TABLE t (x)")
        .unwrap();
    let below_nothing = folder.path().join("no/such/folder/s");
    for path in [&text, &foreign, folder.path(), &below_nothing] {
        let before = fs::read(path).ok();
        let error = open_or_create(&path.display().to_string()).err().unwrap();
        assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
        assert!(
            error.to_string().starts_with(&path.display().to_string()),
            "{error}"
        );
        assert_eq!(fs::read(path).ok(), before);
    }
}

#[test]
fn a_store_of_a_newer_version_is_left_to_the_newer_program() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    drop(open_or_create(&path.display().to_string()).unwrap());
    rusqlite::Connection::open(&path)
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    let error = open(&path.display().to_string()).err().unwrap().to_string();
    assert!(error.contains("version 99"), "{error}");
}

#[test]
fn a_damaged_page_gives_an_error_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let place = path.display().to_string();
    let store = open_or_create(&place).unwrap();
    store.set_model(&stored_model("m"), &[]).unwrap();
    for number in 0..60 {
        store.add("m", "a", &[new_example(number)]).unwrap();
    }
    drop(store);
    let whole = fs::read(&path).unwrap();
    let mut refused = 0;
    for page in 1..whole.len() / 4096 {
        let mut bytes = whole.clone();
        bytes[page * 4096..(page + 1) * 4096].fill(0xa5);
        fs::write(&path, &bytes).unwrap();
        let _ = (
            fs::remove_file(folder.path().join("s-wal")),
            fs::remove_file(folder.path().join("s-shm")),
        );
        let read = open(&place).and_then(|store| {
            store.model()?;
            store.contents()?;
            store.usage()
        });
        refused += usize::from(read.is_err());
    }
    assert!(refused > 3, "{refused}");
}

#[test]
fn a_received_file_must_be_a_store_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let made = |change: &str| {
        let _ = fs::remove_file(&path);
        let store = open_or_create(&path.display().to_string()).unwrap();
        store.set_model(&stored_model("m"), &[]).unwrap();
        store.add_class("none").unwrap();
        store.add("m", "a", &[new_example(1), new_example(2)]).unwrap();
        drop(store);
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute_batch(change).unwrap();
        drop(connection);
        SqliteStore::open_received(&path).map(drop)
    };
    made("ANALYZE; VACUUM").unwrap();
    for (change, why) in [
        (
            "CREATE TRIGGER t AFTER DELETE ON classes BEGIN DELETE FROM examples; END",
            "tables",
        ),
        (
            "DROP TABLE quotas; CREATE VIEW quotas AS SELECT 1, 1, 1, 1",
            "tables",
        ),
        ("DROP TABLE totals", "tables"),
        (
            "PRAGMA foreign_keys = OFF; DELETE FROM classes WHERE name = 'a'",
            "of nothing",
        ),
        (
            "PRAGMA ignore_check_constraints = ON; UPDATE examples SET hash = x'00' WHERE id = 1",
            "contradict",
        ),
    ] {
        let error = made(change).unwrap_err();
        assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
        assert!(error.to_string().contains(why), "{change}: {error}");
    }
}
