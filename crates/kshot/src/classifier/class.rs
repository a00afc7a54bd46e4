//! A class and its examples.

use std::sync::Arc;

use super::kernel::{self, unit};
use super::{Added, ContentHash, Picture};
use crate::error::Error;
use crate::method::Kernel;

/// Longest name of a class, in bytes.
const LONGEST_NAME: usize = 200;

/// An enrolled picture.
#[derive(Clone, Debug)]
pub struct Example {
    name: Arc<str>,
    hash: ContentHash,
    embedding: Arc<[f32]>,
    pixels: Option<Arc<[f32]>>,
}

impl Example {
    /// A picture with the embedding that the classifier's model gives it.
    pub fn new(name: impl Into<Arc<str>>, picture: &Picture, embedding: Arc<[f32]>) -> Self {
        Self {
            name: name.into(),
            hash: picture.hash(),
            embedding,
            pixels: Some(picture.shared_pixels()),
        }
    }

    /// One of which only the embedding is at hand: enough where a kernel over embeddings scores.
    pub fn embedded(name: impl Into<Arc<str>>, hash: ContentHash, embedding: Arc<[f32]>) -> Self {
        Self {
            name: name.into(),
            hash,
            embedding,
            pixels: None,
        }
    }

    /// What evidence calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tells its picture by its content.
    pub fn hash(&self) -> ContentHash {
        self.hash
    }

    /// The model's feature vector.
    pub fn embedding(&self) -> &[f32] {
        &self.embedding
    }

    pub(super) fn pixels(&self) -> Option<&[f32]> {
        self.pixels.as_deref()
    }
}

/// A class: its examples in the order of their hashes, and what scoring needs of them.
#[derive(Clone, Debug)]
pub struct Class {
    name: Arc<str>,
    examples: Vec<Example>,
    /// The examples' embeddings as the kernel takes them, `[examples, features]`.
    rows: Vec<f32>,
    /// Their mean as the kernel takes it, `[features]`.
    prototype: Vec<f32>,
}

impl Class {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its examples, in the order of their hashes.
    pub fn examples(&self) -> &[Example] {
        &self.examples
    }

    /// The example of this picture.
    pub fn example(&self, hash: ContentHash) -> Option<&Example> {
        let at = self.examples.binary_search_by_key(&hash, Example::hash).ok()?;
        self.examples.get(at)
    }

    /// Whether both have the same pictures under the same names.
    pub(super) fn has_examples_of(&self, other: &Class) -> bool {
        let same = |(a, b): (&Example, &Example)| a.hash == b.hash && a.name == b.name;
        self.examples.len() == other.examples.len() && self.examples.iter().zip(&other.examples).all(same)
    }

    /// The mean of its examples' embeddings, `[features]`.
    pub fn mean(&self) -> Vec<f32> {
        mean(self.examples.iter().map(Example::embedding))
    }

    pub(super) fn rows(&self) -> &[f32] {
        &self.rows
    }

    pub(super) fn prototype(&self) -> &[f32] {
        &self.prototype
    }

    /// The class `old` (or none yet) with more examples, and what became of each.
    pub(super) fn with(
        name: &str,
        old: Option<&Class>,
        more: Vec<Example>,
        kernel: Option<Kernel>,
    ) -> (Self, Vec<Added>) {
        let mut examples = old.map_or_else(Vec::new, |old| old.examples.clone());
        let mut fresh = std::collections::BTreeMap::new();
        let mut added = Vec::with_capacity(more.len());
        for mut example in more {
            let known = examples
                .binary_search_by_key(&example.hash, Example::hash)
                .is_ok();
            if known || fresh.contains_key(&example.hash) {
                added.push(Added::Known);
                continue;
            }
            if kernel.is_some() {
                example.pixels = None;
            }
            fresh.insert(example.hash, example);
            added.push(Added::New);
        }
        examples.extend(fresh.into_values());
        examples.sort_by_key(Example::hash);
        (Self::of(name.into(), examples, kernel), added)
    }

    /// The class without an example; `None` if it has no such one.
    pub(super) fn without(&self, hash: ContentHash, kernel: Option<Kernel>) -> Option<Self> {
        let at = self.examples.binary_search_by_key(&hash, Example::hash).ok()?;
        let mut examples = self.examples.clone();
        examples.remove(at);
        Some(Self::of(self.name.clone(), examples, kernel))
    }

    pub(super) fn renamed(&self, name: &str) -> Self {
        Self {
            name: name.into(),
            ..self.clone()
        }
    }

    fn of(name: Arc<str>, examples: Vec<Example>, kernel: Option<Kernel>) -> Self {
        let normal = kernel.is_none_or(kernel::compares_directions);
        let as_taken = |row: &[f32]| if normal { unit(row) } else { row.to_vec() };
        let rows = examples
            .iter()
            .flat_map(|example| as_taken(example.embedding()))
            .collect();
        let prototype = as_taken(&mean(examples.iter().map(Example::embedding)));
        Self {
            name,
            examples,
            rows,
            prototype,
        }
    }
}

/// Whether a class can be called so: 1 to 200 bytes of text, no control characters, no space at either end.
///
/// # Errors
/// [`Error::Class`] that says what is wrong.
pub fn check_name(name: &str) -> Result<(), Error> {
    let problem = if name.trim().is_empty() {
        "a class needs a name"
    } else if name.len() > LONGEST_NAME {
        "a class's name has 200 bytes at most"
    } else if name.chars().any(char::is_control) || name.trim() != name {
        "a class's name has no control characters, and no space at its ends"
    } else {
        return Ok(());
    };
    Err(Error::Class {
        class: name.chars().filter(|c| !c.is_control()).take(60).collect(),
        problem: problem.to_owned(),
    })
}

/// The mean of rows of one length; empty for none.
pub fn mean<'a>(rows: impl Iterator<Item = &'a [f32]>) -> Vec<f32> {
    let mut sums: Vec<f64> = Vec::new();
    let mut count = 0.0;
    for row in rows {
        sums.resize(row.len(), 0.0);
        sums.iter_mut()
            .zip(row)
            .for_each(|(sum, &value)| *sum += f64::from(value));
        count += 1.0;
    }
    sums.into_iter().map(|sum| (sum / count) as f32).collect()
}
