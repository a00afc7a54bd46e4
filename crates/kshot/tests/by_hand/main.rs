//! Cases that are small enough to be followed on paper: models of a weight or two, and what the papers' equations make of
//! them. The numbers that a test expects stand in its comments as they are come by.

#[path = "../common/golden.rs"]
mod golden;
mod metric;
mod model;
mod optimization;

use burn::tensor::{Tensor, TensorData};
use kshot::data::ImageShape;
use kshot::episode::{Episode, TaskShape};
use kshot::learner::{Learner, Step, logits_on_host};
use kshot::norm::Norm;

/// A learner whose numbers are 0 but for the named ones.
fn learner(settings: &[(&str, &str)], image: ImageShape, numbers: &[(&str, &[f32])]) -> Box<dyn Learner> {
    let mut learner = kshot::model::fresh(&golden::resolve(settings), image).unwrap();
    let zeros: Vec<Tensor<1>> = learner.read().iter().map(Tensor::zeros_like).collect();
    learner.write(&zeros);
    set(learner.as_mut(), numbers);
    learner
}

/// Replaces the named numbers.
fn set(learner: &mut dyn Learner, numbers: &[(&str, &[f32])]) {
    let mut values = learner.read();
    for (name, numbers) in numbers {
        let place = place(learner, name);
        assert_eq!(values[place].dims(), [numbers.len()], "{name}");
        let numbers = TensorData::new(numbers.to_vec(), [numbers.len()]);
        values[place] = Tensor::from_data(numbers, &values[place].device());
    }
    learner.write(&values);
}

fn place(learner: &dyn Learner, name: &str) -> usize {
    let known: Vec<&str> = learner.parameters().iter().map(|one| one.name.as_str()).collect();
    let found = known.iter().position(|known| *known == name);
    found.unwrap_or_else(|| panic!("no {name} among {known:?}"))
}

/// An episode of `n_way` classes; support images and queries come class by class, as many of each.
fn episode(image: ImageShape, n_way: usize, support: &[&[f32]], query: &[&[f32]]) -> Episode {
    let task = TaskShape {
        n_way,
        n_shot: support.len() / n_way,
        n_query: query.len() / n_way,
    };
    Episode {
        task,
        image,
        support: support.concat(),
        query: query.concat(),
        classes: (0..n_way).collect(),
        support_examples: vec![0; task.n_support()],
        query_examples: vec![0; task.n_queries()],
    }
}

/// Logits of the queries, and the attention that they pay where the method has that.
fn scores(learner: &dyn Learner, episode: &Episode, norm: Norm) -> (Vec<f32>, Vec<f32>) {
    let device = learner.device();
    let task = learner.adapt(&episode.support_on(device), norm).unwrap();
    let scores = learner.score(&task, episode.query_on(device), norm).unwrap();
    let attention = scores.attention.map(logits_on_host).unwrap_or_default();
    (logits_on_host(scores.logits), attention)
}

/// The gradient of a named parameter.
fn gradient(learner: &dyn Learner, step: &Step, name: &str) -> Vec<f32> {
    let found = step.gradients[place(learner, name)].clone();
    logits_on_host(found.unwrap_or_else(|| panic!("{name} has no gradient")))
}

/// As [`golden::assert_close`] for a few numbers of about 1.
#[track_caller]
fn assert_near(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5);
    assert!(near, "{what}: {found:?}, by hand {expected:?}");
}

/// 1 / (1 + e⁻ˣ).
fn sigma(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
