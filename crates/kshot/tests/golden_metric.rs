//! Siamese, Matching and Relation networks against independent PyTorch programs.
//!
//! `golden/{siamese,koch,matching,matching-fce,relation}.safetensors` were made by the programs of those names in
//! `bench/reference/`; each file's metadata says with which version, command and seed.

#[path = "common/golden.rs"]
mod golden;

use golden::{Golden, IMAGE, TASK, assert_close, assert_gradients, difference, resolve};
use kshot::data::ImageShape;
use kshot::episode::{Episode, Support, TaskShape, images};
use kshot::learner::{Learner, argmax, logits_on_host};
use kshot::model;
use kshot::norm::Norm;

const SIAMESE: &[(&str, &str)] = &[("method", "siamese"), ("filters", "8")];
const MATCHING: &[(&str, &str)] = &[("method", "matching"), ("filters", "8")];
const FULL_CONTEXT: &[(&str, &str)] = &[
    ("method", "matching"),
    ("filters", "8"),
    ("fce", "true"),
    ("reads", "3"),
    ("support-order", "sampled"),
];
const RELATION: &[(&str, &str)] = &[
    ("method", "relation"),
    ("filters", "6"),
    ("relation-filters", "5"),
];

fn with(
    settings: &[(&'static str, &'static str)],
    more: (&'static str, &'static str),
) -> Vec<(&'static str, &'static str)> {
    settings
        .iter()
        .filter(|(name, _)| *name != more.0)
        .copied()
        .chain([more])
        .collect()
}

/// Loss, accuracy, gradients and batch statistics of a training step; `prefix` is empty or ends in a dot.
#[track_caller]
fn assert_step(golden: &Golden, learner: &dyn Learner, prefix: &str) {
    let step = learner.meta_step(&golden.episode()).unwrap();
    let expected = |name: &str| golden.values(&format!("{prefix}{name}"));
    assert_close("loss", &[step.loss], expected("loss"), 1e-5);
    let labels = golden.episode().query_labels();
    let logits = expected("logits").chunks_exact(TASK.n_way);
    let right = logits.zip(&labels).filter(|(row, label)| argmax(row) == **label);
    let accuracy = right.count() as f32 / TASK.n_queries() as f32;
    assert_close("accuracy", &[step.accuracy], &[accuracy], 1e-6);
    assert_gradients(golden, learner, &step, &format!("{prefix}grad"));
    let running = learner
        .parameters()
        .iter()
        .filter(|p| p.name.contains("running_"));
    assert_eq!(step.statistics.len(), running.count());
    for (index, observed) in &step.statistics {
        let name = format!("stats.{}", learner.parameters()[*index].name);
        let found = logits_on_host(observed.clone());
        assert_close(&name, &found, golden.values(&name), 1e-5);
    }
}

/// Logits and attention of the queries after adapting to the support set.
fn scores(learner: &dyn Learner, support: &Support, episode: &Episode, norm: Norm) -> (Vec<f32>, Vec<f32>) {
    let task = learner.adapt(support, norm).unwrap();
    let query = episode.query_on(learner.device());
    let scores = learner.score(&task, query, norm).unwrap();
    let attention = scores.attention.map(logits_on_host).unwrap_or_default();
    (logits_on_host(scores.logits), attention)
}

/// Scores, and attention weights where the file has them, under both norms.
#[track_caller]
fn assert_scores(golden: &Golden, learner: &dyn Learner, prefix: &str) {
    let episode = golden.episode();
    let support = episode.support_on(learner.device());
    for norm in [Norm::Running, Norm::Episode] {
        let (found, attention) = scores(learner, &support, &episode, norm);
        let name = format!("{prefix}{norm}.scores");
        assert_close(&name, &found, golden.values(&name), 1e-4);
        let name = format!("{prefix}{norm}.attention");
        let expected = golden.arrays.get(&name).map_or(&[][..], |array| &array.values);
        assert_close(&name, &attention, expected, 1e-4);
    }
}

