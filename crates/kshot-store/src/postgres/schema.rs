//! The tables, and how older databases become the newest.

use postgres::Client;

/// Step n makes a store of version n one of version n + 1. Steps are never changed once released, only added to.
pub const STEPS: &[&str] = &[
    // Triggers keep the totals, so that quotas and the change number cost nothing to read and no writer can forget them.
    "CREATE TABLE kshot.model (
         only_one integer PRIMARY KEY CHECK (only_one = 1),
         id text NOT NULL,
         name text NOT NULL,
         bytes bytea NOT NULL
     );
     CREATE TABLE kshot.classes (
         id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
         name text NOT NULL UNIQUE,
         created bigint NOT NULL
     );
     CREATE TABLE kshot.examples (
         id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
         class_id bigint NOT NULL REFERENCES kshot.classes (id) ON DELETE CASCADE,
         name text NOT NULL,
         hash bytea NOT NULL CHECK (length(hash) = 16),
         size bigint NOT NULL,
         embedding bytea NOT NULL,
         added bigint NOT NULL,
         UNIQUE (class_id, hash)
     );
     CREATE TABLE kshot.pictures (
         example_id bigint PRIMARY KEY REFERENCES kshot.examples (id) ON DELETE CASCADE,
         bytes bytea NOT NULL
     );
     CREATE TABLE kshot.totals (
         only_one integer PRIMARY KEY CHECK (only_one = 1),
         change bigint NOT NULL,
         classes bigint NOT NULL,
         examples bigint NOT NULL,
         bytes bigint NOT NULL
     );
     INSERT INTO kshot.totals VALUES (1, 0, 0, 0, 0);
     CREATE TABLE kshot.quotas (
         only_one integer PRIMARY KEY CHECK (only_one = 1),
         classes bigint NOT NULL,
         per_class bigint NOT NULL,
         examples bigint NOT NULL,
         bytes bigint NOT NULL
     );
     CREATE FUNCTION kshot.count() RETURNS trigger LANGUAGE plpgsql AS $$
     DECLARE
         sign bigint := CASE TG_OP WHEN 'INSERT' THEN 1 WHEN 'DELETE' THEN -1 ELSE 0 END;
         size bigint := 0;
     BEGIN
         IF TG_TABLE_NAME = 'examples' AND TG_OP = 'INSERT' THEN size := NEW.size; END IF;
         IF TG_TABLE_NAME = 'examples' AND TG_OP = 'DELETE' THEN size := OLD.size; END IF;
         UPDATE kshot.totals AS t SET
             change = t.change + 1,
             classes = t.classes + CASE TG_TABLE_NAME WHEN 'classes' THEN sign ELSE 0 END,
             examples = t.examples + CASE TG_TABLE_NAME WHEN 'examples' THEN sign ELSE 0 END,
             bytes = t.bytes + sign * size;
         RETURN NULL;
     END $$;
     CREATE TRIGGER count AFTER INSERT OR UPDATE OR DELETE ON kshot.classes
         FOR EACH ROW EXECUTE FUNCTION kshot.count();
     CREATE TRIGGER count AFTER INSERT OR UPDATE OR DELETE ON kshot.examples
         FOR EACH ROW EXECUTE FUNCTION kshot.count();
     CREATE TRIGGER count AFTER INSERT OR UPDATE ON kshot.model
         FOR EACH ROW EXECUTE FUNCTION kshot.count();",
    // A transaction that changes everything would leave a version of the one row of totals for each row that it changes,
    // and look through all of them for the next: it may set `kshot.recounted` and count once at its end.
    "CREATE OR REPLACE FUNCTION kshot.count() RETURNS trigger LANGUAGE plpgsql AS $$
     DECLARE
         sign bigint := CASE TG_OP WHEN 'INSERT' THEN 1 WHEN 'DELETE' THEN -1 ELSE 0 END;
         size bigint := 0;
     BEGIN
         IF current_setting('kshot.recounted', true) = 'on' THEN RETURN NULL; END IF;
         IF TG_TABLE_NAME = 'examples' AND TG_OP = 'INSERT' THEN size := NEW.size; END IF;
         IF TG_TABLE_NAME = 'examples' AND TG_OP = 'DELETE' THEN size := OLD.size; END IF;
         UPDATE kshot.totals AS t SET
             change = t.change + 1,
             classes = t.classes + CASE TG_TABLE_NAME WHEN 'classes' THEN sign ELSE 0 END,
             examples = t.examples + CASE TG_TABLE_NAME WHEN 'examples' THEN sign ELSE 0 END,
             bytes = t.bytes + sign * size;
         RETURN NULL;
     END $$;",
];

/// Brings a database to the newest version, all steps or none. Gives the version it had if that is newer.
pub fn migrate(client: &mut Client) -> Result<Result<(), i32>, postgres::Error> {
    let mut transaction = client.transaction()?;
    // Two programs that open a new store at once take turns.
    transaction.execute("SELECT pg_advisory_xact_lock(1802725487)", &[])?;
    transaction.batch_execute(
        "CREATE SCHEMA IF NOT EXISTS kshot;
         CREATE TABLE IF NOT EXISTS kshot.version (version integer NOT NULL);",
    )?;
    let found = transaction.query_opt("SELECT version FROM kshot.version", &[])?;
    let version: i32 = found.map_or(0, |row| row.get(0));
    let Some(steps) = usize::try_from(version)
        .ok()
        .and_then(|version| STEPS.get(version..))
    else {
        return Ok(Err(version));
    };
    for step in steps {
        transaction.batch_execute(step)?;
    }
    if !steps.is_empty() {
        transaction.execute("DELETE FROM kshot.version", &[])?;
        transaction.execute("INSERT INTO kshot.version VALUES ($1)", &[&(STEPS.len() as i32)])?;
    }
    transaction.commit()?;
    Ok(Ok(()))
}
