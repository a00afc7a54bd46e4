//! A few test episodes as they were answered.

use super::escape;
use super::picture::{Look, Picture, side_within};
use crate::error::Error;
use crate::eval::{self, Answered};
use crate::learner::Learner;
use crate::norm::Norm;
use crate::sampler::Sampler;

/// Episodes that are shown: the first ones of the test, whatever came of them.
const EPISODES: u64 = 3;
/// Classes of an episode that are shown.
const ROWS: usize = 20;
/// Labelled pictures of an episode that are shown, and as many queries.
const PICTURES: usize = 60;
/// Examples per class that are shown of each kind.
const PER_CLASS: usize = 5;
/// Size of all these pictures together in the page, in bytes.
const BYTES: usize = 900 << 10;

/// A test episode as it was answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its number, from 0.
    pub index: u64,
    /// Queries that were recognised, of all.
    pub right: usize,
    /// Queries in all.
    pub queries: usize,
    /// Classes in all.
    pub n_way: usize,
    /// Labelled examples per class in all.
    pub n_shot: usize,
    /// The classes that are shown.
    pub rows: Vec<Row>,
}

/// One class of an episode.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The class's name.
    pub name: String,
    /// Some of its labelled examples.
    pub support: Vec<Picture>,
    /// Some of its queries.
    pub queries: Vec<Query>,
}

/// A query and what was made of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// The query.
    pub picture: Picture,
    /// The label that it was given: an index into the episode's classes.
    pub predicted: usize,
    /// That class's name.
    pub predicted_name: String,
    /// Whether that is its label.
    pub right: bool,
    /// P(predicted | query, support set), in `[0, 1]`.
    pub probability: f64,
}

/// The first episodes of `sampler`, at most `episodes`, and how their pictures look.
///
/// # Errors
/// An episode that can't be made or answered.
pub fn gather(
    learner: &dyn Learner,
    sampler: &Sampler,
    episodes: u64,
    norm: Norm,
) -> Result<(Vec<Sample>, Look), Error> {
    let answered: Vec<Answered> = (0..episodes.min(EPISODES))
        .map(|index| eval::answer(learner, sampler.episode(index)?, norm))
        .collect::<Result<_, Error>>()?;
    let pixels: Vec<f32> = answered
        .iter()
        .flat_map(|answered| answered.episode.support.iter().copied())
        .collect();
    let look = Look::of(&pixels, sampler.dataset().shape());
    let shown: usize = answered
        .iter()
        .map(|answered| {
            let task = answered.episode.task;
            let rows = task.n_way.min(ROWS);
            rows * (per_class(task.n_shot, rows) + per_class(task.n_query, rows))
        })
        .sum();
    let side = side_within(BYTES, shown, sampler.dataset().shape().channels);
    let samples = answered
        .iter()
        .zip(0..)
        .map(|(answered, index)| sample(answered, index, sampler, look, side))
        .collect::<Result<_, Error>>()?;
    Ok((samples, look))
}

fn sample(
    answered: &Answered,
    index: u64,
    sampler: &Sampler,
    look: Look,
    side: u32,
) -> Result<Sample, Error> {
    let episode = &answered.episode;
    let (task, image) = (episode.task, episode.image);
    let table = sampler.dataset().classes(sampler.part()).classes();
    let name = |label: usize| escape::short(&table[episode.classes[label]].name);
    let predictions = answered.predictions();
    let rows = task.n_way.min(ROWS);
    let picture = |pixels: &[f32], place: usize| {
        Picture::new(
            &pixels[place * image.len()..(place + 1) * image.len()],
            image,
            look,
            side,
        )
    };
    let query = |label: usize, place: usize| -> Result<Query, Error> {
        let predicted = predictions[place];
        Ok(Query {
            picture: picture(&episode.query, place)?,
            predicted,
            predicted_name: name(predicted),
            right: predicted == label,
            probability: probability(
                &answered.logits[place * task.n_way..(place + 1) * task.n_way],
                predicted,
            ),
        })
    };
    let row = |label: usize| -> Result<Row, Error> {
        Ok(Row {
            name: name(label),
            support: (0..per_class(task.n_shot, rows))
                .map(|shot| picture(&episode.support, label * task.n_shot + shot))
                .collect::<Result<_, Error>>()?,
            queries: (0..per_class(task.n_query, rows))
                .map(|place| query(label, label * task.n_query + place))
                .collect::<Result<_, Error>>()?,
        })
    };
    let labels = episode.query_labels();
    Ok(Sample {
        index,
        right: labels
            .iter()
            .zip(&predictions)
            .filter(|(label, predicted)| label == predicted)
            .count(),
        queries: labels.len(),
        n_way: task.n_way,
        n_shot: task.n_shot,
        rows: (0..rows).map(row).collect::<Result<_, Error>>()?,
    })
}

fn per_class(there_are: usize, rows: usize) -> usize {
    there_are.min(PER_CLASS).min((PICTURES / rows.max(1)).max(1))
}

/// Softmax of `logits` at `place`.
fn probability(logits: &[f32], place: usize) -> f64 {
    let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |logit: f32| f64::from(logit - greatest).exp();
    weight(logits[place]) / logits.iter().copied().map(weight).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::{per_class, probability};

    #[test]
    fn the_probability_is_softmax_and_does_not_overflow() {
        assert!((probability(&[0.0, 3.0f32.ln(), 0.0], 1) - 0.6).abs() < 1e-6);
        assert!((probability(&[-900.0, -1000.0], 0) - 1.0).abs() < 1e-12);
        assert!((probability(&[1e30, 1e30], 0) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn large_episodes_show_fewer_pictures_of_each_class() {
        assert_eq!(
            (
                per_class(5, 5),
                per_class(15, 5),
                per_class(5, 20),
                per_class(1, 20)
            ),
            (5, 5, 3, 1)
        );
    }
}