/// The learner with the parameters that `change` picks by name set to what it says.
fn changed(mut learner: Box<dyn Learner>, change: impl Fn(&str) -> Option<f32>) -> Box<dyn Learner> {
    let values: Vec<_> = learner
        .parameters()
        .iter()
        .zip(learner.read())
        .map(|(parameter, value)| match change(&parameter.name) {
            Some(to) => value.zeros_like().add_scalar(to),
            None => value,
        })
        .collect();
    learner.write(&values);
    learner
}

fn zero_below(prefix: &'static [&'static str]) -> impl Fn(&str) -> Option<f32> {
    move |name| {
        prefix
            .iter()
            .any(|prefix| name.starts_with(prefix))
            .then_some(0.0)
    }
}

#[test]
fn siamese_agrees_with_pytorch_for_every_distance() {
    let golden = Golden::read("siamese");
    for (distance, prefix) in [("l1", ""), ("squared", "squared."), ("cosine", "cosine.")] {
        let learner = golden.learner(&with(SIAMESE, ("twin-distance", distance)));
        assert_step(&golden, learner.as_ref(), prefix);
        assert_scores(&golden, learner.as_ref(), prefix);
    }
}

#[test]
fn siamese_with_the_hardest_negatives_agrees_with_pytorch() {
    let golden = Golden::read("siamese");
    let learner = golden.learner(&with(SIAMESE, ("negatives", "hardest")));
    assert_step(&golden, learner.as_ref(), "hardest.");
}

#[test]
fn siamese_max_pooling_agrees_with_pytorch() {
    let golden = Golden::read("siamese");
    let learner = golden.learner(&with(SIAMESE, ("pooling", "max")));
    let episode = golden.episode();
    let support = episode.support_on(learner.device());
    let (found, _) = scores(learner.as_ref(), &support, &episode, Norm::Running);
    assert_close("scores", &found, golden.values("running.max.scores"), 1e-4);
}

#[test]
fn siamese_on_koch_s_encoder_agrees_with_pytorch() {
    // `golden/koch.safetensors` has images and an episode of its own.
    let golden = Golden::read("koch");
    let image = ImageShape::square(73, 1);
    let settings = resolve(&[
        ("method", "siamese"),
        ("encoder", "koch"),
        ("filters", "2"),
        ("units", "5"),
    ]);
    let fresh = model::fresh(&settings, image).unwrap();
    let weights: Vec<_> = fresh
        .parameters()
        .iter()
        .map(|parameter| golden.arrays[&parameter.name].clone())
        .collect();
    let learner = model::with_weights(&settings, image, &weights, &golden.path).unwrap();
    let pixels = golden.values("images");
    let features = learner.embed(images(pixels, image, learner.device()), Norm::Running);
    assert_close(
        "features",
        &logits_on_host(features),
        golden.values("features"),
        1e-5,
    );
    let (support, query) = pixels.split_at(pixels.len() / 2);
    let episode = Episode {
        task: TaskShape {
            n_way: 2,
            n_shot: 1,
            n_query: 1,
        },
        image,
        support: support.to_vec(),
        query: query.to_vec(),
        classes: vec![0, 1],
        support_examples: vec![0; 2],
        query_examples: vec![0; 2],
    };
    let support = episode.support_on(learner.device());
    let (logits, _) = scores(learner.as_ref(), &support, &episode, Norm::Running);
    assert_close("logits", &logits, golden.values("logits"), 1e-5);
    let step = learner.meta_step(&episode).unwrap();
    assert_close("loss", &[step.loss], golden.values("loss"), 1e-5);
    assert_gradients(&golden, learner.as_ref(), &step, "grad");
}

#[test]
fn siamese_without_evidence_loses_a_bit_per_pair() {
    // w = 0 and b = 0: every pair has p = 1/2, whose cross-entropy is ln 2.
    let learner = Golden::read("siamese").learner(&with(SIAMESE, ("l2", "0")));
    let learner = changed(learner, zero_below(&["head."]));
    let step = learner.meta_step(&Golden::read("siamese").episode()).unwrap();
    assert_close("loss", &[step.loss], &[std::f32::consts::LN_2], 1e-6);
}

