//! A store in one SQLite file.
//!
//! Write-ahead log with `synchronous = FULL`: a transaction that has ended is on the disk. Readers don't wait for
//! writers; writers take turns, each waiting up to ten seconds.

mod schema;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kshot::classifier::{Added, ContentHash};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::error::StoreError;
use crate::store::{
    Change, ClassStore, Contents, NewExample, Quotas, StoredClass, StoredExample, StoredModel, Usage,
    from_bytes, picture_of, to_bytes, whole,
};

const PUT_MODEL: &str = "INSERT INTO model VALUES (1, ?1, ?2, ?3)
                         ON CONFLICT (only) DO UPDATE SET id = ?1, name = ?2, bytes = ?3";

/// How long a writer waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// A store in one SQLite file.
pub struct SqliteStore {
    place: String,
    connection: Mutex<Connection>,
}

impl SqliteStore {
    /// Opens a file that is there.
    ///
    /// # Errors
    /// [`StoreError::Missing`], and [`StoreError::Unusable`] for a file that isn't a store, or is one of a newer version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError::Missing {
                place: path.display().to_string(),
            });
        }
        Self::open_or_create(path)
    }

    /// Opens a file, making an empty store where none is.
    ///
    /// # Errors
    /// As [`SqliteStore::open`], and a folder where nothing can be written.
    pub fn open_or_create(path: &Path) -> Result<Self, StoreError> {
        let place = path.display().to_string();
        let unusable = |problem: String| StoreError::Unusable {
            place: place.clone(),
            problem,
        };
        let refused = |error: rusqlite::Error| match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
                unusable("not a store, or a damaged one; give the file that `kshot enroll` made".to_owned())
            }
            Some(rusqlite::ErrorCode::DiskFull) => StoreError::Full { place: place.clone() },
            _ => unusable(format!("can't be opened as a store ({error})")),
        };
        if path.is_dir() {
            return Err(unusable(
                "a folder, and a store is one file; give the file's name".to_owned(),
            ));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(refused)?;
        connection.busy_timeout(PATIENCE).map_err(refused)?;
        let application: i32 = connection
            .pragma_query_value(None, "application_id", |row| row.get(0))
            .map_err(refused)?;
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(refused)?;
        if application != schema::APPLICATION_ID && tables > 0 {
            return Err(unusable(
                "an SQLite file of another program; give the file that `kshot enroll` made".to_owned(),
            ));
        }
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
                 PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;",
            )
            .map_err(refused)?;
        if let Err(version) = schema::migrate(&mut connection, schema::STEPS).map_err(refused)? {
            return Err(unusable(format!(
                "a store of version {version}, and this program knows {}; use the version that wrote it",
                schema::STEPS.len()
            )));
        }
        Ok(Self {
            place,
            connection: Mutex::new(connection),
        })
    }

    /// As [`SqliteStore::open`], of a file that comes from a stranger: its tables must be a store's own, without a view or
    /// a trigger beside them, and nothing in it may be damaged.
    ///
    /// # Errors
    /// As [`SqliteStore::open`], and [`StoreError::Unusable`] that says what is wrong.
    pub fn open_received(path: &Path) -> Result<Self, StoreError> {
        let store = Self::open(path)?;
        let wrong = {
            let connection = store.connection();
            schema::wrong(&connection).map_err(|error| store.failed(error))?
        };
        match wrong {
            None => Ok(store),
            Some(what) => Err(StoreError::Unusable {
                place: store.place,
                problem: format!(
                    "not a store, or a damaged one ({what}); give the file that `kshot enroll` made"
                ),
            }),
        }
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic in between has rolled its transaction back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, error: rusqlite::Error) -> StoreError {
        let place = self.place.clone();
        StoreError::Database {
            problem: match error.sqlite_error_code() {
                Some(rusqlite::ErrorCode::DatabaseBusy) => {
                    format!(
                        "another process has been writing for {} s; try again",
                        PATIENCE.as_secs()
                    )
                }
                Some(rusqlite::ErrorCode::DiskFull) => return StoreError::Full { place },
                _ => error.to_string(),
            },
            place,
        }
    }

    /// Runs a change as one transaction.
    fn write<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<(Change, T), StoreError> {
        let mut connection = self.connection();
        let failed = |error| self.failed(error);
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let before = change(&transaction).map_err(failed)?;
        let done = work(&transaction)?;
        let after = change(&transaction).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        Ok((Change { before, after }, done))
    }

    fn class_problem(&self, problem: String) -> StoreError {
        StoreError::Class {
            place: self.place.clone(),
            problem,
        }
    }

    fn class_id(&self, connection: &Connection, class: &str) -> Result<i64, StoreError> {
        let found = class_id(connection, class).map_err(|error| self.failed(error))?;
        found.ok_or_else(|| self.class_problem(format!("no class `{class}`")))
    }
}

