//! A store in a database of a PostgreSQL server, for several kshot servers on one store.
//!
//! The tables lie in a schema of their own, `kshot`. Writers take turns by a lock on one row; a change that has ended is
//! on the server's disk. Every change is announced (`NOTIFY kshot`), so that other holders see it at once. A connection
//! that is lost is made anew at the next call: what had not been answered is an error, and whether it was done shows in
//! [`ClassStore::change`].

mod address;
mod connection;
mod listener;
mod schema;
mod tls;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use kshot::classifier::{Added, ContentHash};
use postgres::fallible_iterator::FallibleIterator;
use postgres::{Client, GenericClient, IsolationLevel, Transaction};

use crate::error::StoreError;
use crate::store::{
    Change, ClassStore, Contents, NewExample, Quotas, StoredClass, StoredExample, StoredModel, Usage,
    Watcher, from_bytes, picture_of, to_bytes, whole,
};
use address::Address;
use connection::Connection;
use listener::Listener;

/// What changes are announced under.
const CHANNEL: &str = "kshot";

const PUT_MODEL: &str = "INSERT INTO kshot.model VALUES (1, $1, $2, $3)
                         ON CONFLICT (only_one) DO UPDATE SET id = $1, name = $2, bytes = $3";
const INSERT_CLASS: &str = "INSERT INTO kshot.classes (name, created) VALUES ($1, $2) RETURNING id";
const INSERT_PICTURE: &str = "INSERT INTO kshot.pictures (example_id, bytes) VALUES ($1, $2)";

/// A store in a PostgreSQL database.
pub struct PostgresStore {
    connection: Connection,
}

impl PostgresStore {
    /// Opens a store that is there, by an address like `postgres://user:password@host/database?sslmode=verify-full`.
    ///
    /// `sslmode` is what PostgreSQL's own programs make of it: `disable`, `prefer` (encrypted where the server can be; the
    /// default), `require` (encrypted), `verify-ca` (by a certificate that is trusted), `verify-full` (and that is the
    /// host's). `sslrootcert` names the file (PEM) with the certificates that are trusted; else, or for `system`, those of
    /// the operating system are.
    ///
    /// # Errors
    /// [`StoreError::Missing`] where no store is in the database, and as [`PostgresStore::open_or_create`].
    pub fn open(address: &str) -> Result<Self, StoreError> {
        let store = Self::at(address)?;
        let found = store
            .with(|client| client.query_opt("SELECT 1 FROM pg_namespace WHERE nspname = 'kshot'", &[]))?;
        if found.is_none() {
            return Err(StoreError::Missing {
                place: store.place_owned(),
            });
        }
        store.migrated()
    }

    /// As [`PostgresStore::open`], making an empty store where none is.
    ///
    /// # Errors
    /// An address that can't be read, a server that doesn't answer, and a store of a newer version.
    pub fn open_or_create(address: &str) -> Result<Self, StoreError> {
        Self::at(address)?.migrated()
    }

    fn at(address: &str) -> Result<Self, StoreError> {
        Ok(Self {
            connection: Connection::to(Address::parse(address)?),
        })
    }

    fn migrated(self) -> Result<Self, StoreError> {
        match self.with(schema::migrate)? {
            Ok(()) => Ok(self),
            Err(version) => Err(StoreError::Unusable {
                place: self.place_owned(),
                problem: format!(
                    "a store of version {version}, and this program knows {}; use the version that wrote it",
                    schema::STEPS.len()
                ),
            }),
        }
    }

    fn with<T: Send>(
        &self,
        work: impl FnOnce(&mut Client) -> Result<T, postgres::Error> + Send,
    ) -> Result<T, StoreError> {
        self.attempt(|client| work(client).map_err(|error| self.failed(&error)))
    }

    fn attempt<T: Send>(
        &self,
        work: impl FnOnce(&mut Client) -> Result<T, StoreError> + Send,
    ) -> Result<T, StoreError> {
        self.connection.attempt(work)
    }

