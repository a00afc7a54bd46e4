//! A store as one file, to be kept or carried elsewhere, and back.

use std::fs;

use kshot_store::sqlite::SqliteStore;
use kshot_store::{ClassStore, NewExample, StoreError, open};

use crate::config::Limits;
use crate::convert::store_problem;
use crate::problem::{Problem, QUOTA, UNUSABLE};

/// A store in a folder of its own, which goes with it.
pub struct Incoming {
    store: Box<dyn ClassStore>,
    // After the store, which has the file open.
    _folder: tempfile::TempDir,
}

impl AsRef<dyn ClassStore> for Incoming {
    fn as_ref(&self) -> &(dyn ClassStore + 'static) {
        self.store.as_ref()
    }
}

/// The bytes of a file with everything that a store holds.
///
/// # Errors
/// What the store or the disk says.
pub fn export(store: &dyn ClassStore) -> Result<Vec<u8>, Problem> {
    let folder = tempfile::tempdir().map_err(Problem::internal)?;
    let path = folder.path().join("classes.kshot");
    let copy = SqliteStore::open_or_create(&path).map_err(store_problem)?;
    fill(store, &copy)?;
    drop(copy);
    fs::read(&path).map_err(Problem::internal)
}

/// A store's file, read as far as that shows that it can be.
///
/// # Errors
/// Bytes that are no store, or one of more than the quotas.
pub fn read(bytes: &[u8], limits: &Limits) -> Result<Incoming, Problem> {
    let folder = tempfile::tempdir().map_err(Problem::internal)?;
    let path = folder.path().join("uploaded.kshot");
    fs::write(&path, bytes).map_err(Problem::internal)?;
    let unusable = |error: StoreError| {
        // Where the server put it is of no use to who sent it.
        let text = error.to_string().replace(&path.display().to_string(), "the file");
        Problem::new(&UNUSABLE, format!("it can't be used as a store: {text}"))
    };
    let store = open(&path.to_string_lossy()).map_err(unusable)?;
    let model = store.model().map_err(unusable)?;
    let model =
        model.ok_or_else(|| Problem::new(&UNUSABLE, "the store holds no model; enrol something first"))?;
    kshot::trained::Trained::from_bytes(&model.bytes, "the file".as_ref())
        .map_err(|error| unusable(error.into()))?;
    let usage = store.usage().map_err(unusable)?;
    let contents = store.contents().map_err(unusable)?;
    let per_class = contents
        .classes
        .iter()
        .map(|class| class.examples.len())
        .max()
        .unwrap_or(0);
    let checks = [
        ("classes", contents.classes.len(), limits.classes),
        ("examples of one class", per_class, limits.examples_per_class),
        (
            "examples",
            usize::try_from(usage.examples).unwrap_or(usize::MAX),
            limits.examples,
        ),
    ];
    for (what, there, limit) in checks {
        if there > limit {
            return Err(Problem::new(
                &QUOTA,
                format!("the store has {there} {what}, and {limit} are allowed here"),
            ));
        }
    }
    Ok(Incoming {
        store,
        _folder: folder,
    })
}

/// Makes a store hold what another one holds.
///
/// # Errors
/// What either says; the store then holds a part.
pub fn replace(store: &dyn ClassStore, with: &dyn ClassStore) -> Result<(), Problem> {
    for class in store.contents().map_err(store_problem)?.classes {
        store.remove_class(&class.name).map_err(store_problem)?;
    }
    fill(with, store)
}

/// Copies everything into a store without classes, class by class, so that not all pictures are in memory at once.
fn fill(from: &dyn ClassStore, to: &dyn ClassStore) -> Result<(), Problem> {
    let Some(model) = from.model().map_err(store_problem)? else {
        return Ok(());
    };
    to.set_model(&model, &[]).map_err(store_problem)?;
    let mut classes = from.contents().map_err(store_problem)?.classes;
    classes.sort_by_key(|class| (class.created, class.examples.first().map(|example| example.id)));
    for class in classes {
        let mut examples = Vec::with_capacity(class.examples.len());
        for example in class.examples {
            let picture = from
                .picture(&class.name, example.hash)
                .map_err(store_problem)?
                .unwrap_or_default();
            examples.push(NewExample {
                name: example.name,
                hash: example.hash,
                picture,
                embedding: example.embedding,
            });
        }
        to.add(&model.id, &class.name, &examples).map_err(store_problem)?;
    }
    Ok(())
}