impl ClassStore for SqliteStore {
    fn place(&self) -> &str {
        &self.place
    }

    fn model(&self) -> Result<Option<StoredModel>, StoreError> {
        let read = |row: &rusqlite::Row<'_>| {
            Ok(StoredModel {
                id: row.get(0)?,
                name: row.get(1)?,
                bytes: row.get(2)?,
            })
        };
        self.connection()
            .query_row("SELECT id, name, bytes FROM model", [], read)
            .optional()
            .map_err(|error| self.failed(error))
    }

    fn set_model(&self, model: &StoredModel, embeddings: &[(i64, Arc<[f32]>)]) -> Result<Change, StoreError> {
        let failed = |error| self.failed(error);
        let (change, ()) = self.write(|transaction| {
            transaction
                .execute(PUT_MODEL, params![model.id, model.name, model.bytes])
                .map_err(failed)?;
            let mut update = transaction
                .prepare("UPDATE examples SET embedding = ?2 WHERE id = ?1")
                .map_err(failed)?;
            let mut done = 0;
            for (id, embedding) in embeddings {
                done += update.execute(params![id, to_bytes(embedding)]).map_err(failed)?;
            }
            let examples = usage(transaction).map_err(failed)?.examples;
            if done as u64 != examples {
                return Err(self.class_problem(format!(
                    "{examples} examples, of which {done} have an embedding by the new model; the store has changed \
                     meanwhile, try again"
                )));
            }
            Ok(())
        })?;
        Ok(change)
    }

    fn change(&self) -> Result<u64, StoreError> {
        change(&self.connection()).map_err(|error| self.failed(error))
    }

    fn contents(&self) -> Result<Contents, StoreError> {
        let mut connection = self.connection();
        let failed = |error| self.failed(error);
        // One transaction: one moment.
        let transaction = connection.transaction().map_err(failed)?;
        let change = change(&transaction).map_err(failed)?;
        let model = transaction
            .query_row("SELECT id FROM model", [], |row| row.get(0))
            .optional()
            .map_err(failed)?;
        let mut classes: BTreeMap<i64, StoredClass> = BTreeMap::new();
        {
            let mut select = transaction
                .prepare("SELECT id, name, created FROM classes")
                .map_err(failed)?;
            let mut rows = select.query([]).map_err(failed)?;
            while let Some(row) = rows.next().map_err(failed)? {
                let class = StoredClass {
                    name: row.get(1).map_err(failed)?,
                    created: row.get(2).map_err(failed)?,
                    examples: Vec::new(),
                };
                classes.insert(row.get(0).map_err(failed)?, class);
            }
            let mut select = transaction
                .prepare("SELECT class_id, id, name, hash, embedding, added FROM examples ORDER BY id")
                .map_err(failed)?;
            let mut rows = select.query([]).map_err(failed)?;
            while let Some(row) = rows.next().map_err(failed)? {
                let name: String = row.get(2).map_err(failed)?;
                let bytes = row
                    .get_ref(4)
                    .and_then(|value| Ok(value.as_blob()?))
                    .map_err(failed)?;
                let embedding = from_bytes(bytes).ok_or_else(|| StoreError::Unusable {
                    place: self.place.clone(),
                    problem: format!("the embedding of example `{name}` is damaged; remove and add it again"),
                })?;
                if let Some(class) = classes.get_mut(&row.get(0).map_err(failed)?) {
                    class.examples.push(StoredExample {
                        id: row.get(1).map_err(failed)?,
                        name,
                        hash: ContentHash(row.get(3).map_err(failed)?),
                        embedding,
                        added: row.get(5).map_err(failed)?,
                    });
                }
            }
        }
        Ok(Contents {
            change,
            model,
            classes: classes.into_values().collect(),
        })
    }

    fn add_class(&self, class: &str) -> Result<Change, StoreError> {
        let failed = |error| self.failed(error);
        let (change, ()) = self.write(|transaction| {
            if class_id(transaction, class).map_err(failed)?.is_some() {
                return Err(self.class_problem(format!("class `{class}` is there already")));
            }
            let insert = "INSERT INTO classes (name, created) VALUES (?1, ?2)";
            transaction
                .execute(insert, params![class, now()])
                .map_err(failed)?;
            let quotas = quotas(transaction).map_err(failed)?;
            quotas.check(&self.place, class, 0, usage(transaction).map_err(failed)?)
        })?;
        Ok(change)
    }

    fn add(
        &self,
        model_id: &str,
        class: &str,
        examples: &[NewExample],
    ) -> Result<(Change, Vec<Added>), StoreError> {
        let failed = |error| self.failed(error);
        self.write(|transaction| {
            let found: Option<(String, String)> = transaction
                .query_row("SELECT id, name FROM model", [], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
                .map_err(failed)?;
            match found {
                Some((id, _)) if id == model_id => {}
                Some((id, name)) => {
                    return Err(StoreError::OtherModel {
                        place: self.place.clone(),
                        found: format!("{name} ({id})"),
                        wanted: model_id.to_owned(),
                    });
                }
                None => {
                    return Err(StoreError::NoModel {
                        place: self.place.clone(),
                    });
                }
            }
            let now = now();
            let quotas = quotas(transaction).map_err(failed)?;
            let id = class_id(transaction, class).map_err(failed)?;
            let id = match id {
                _ if examples.is_empty() => return Ok(Vec::new()),
                Some(id) => id,
                None => {
                    let insert = "INSERT INTO classes (name, created) VALUES (?1, ?2)";
                    transaction.execute(insert, params![class, now]).map_err(failed)?;
                    transaction.last_insert_rowid()
                }
            };
            let mut insert = transaction
                .prepare(
                    "INSERT INTO examples (class_id, name, hash, size, embedding, added) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                     ON CONFLICT (class_id, hash) DO NOTHING",
                )
                .map_err(failed)?;
            let mut insert_picture = transaction
                .prepare("INSERT INTO pictures (example_id, bytes) VALUES (?1, ?2)")
                .map_err(failed)?;
            let mut added = Vec::with_capacity(examples.len());
            for example in examples {
                let vector = to_bytes(&example.embedding);
                let size = example.picture.len() as i64;
                let values = params![id, example.name, example.hash.0, size, vector, now];
                if insert.execute(values).map_err(failed)? == 0 {
                    added.push(Added::Known);
                    continue;
                }
                let picture = params![transaction.last_insert_rowid(), example.picture];
                insert_picture.execute(picture).map_err(failed)?;
                added.push(Added::New);
            }
            if added.contains(&Added::New) {
                let count = "SELECT count(*) FROM examples WHERE class_id = ?1";
                let per_class: i64 = transaction.query_row(count, [id], |row| row.get(0)).map_err(failed)?;
                quotas.check(&self.place, class, per_class as u64, usage(transaction).map_err(failed)?)?;
            }
            Ok(added)
        })
    }

    fn rename_class(&self, from: &str, to: &str) -> Result<Change, StoreError> {
        let (change, ()) = self.write(|transaction| {
            let id = self.class_id(transaction, from)?;
            if from == to {
                return Ok(());
            }
            if class_id(transaction, to)
                .map_err(|error| self.failed(error))?
                .is_some()
            {
                return Err(self.class_problem(format!(
                    "class `{to}` is there already; remove it first, or choose another name for `{from}`"
                )));
            }
            transaction
                .execute("UPDATE classes SET name = ?2 WHERE id = ?1", params![id, to])
                .map_err(|error| self.failed(error))?;
            Ok(())
        })?;
        Ok(change)
    }

    fn remove_class(&self, class: &str) -> Result<Change, StoreError> {
        let (change, ()) = self.write(|transaction| {
            let id = self.class_id(transaction, class)?;
            transaction
                .execute("DELETE FROM classes WHERE id = ?1", [id])
                .map_err(|error| self.failed(error))?;
            Ok(())
        })?;
        Ok(change)
    }

    fn clear(&self) -> Result<Change, StoreError> {
        let (change, _) = self.write(|transaction| {
            transaction
                .execute("DELETE FROM classes", [])
                .map_err(|error| self.failed(error))
        })?;
        Ok(change)
    }

    fn remove_example(&self, class: &str, hash: ContentHash) -> Result<Change, StoreError> {
        let failed = |error| self.failed(error);
        let (change, ()) = self.write(|transaction| {
            let id = self.class_id(transaction, class)?;
            let delete = "DELETE FROM examples WHERE class_id = ?1 AND hash = ?2";
            if transaction.execute(delete, params![id, hash.0]).map_err(failed)? == 0 {
                return Err(self.class_problem(format!("class `{class}` has no example {hash}")));
            }
            Ok(())
        })?;
        Ok(change)
    }

    fn replace(&self, with: &dyn ClassStore) -> Result<Change, StoreError> {
        let failed = |error| self.failed(error);
        let (model, contents) = whole(with, |_| None, Ok)?;
        let (change, ()) = self.write(|transaction| {
            transaction.execute("DELETE FROM classes", []).map_err(failed)?;
            transaction
                .execute(PUT_MODEL, params![model.id, model.name, model.bytes])
                .map_err(failed)?;
            let insert_class = "INSERT INTO classes (name, created) VALUES (?1, ?2)";
            let mut insert_class = transaction.prepare(insert_class).map_err(failed)?;
            let insert = "INSERT INTO examples (class_id, name, hash, size, embedding, added) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let mut insert = transaction.prepare(insert).map_err(failed)?;
            let insert_picture = "INSERT INTO pictures (example_id, bytes) VALUES (?1, ?2)";
            let mut insert_picture = transaction.prepare(insert_picture).map_err(failed)?;
            for class in &contents.classes {
                let id = insert_class.insert(params![class.name, class.created]).map_err(failed)?;
                for example in &class.examples {
                    let picture = picture_of(with, &class.name, example.hash, &example.name)?;
                    let vector = to_bytes(&example.embedding);
                    let size = picture.len() as i64;
                    let values = params![id, example.name, example.hash.0, size, vector, example.added];
                    let number = insert.insert(values).map_err(failed)?;
                    insert_picture.execute(params![number, picture]).map_err(failed)?;
                }
            }
            let quotas = quotas(transaction).map_err(failed)?;
            let usage = usage(transaction).map_err(failed)?;
            contents
                .classes
                .iter()
                .try_for_each(|class| quotas.check(&self.place, &class.name, class.examples.len() as u64, usage))
        })?;
        Ok(change)
    }

    fn picture(&self, class: &str, hash: ContentHash) -> Result<Option<Vec<u8>>, StoreError> {
        let select = "SELECT pictures.bytes FROM pictures
                      JOIN examples ON examples.id = pictures.example_id
                      JOIN classes ON classes.id = examples.class_id
                      WHERE classes.name = ?1 AND examples.hash = ?2";
        self.connection()
            .query_row(select, params![class, hash.0], |row| row.get(0))
            .optional()
            .map_err(|error| self.failed(error))
    }

    fn quotas(&self) -> Result<Quotas, StoreError> {
        quotas(&self.connection()).map_err(|error| self.failed(error))
    }

    fn set_quotas(&self, new: Quotas) -> Result<(), StoreError> {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let values = [new.classes, new.per_class, new.examples, new.bytes].map(signed);
        let put = "INSERT INTO quotas VALUES (1, ?1, ?2, ?3, ?4)
                   ON CONFLICT (only) DO UPDATE SET classes = ?1, per_class = ?2, examples = ?3, bytes = ?4";
        let (_, ()) = self.write(|transaction| {
            transaction
                .execute(put, values)
                .map_err(|error| self.failed(error))?;
            Ok(())
        })?;
        Ok(())
    }

    fn usage(&self) -> Result<Usage, StoreError> {
        usage(&self.connection()).map_err(|error| self.failed(error))
    }
}