    fn failed(&self, error: &postgres::Error) -> StoreError {
        self.connection.address().failed(error)
    }

    fn place_owned(&self) -> String {
        self.connection.address().place().to_owned()
    }

    /// Runs a change as one transaction and announces it.
    fn write<T: Send>(
        &self,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<T, StoreError> + Send,
    ) -> Result<(Change, T), StoreError> {
        self.attempt(|client| {
            let failed = |error: postgres::Error| self.failed(&error);
            let mut transaction = client.transaction().map_err(failed)?;
            // One row for all writers to wait at: they take turns.
            let before = transaction
                .query_one("SELECT change FROM kshot.totals FOR UPDATE", &[])
                .map_err(failed)?
                .get::<_, i64>(0) as u64;
            let done = work(&mut transaction)?;
            let after = change(&mut transaction).map_err(failed)?;
            if after != before {
                transaction
                    .execute("SELECT pg_notify($1, $2)", &[&CHANNEL, &after.to_string()])
                    .map_err(failed)?;
            }
            transaction.commit().map_err(failed)?;
            Ok((Change { before, after }, done))
        })
    }

    fn class_problem(&self, problem: String) -> StoreError {
        StoreError::Class {
            place: self.place_owned(),
            problem,
        }
    }

    fn class_id(&self, transaction: &mut Transaction<'_>, class: &str) -> Result<i64, StoreError> {
        let found = class_id(transaction, class).map_err(|error| self.failed(&error))?;
        found.ok_or_else(|| self.class_problem(format!("no class `{class}`")))
    }
}

impl ClassStore for PostgresStore {
    fn place(&self) -> &str {
        self.connection.address().place()
    }

    fn watcher(&self) -> Box<dyn Watcher> {
        Box::new(Listener::at(self.connection.address().clone()))
    }

    fn model(&self) -> Result<Option<StoredModel>, StoreError> {
        let row = self.with(|client| client.query_opt("SELECT id, name, bytes FROM kshot.model", &[]))?;
        Ok(row.map(|row| StoredModel {
            id: row.get(0),
            name: row.get(1),
            bytes: row.get(2),
        }))
    }

