//! Which enrolled examples can't be told apart.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use super::kernel;
use super::{Class, ContentHash, FewShotClassifier};
use crate::method::Kernel;

/// Multiplications that looking for confusions may take: about two seconds of one core.
const BUDGET: usize = 8 << 30;

/// What can't be told apart among the enrolled examples.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Confusions {
    /// Pairs of classes, those with the most examples first.
    pub pairs: Vec<Confusion>,
    /// Examples that were looked at, and how many there are; fewer where all would take too long.
    pub checked: usize,
    /// Examples in all.
    pub examples: usize,
}

/// Two classes with examples that can't be told apart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Confusion {
    /// Their names, in alphabetical order.
    pub classes: [String; 2],
    /// The examples, of either class.
    pub examples: Vec<Confused>,
}

/// An example that is nearer to another class than to the rest of its own.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Confused {
    /// Its class.
    pub label: String,
    /// Its name.
    pub example: String,
    /// Whether the very same picture is an example of the other class.
    pub same_picture: bool,
}

impl FewShotClassifier {
    /// Looks for examples that, left out of their class, are taken for another's, and for pictures that are in two
    /// classes. An only example of its class is looked at for the latter, and for an embedding that is another class's.
    pub fn confusions(&self) -> Confusions {
        let classes: Vec<&Class> = self.classes().collect();
        // A model without a kernel is judged by its embeddings: adapting it without each example would take hours.
        let kernel = self.kernel().unwrap_or(Kernel::Cosine { factor: 1.0 });
        let examples = self.n_examples();
        let work = (classes.len() * self.features().unwrap_or(1)).max(1);
        let step = examples.div_ceil((BUDGET / work).max(1)).max(1);
        let places: Vec<(usize, usize)> = classes
            .iter()
            .enumerate()
            .flat_map(|(class, found)| (0..found.examples().len()).map(move |example| (class, example)))
            .step_by(step)
            .collect();
        let mut pairs: BTreeMap<(usize, usize), Vec<Found>> = BTreeMap::new();
        let mut note = |own: usize, other: usize, example: usize, same: bool| {
            let found = pairs.entry((own.min(other), own.max(other))).or_default();
            if !found
                .iter()
                .any(|&(class, index, _)| (class, index) == (own, example))
            {
                found.push((own, example, same));
            }
        };
        for (own, example, other) in same_pictures(&classes) {
            note(own, other, example, true);
        }
        let taken: Vec<_> = places
            .par_iter()
            .filter_map(|&(own, example)| Some((own, example, taken_for(kernel, &classes, own, example)?)))
            .collect();
        for (own, example, other) in taken {
            note(own, other, example, false);
        }
        let mut pairs: Vec<Confusion> = pairs
            .into_iter()
            .map(|((first, second), found)| Confusion {
                classes: [first, second].map(|class| classes[class].name().to_owned()),
                examples: found
                    .into_iter()
                    .map(|(class, example, same_picture)| Confused {
                        label: classes[class].name().to_owned(),
                        example: classes[class].examples()[example].name().to_owned(),
                        same_picture,
                    })
                    .collect(),
            })
            .collect();
        pairs.sort_by_key(|pair| std::cmp::Reverse(pair.examples.len()));
        Confusions {
            pairs,
            checked: places.len(),
            examples,
        }
    }
}

/// Class and example, and whether the other class has the very same picture.
type Found = (usize, usize, bool);

/// The class for which an example is taken when it is left out of its own.
fn taken_for(kernel: Kernel, classes: &[&Class], own: usize, example: usize) -> Option<usize> {
    let features = classes[own].prototype().len();
    let query = &classes[own].rows()[example * features..][..features];
    let rest = if classes[own].examples().len() > 1 {
        kernel::logit_without(kernel, classes[own], example)
    } else {
        // Nothing is left of its class: it counts as confused where another one is as near to it as it is itself.
        kernel::similarity(kernel, query, query) - 1e-6
    };
    let others = classes.iter().enumerate().filter(|(index, _)| *index != own);
    let (other, nearest) = others
        .map(|(index, class)| (index, kernel::logit_alone(kernel, query, class)))
        .max_by(|a, b| a.1.total_cmp(&b.1))?;
    (nearest > rest).then_some(other)
}

/// Class and example of pictures that another class has too, and that class.
fn same_pictures(classes: &[&Class]) -> Vec<(usize, usize, usize)> {
    let mut by_hash: BTreeMap<ContentHash, Vec<(usize, usize)>> = BTreeMap::new();
    for (class, found) in classes.iter().enumerate() {
        for (index, example) in found.examples().iter().enumerate() {
            by_hash.entry(example.hash()).or_default().push((class, index));
        }
    }
    let shared = by_hash.into_values().filter(|places| places.len() > 1);
    shared
        .flat_map(|places| {
            let all = places.clone();
            places.into_iter().flat_map(move |(class, example)| {
                let others = all.clone().into_iter().filter(move |(other, _)| *other != class);
                others.map(move |(other, _)| (class, example, other))
            })
        })
        .collect()
}
