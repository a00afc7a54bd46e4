//! The three parts of a dataset and the classes in each.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Which part of a dataset's classes: no class lies in two parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Classes for meta-training.
    Train,
    /// Classes for choosing when to stop.
    Val,
    /// Classes for the reported accuracy.
    Test,
}

impl Part {
    /// The three parts in order.
    pub const ALL: [Part; 3] = [Part::Train, Part::Val, Part::Test];

    /// `train`, `val` or `test`.
    pub const fn name(self) -> &'static str {
        match self {
            Part::Train => "train",
            Part::Val => "val",
            Part::Test => "test",
        }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// One class: its name and how many examples it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// Unique within the dataset: `Futurama/character03/rot090`, `cat`.
    pub name: String,
    /// How many examples [`super::Dataset::read`] gives of it.
    pub n_examples: usize,
}

/// The classes of one part, in groups (alphabets, or one group for all).
///
/// Classes of a group lie next to each other, so that a group is a range of class indices. Classes of one episode come from
/// one pool, a range of groups; all classes are one pool unless the dataset divides them.
#[derive(Clone, Debug, Default)]
pub struct ClassTable {
    classes: Vec<Class>,
    groups: Vec<(String, Range<usize>)>,
    /// Where a pool begins, but for the first.
    divisions: Vec<usize>,
}

impl ClassTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a group (an alphabet) and its classes.
    pub fn push_group(&mut self, name: impl Into<String>, classes: impl IntoIterator<Item = Class>) {
        let start = self.classes.len();
        self.classes.extend(classes);
        self.groups.push((name.into(), start..self.classes.len()));
    }

    /// The groups that follow are another pool: they never meet the ones before in an episode.
    pub fn start_pool(&mut self) {
        if !self.is_empty() {
            self.divisions.push(self.len());
        }
    }

    /// The pools, as ranges of class indices.
    pub fn pools(&self) -> Vec<Range<usize>> {
        let starts = std::iter::once(0).chain(self.divisions.iter().copied());
        let ends = self.divisions.iter().copied().chain([self.len()]);
        starts.zip(ends).map(|(start, end)| start..end).collect()
    }

    /// All classes.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// Number of classes.
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether there is no class.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// The groups: name and range of class indices.
    pub fn groups(&self) -> &[(String, Range<usize>)] {
        &self.groups
    }
}
