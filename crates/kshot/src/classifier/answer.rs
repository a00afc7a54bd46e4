//! What the classifier says of a picture.

use rayon::prelude::*;
use serde::Serialize;

use super::kernel;
use super::{Class, ContentHash, FewShotClassifier, Picture};
use crate::error::Error;
use crate::method::Kernel;

/// Similarity of embeddings where a model without a kernel gives no attention of its own.
const EVIDENCE: Kernel = Kernel::Cosine { factor: 10.0 };
/// Multiplications below which one thread is faster than many.
const WORTH_SHARING: usize = 1 << 20;
/// Pieces of the work that many threads share.
const PIECES: usize = 16;
/// So many of the greatest values are found by looking at each value once.
const FEW: usize = 64;

/// What an [`Answer`] shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Show {
    /// Most entries of [`Answer::ranked`].
    pub top: usize,
    /// Most entries of [`Answer::evidence`].
    pub evidence: usize,
}

impl Default for Show {
    fn default() -> Self {
        Self { top: 5, evidence: 5 }
    }
}

/// What the classifier says of a picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// The most probable class; `None` for none of the classes.
    pub label: Option<String>,
    /// That it is this class, given that it is one of them; for none of the classes, that it is none.
    pub probability: f64,
    /// Whether it is one of the classes.
    pub known: bool,
    /// The probability that it is one of the classes.
    #[serde(skip)]
    pub familiar: f64,
    /// The classes by falling probability, given that it is one of them.
    pub ranked: Vec<Ranked>,
    /// The examples that weigh most, by falling weight.
    pub evidence: Vec<Evidence>,
}

/// A class and its probability.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ranked {
    /// The class.
    pub label: String,
    /// In `[0, 1]`; they sum to 1 over all classes.
    pub probability: f64,
}

/// An enrolled example that speaks for its class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evidence {
    /// Its class.
    pub label: String,
    /// Its name.
    pub example: String,
    /// Its share of the attention, in `[0, 1]`; they sum to 1 over all examples.
    pub weight: f64,
    /// Tells its picture by its content.
    #[serde(skip)]
    pub hash: ContentHash,
}

impl FewShotClassifier {
    /// Recognises pictures; each is answered for itself, whatever the others are.
    ///
    /// # Errors
    /// No classes, or pictures made for another model.
    pub fn classify(&self, pictures: &[Picture]) -> Result<Vec<Answer>, Error> {
        self.classify_as(pictures, Show::default())
    }

    /// As [`FewShotClassifier::classify`], showing more or less.
    ///
    /// # Errors
    /// As [`FewShotClassifier::classify`].
    pub fn classify_as(&self, pictures: &[Picture], show: Show) -> Result<Vec<Answer>, Error> {
        let pictures: Vec<&Picture> = pictures.iter().collect();
        let embeddings = self.model().embed(&pictures)?;
        if self.kernel().is_some() {
            return self.classify_embedded(&embeddings, show);
        }
        self.calibration()?;
        let layout = Layout::of(self);
        let scored = self.adapted()?.score(self, &pictures)?;
        let answers = scored
            .into_iter()
            .zip(&embeddings)
            .map(|((logits, attention), embedding)| {
                let similarities = attention.unwrap_or_else(|| {
                    let query = kernel::as_taken(EVIDENCE, embedding);
                    let classes = self
                        .classes()
                        .flat_map(|class| similarities(EVIDENCE, &query, class));
                    classes.collect()
                });
                self.answer(&layout, &logits, &similarities, show)
            });
        answers.collect()
    }

    /// As [`FewShotClassifier::classify_as`], of embeddings that the model gave.
    ///
    /// # Errors
    /// No classes, embeddings of another length, or a model without a kernel over embeddings.
    pub fn classify_embedded<E: AsRef<[f32]> + Sync>(
        &self,
        embeddings: &[E],
        show: Show,
    ) -> Result<Vec<Answer>, Error> {
        let Some(kernel) = self.kernel() else {
            return Err(Error::Setting {
                name: "head",
                problem: "this model scores by more than embeddings; give it the pictures".to_owned(),
            });
        };
        let features = self.features().ok_or_else(no_classes)?;
        if let Some(other) = embeddings.iter().find(|query| query.as_ref().len() != features) {
            return Err(Error::Setting {
                name: "encoder",
                problem: format!(
                    "the examples have {features} features and a query {}; they come from different models",
                    other.as_ref().len()
                ),
            });
        }
        self.calibration()?;
        let layout = Layout::of(self);
        let work = (layout.n_examples * features).max(1);
        embeddings
            .par_iter()
            .with_min_len(WORTH_SHARING.div_ceil(work))
            .map(|embedding| {
                let query = kernel::as_taken(kernel, embedding.as_ref());
                let score = |classes: &[&Class]| Scores::of(kernel, &query, classes, show.evidence > 0);
                let Scores { logits, similarities } = if work < WORTH_SHARING {
                    score(&layout.classes)
                } else {
                    let pieces = layout.classes.par_chunks(layout.classes.len().div_ceil(PIECES));
                    Scores::joined(pieces.map(score).collect())
                };
                self.answer(&layout, &logits, &similarities, show)
            })
            .collect()
    }

