//! What a store promises, whatever keeps it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kshot::classifier::{Added, ContentHash};

use crate::error::StoreError;
use crate::sqlite::SqliteStore;

/// A place for a model, and for classes of pictures with their embeddings under it.
///
/// Every change is one transaction: it is there as a whole and on the disk when the call returns `Ok`, or not at all.
/// Several processes may hold the same store; [`ClassStore::change`] tells a reader that another one has changed it.
pub trait ClassStore: Send + Sync {
    /// Where it is, for errors: a path, or an address without its password.
    fn place(&self) -> &str;

    /// Waits for what others change in it.
    fn watcher(&self) -> Box<dyn Watcher> {
        Box::new(Clock)
    }

    /// The model whose embeddings it holds.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    fn model(&self) -> Result<Option<StoredModel>, StoreError>;

    /// Puts a model in place of the one before, with an embedding for every example by its number.
    ///
    /// # Errors
    /// [`StoreError::Class`] if an example is left without an embedding, and [`StoreError::Database`].
    fn set_model(&self, model: &StoredModel, embeddings: &[(i64, Arc<[f32]>)]) -> Result<Change, StoreError>;

    /// A number that grows with every change, whoever made it.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    fn change(&self) -> Result<u64, StoreError>;

    /// Everything but the pictures, as it was at one moment.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] for damage, [`StoreError::Database`].
    fn contents(&self) -> Result<Contents, StoreError>;

    /// Makes a class without examples.
    ///
    /// # Errors
    /// [`StoreError::Class`] for a name that is taken, [`StoreError::Quota`], and [`StoreError::Database`].
    fn add_class(&self, class: &str) -> Result<Change, StoreError>;

    /// Adds examples to a class, which is made where there is none. Pictures that it has already are left as they are.
    ///
    /// # Errors
    /// [`StoreError::OtherModel`] if the embeddings are not by the store's model (`model_id`), [`StoreError::Quota`], and
    /// [`StoreError::Database`].
    fn add(
        &self,
        model_id: &str,
        class: &str,
        examples: &[NewExample],
    ) -> Result<(Change, Vec<Added>), StoreError>;

    /// Gives a class another name.
    ///
    /// # Errors
    /// [`StoreError::Class`] for a class that isn't there or a name that is taken, [`StoreError::Database`].
    fn rename_class(&self, from: &str, to: &str) -> Result<Change, StoreError>;

    /// Removes a class with its examples.
    ///
    /// # Errors
    /// [`StoreError::Class`] for a class that isn't there, [`StoreError::Database`].
    fn remove_class(&self, class: &str) -> Result<Change, StoreError>;

    /// Removes every class; the model and the quotas stay.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    fn clear(&self) -> Result<Change, StoreError>;

    /// Removes an example; its class stays, be it without any.
    ///
    /// # Errors
    /// [`StoreError::Class`] for one that isn't there, [`StoreError::Database`].
    fn remove_example(&self, class: &str, hash: ContentHash) -> Result<Change, StoreError>;

    /// Makes it hold what another store holds, and nothing else: model, classes, examples and pictures, under numbers of
    /// its own. The quotas stay. Pictures are read one at a time.
    ///
    /// # Errors
    /// What the other store says; [`StoreError::NoModel`] for one without a model, [`StoreError::Unusable`] for one that
    /// lacks a picture, [`StoreError::Quota`], and [`StoreError::Database`].
    fn replace(&self, with: &dyn ClassStore) -> Result<Change, StoreError>;

    /// The picture file of an example as it was added.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    fn picture(&self, class: &str, hash: ContentHash) -> Result<Option<Vec<u8>>, StoreError>;

    /// Limits on what it holds.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    fn quotas(&self) -> Result<Quotas, StoreError>;

    /// Sets the limits; what lies beyond them already stays.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    fn set_quotas(&self, quotas: Quotas) -> Result<(), StoreError>;

    /// What it holds in numbers.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    fn usage(&self) -> Result<Usage, StoreError>;
}

/// Waits for changes of a store without holding it up.
pub trait Watcher: Send {
    /// Returns when the store may have changed, after `at_most` at the latest.
    fn wait(&mut self, at_most: Duration);
}

/// Looks again after every so long.
struct Clock;

impl Watcher for Clock {
    fn wait(&mut self, at_most: Duration) {
        std::thread::sleep(at_most);
    }
}

/// A model as it lies in a store.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredModel {
    /// See [`kshot::trained::Trained::id`].
    pub id: String,
    /// What it is called.
    pub name: String,
    /// A [`kshot::model_file::ModelFile`].
    pub bytes: Vec<u8>,
}

/// The change number before and after a transaction: what a holder at `before` has to do is that change alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Before it.
    pub before: u64,
    /// After it.
    pub after: u64,
}

/// An example to be added.
#[derive(Clone, Debug)]
pub struct NewExample {
    /// What evidence calls it.
    pub name: String,
    /// Tells its picture by its content.
    pub hash: ContentHash,
    /// The picture file as it came.
    pub picture: Vec<u8>,
    /// By the store's model.
    pub embedding: Arc<[f32]>,
}

/// Everything but the pictures.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// The change number that this is.
    pub change: u64,
    /// The model whose embeddings these are: [`StoredModel::id`].
    pub model: Option<String>,
    /// The classes, in the order in which they came into being.
    pub classes: Vec<StoredClass>,
}

/// A class in a store.
#[derive(Clone, Debug)]
pub struct StoredClass {
    /// Its name.
    pub name: String,
    /// When it came into being, seconds since 1970.
    pub created: i64,
    /// Its examples, in the order in which they came; it may have none.
    pub examples: Vec<StoredExample>,
}