fn change(connection: &Connection) -> Result<u64, rusqlite::Error> {
    let number: i64 = connection.query_row("SELECT change FROM totals", [], |row| row.get(0))?;
    Ok(number as u64)
}

fn class_id(connection: &Connection, class: &str) -> Result<Option<i64>, rusqlite::Error> {
    let select = "SELECT id FROM classes WHERE name = ?1";
    connection.query_row(select, [class], |row| row.get(0)).optional()
}

fn usage(connection: &Connection) -> Result<Usage, rusqlite::Error> {
    connection.query_row("SELECT classes, examples, bytes FROM totals", [], |row| {
        Ok(Usage {
            classes: row.get::<_, i64>(0)? as u64,
            examples: row.get::<_, i64>(1)? as u64,
            bytes: row.get::<_, i64>(2)? as u64,
        })
    })
}

fn quotas(connection: &Connection) -> Result<Quotas, rusqlite::Error> {
    let select = "SELECT classes, per_class, examples, bytes FROM quotas";
    let found = connection.query_row(select, [], |row| {
        Ok(Quotas {
            classes: row.get::<_, i64>(0)? as u64,
            per_class: row.get::<_, i64>(1)? as u64,
            examples: row.get::<_, i64>(2)? as u64,
            bytes: row.get::<_, i64>(3)? as u64,
        })
    });
    Ok(found.optional()?.unwrap_or_default())
}

fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs() as i64)
}