    fn set_model(&self, model: &StoredModel, embeddings: &[(i64, Arc<[f32]>)]) -> Result<Change, StoreError> {
        let failed = |error: postgres::Error| self.failed(&error);
        let (change, ()) = self.write(|transaction| {
            transaction
                .execute(PUT_MODEL, &[&model.id, &model.name, &model.bytes])
                .map_err(failed)?;
            let update = transaction
                .prepare("UPDATE kshot.examples SET embedding = $2 WHERE id = $1")
                .map_err(failed)?;
            let mut done = 0;
            for (id, embedding) in embeddings {
                done += transaction
                    .execute(&update, &[id, &to_bytes(embedding)])
                    .map_err(failed)?;
            }
            let examples = usage(transaction).map_err(failed)?.examples;
            if done != examples {
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
        self.with(change)
    }

    fn contents(&self) -> Result<Contents, StoreError> {
        self.attempt(|client| {
            let failed = |error: postgres::Error| self.failed(&error);
            // One snapshot: one moment.
            let mut transaction = client
                .build_transaction()
                .isolation_level(IsolationLevel::RepeatableRead)
                .read_only(true)
                .start()
                .map_err(failed)?;
            let change = change(&mut transaction).map_err(failed)?;
            let model = transaction
                .query_opt("SELECT id FROM kshot.model", &[])
                .map_err(failed)?;
            let rows = transaction
                .query("SELECT id, name, created FROM kshot.classes", &[])
                .map_err(failed)?;
            let mut classes: BTreeMap<i64, StoredClass> = rows
                .iter()
                .map(|row| {
                    let class = StoredClass {
                        name: row.get(1),
                        created: row.get(2),
                        examples: Vec::new(),
                    };
                    (row.get(0), class)
                })
                .collect();
            let select = "SELECT class_id, id, name, hash, embedding, added FROM kshot.examples ORDER BY id";
            let no_parameters: [&str; 0] = [];
            let mut rows = transaction.query_raw(select, no_parameters).map_err(failed)?;
            while let Some(row) = rows.next().map_err(failed)? {
                let name: String = row.get(2);
                let damaged = || StoreError::Unusable {
                    place: self.place_owned(),
                    problem: format!("the embedding of example `{name}` is damaged; remove and add it again"),
                };
                let embedding = from_bytes(row.get(4)).ok_or_else(damaged)?;
                let hash = <[u8; 16]>::try_from(row.get::<_, &[u8]>(3)).map_err(|_| damaged())?;
                if let Some(class) = classes.get_mut(&row.get(0)) {
                    class.examples.push(StoredExample {
                        id: row.get(1),
                        hash: ContentHash(hash),
                        embedding,
                        added: row.get(5),
                        name,
                    });
                }
            }
            Ok(Contents {
                change,
                model: model.map(|row| row.get(0)),
                classes: classes.into_values().collect(),
            })
        })
    }

    fn add_class(&self, class: &str) -> Result<Change, StoreError> {
        let failed = |error: postgres::Error| self.failed(&error);
        let (change, ()) = self.write(|transaction| {
            if class_id(transaction, class).map_err(failed)?.is_some() {
                return Err(self.class_problem(format!("class `{class}` is there already")));
            }
            transaction
                .query_one(INSERT_CLASS, &[&class, &now()])
                .map_err(failed)?;
            let quotas = quotas(transaction).map_err(failed)?;
            quotas.check(self.place(), class, 0, usage(transaction).map_err(failed)?)
        })?;
        Ok(change)
    }

    fn add(
        &self,
        model_id: &str,
        class: &str,
        examples: &[NewExample],
    ) -> Result<(Change, Vec<Added>), StoreError> {
        let failed = |error: postgres::Error| self.failed(&error);
        self.write(|transaction| {
            let found = transaction
                .query_opt("SELECT id, name FROM kshot.model", &[])
                .map_err(failed)?;
            match found.map(|row| (row.get::<_, String>(0), row.get::<_, String>(1))) {
                Some((id, _)) if id == model_id => {}
                Some((id, name)) => {
                    return Err(StoreError::OtherModel {
                        place: self.place_owned(),
                        found: format!("{name} ({id})"),
                        wanted: model_id.to_owned(),
                    });
                }
                None => {
                    return Err(StoreError::NoModel {
                        place: self.place_owned(),
                    });
                }
            }
            if examples.is_empty() {
                return Ok(Vec::new());
            }
            let now = now();
            let quotas = quotas(transaction).map_err(failed)?;
            let id = match class_id(transaction, class).map_err(failed)? {
                Some(id) => id,
                None => transaction
                    .query_one(INSERT_CLASS, &[&class, &now])
                    .map_err(failed)?
                    .get(0),
            };
            let insert = transaction
                .prepare(
                    "INSERT INTO kshot.examples (class_id, name, hash, size, embedding, added)
                     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (class_id, hash) DO NOTHING RETURNING id",
                )
                .map_err(failed)?;
            let insert_picture = transaction.prepare(INSERT_PICTURE).map_err(failed)?;
            let mut added = Vec::with_capacity(examples.len());
            for example in examples {
                let vector = to_bytes(&example.embedding);
                let size = example.picture.len() as i64;
                let hash = &example.hash.0[..];
                let row = transaction
                    .query_opt(&insert, &[&id, &example.name, &hash, &size, &vector, &now])
                    .map_err(failed)?;
                let Some(row) = row else {
                    added.push(Added::Known);
                    continue;
                };
                let number: i64 = row.get(0);
                transaction
                    .execute(&insert_picture, &[&number, &example.picture])
                    .map_err(failed)?;
                added.push(Added::New);
            }
            if added.contains(&Added::New) {
                let per_class: i64 = transaction
                    .query_one("SELECT count(*) FROM kshot.examples WHERE class_id = $1", &[&id])
                    .map_err(failed)?
                    .get(0);
                let total = usage(transaction).map_err(failed)?;
                quotas.check(self.place(), class, per_class as u64, total)?;
            }
            Ok(added)
        })
    }

    fn rename_class(&self, from: &str, to: &str) -> Result<Change, StoreError> {
        let failed = |error: postgres::Error| self.failed(&error);
        let (change, ()) = self.write(|transaction| {
            let id = self.class_id(transaction, from)?;
            if from == to {
                return Ok(());
            }
            if class_id(transaction, to).map_err(failed)?.is_some() {
                return Err(self.class_problem(format!(
                    "class `{to}` is there already; remove it first, or choose another name for `{from}`"
                )));
            }
            transaction
                .execute("UPDATE kshot.classes SET name = $2 WHERE id = $1", &[&id, &to])
                .map_err(failed)?;
            Ok(())
        })?;
        Ok(change)
    }

    fn remove_class(&self, class: &str) -> Result<Change, StoreError> {
        let (change, ()) = self.write(|transaction| {
            let id = self.class_id(transaction, class)?;
            transaction
                .execute("DELETE FROM kshot.classes WHERE id = $1", &[&id])
                .map_err(|error| self.failed(&error))?;
            Ok(())
        })?;
        Ok(change)
    }

    fn clear(&self) -> Result<Change, StoreError> {
        let (change, ()) = self.write(|transaction| {
            begin_anew(transaction)
                .and_then(|()| recount(transaction))
                .map_err(|error| self.failed(&error))
        })?;
        Ok(change)
    }

    fn remove_example(&self, class: &str, hash: ContentHash) -> Result<Change, StoreError> {
        let failed = |error: postgres::Error| self.failed(&error);
        let (change, ()) = self.write(|transaction| {
            let id = self.class_id(transaction, class)?;
            let delete = "DELETE FROM kshot.examples WHERE class_id = $1 AND hash = $2";
            if transaction
                .execute(delete, &[&id, &&hash.0[..]])
                .map_err(failed)?
                == 0
            {
                return Err(self.class_problem(format!("class `{class}` has no example {hash}")));
            }
            Ok(())
        })?;
        Ok(change)
    }

    fn replace(&self, with: &dyn ClassStore) -> Result<Change, StoreError> {
        let failed = |error: postgres::Error| self.failed(&error);
        let (model, contents) = whole(with, |_| None, Ok)?;
        let (change, ()) = self.write(|transaction| {
            begin_anew(transaction).map_err(failed)?;
            transaction
                .execute(PUT_MODEL, &[&model.id, &model.name, &model.bytes])
                .map_err(failed)?;
            let insert = transaction
                .prepare(
                    "INSERT INTO kshot.examples (class_id, name, hash, size, embedding, added)
                     VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
                )
                .map_err(failed)?;
            let insert_picture = transaction.prepare(INSERT_PICTURE).map_err(failed)?;
            for class in &contents.classes {
                let row = transaction.query_one(INSERT_CLASS, &[&class.name, &class.created]);
                let id: i64 = row.map_err(failed)?.get(0);
                for example in &class.examples {
                    let picture = picture_of(with, &class.name, example.hash, &example.name)?;
                    let vector = to_bytes(&example.embedding);
                    let (size, hash) = (picture.len() as i64, &example.hash.0[..]);
                    let row = transaction
                        .query_one(
                            &insert,
                            &[&id, &example.name, &hash, &size, &vector, &example.added],
                        )
                        .map_err(failed)?;
                    let number: i64 = row.get(0);
                    transaction
                        .execute(&insert_picture, &[&number, &picture])
                        .map_err(failed)?;
                }
            }
            recount(transaction).map_err(failed)?;
            let quotas = quotas(transaction).map_err(failed)?;
            let usage = usage(transaction).map_err(failed)?;
            contents.classes.iter().try_for_each(|class| {
                quotas.check(self.place(), &class.name, class.examples.len() as u64, usage)
            })
        })?;
        Ok(change)
    }

    fn picture(&self, class: &str, hash: ContentHash) -> Result<Option<Vec<u8>>, StoreError> {
        let select = "SELECT pictures.bytes FROM kshot.pictures
                      JOIN kshot.examples ON examples.id = pictures.example_id
                      JOIN kshot.classes ON classes.id = examples.class_id
                      WHERE classes.name = $1 AND examples.hash = $2";
        let row = self.with(|client| client.query_opt(select, &[&class, &&hash.0[..]]))?;
        Ok(row.map(|row| row.get(0)))
    }

    fn quotas(&self) -> Result<Quotas, StoreError> {
        self.with(quotas)
    }

    fn set_quotas(&self, new: Quotas) -> Result<(), StoreError> {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let [classes, per_class, examples, bytes] =
            [new.classes, new.per_class, new.examples, new.bytes].map(signed);
        let put = "INSERT INTO kshot.quotas VALUES (1, $1, $2, $3, $4)
                   ON CONFLICT (only_one) DO UPDATE SET classes = $1, per_class = $2, examples = $3, bytes = $4";
        let (_, ()) = self.write(|transaction| {
            transaction
                .execute(put, &[&classes, &per_class, &examples, &bytes])
                .map_err(|error| self.failed(&error))?;
            Ok(())
        })?;
        Ok(())
    }

    fn usage(&self) -> Result<Usage, StoreError> {
        self.with(usage)
    }
}

/// Removes every class, in a transaction that ends with [`recount`].
fn begin_anew(transaction: &mut Transaction<'_>) -> Result<(), postgres::Error> {
    transaction.batch_execute("SET LOCAL kshot.recounted = 'on'; DELETE FROM kshot.classes")
}

/// Counts everything, as one change.
fn recount(transaction: &mut Transaction<'_>) -> Result<(), postgres::Error> {
    transaction.batch_execute(
        "UPDATE kshot.totals SET change = change + 1,
             classes = (SELECT count(*) FROM kshot.classes),
             examples = (SELECT count(*) FROM kshot.examples),
             bytes = (SELECT coalesce(sum(size), 0) FROM kshot.examples)",
    )
}

fn change(client: &mut impl GenericClient) -> Result<u64, postgres::Error> {
    let row = client.query_one("SELECT change FROM kshot.totals", &[])?;
    Ok(row.get::<_, i64>(0) as u64)
}

fn class_id(client: &mut impl GenericClient, class: &str) -> Result<Option<i64>, postgres::Error> {
    let row = client.query_opt("SELECT id FROM kshot.classes WHERE name = $1", &[&class])?;
    Ok(row.map(|row| row.get(0)))
}

fn usage(client: &mut impl GenericClient) -> Result<Usage, postgres::Error> {
    let row = client.query_one("SELECT classes, examples, bytes FROM kshot.totals", &[])?;
    Ok(Usage {
        classes: row.get::<_, i64>(0) as u64,
        examples: row.get::<_, i64>(1) as u64,
        bytes: row.get::<_, i64>(2) as u64,
    })
}

fn quotas(client: &mut impl GenericClient) -> Result<Quotas, postgres::Error> {
    let select = "SELECT classes, per_class, examples, bytes FROM kshot.quotas";
    let found = client.query_opt(select, &[])?.map(|row| Quotas {
        classes: row.get::<_, i64>(0) as u64,
        per_class: row.get::<_, i64>(1) as u64,
        examples: row.get::<_, i64>(2) as u64,
        bytes: row.get::<_, i64>(3) as u64,
    });
    Ok(found.unwrap_or_default())
}

fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs() as i64)
}