#[test]
fn matching_agrees_with_pytorch() {
    let golden = Golden::read("matching");
    let learner = golden.learner(MATCHING);
    assert_step(&golden, learner.as_ref(), "");
    assert_scores(&golden, learner.as_ref(), "");
}

#[test]
fn matching_with_the_paper_s_factor_of_one_agrees_with_pytorch() {
    let golden = Golden::read("matching");
    let learner = golden.learner(&with(MATCHING, ("attention", "fixed")));
    let learner = changed(learner, zero_below(&["log_factor"]));
    assert_step(&golden, learner.as_ref(), "fixed.");
    assert_scores(&golden, learner.as_ref(), "fixed.");
}

#[test]
fn matching_without_contrast_attends_to_all_alike() {
    // t = exp(-30): a = 1/10 for each of the 10 support images, y = 2/10 for each of the 5 classes.
    let golden = Golden::read("matching");
    let flat = |name: &str| (name == "log_factor").then_some(-30.0);
    let learner = changed(golden.learner(MATCHING), flat);
    let episode = golden.episode();
    let support = episode.support_on(learner.device());
    let (logits, attention) = scores(learner.as_ref(), &support, &episode, Norm::Running);
    assert_close("attention", &attention, &[0.1; 150], 1e-6);
    assert_close("logits", &logits, &[0.2f32.ln(); 75], 1e-6);
    let loss = learner.meta_step(&episode).unwrap().loss;
    assert_close("loss", &[loss], &[5.0f32.ln()], 1e-6);
}

#[test]
fn full_context_matching_agrees_with_pytorch() {
    let golden = Golden::read("matching-fce");
    let learner = golden.learner(FULL_CONTEXT);
    assert_step(&golden, learner.as_ref(), "");
    assert_scores(&golden, learner.as_ref(), "");
}

/// ln(a(x, x₀) / a(x, x₁)) of each query: with simple embeddings no other support image has a part in it.
fn preference(attention: &[f32]) -> Vec<f32> {
    attention
        .chunks_exact(TASK.n_support())
        .map(|row| (row[0] / row[1]).ln())
        .collect()
}

/// By how much [`preference`] moves when only the last support image changes.
fn influence_of_the_rest(learner: &dyn Learner) -> f32 {
    let golden = Golden::read("matching-fce");
    let episode = golden.episode();
    let mut other = episode.clone();
    for pixel in &mut other.support[(TASK.n_support() - 1) * IMAGE.len()..] {
        *pixel = 1.0 - *pixel;
    }
    let [before, after] = [&episode, &other].map(|support| {
        let support = support.support_on(learner.device());
        preference(&scores(learner, &support, &episode, Norm::Running).1)
    });
    difference(&after, &before)
}

#[test]
fn full_context_embeddings_of_support_and_of_query_depend_on_the_support_set() {
    let golden = Golden::read("matching-fce");
    // A cell of zeros puts out zeros, which leaves the simple embedding on its side.
    let support_alone = changed(golden.learner(FULL_CONTEXT), zero_below(&["context.query."]));
    assert!(influence_of_the_rest(support_alone.as_ref()) > 1e-3);
    let query_alone = zero_below(&["context.forward.", "context.backward."]);
    let query_alone = changed(golden.learner(FULL_CONTEXT), query_alone);
    assert!(influence_of_the_rest(query_alone.as_ref()) > 1e-3);
    let neither = changed(golden.learner(FULL_CONTEXT), zero_below(&["context."]));
    assert!(influence_of_the_rest(neither.as_ref()) < 1e-5);
    let simple = golden.learner(&with(FULL_CONTEXT, ("fce", "false")));
    assert!(influence_of_the_rest(simple.as_ref()) < 1e-5);
}

