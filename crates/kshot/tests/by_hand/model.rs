//! Meta networks on one pixel of two channels.

use kshot::data::ImageShape;
use kshot::norm::Norm;

use crate::{assert_near, episode, learner, scores, sigma};

#[test]
fn a_meta_network_answers_by_fast_weights_alone() {
    // One pixel, so that windows see their middle alone; slow weights pass both channels on, through five blocks and the dense layer.
    const IMAGE: ImageShape = ImageShape {
        height: 1,
        width: 1,
        channels: 2,
    };
    let mut window = vec![0.0; 9 * 4];
    window[4 * 4..5 * 4].copy_from_slice(&[1.0, 0.0, 0.0, 1.0]);
    let mut numbers: Vec<(String, Vec<f32>)> = Vec::new();
    for network in ["encoder", "base"] {
        numbers.extend((0..5).map(|block| (format!("{network}.blocks.{block}"), window.clone())));
        numbers.push((format!("{network}.dense"), vec![1.0, 0.0, 0.0, 1.0]));
    }
    // d says −1/2 of every weight. In a block a fast weight of −1/2 on positive values is cut off by the ReLU. In the dense
    // layer, which has none, r = x − (x₁ + x₂) / 2 (1, 1): half the difference of the channels in one, its opposite in the other.
    for level in ["task_level.0", "task_level.1"] {
        numbers.push((format!("{level}.output.bias"), vec![-0.5]));
    }
    // m says −k times the sign of the gradient, by a unit for either sign; of a gradient of 0 it says 0.
    const UNITS: usize = 20;
    let k = 0.7;
    let mut signs = vec![0.0; 2 * UNITS];
    (signs[UNITS], signs[UNITS + 1]) = (1.0, -1.0);
    let mut on = vec![0.0; UNITS * UNITS];
    (on[0], on[UNITS + 1]) = (1.0, 1.0);
    let mut out = vec![0.0; UNITS];
    (out[0], out[1]) = (-k, k);
    for level in ["example_level.0", "example_level.1"] {
        numbers.push((format!("{level}.first.weight"), signs.clone()));
        numbers.push((format!("{level}.second.weight"), on.clone()));
        numbers.push((format!("{level}.output.weight"), out.clone()));
    }
    let numbers: Vec<(&str, &[f32])> = numbers
        .iter()
        .map(|(name, values)| (name.as_str(), values.as_slice()))
        .collect();
    let settings = [("method", "meta-network"), ("way", "2"), ("filters", "2")];
    let learner = learner(&settings, IMAGE, &numbers);
    let task = episode(IMAGE, 2, &[&[1.0, 0.0], &[0.6, 0.8]], &[&[1.0, 0.0], &[0.0, 1.0]]);
    // Slow logits are 0, so that only the last layer has a gradient: (p − y) times what comes into it, p = 1/2. Multiplied by e⁷
    // it is cut at ±1. The first image's fast weights therefore are k for its own class and −k for the other in the first channel's
    // row and 0 in the second's, where it is dark; the second image's are −k and k in both.
    // Keys are (1/2, −1/2) and (−1/10, 1/10): the cosines of the first query's are 1 and −1, of the second's −1 and 1.
    let attention = [sigma(2.0), sigma(-2.0), sigma(-2.0), sigma(2.0)];
    // First query, (1, 0): class 0 has k σ(2) − k σ(−2). Second, (0, 1): −k σ(2) from the second image. Class 1 has the opposite.
    let (first, second) = (k * (sigma(2.0) - sigma(-2.0)), -k * sigma(2.0));
    let (logits, found) = scores(learner.as_ref(), &task, Norm::Running);
    assert_near("attention", &found, &attention);
    assert_near("logits", &logits, &[first, -first, second, -second]);
    // Both queries are right, with logits ±z: ln(1 + e⁻²ᶻ) each.
    let loss = [first, -second].map(|z| (1.0 + (-2.0 * z).exp()).ln());
    assert_near(
        "loss",
        &[learner.meta_step(&task).unwrap().loss],
        &[(loss[0] + loss[1]) / 2.0],
    );
}
