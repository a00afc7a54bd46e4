//! Classes in front of a model that adapts to all their examples together.

use super::{Class, Example, FewShotClassifier, Picture};
use crate::episode::Support;
use crate::error::Error;
use crate::learner::{Task, logits_on_host};
use crate::norm::Norm;

/// Queries that are scored in one pass; relation networks hold every pair of a query and a class.
const BATCH: usize = 16;

/// A logit for each class, and the attention to each example where the model weighs them.
pub type Scored = (Vec<f32>, Option<Vec<f32>>);

/// A model adapted to a classifier's examples.
pub struct Adapted {
    task: Task,
    n_support: usize,
    complete: bool,
}

impl std::fmt::Debug for Adapted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Adapted").finish_non_exhaustive()
    }
}

impl Adapted {
    /// Adapts to the examples that `keep` keeps, told the class and the example's place in it.
    ///
    /// # Errors
    /// No classes, or examples that the method can't use.
    pub fn to(classifier: &FewShotClassifier, keep: impl Fn(&Class, usize) -> bool) -> Result<Self, Error> {
        let mut pictures = Vec::new();
        let mut labels = Vec::new();
        for (label, class) in classifier.classes().enumerate() {
            for (index, example) in class.examples().iter().enumerate() {
                if keep(class, index) {
                    pictures.push(picture_of(example)?);
                    labels.push(label);
                }
            }
        }
        if labels.is_empty() {
            return Err(Error::Setting {
                name: "classes",
                problem: "there is none yet; add examples first".to_owned(),
            });
        }
        let n_support = labels.len();
        let support = Support {
            images: classifier.model().tensor(&pictures.iter().collect::<Vec<_>>())?,
            labels,
            n_way: classifier.classes().len(),
        };
        Ok(Self {
            task: classifier.model().learner().adapt(&support, Norm::Running)?,
            n_support,
            complete: n_support == classifier.n_examples(),
        })
    }

    /// Scores pictures.
    ///
    /// # Errors
    /// Pictures that the method can't use.
    pub fn score(&self, classifier: &FewShotClassifier, pictures: &[&Picture]) -> Result<Vec<Scored>, Error> {
        let n_way = classifier.classes().len();
        let mut scored = Vec::with_capacity(pictures.len());
        for batch in pictures.chunks(BATCH) {
            let model = classifier.model();
            let scores = model
                .learner()
                .score(&self.task, model.tensor(batch)?, Norm::Running)?;
            let logits = logits_on_host(scores.logits);
            let wrong = |what: &str| Error::Setting {
                name: "head",
                problem: format!("the model gave {what} for {n_way} classes; score by prototypes"),
            };
            if logits.len() != batch.len() * n_way {
                return Err(wrong("another number of scores"));
            }
            if logits.iter().any(|logit| logit.is_nan()) {
                return Err(wrong("scores that are no numbers"));
            }
            // Attention as it is, as logarithms: its softmax gives it back.
            let attention = scores.attention.map(logits_on_host);
            let attention = attention.filter(|_| self.complete);
            for (index, logits) in logits.chunks_exact(n_way).enumerate() {
                let weights = attention.as_ref().and_then(|all| {
                    let row = all.get(index * self.n_support..(index + 1) * self.n_support)?;
                    Some(row.iter().map(|weight| weight.max(1e-30).ln()).collect())
                });
                scored.push((logits.to_vec(), weights));
            }
        }
        Ok(scored)
    }

    /// Scores examples as if they were queries.
    ///
    /// # Errors
    /// As [`Adapted::score`].
    pub fn score_examples(
        &self,
        classifier: &FewShotClassifier,
        examples: &[&Example],
    ) -> Result<Vec<Scored>, Error> {
        let pictures = examples
            .iter()
            .map(|example| picture_of(example))
            .collect::<Result<Vec<_>, _>>()?;
        self.score(classifier, &pictures.iter().collect::<Vec<_>>())
    }
}

fn picture_of(example: &Example) -> Result<Picture, Error> {
    let pixels = example.pixels().ok_or_else(|| Error::Setting {
        name: "head",
        problem: format!(
            "example `{}` came without its pixels; add the picture itself",
            example.name()
        ),
    })?;
    Picture::from_values(pixels.to_vec())
}
