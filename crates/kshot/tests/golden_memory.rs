//! Memory-augmented and meta networks against independent PyTorch programs.
//!
//! `golden/{mann,mann-paper,meta-network}.safetensors` were made by `bench/reference/{mann,meta_network}.py`; each file's
//! metadata says with which version, command and seed.

#[path = "common/golden.rs"]
mod golden;

use burn::tensor::Tensor;
use golden::{Golden, TASK, assert_close};
use kshot::episode::{Episode, Support};
use kshot::learner::{Learner, logits_on_host};
use kshot::norm::Norm;

const MANN: &[(&str, &str)] = &[
    ("method", "mann"),
    ("encoder", "pixels"),
    ("pixel-side", "7"),
    ("controller", "6"),
    ("heads", "2"),
    ("memory-rows", "12"),
    ("memory-width", "5"),
    ("usage-decay", "0.9"),
    ("sequence", "sampled"),
];
const META_NETWORK: &[(&str, &str)] = &[
    ("method", "meta-network"),
    ("encoder", "conv5"),
    ("filters", "8"),
    ("support-order", "sampled"),
];

/// The two variants, and the file of each.
fn manns() -> [(Golden, Box<dyn Learner>); 2] {
    let variants = [("mann", "learned", "vector"), ("mann-paper", "fixed", "key")];
    variants.map(|(file, sharpness, stored)| {
        let golden = Golden::read(file);
        let learner = golden.learner(&[MANN, &[("sharpness", sharpness), ("stored", stored)]].concat());
        (golden, learner)
    })
}

/// Loss, and the gradient of every parameter that the file has one for; it has one for all that are trained.
#[track_caller]
fn assert_step(golden: &Golden, learner: &dyn Learner) {
    let step = learner.meta_step(&golden.episode()).unwrap();
    assert_close("loss", &[step.loss], golden.values("loss"), 1e-5);
    golden::assert_gradients(golden, learner, &step, "grad");
}

/// Scores after adapting to the support set.
fn scores(learner: &dyn Learner, episode: &Episode) -> (Vec<f32>, Vec<f32>) {
    let device = learner.device();
    let task = learner.adapt(&episode.support_on(device), Norm::Running).unwrap();
    let found = learner
        .score(&task, episode.query_on(device), Norm::Running)
        .unwrap();
    let attention = found.attention.map(logits_on_host).unwrap_or_default();
    (logits_on_host(found.logits), attention)
}

#[test]
fn memory_augmented_networks_agree_with_pytorch() {
    for (golden, learner) in manns() {
        assert_step(&golden, learner.as_ref());
        let (found, _) = scores(learner.as_ref(), &golden.episode());
        assert_close("scores", &found, golden.values("scores"), 1e-4);
    }
}

#[test]
fn every_answer_of_a_presented_sequence_agrees_with_pytorch() {
    for (golden, learner) in manns() {
        let episode = golden.episode();
        let device = learner.device();
        let images = vec![episode.support_on(device).images, episode.query_on(device)];
        let sequence = Support {
            images: Tensor::cat(images, 0),
            labels: [episode.support_labels(), episode.query_labels()].concat(),
            n_way: TASK.n_way,
        };
        let found = logits_on_host(learner.present(&sequence, Norm::Running).unwrap());
        assert_close("answers", &found, golden.values("presented"), 1e-4);
    }
}

#[test]
fn meta_networks_agree_with_pytorch() {
    let golden = Golden::read("meta-network");
    let learner = golden.learner(META_NETWORK);
    assert_step(&golden, learner.as_ref());
    let (found, attention) = scores(learner.as_ref(), &golden.episode());
    assert_close("scores", &found, golden.values("scores"), 1e-4);
    assert_close("attention", &attention, golden.values("attention"), 1e-5);
}

#[test]
fn a_meta_network_that_generates_zeros_is_its_slow_network() {
    let golden = Golden::read("meta-network");
    let mut learner = golden.learner(META_NETWORK);
    let episode = golden.episode();
    // The same queries after another support set.
    let mut other = episode.clone();
    for pixel in &mut other.support {
        *pixel = 1.0 - *pixel;
    }
    let [(before, _), (after, _)] = [&episode, &other].map(|episode| scores(learner.as_ref(), episode));
    assert!(golden::difference(&after, &before) > 1e-3);
    let zeros: Vec<_> = learner
        .parameters()
        .iter()
        .zip(learner.read())
        .map(|(parameter, value)| {
            let generates = parameter.name.contains("level.") && parameter.name.contains(".output.");
            if generates { value.zeros_like() } else { value }
        })
        .collect();
    learner.write(&zeros);
    let [(before, _), (after, _)] = [&episode, &other].map(|episode| scores(learner.as_ref(), episode));
    assert_close("scores", &after, &before, 1e-6);
}
