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
    let library = Library::open(Box::new(store), Head::Model).map_err(unusable)?;
    let (model, named) = (library.classifier().model(), contents.model.unwrap_or_default());
    if model.id() != named {
        return Err(refused(&format!(
            "its model is {}, and the file calls it {named}",
            model.id()
        )));
    }
    if model.input().features().is_some() {
        return Err(refused(&format!(
            "it holds {}, and pictures are recognised here",
            model.name()
        )));
    }
    for class in &contents.classes {
        for example in &class.examples {
            let picture = library.store().picture(&class.name, example.hash);
            check_picture(&class.name, &example.name, picture.map_err(unusable)?, limits)?;
        }
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

/// Whether an example has a picture, no larger than pictures may be here.
fn check_picture(
    class: &str,
    example: &str,
    picture: Option<Vec<u8>>,
    limits: &Limits,
) -> Result<(), Problem> {
    let name = format!("example `{example}` of class `{class}`");
    let Some(bytes) = picture else {
        return Err(refused(&format!("the picture of {name} is not in it")));
    };
    let bytes = bytes.into();
    decode::size(&Encoded { name, bytes }, limits.pixels).map(drop)
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
