//! Classes and examples in the order in which they came; the classifier has them in another one.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use kshot::classifier::{ContentHash, FewShotClassifier};
use kshot_store::Contents;

/// The classes, oldest first, those without examples among them.
#[derive(Clone, Debug, Default)]
pub struct Index {
    classes: Vec<Arc<Class>>,
}

/// A class's examples.
#[derive(Clone, Debug)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// Its examples by their pictures' hashes, oldest first.
    pub examples: Vec<ContentHash>,
}

impl Index {
    /// What a store holds.
    pub fn of(contents: Contents) -> Self {
        let classes = contents.classes.into_iter().map(|class| {
            Arc::new(Class {
                name: class.name,
                examples: class.examples.iter().map(|example| example.hash).collect(),
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

    /// Adds examples to a class, in this order, but for those that it has.
    pub fn extend(&mut self, name: &str, hashes: &[ContentHash]) {
        for class in self.classes.iter_mut().filter(|class| class.name == name) {
            let examples = &mut Arc::make_mut(class).examples;
            for hash in hashes {
                if !examples.contains(hash) {
                    examples.push(*hash);
                }
            }
        }
    }

    /// Makes it show what a classifier has where that differs from `before`, which it showed: what is gone goes, what others
    /// have added comes last. `empty` are the classes without examples.
    pub fn follow(&mut self, before: &FewShotClassifier, now: &FewShotClassifier, empty: &BTreeSet<String>) {
        let changed: BTreeSet<&str> = now.differences(before).into_iter().collect();
        let mut new = changed.clone();
        new.retain(|name| now.class(name).is_some());
        for class in &self.classes {
            new.remove(class.name.as_str());
        }
        new.into_iter().for_each(|name| self.push(name));
        for class in &mut self.classes {
            if !changed.contains(class.name.as_str()) {
                continue;
            }
            let there = now.class(&class.name);
            let has = |hash: &ContentHash| there.is_some_and(|there| there.example(*hash).is_some());
            let examples = &mut Arc::make_mut(class).examples;
            examples.retain(has);
            let known: HashSet<ContentHash> = examples.iter().copied().collect();
            let all = there.into_iter().flat_map(|there| there.examples());
            examples.extend(
                all.map(|example| example.hash())
                    .filter(|hash| !known.contains(hash)),
            );
        }
        let mut new: BTreeSet<&str> = empty.iter().map(String::as_str).collect();
        self.classes
            .retain(|class| !class.examples.is_empty() || new.remove(class.name.as_str()));
        new.into_iter().for_each(|name| self.push(name));
    }
}