#[test]
fn full_context_with_cells_of_zeros_is_the_simple_embedding() {
    let golden = Golden::read("matching-fce");
    let zeros = changed(golden.learner(FULL_CONTEXT), zero_below(&["context."]));
    let simple = golden.learner(&with(FULL_CONTEXT, ("fce", "false")));
    let episode = golden.episode();
    let support = episode.support_on(simple.device());
    for norm in [Norm::Running, Norm::Episode] {
        let (_, expected) = scores(simple.as_ref(), &support, &episode, norm);
        let (_, found) = scores(zeros.as_ref(), &support, &episode, norm);
        assert_close("attention", &found, &expected, 1e-6);
        let (_, full) = scores(golden.learner(FULL_CONTEXT).as_ref(), &support, &episode, norm);
        assert!(difference(&full, &expected) > 1e-2);
    }
}

/// Every order of `items`.
fn orders(items: &[usize]) -> Vec<Vec<usize>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for &first in items {
        let rest: Vec<usize> = items.iter().copied().filter(|item| *item != first).collect();
        all.extend(
            orders(&rest)
                .into_iter()
                .map(|order| [vec![first], order].concat()),
        );
    }
    all
}

#[test]
fn the_shuffled_order_reads_the_same_images_in_another_order() {
    const N: usize = 4;
    let golden = Golden::read("matching-fce");
    let sampled = golden.learner(FULL_CONTEXT);
    let shuffled = golden.learner(&with(FULL_CONTEXT, ("support-order", "shuffled")));
    let episode = golden.episode();
    let picture = |place: usize| &episode.support[place * IMAGE.len()..(place + 1) * IMAGE.len()];
    // One image of each of 4 classes, in the given order; attention by image, not by place.
    let attention = |learner: &dyn Learner, order: &[usize]| {
        let pixels: Vec<f32> = order
            .iter()
            .flat_map(|&i| picture(i * TASK.n_shot))
            .copied()
            .collect();
        let support = Support {
            images: images(&pixels, IMAGE, learner.device()),
            labels: order.to_vec(),
            n_way: N,
        };
        let (_, by_place) = scores(learner, &support, &episode, Norm::Running);
        let mut by_image = vec![0.0; by_place.len()];
        for (index, value) in by_place.into_iter().enumerate() {
            by_image[index / N * N + order[index % N]] = value;
        }
        by_image
    };
    let expected = attention(shuffled.as_ref(), &[0, 1, 2, 3]);
    let as_read = |order: &Vec<usize>| difference(&attention(sampled.as_ref(), order), &expected) < 1e-5;
    let matching: Vec<_> = orders(&[0, 1, 2, 3]).into_iter().filter(as_read).collect();
    assert_eq!(matching.len(), 1, "{matching:?}");
    // Of 10 images, few shuffles would leave the order as it was.
    let support = episode.support_on(sampled.device());
    let (_, found) = scores(shuffled.as_ref(), &support, &episode, Norm::Running);
    assert!(difference(&found, golden.values("running.attention")) > 1e-4);
}

#[test]
fn relation_agrees_with_pytorch() {
    let golden = Golden::read("relation");
    let learner = golden.learner(RELATION);
    assert_step(&golden, learner.as_ref(), "");
    assert_scores(&golden, learner.as_ref(), "");
}

#[test]
fn relation_without_evidence_scores_one_half() {
    // Output weights and bias 0: r = 1/2, a quarter away from 0 and from 1 when squared.
    let golden = Golden::read("relation");
    let learner = changed(golden.learner(RELATION), zero_below(&["output."]));
    let episode = golden.episode();
    let support = episode.support_on(learner.device());
    let (logits, _) = scores(learner.as_ref(), &support, &episode, Norm::Running);
    assert_close("log r", &logits, &[0.5f32.ln(); 75], 1e-6);
    assert_close(
        "loss",
        &[learner.meta_step(&episode).unwrap().loss],
        &[0.25],
        1e-6,
    );
}
