//! Prototypical networks against an independent PyTorch program.
//!
//! `golden/prototypical.safetensors` was made by `bench/reference/prototypical.py`; its metadata says
//! with which version, command and seed. Weights, images and every expected number come from there.

#[path = "common/golden.rs"]
mod golden;

use burn::tensor::{Tensor, TensorData};
use golden::{Golden, IMAGE, TASK, assert_close, assert_gradients, resolve};
use kshot::episode::Support;
use kshot::learner::{Learner, logits_on_host};
use kshot::model;
use kshot::named::Named;
use kshot::norm::Norm;

fn read() -> Golden {
    Golden::read("prototypical")
}

/// A learner with the file's weights and running statistics.
fn learner(golden: &Golden, distance: &str) -> Box<dyn Learner> {
    let settings = resolve(&[("filters", "16"), ("distance", distance)]);
    let mut weights: Vec<Named> = golden
        .arrays
        .values()
        .filter(|array| array.name.starts_with("encoder."))
        .cloned()
        .collect();
    for block in 0..4 {
        for (theirs, ours) in [("mean", "running_mean"), ("variance", "running_variance")] {
            let mut array = golden.arrays[&format!("running.{block}.{theirs}")].clone();
            array.name = format!("encoder.blocks.{block}.{ours}");
            weights.push(array);
        }
    }
    model::with_weights(&settings, IMAGE, &weights, &golden.path).unwrap()
}

fn all_images(golden: &Golden, learner: &dyn Learner) -> Tensor<4> {
    let n = TASK.n_support() + TASK.n_queries();
    let data = TensorData::new(golden.values("images").to_vec(), [n, 28, 28, 1]);
    Tensor::from_data(data, learner.device())
}

#[test]
fn loss_gradients_and_batch_statistics_agree_with_pytorch() {
    let golden = read();
    let learner = learner(&golden, "euclidean");
    let step = learner.meta_step(&golden.episode()).unwrap();
    assert_close("loss", &[step.loss], golden.values("loss"), 1e-5);
    assert_gradients(&golden, learner.as_ref(), &step, "grad");
    assert_eq!(step.statistics.len(), 8);
    for (index, observed) in &step.statistics {
        let name = &learner.parameters()[*index].name;
        let block: usize = name.split('.').nth(2).unwrap().parse().unwrap();
        let found = logits_on_host(observed.clone());
        if name.ends_with("mean") {
            assert_close(name, &found, golden.values(&format!("stats.{block}.mean")), 1e-5);
        } else {
            // The running average takes the unbiased variance, the file holds the biased one.
            let side = 28 >> block;
            let count = (25 * side * side) as f32;
            let expected: Vec<f32> = golden
                .values(&format!("stats.{block}.variance"))
                .iter()
                .map(|v| v * count / (count - 1.0))
                .collect();
            assert_close(name, &found, &expected, 1e-5);
        }
    }
}

#[test]
fn embeddings_agree_with_pytorch_under_both_norms() {
    let golden = read();
    let learner = learner(&golden, "euclidean");
    for (norm, name) in [
        (Norm::Episode, "embeddings"),
        (Norm::Running, "embeddings_running"),
    ] {
        let found = logits_on_host(learner.embed(all_images(&golden, learner.as_ref()), norm));
        assert_close(name, &found, golden.values(name), 2e-5);
    }
}

#[test]
fn cosine_loss_and_gradients_agree_with_pytorch() {
    let golden = read();
    let learner = learner(&golden, "cosine");
    let step = learner.meta_step(&golden.episode()).unwrap();
    assert_close("loss", &[step.loss], golden.values("cosine.loss"), 1e-5);
    assert_gradients(&golden, learner.as_ref(), &step, "cosine.grad");
}

#[test]
fn scores_are_the_negative_squared_distances_to_the_mean_embeddings() {
    let golden = read();
    let learner = learner(&golden, "euclidean");
    let episode = golden.episode();
    let support: Support = episode.support_on(learner.device());
    let task = learner.adapt(&support, Norm::Running).unwrap();
    let scores = learner
        .score(&task, episode.query_on(learner.device()), Norm::Running)
        .unwrap();
    let embeddings = golden.values("embeddings_running");
    let features = embeddings.len() / (TASK.n_support() + TASK.n_queries());
    let row = |index: usize| &embeddings[index * features..(index + 1) * features];
    let mut expected = Vec::new();
    for query in 0..TASK.n_queries() {
        for class in 0..TASK.n_way {
            let distance: f64 = (0..features)
                .map(|f| {
                    let mean = (0..TASK.n_shot)
                        .map(|k| f64::from(row(class * TASK.n_shot + k)[f]))
                        .sum::<f64>()
                        / TASK.n_shot as f64;
                    (f64::from(row(TASK.n_support() + query)[f]) - mean).powi(2)
                })
                .sum();
            expected.push(-distance as f32);
        }
    }
    assert_close("scores", &logits_on_host(scores.logits), &expected, 1e-4);
}
