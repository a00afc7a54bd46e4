//! A sample of examples, each scored against all classes as they are without it, by a kernel.
//!
//! The scores are kept from one change to the next: a class that is added or changed costs its own column, and an example
//! that comes into the sample its own row. Nothing depends on what was kept: the same classes give the same rows.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::kernel;
use super::temperature::Row;
use super::{Class, ContentHash};
use crate::method::Kernel;

/// Multiplications that the scores of the sample may take; what it buys is a hundred examples among 10,000 classes.
const BUDGET: usize = 96 << 20;
/// Examples in the sample, at least and at most.
pub const SAMPLE: (usize, usize) = (32, 512);

/// The scores of left-out examples.
#[derive(Debug)]
pub struct LeftOut {
    kernel: Kernel,
    /// The classes of the columns.
    classes: Vec<Arc<Class>>,
    examples: Vec<Scored>,
}

/// An example of the sample.
#[derive(Debug)]
struct Scored {
    hash: ContentHash,
    /// Index of its class.
    own: usize,
    /// `[classes]`; that of its own class is without it.
    logits: Vec<f32>,
}

impl LeftOut {
    /// Scores a sample of the examples of `classes`, which are ordered by name; takes from `before` what is the same there.
    pub fn of(kernel: Kernel, classes: Vec<Arc<Class>>, before: Option<&Self>) -> Self {
        let before = before.filter(|before| before.kernel == kernel);
        let columns = match kernel {
            Kernel::SquaredEuclidean | Kernel::Cosine { .. } => classes.len(),
            Kernel::Attention { .. } | Kernel::Nearest => {
                classes.iter().map(|class| class.examples().len()).sum()
            }
        };
        let work = (columns * classes.first().map_or(1, |class| class.prototype().len())).max(1);
        let count = (BUDGET / work).clamp(SAMPLE.0, SAMPLE.1);
        let last = before.and_then(|before| Some(before.examples.last()?.hash));
        let kept = Kept::of(&classes, before);
        let examples = sample(&classes, count, last)
            .into_par_iter()
            .map(|(hash, own, example)| Scored {
                hash,
                own,
                logits: score(kernel, &classes, own, example, kept.row(hash, &classes[own])),
            })
            .collect();
        Self {
            kernel,
            classes,
            examples,
        }
    }

    /// What the calibration needs of each example.
    pub fn rows(&self) -> Vec<Row> {
        let row = |scored: &Scored| {
            let (left, right) = (&scored.logits[..scored.own], &scored.logits[scored.own + 1..]);
            Row::new(scored.logits[scored.own], [left, right].concat())
        };
        self.examples.par_iter().map(row).collect()
    }
}

/// What is known already.
struct Kept<'a> {
    /// Columns, and where the same ones lie before.
    runs: Vec<(Range<usize>, usize)>,
    rows: HashMap<ContentHash, Vec<(&'a Arc<Class>, &'a Scored)>>,
}

/// The columns that are known, where they lie, and their logits.
type KeptRow<'a> = (&'a [(Range<usize>, usize)], &'a [f32]);

impl<'a> Kept<'a> {
    fn of(classes: &[Arc<Class>], before: Option<&'a LeftOut>) -> Self {
        let mut rows: HashMap<_, Vec<_>> = HashMap::new();
        for scored in before.iter().flat_map(|before| &before.examples) {
            let class = before.map(|before| &before.classes[scored.own]);
            rows.entry(scored.hash)
                .or_default()
                .extend(class.map(|class| (class, scored)));
        }
        Self {
            runs: before.map_or_else(Vec::new, |before| runs(classes, &before.classes)),
            rows,
        }
    }

    /// The logits of an example of a class that is as it was.
    fn row(&self, hash: ContentHash, class: &Arc<Class>) -> Option<KeptRow<'_>> {
        let (_, scored) = self
            .rows
            .get(&hash)?
            .iter()
            .find(|(known, _)| Arc::ptr_eq(known, class))?;
        Some((&self.runs, &scored.logits))
    }
}

/// Where classes that are the very same follow each other in both lists, which are ordered by name.
fn runs(now: &[Arc<Class>], before: &[Arc<Class>]) -> Vec<(Range<usize>, usize)> {
    let mut runs: Vec<(Range<usize>, usize)> = Vec::new();
    let mut old = 0;
    for (new, class) in now.iter().enumerate() {
        while before
            .get(old)
            .is_some_and(|other| !Arc::ptr_eq(other, class) && other.name() < class.name())
        {
            old += 1;
        }
        if !before.get(old).is_some_and(|other| Arc::ptr_eq(other, class)) {
            continue;
        }
        match runs.last_mut() {
            Some((range, start)) if range.end == new && *start + range.len() == old => range.end += 1,
            _ => runs.push((new..new + 1, old)),
        }
        old += 1;
    }
    runs
}