/// An example in a store.
#[derive(Clone, Debug)]
pub struct StoredExample {
    /// Its number, never given again.
    pub id: i64,
    /// What evidence calls it.
    pub name: String,
    /// Tells its picture by its content.
    pub hash: ContentHash,
    /// By the store's model.
    pub embedding: Arc<[f32]>,
    /// When it was added, seconds since 1970.
    pub added: i64,
}

/// Limits on what a store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Classes.
    pub classes: u64,
    /// Examples of one class.
    pub per_class: u64,
    /// Examples in all.
    pub examples: u64,
    /// Bytes of picture files in all.
    pub bytes: u64,
}

impl Default for Quotas {
    /// 100,000 classes, 10,000 examples of each, a million in all, 16 GiB.
    fn default() -> Self {
        Self {
            classes: 100_000,
            per_class: 10_000,
            examples: 1_000_000,
            bytes: 16 << 30,
        }
    }
}

impl Quotas {
    /// Whether the numbers that a change would lead to are allowed.
    pub(crate) fn check(
        &self,
        place: &str,
        class: &str,
        per_class: u64,
        total: Usage,
    ) -> Result<(), StoreError> {
        let limits = [
            (format!("examples of class `{class}`"), per_class, self.per_class),
            ("classes".to_owned(), total.classes, self.classes),
            ("examples".to_owned(), total.examples, self.examples),
            ("bytes of pictures".to_owned(), total.bytes, self.bytes),
        ];
        match limits.into_iter().find(|(_, wanted, limit)| wanted > limit) {
            None => Ok(()),
            Some((what, wanted, limit)) => Err(StoreError::Quota {
                place: place.to_owned(),
                what,
                wanted,
                limit,
            }),
        }
    }
}

/// What a store holds in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Classes.
    pub classes: u64,
    /// Examples in all.
    pub examples: u64,
    /// Bytes of picture files in all.
    pub bytes: u64,
}

/// Opens a store that is there: a path, or the address of a PostgreSQL database (feature `postgres`).
///
/// # Errors
/// [`StoreError::Missing`], or [`StoreError::Unusable`] for something else at that place.
pub fn open(place: &str) -> Result<Box<dyn ClassStore>, StoreError> {
    if is_address(place) {
        #[cfg(feature = "postgres")]
        return Ok(Box::new(crate::postgres::PostgresStore::open(place)?));
        #[cfg(not(feature = "postgres"))]
        return Err(without_postgres());
    }
    Ok(Box::new(SqliteStore::open(Path::new(place))?))
}

/// As [`open`], making an empty store where nothing is.
///
/// # Errors
/// As [`open`], and a place where nothing can be written.
pub fn open_or_create(place: &str) -> Result<Box<dyn ClassStore>, StoreError> {
    if is_address(place) {
        #[cfg(feature = "postgres")]
        return Ok(Box::new(crate::postgres::PostgresStore::open_or_create(place)?));
        #[cfg(not(feature = "postgres"))]
        return Err(without_postgres());
    }
    Ok(Box::new(SqliteStore::open_or_create(Path::new(place))?))
}

/// Whether a place is the address of a PostgreSQL database.
pub fn is_address(place: &str) -> bool {
    ["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| place.starts_with(scheme))
}

#[cfg(not(feature = "postgres"))]
fn without_postgres() -> StoreError {
    StoreError::Unusable {
        place: "the PostgreSQL store".to_owned(),
        problem: "this kshot was built without PostgreSQL; build it with --features postgres".to_owned(),
    }
}

/// How often a store is read again that others change meanwhile.
const TRIES: u32 = 8;

/// What a store holds, and the model whose embeddings these are; `known` gives the model where it is at hand.
///
/// # Errors
/// What the store says, and [`StoreError::NoModel`].
pub(crate) fn whole<M>(
    store: &dyn ClassStore,
    known: impl Fn(&str) -> Option<M>,
    read: impl Fn(StoredModel) -> Result<M, StoreError>,
) -> Result<(M, Contents), StoreError> {
    // Another process may put in another model between the two calls.
    for _ in 0..TRIES {
        let contents = store.contents()?;
        let Some(id) = &contents.model else {
            return Err(StoreError::NoModel {
                place: store.place().to_owned(),
            });
        };
        if let Some(model) = known(id) {
            return Ok((model, contents));
        }
        if let Some(model) = store.model()?.filter(|model| model.id == *id) {
            return Ok((read(model)?, contents));
        }
    }
    Err(StoreError::Database {
        place: store.place().to_owned(),
        problem: "its model is replaced again and again; try later".to_owned(),
    })
}

/// The picture file of an example that is in the store's contents.
///
/// # Errors
/// What the store says, and [`StoreError::Unusable`] where it is gone.
pub(crate) fn picture_of(
    store: &dyn ClassStore,
    class: &str,
    hash: ContentHash,
    name: &str,
) -> Result<Vec<u8>, StoreError> {
    store.picture(class, hash)?.ok_or_else(|| StoreError::Unusable {
        place: store.place().to_owned(),
        problem: format!("the picture of example `{name}` of class `{class}` is gone; remove the example"),
    })
}

/// Little-endian bytes of a vector.
pub(crate) fn to_bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A vector from its bytes; `None` for a length that none has.
pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Arc<[f32]>> {
    let (values, rest) = bytes.as_chunks::<4>();
    rest.is_empty()
        .then(|| values.iter().map(|value| f32::from_le_bytes(*value)).collect())
}
