//! Classes and examples in the order in which they came; the classifier has them in another one.

use std::sync::Arc;

use kshot::classifier::{ContentHash, FewShotClassifier};
use kshot_store::Contents;

/// The classes, oldest first. Those without examples are here alone: a store does not keep them.
#[derive(Clone, Debug, Default)]
pub struct Index {
    classes: Vec<Arc<Class>>,
}

/// A class's examples.
#[derive(Clone, Debug)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// Oldest first.
    pub examples: Vec<Example>,
}

/// An example.
#[derive(Clone, Debug)]
pub struct Example {
    /// Tells its picture.
    pub hash: ContentHash,
    /// What evidence calls it.
    pub name: String,
}

impl Index {
    /// What a store holds.
    pub fn of(contents: Contents) -> Self {
        let mut classes = contents.classes;
        classes.sort_by_key(|class| {
            let first = class.examples.iter().map(|example| example.id).min();
            (class.created, first)
        });
        let classes = classes.into_iter().map(|class| {
            let examples = class.examples.into_iter().map(|example| Example {
                hash: example.hash,
                name: example.name,
            });
            Arc::new(Class {
                name: class.name,
                examples: examples.collect(),
            })
        });
        Self {
            classes: classes.collect(),
        }
    }

    /// All classes.
    pub fn classes(&self) -> impl ExactSizeIterator<Item = &Class> {
        self.classes.iter().map(Arc::as_ref)
    }

    /// A class by name.
    pub fn class(&self, name: &str) -> Option<&Class> {
        self.classes().find(|class| class.name == name)
    }

    /// Examples of all classes together.
    pub fn n_examples(&self) -> usize {
        self.classes().map(|class| class.examples.len()).sum()
    }

    /// Adds a class without examples, at the end.
    pub fn push(&mut self, name: &str) {
        self.classes.push(Arc::new(Class {
            name: name.to_owned(),
            examples: Vec::new(),
        }));
    }

    /// Renames a class.
    pub fn rename(&mut self, from: &str, to: &str) {
        for class in self.classes.iter_mut().filter(|class| class.name == from) {
            Arc::make_mut(class).name = to.to_owned();
        }
    }

    /// Removes a class.
    pub fn remove(&mut self, name: &str) {
        self.classes.retain(|class| class.name != name);
    }

    /// Makes it show what a classifier has: what is new comes last, what is gone goes; a class whose examples are gone
    /// stays if `keep` says so.
    pub fn follow(&mut self, classifier: &FewShotClassifier, keep: impl Fn(&str) -> bool) {
        self.classes.retain(|class| classifier.class(&class.name).is_some() || keep(&class.name));
        for class in classifier.classes() {
            if self.class(class.name()).is_none() {
                self.push(class.name());
            }
        }
        for class in &mut self.classes {
            let there = classifier.class(&class.name);
            let n = there.map_or(0, |there| there.examples().len());
            let same = n == class.examples.len()
                && class
                    .examples
                    .iter()
                    .all(|example| there.is_some_and(|there| there.example(example.hash).is_some()));
            if same {
                continue;
            }
            let class = Arc::make_mut(class);
            class
                .examples
                .retain(|example| there.is_some_and(|there| there.example(example.hash).is_some()));
            let known: std::collections::HashSet<ContentHash> =
                class.examples.iter().map(|example| example.hash).collect();
            let new = there.into_iter().flat_map(|there| there.examples());
            let new = new.filter(|example| !known.contains(&example.hash()));
            class.examples.extend(new.map(|example| Example {
                hash: example.hash(),
                name: example.name().to_owned(),
            }));
        }
    }
}
