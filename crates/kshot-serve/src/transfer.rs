//! A store as one file, to be kept or carried elsewhere, and back.

use std::path::Path;

use kshot::classifier::Head;
use kshot::trained::Trained;
use kshot_store::sqlite::SqliteStore;
use kshot_store::{ClassStore, Contents, Library, StoreError};
use tempfile::TempDir;

use crate::config::Limits;
use crate::convert::store_problem;
use crate::decode;
use crate::problem::{Problem, QUOTA, UNUSABLE};
use crate::upload::Encoded;
use crate::workspace;

/// What a store's file is called while it is read.
pub const UPLOADED: &str = "uploaded.kshot";

/// Examples whose pictures are embedded anew, to see whether the embeddings are the model's.
const TRIED: usize = 4;
/// By how much of its length an embedding may differ from that of the machine that made it.
const TOLERANCE: f32 = 0.1;

/// A store that was sent, in a folder of its own, which goes with it.
pub struct Incoming {
    library: Library,
    // After the library, which has the file open.
    _folder: TempDir,
}

impl Incoming {
    /// What it holds.
    pub fn library(&self) -> &Library {
        &self.library
    }
}

/// Writes everything that a store holds into a new file.
///
/// # Errors
/// What the store or the disk says.
pub fn export(store: &dyn ClassStore, path: &Path) -> Result<(), Problem> {
    let copy = SqliteStore::open_or_create(path).map_err(store_problem)?;
    copy.replace(store).map_err(store_problem)?;
    Ok(())
}

/// A store's file in a folder of its own, where it is called [`UPLOADED`], checked as far as this server depends on it: all of it.
///
/// # Errors
/// A file that is no store, or one that can't be served here.
pub fn read(folder: TempDir, limits: &Limits) -> Result<Incoming, Problem> {
    let path = folder.path().join(UPLOADED);
    // Where the server put it is of no use to who sent it.
    let unusable =
        |error: StoreError| refused(&error.to_string().replace(&path.display().to_string(), "the file"));
    let store = SqliteStore::open_received(&path).map_err(unusable)?;
    let contents = store.contents().map_err(unusable)?;
    counts(&contents, limits)?;
    names(&contents)?;
    let model = model(&store).map_err(unusable)?;
    if model.input().features().is_some() {
        return Err(refused(&format!(
            "it holds {}, and pictures are recognised here",
            model.name()
        )));
    }
    let missing = heads(&store, &contents, limits, unusable)?;
    // Only now: a model that adapts to all examples decodes every picture here.
    let library = Library::with_model(Box::new(store), model, Head::Model).map_err(unusable)?;
    if let Some(example) = missing {
        return Err(refused(&format!("the picture of {example} is not in it")));
    }
    match stranger(&library).map_err(unusable)? {
        None => Ok(Incoming {
            library,
            _folder: folder,
        }),
        Some(example) => Err(refused(&format!(
            "the embedding of {example} is not what its model makes of its picture"
        ))),
    }
}

/// The model that a store holds and names.
fn model(store: &SqliteStore) -> Result<Trained, StoreError> {
    let place = store.place().to_owned();
    let found = store
        .model()?
        .ok_or_else(|| StoreError::NoModel { place: place.clone() })?;
    let model = Trained::from_bytes(&found.bytes, Path::new(&place))?;
    if model.id() != found.id {
        let problem = format!("its model is {}, and the file calls it {}", model.id(), found.id);
        return Err(StoreError::Unusable { place, problem });
    }
    Ok(model)
}

fn refused(why: &str) -> Problem {
    Problem::new(&UNUSABLE, format!("it can't be used as a store: {why}"))
}

fn counts(contents: &Contents, limits: &Limits) -> Result<(), Problem> {
    let examples = || contents.classes.iter().map(|class| class.examples.len());
    let checks = [
        ("classes", contents.classes.len(), limits.classes),
        (
            "examples of one class",
            examples().max().unwrap_or(0),
            limits.examples_per_class,
        ),
        ("examples", examples().sum(), limits.examples),
    ];
    for (what, there, limit) in checks {
        if there > limit {
            return Err(Problem::new(
                &QUOTA,
                format!("the store has {there} {what}, and {limit} are allowed here"),
            ));
        }
    }
    Ok(())
}

fn names(contents: &Contents) -> Result<(), Problem> {
    for class in &contents.classes {
        workspace::check(&class.name)?;
        // PostgreSQL has no text with it.
        if class.examples.iter().any(|example| example.name.contains('\0')) {
            return Err(refused(&format!(
                "the name of an example of class `{}` has the character 0",
                class.name
            )));
        }
    }
    Ok(())
}

/// Whether pictures are no larger than they may be here, by their heads; names an example that has none.
fn heads(
    store: &dyn ClassStore,
    contents: &Contents,
    limits: &Limits,
    unusable: impl Fn(StoreError) -> Problem,
) -> Result<Option<String>, Problem> {
    let mut missing = None;
    for class in &contents.classes {
        for example in &class.examples {
            let name = format!("example `{}` of class `{}`", example.name, class.name);
            let picture = store.picture(&class.name, example.hash).map_err(&unusable)?;
            match picture.map(Into::into) {
                Some(bytes) => drop(decode::size(&Encoded { name, bytes }, limits.pixels)?),
                None => missing = missing.or(Some(name)),
            }
        }
    }
    Ok(missing)
}

/// Embeds some of the pictures anew; names an example whose embedding isn't the model's.
fn stranger(library: &Library) -> Result<Option<String>, StoreError> {
    let classifier = library.classifier();
    let model: &Trained = classifier.model();
    let step = classifier.classes().len().div_ceil(TRIED).max(1);
    for class in classifier.classes().step_by(step) {
        let Some(example) = class.examples().first() else {
            continue;
        };
        let name = format!("example `{}` of class `{}`", example.name(), class.name());
        let bytes = library.store().picture(class.name(), example.hash())?;
        let picture = model
            .input()
            .decode(&bytes.unwrap_or_default(), Path::new(&name))?;
        let again = model.embed(&[&picture])?;
        if !again
            .first()
            .is_some_and(|again| near(example.embedding(), again))
        {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn near(found: &[f32], right: &[f32]) -> bool {
    let length =
        |values: &mut dyn Iterator<Item = f32>| values.map(|value| value * value).sum::<f32>().sqrt();
    let apart = length(&mut found.iter().zip(right).map(|(a, b)| a - b));
    apart <= TOLERANCE * length(&mut right.iter().copied()) + 1e-6
}
