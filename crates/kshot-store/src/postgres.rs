//! A store in a database of a PostgreSQL server, for several kshot servers on one store.
//!
//! The tables lie in a schema of their own, `kshot`. Writers take turns by a lock on one row; a change that has ended is
//! on the server's disk. Every change is announced (`NOTIFY kshot`), so that other holders see it at once. A connection
//! that is lost is made anew at the next call: what had not been answered is an error, and whether it was done shows in
//! [`ClassStore::change`].

mod schema;

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kshot::classifier::{Added, ContentHash};
use postgres::config::{Host, SslMode};
use postgres::error::SqlState;
use postgres::fallible_iterator::FallibleIterator;
use postgres::{Client, Config, GenericClient, IsolationLevel, NoTls, Transaction};

use crate::error::StoreError;
use crate::store::{
    Change, ClassStore, Contents, NewExample, Quotas, StoredClass, StoredExample, StoredModel, Usage,
    Watcher, from_bytes, to_bytes,
};

/// How long a connection may take, and how long a writer waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// What changes are announced under.
const CHANNEL: &str = "kshot";

/// A store in a PostgreSQL database.
pub struct PostgresStore {
    config: Config,
    place: String,
    client: Mutex<Option<Client>>,
}

impl PostgresStore {
    /// Opens a store that is there, by an address like `postgres://user:password@host/database`.
    ///
    /// # Errors
    /// [`StoreError::Missing`] where no store is in the database, and as [`PostgresStore::open_or_create`].
    pub fn open(address: &str) -> Result<Self, StoreError> {
        let store = Self::at(address)?;
        let found = store
            .with(|client| client.query_opt("SELECT 1 FROM pg_namespace WHERE nspname = 'kshot'", &[]))?;
        if found.is_none() {
            return Err(StoreError::Missing {
                place: store.place.clone(),
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
        let mut config = Config::from_str(address).map_err(|error| StoreError::Unusable {
            // What can't be read may hold a password.
            place: "the address of the PostgreSQL store".to_owned(),
            problem: format!(
                "{}; write postgres://user:password@host:port/database",
                in_words(&error)
            ),
        })?;
        let place = place(&config);
        if config.get_ssl_mode() == SslMode::Require {
            return Err(StoreError::Unusable {
                place,
                problem: "encrypted connections aren't supported; take sslmode=disable on a network of your own, or a tunnel"
                    .to_owned(),
            });
        }
        config.ssl_mode(SslMode::Disable).application_name("kshot");
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(PATIENCE);
        }
        Ok(Self {
            config,
            place,
            client: Mutex::new(None),
        })
    }

    fn migrated(self) -> Result<Self, StoreError> {
        match self.with(schema::migrate)? {
            Ok(()) => Ok(self),
            Err(version) => Err(StoreError::Unusable {
                place: self.place.clone(),
                problem: format!(
                    "a store of version {version}, and this program knows {}; use the version that wrote it",
                    schema::STEPS.len()
                ),
            }),
        }
    }

    /// Runs `work` on a connection, a new one where there is none or the old one was lost.
    fn with<T: Send>(
        &self,
        work: impl FnOnce(&mut Client) -> Result<T, postgres::Error> + Send,
    ) -> Result<T, StoreError> {
        self.attempt(|client| work(client).map_err(|error| self.failed(&error)))
    }

    /// On a thread of its own: the client waits in a runtime of its own, which must not happen inside a caller's.
    fn attempt<T: Send>(
        &self,
        work: impl FnOnce(&mut Client) -> Result<T, StoreError> + Send,
    ) -> Result<T, StoreError> {
        let done = std::thread::scope(|scope| scope.spawn(|| self.attempt_here(work)).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn attempt_here<T>(
        &self,
        work: impl FnOnce(&mut Client) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut held = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().is_none_or(Client::is_closed) {
            *held = Some(connect(&self.config).map_err(|error| self.failed(&error))?);
        }
        let Some(client) = held.as_mut() else {
            return Err(StoreError::Database {
                place: self.place.clone(),
                problem: "no connection".to_owned(),
            });
        };
        let done = work(client);
        if client.is_closed() {
            *held = None;
        }
        done
    }

    fn failed(&self, error: &postgres::Error) -> StoreError {
        let problem = match error.code() {
            Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                format!(
                    "another program has been writing for {} s; try again",
                    PATIENCE.as_secs()
                )
            }
            Some(&SqlState::DISK_FULL) => "no room left on the server's disk; nothing was changed".to_owned(),
            Some(_) => in_words(error),
            None => format!(
                "the server can't be reached ({}); is it running?",
                in_words(error)
            ),
        };
        StoreError::Database {
            place: self.place.clone(),
            problem,
        }
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
            place: self.place.clone(),
            problem,
        }
    }

    fn class_id(&self, transaction: &mut Transaction<'_>, class: &str) -> Result<i64, StoreError> {
        let found = class_id(transaction, class).map_err(|error| self.failed(&error))?;
        found.ok_or_else(|| self.class_problem(format!("no class `{class}`")))
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        let client = self
            .client
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(client) = client {
            apart(client);
        }
    }
}

/// Drops a client on a thread of its own.
fn apart(client: Client) {
    let _ = std::thread::spawn(move || drop(client)).join();
}

impl ClassStore for PostgresStore {
    fn place(&self) -> &str {
        &self.place
    }

    fn watcher(&self) -> Box<dyn Watcher> {
        Box::new(Listener {
            config: self.config.clone(),
            client: None,
        })
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
            let put = "INSERT INTO kshot.model VALUES (1, $1, $2, $3)
                       ON CONFLICT (only_one) DO UPDATE SET id = $1, name = $2, bytes = $3";
            transaction
                .execute(put, &[&model.id, &model.name, &model.bytes])
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
                    place: self.place.clone(),
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
                classes: classes.into_values().collect(),
            })
        })
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
            if examples.is_empty() {
                return Ok(Vec::new());
            }
            let now = now();
            let quotas = quotas(transaction).map_err(failed)?;
            let id = match class_id(transaction, class).map_err(failed)? {
                Some(id) => id,
                None => {
                    let insert = "INSERT INTO kshot.classes (name, created) VALUES ($1, $2) RETURNING id";
                    transaction
                        .query_one(insert, &[&class, &now])
                        .map_err(failed)?
                        .get(0)
                }
            };
            let insert = transaction
                .prepare(
                    "INSERT INTO kshot.examples (class_id, name, hash, size, embedding, added)
                     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (class_id, hash) DO NOTHING RETURNING id",
                )
                .map_err(failed)?;
            let insert_picture = transaction
                .prepare("INSERT INTO kshot.pictures (example_id, bytes) VALUES ($1, $2)")
                .map_err(failed)?;
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
                quotas.check(&self.place, class, per_class as u64, total)?;
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
            let delete = "DELETE FROM kshot.classes WHERE id = $1
                          AND NOT EXISTS (SELECT 1 FROM kshot.examples WHERE class_id = $1)";
            transaction.execute(delete, &[&id]).map_err(failed)?;
            Ok(())
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

