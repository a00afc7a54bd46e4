//! The tables, and how older files become the newest.

use rusqlite::{Connection, TransactionBehavior};

/// `ksho` in ASCII: tells a store from other SQLite files.
pub const APPLICATION_ID: i32 = 0x6b73_686f;

/// Step n makes a file of version n one of version n + 1. Steps are never changed once released, only added to.
pub const STEPS: &[&str] = &[
    // Triggers keep the totals, so that quotas and the change number cost nothing to read and no writer can forget them.
    "CREATE TABLE model (
         only INTEGER PRIMARY KEY CHECK (only = 1),
         id TEXT NOT NULL,
         name TEXT NOT NULL,
         bytes BLOB NOT NULL
     ) STRICT;
     CREATE TABLE classes (
         id INTEGER PRIMARY KEY AUTOINCREMENT,
         name TEXT NOT NULL UNIQUE,
         created INTEGER NOT NULL
     ) STRICT;
     CREATE TABLE examples (
         id INTEGER PRIMARY KEY AUTOINCREMENT,
         class_id INTEGER NOT NULL REFERENCES classes (id) ON DELETE CASCADE,
         name TEXT NOT NULL,
         hash BLOB NOT NULL CHECK (length(hash) = 16),
         size INTEGER NOT NULL,
         embedding BLOB NOT NULL,
         added INTEGER NOT NULL,
         UNIQUE (class_id, hash)
     ) STRICT;
     CREATE TABLE pictures (
         example_id INTEGER PRIMARY KEY REFERENCES examples (id) ON DELETE CASCADE,
         bytes BLOB NOT NULL
     ) STRICT;
     CREATE TABLE totals (
         only INTEGER PRIMARY KEY CHECK (only = 1),
         change INTEGER NOT NULL,
         classes INTEGER NOT NULL,
         examples INTEGER NOT NULL,
         bytes INTEGER NOT NULL
     ) STRICT;
     INSERT INTO totals VALUES (1, 0, 0, 0, 0);
     CREATE TABLE quotas (
         only INTEGER PRIMARY KEY CHECK (only = 1),
         classes INTEGER NOT NULL,
         per_class INTEGER NOT NULL,
         examples INTEGER NOT NULL,
         bytes INTEGER NOT NULL
     ) STRICT;
     CREATE TRIGGER class_in AFTER INSERT ON classes BEGIN
         UPDATE totals SET change = change + 1, classes = classes + 1;
     END;
     CREATE TRIGGER class_changed AFTER UPDATE ON classes BEGIN
         UPDATE totals SET change = change + 1;
     END;
     CREATE TRIGGER class_out AFTER DELETE ON classes BEGIN
         UPDATE totals SET change = change + 1, classes = classes - 1;
     END;
     CREATE TRIGGER example_in AFTER INSERT ON examples BEGIN
         UPDATE totals SET change = change + 1, examples = examples + 1, bytes = bytes + new.size;
     END;
     CREATE TRIGGER example_changed AFTER UPDATE ON examples BEGIN
         UPDATE totals SET change = change + 1;
     END;
     CREATE TRIGGER example_out AFTER DELETE ON examples BEGIN
         UPDATE totals SET change = change + 1, examples = examples - 1, bytes = bytes - old.size;
     END;
     CREATE TRIGGER model_in AFTER INSERT ON model BEGIN
         UPDATE totals SET change = change + 1;
     END;
     CREATE TRIGGER model_changed AFTER UPDATE ON model BEGIN
         UPDATE totals SET change = change + 1;
     END;",
];

/// Brings a file from its version to that of `steps`, each step whole or not at all. Gives the version it had if that is
/// newer.
pub fn migrate(connection: &mut Connection, steps: &[&str]) -> Result<Result<(), i64>, rusqlite::Error> {
    loop {
        // Immediate: two processes that open a new store at once take turns.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let Some(step) = usize::try_from(version)
            .ok()
            .and_then(|version| steps.get(version))
        else {
            let newest = steps.len() as i64;
            return Ok(if version == newest { Ok(()) } else { Err(version) });
        };
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", version + 1)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.commit()?;
    }
}

/// What is wrong with a file of the newest version: tables that aren't the ones above, or damage. A file that is only opened
/// isn't looked at so closely, which takes as long as reading all of it.
pub fn wrong(connection: &Connection) -> Result<Option<&'static str>, rusqlite::Error> {
    let mut right = Connection::open_in_memory()?;
    // A fresh one has the newest version.
    let _ = migrate(&mut right, STEPS)?;
    if definitions(connection)? != definitions(&right)? {
        return Ok(Some("its tables are others"));
    }
    let sound: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if sound != "ok" {
        return Ok(Some("its pages contradict each other"));
    }
    let orphan = connection.prepare("PRAGMA foreign_key_check")?.exists([])?;
    Ok(orphan.then_some("it has examples or pictures of nothing"))
}

/// Every table, index, trigger and view as it was defined.
fn definitions(connection: &Connection) -> Result<Vec<[Option<String>; 4]>, rusqlite::Error> {
    // SQLite's own statistics come and go.
    let select = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%' ORDER BY type, name";
    let mut select = connection.prepare(select)?;
    let read = |row: &rusqlite::Row<'_>| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]);
    select.query_map([], read)?.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_file_becomes_the_newest_and_keeps_what_it_holds() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, STEPS).unwrap().unwrap();
        connection
            .execute("INSERT INTO classes (name, created) VALUES ('a', 1)", [])
            .unwrap();
        let mut steps = STEPS.to_vec();
        steps.push("ALTER TABLE classes ADD COLUMN note TEXT NOT NULL DEFAULT 'none'");
        migrate(&mut connection, &steps).unwrap().unwrap();
        let read = "SELECT name || note FROM classes";
        let text: String = connection.query_row(read, [], |row| row.get(0)).unwrap();
        assert_eq!(text, "anone");
        // What is newer than the program is left alone.
        assert_eq!(
            migrate(&mut connection, STEPS).unwrap(),
            Err(STEPS.len() as i64 + 1)
        );
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_before_it() {
        let mut connection = Connection::open_in_memory().unwrap();
        let steps = [STEPS[0], "CREATE TABLE half (x); CREATE TABLE classes (y);"];
        assert!(migrate(&mut connection, &steps).is_err());
        let version: i64 = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap();
        let halves = "SELECT count(*) FROM sqlite_schema WHERE name = 'half'";
        let halves: i64 = connection.query_row(halves, [], |row| row.get(0)).unwrap();
        assert_eq!((version, halves), (1, 0));
    }
}