    /// From a logit for each class and a similarity to each example, in the order of the classes; the similarities are for
    /// the evidence alone.
    fn answer(
        &self,
        layout: &Layout<'_>,
        logits: &[f32],
        similarities: &[f32],
        show: Show,
    ) -> Result<Answer, Error> {
        let calibration = self.calibration()?;
        let probabilities = softmax(logits, calibration.temperature);
        let ranking = greatest(&probabilities, show.top.max(1));
        let Layout { classes, starts, .. } = layout;
        let best = *ranking.first().ok_or_else(no_classes)?;
        let familiar = calibration.probability_known(f64::from(logits[best]));
        let known = self.unknown().accepts(familiar);
        let ranked = ranking.iter().map(|&index| Ranked {
            label: classes[index].name().to_owned(),
            probability: probabilities[index],
        });
        let weights = softmax(similarities, calibration.temperature);
        let evidence = greatest(&weights, show.evidence).into_iter().map(|index| {
            let class = starts.partition_point(|&start| start <= index) - 1;
            let example = &classes[class].examples()[index - starts[class]];
            Evidence {
                label: classes[class].name().to_owned(),
                example: example.name().to_owned(),
                weight: weights[index],
                hash: example.hash(),
            }
        });
        Ok(Answer {
            label: known.then(|| classes[best].name().to_owned()),
            probability: if known {
                probabilities[best]
            } else {
                1.0 - familiar
            },
            known,
            familiar,
            ranked: ranked.take(show.top).collect(),
            evidence: evidence.collect(),
        })
    }
}

/// The classes in their order.
struct Layout<'a> {
    classes: Vec<&'a Class>,
    /// Of each class the place of its first example among all.
    starts: Vec<usize>,
    n_examples: usize,
}

impl<'a> Layout<'a> {
    fn of(classifier: &'a FewShotClassifier) -> Self {
        let classes: Vec<&Class> = classifier.classes().collect();
        let mut starts = Vec::with_capacity(classes.len());
        let mut n_examples = 0;
        for class in &classes {
            starts.push(n_examples);
            n_examples += class.examples().len();
        }
        Self {
            classes,
            starts,
            n_examples,
        }
    }
}

/// How near a query is to classes.
struct Scores {
    /// To each class.
    logits: Vec<f32>,
    /// To each of their examples, where they are wanted.
    similarities: Vec<f32>,
}

impl Scores {
    fn of(kernel: Kernel, query: &[f32], classes: &[&Class], with_similarities: bool) -> Self {
        if !with_similarities {
            let logits = classes
                .iter()
                .map(|class| kernel::logit_alone(kernel, query, class));
            return Self {
                logits: logits.collect(),
                similarities: Vec::new(),
            };
        }
        let mut logits = Vec::with_capacity(classes.len());
        let mut near = Vec::new();
        for class in classes {
            let start = near.len();
            near.extend(similarities(kernel, query, class));
            logits.push(kernel::logit(kernel, query, class, &near[start..]));
        }
        Self {
            logits,
            similarities: near,
        }
    }

    fn joined(pieces: Vec<Self>) -> Self {
        let (mut logits, mut similarities) = (Vec::new(), Vec::new());
        for piece in pieces {
            logits.extend(piece.logits);
            similarities.extend(piece.similarities);
        }
        Self { logits, similarities }
    }
}

fn similarities(kernel: Kernel, query: &[f32], class: &Class) -> impl Iterator<Item = f32> {
    let rows = class.rows().chunks_exact(query.len());
    rows.map(move |row| kernel::similarity(kernel, query, row))
}

fn no_classes() -> Error {
    Error::Setting {
        name: "classes",
        problem: "there is none yet; add examples first".to_owned(),
    }
}

/// softmax(values / temperature).
fn softmax(values: &[f32], temperature: f64) -> Vec<f64> {
    let greatest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut weights: Vec<f64> = values
        .iter()
        .map(|&value| (f64::from(value - greatest) / temperature).exp())
        .collect();
    let sum: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= sum);
    weights
}

/// Indices of the greatest values, falling; among equals the earlier one first.
fn greatest(values: &[f64], count: usize) -> Vec<usize> {
    if count <= FEW {
        return few_greatest(values, count);
    }
    let order = |&a: &usize, &b: &usize| values[b].total_cmp(&values[a]).then(a.cmp(&b));
    let mut indices: Vec<usize> = (0..values.len()).collect();
    if count < indices.len() {
        indices.select_nth_unstable_by(count, order);
        indices.truncate(count);
    }
    indices.sort_unstable_by(order);
    indices
}

fn few_greatest(values: &[f64], count: usize) -> Vec<usize> {
    let mut found: Vec<usize> = Vec::with_capacity(count + 1);
    for (index, value) in values.iter().enumerate() {
        let last = found.last().filter(|_| found.len() == count);
        if count == 0 || last.is_some_and(|&last| value.total_cmp(&values[last]).is_le()) {
            continue;
        }
        let at = found.partition_point(|&other| values[other].total_cmp(value).is_ge());
        found.insert(at, index);
        found.truncate(count);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_values_are_the_first_of_all_in_order() {
        let values: Vec<f64> = (0..500u32).map(|index| f64::from(index * 7919 % 101)).collect();
        let mut all: Vec<usize> = (0..values.len()).collect();
        all.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
        for count in [0, 1, 5, FEW, FEW + 1, 499, 500, 600] {
            assert_eq!(greatest(&values, count), all[..count.min(500)], "{count}");
            assert_eq!(few_greatest(&values, count), all[..count.min(500)], "{count}");
        }
        assert!(greatest(&[], 5).is_empty());
    }
}