fn score(
    kernel: Kernel,
    classes: &[Arc<Class>],
    own: usize,
    example: usize,
    kept: Option<KeptRow<'_>>,
) -> Vec<f32> {
    let features = classes[own].prototype().len();
    let query = &classes[own].rows()[example * features..][..features];
    let mut logits = Vec::with_capacity(classes.len());
    let fresh = |logits: &mut Vec<f32>, columns: Range<usize>| {
        logits.extend(columns.map(|column| match column == own {
            true => kernel::logit_without(kernel, &classes[own], example),
            false => kernel::logit_alone(kernel, query, &classes[column]),
        }));
    };
    let (runs, known) = kept.unwrap_or_default();
    for (columns, start) in runs {
        let next = logits.len();
        fresh(&mut logits, next..columns.start);
        logits.extend_from_slice(&known[*start..][..columns.len()]);
    }
    let next = logits.len();
    fresh(&mut logits, next..classes.len());
    logits
}

/// The `count` pictures with the smallest hashes, in their order: hash, class and example. `last` is the greatest hash of a
/// sample before: mostly as many are below it again, and then the others need not be looked at.
fn sample(
    classes: &[Arc<Class>],
    count: usize,
    last: Option<ContentHash>,
) -> Vec<(ContentHash, usize, usize)> {
    let up_to = |last: Option<ContentHash>| -> Vec<_> {
        classes
            .iter()
            .enumerate()
            .flat_map(|(class, found)| {
                // They are in the order of their hashes.
                let examples = found.examples().iter().map(super::Example::hash).enumerate();
                let examples = examples.take_while(move |(_, hash)| last.is_none_or(|last| *hash <= last));
                examples.map(move |(index, hash)| (hash, class, index))
            })
            .collect()
    };
    let mut all = up_to(last);
    if last.is_some() && all.len() < count {
        all = up_to(None);
    }
    if count < all.len() {
        all.select_nth_unstable(count);
        all.truncate(count);
    }
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::super::Example;
    use super::*;

    const KERNEL: Kernel = Kernel::SquaredEuclidean;

    fn class(name: &str, seed: u64) -> Arc<Class> {
        let examples = (0..4).map(|index| {
            let value = seed * 4 + index;
            let mut hash = [0; 16];
            hash[..8].copy_from_slice(&value.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
            let embedding: Vec<f32> = (0..3).map(|side| (value * (side + 2) % 17) as f32).collect();
            Example::embedded("x", ContentHash(hash), embedding.into())
        });
        Arc::new(Class::with(name, None, examples.collect(), Some(KERNEL)).0)
    }

    fn logits(found: &LeftOut) -> Vec<(ContentHash, usize, &[f32])> {
        let each = found.examples.iter();
        each.map(|scored| (scored.hash, scored.own, &scored.logits[..]))
            .collect()
    }

    #[test]
    fn what_was_kept_changes_nothing_whatever_came_and_went() {
        let name = |index: usize| format!("class {index:03}");
        let mut classes: Vec<_> = (0..300).map(|index| class(&name(index), index as u64)).collect();
        let mut before = LeftOut::of(KERNEL, classes.clone(), None);
        for step in 0..30usize {
            let at = step * 37 % classes.len();
            match step % 4 {
                0 => drop(classes.remove(at)),
                1 => classes.insert(
                    at,
                    class(
                        &format!("{} and more", classes[at - 1].name()),
                        1000 + step as u64,
                    ),
                ),
                2 => classes[at] = class(classes[at].name(), 2000 + step as u64),
                _ => classes[at] = Arc::new(classes[at].renamed(&format!("{}!", classes[at].name()))),
            }
            classes.sort_by(|a, b| a.name().cmp(b.name()));
            let next = LeftOut::of(KERNEL, classes.clone(), Some(&before));
            let fresh = LeftOut::of(KERNEL, classes.clone(), None);
            assert_eq!(logits(&next), logits(&fresh), "step {step}");
            before = next;
        }
    }

    #[test]
    fn only_what_changed_is_scored_anew() {
        let mut classes: Vec<_> = ["a", "b", "d"]
            .iter()
            .enumerate()
            .map(|(n, name)| class(name, n as u64))
            .collect();
        let old = classes.clone();
        classes.insert(2, class("c", 9));
        assert_eq!(runs(&classes, &old), [(0..2, 0), (3..4, 2)]);
        assert_eq!(runs(&old, &classes), [(0..2, 0), (2..3, 3)]);
        classes[0] = class("a", 10);
        assert_eq!(runs(&classes, &old), [(1..2, 1), (3..4, 2)]);
    }
}