/// Hears of changes as they happen, over a connection of its own.
struct Listener {
    config: Config,
    client: Option<Client>,
}

impl Listener {
    /// Whether a change was announced within `at_most`.
    fn listen(&mut self, at_most: Duration) -> Result<(), postgres::Error> {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            let mut client = connect(&self.config)?;
            client.batch_execute(&format!("LISTEN {CHANNEL}"))?;
            // What was changed before can't have been heard.
            self.client = Some(client);
            return Ok(());
        }
        if let Some(client) = self.client.as_mut() {
            let mut heard = client.notifications();
            if heard.timeout_iter(at_most).next()?.is_some() {
                // All that came together is one.
                while heard.iter().next()?.is_some() {}
            }
        }
        Ok(())
    }
}

impl Watcher for Listener {
    fn wait(&mut self, at_most: Duration) {
        let started = Instant::now();
        if self.listen(at_most).is_err() {
            // The server is away: try again after the time.
            if let Some(client) = self.client.take() {
                apart(client);
            }
            std::thread::sleep(at_most.saturating_sub(started.elapsed()));
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            apart(client);
        }
    }
}

fn connect(config: &Config) -> Result<Client, postgres::Error> {
    let mut client = config.connect(NoTls)?;
    // An answer means: on the disk.
    client.batch_execute(&format!(
        "SET synchronous_commit = on; SET lock_timeout = '{}s'; SET client_min_messages = warning",
        PATIENCE.as_secs()
    ))?;
    Ok(client)
}

/// The address without its password.
fn place(config: &Config) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        #[cfg(unix)]
        Some(Host::Unix(path)) => path.display().to_string(),
        None => "localhost".to_owned(),
    };
    let user = config
        .get_user()
        .map_or_else(String::new, |user| format!("{user}@"));
    let port = config
        .get_ports()
        .first()
        .map_or_else(String::new, |port| format!(":{port}"));
    let database = config
        .get_dbname()
        .map_or_else(String::new, |name| format!("/{name}"));
    format!("postgres://{user}{host}{port}{database}")
}

/// What the server said, where it said something, and else the whole chain of causes.
fn in_words(error: &postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        return said.message().to_owned();
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
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
