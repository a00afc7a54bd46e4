//! Siamese, Matching and Relation networks on features that are given.

use kshot::data::ImageShape;
use kshot::norm::Norm;

use crate::{assert_near, episode, learner, scores, sigma};

/// Two numbers, which are the features.
const PAIR: ImageShape = ImageShape {
    height: 1,
    width: 2,
    channels: 1,
};

#[test]
fn siamese_compares_by_a_weighted_l1_pools_shots_and_pays_for_its_weights() {
    // Log-odds 1/2 − |Δ₁| − 2 |Δ₂|. Class 0: (1, 0), (1, 1); class 1: (0, 1), (0, 3). Queries (1, 0) and (0, 2).
    let task = episode(
        PAIR,
        2,
        &[&[1.0, 0.0], &[1.0, 1.0], &[0.0, 1.0], &[0.0, 3.0]],
        &[&[1.0, 0.0], &[0.0, 2.0]],
    );
    let twins = |pooling| {
        let settings = [
            ("method", "siamese"),
            ("encoder", "identity"),
            ("pooling", pooling),
            ("l2", "0.1"),
        ];
        learner(
            &settings,
            PAIR,
            &[("head.weight", &[-1.0, -2.0]), ("head.bias", &[0.5])],
        )
    };
    // First query: Δ = (0, 0), (0, 1) | (1, 1), (1, 3): 1/2, −3/2 | −5/2, −13/2.
    // Second:      Δ = (1, 2), (1, 1) | (0, 1), (0, 1): −9/2, −5/2 | −3/2, −3/2.
    let (mean, _) = scores(twins("mean").as_ref(), &task, Norm::Running);
    assert_near("mean", &mean, &[-0.5, -4.5, -3.5, -1.5]);
    let (max, _) = scores(twins("max").as_ref(), &task, Norm::Running);
    assert_near("max", &max, &[0.5, -2.5, -2.5, -1.5]);
    // Pairs of one class: the first query with the first example of class 0, 1/2, the second with the second of class 1, −3/2.
    // Pairs of two: the first query with the first example of class 1, −5/2, the second with the second of class 0, −5/2.
    let entropy = [(0.5f32, 1.0f32), (-1.5, 1.0), (-2.5, -1.0), (-2.5, -1.0)]
        .map(|(odds, sign)| -sigma(sign * odds).ln());
    // 1/10 (1² + 2²) of penalty, none for the bias.
    let loss = entropy.iter().sum::<f32>() / 4.0 + 0.5;
    assert_near("loss", &[twins("mean").meta_step(&task).unwrap().loss], &[loss]);
}

#[test]
fn matching_attends_by_powers_of_two() {
    // With a factor of 5 ln 2 the cosines 1, 4/5, 3/5, 0 weigh 32, 16, 8, 1: 57 together.
    let task = episode(
        PAIR,
        2,
        &[&[1.0, 0.0], &[3.0, 4.0], &[0.0, 2.0], &[4.0, 3.0]],
        &[&[5.0, 0.0], &[0.0, 1.0]],
    );
    let settings = [("method", "matching"), ("encoder", "identity")];
    let factor = (5.0 * 2.0f32.ln()).ln();
    let learner = learner(&settings, PAIR, &[("log_factor", &[factor])]);
    let (logits, attention) = scores(learner.as_ref(), &task, Norm::Running);
    let expected = [32.0, 8.0, 1.0, 16.0, 1.0, 16.0, 32.0, 8.0].map(|weight: f32| weight / 57.0);
    assert_near("attention", &attention, &expected);
    let labels = [40.0, 17.0, 17.0, 40.0].map(|weight: f32| (weight / 57.0).ln());
    assert_near("logits", &logits, &labels);
    // Both queries are right with 40 of 57.
    assert_near(
        "loss",
        &[learner.meta_step(&task).unwrap().loss],
        &[-(40.0f32 / 57.0).ln()],
    );
}

#[test]
fn relation_sums_the_shots_and_squares_the_errors() {
    // Images of one value each on 4x4 pixels, and windows that see their middle alone: the first block takes class − query, both leave
    // values as they are, the hidden layer too, and the odds are what comes out − 1.
    const IMAGE: ImageShape = ImageShape::square(4, 1);
    let value = |value: f32| [value; 16];
    let (one, two) = (value(1.0), value(2.0));
    // Class 0: 1 and 2, 3 together (their mean would be 3/2); class 1: 1 and 1. Queries 1 and 2.
    let task = episode(IMAGE, 2, &[&one, &two, &one, &one], &[&one, &two]);
    let middle = |weights: &[f32]| {
        let mut window = vec![0.0; 9 * weights.len()];
        window[4 * weights.len()..5 * weights.len()].copy_from_slice(weights);
        window
    };
    let mut only_first = [0.0; 8];
    only_first[0] = 1.0;
    // Differences 2, 1, 1, 0 have a mean of 1 and a variance of 1/2, which the norm's scale and shift give back.
    let (mean, variance, scale) = ([1.0f32], [0.5f32], [(0.5f32 + 1e-5).sqrt()]);
    let (first, second) = (middle(&[1.0, -1.0]), middle(&[1.0]));
    let mut numbers: Vec<(String, &[f32])> = vec![
        ("blocks.0.weight".to_owned(), first.as_slice()),
        ("blocks.1.weight".to_owned(), second.as_slice()),
        ("hidden.weight".to_owned(), &only_first[..]),
        ("output.weight".to_owned(), &only_first[..]),
        ("output.bias".to_owned(), &[-1.0f32][..]),
    ];
    for block in ["blocks.0", "blocks.1"] {
        for (name, value) in [
            ("gamma", &scale),
            ("beta", &mean),
            ("running_mean", &mean),
            ("running_variance", &variance),
        ] {
            numbers.push((format!("{block}.{name}"), value.as_slice()));
        }
    }
    let numbers: Vec<(&str, &[f32])> = numbers
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    let settings = [
        ("method", "relation"),
        ("encoder", "identity"),
        ("relation-filters", "1"),
    ];
    let learner = learner(&settings, IMAGE, &numbers);
    // Odds 1, 0 of the first query, 0, −1 of the second; by running statistics and by the pairs' own.
    let expected = [1.0, 0.0, 0.0, -1.0].map(|odds| sigma(odds).ln());
    for norm in [Norm::Running, Norm::Episode] {
        assert_near("log r", &scores(learner.as_ref(), &task, norm).0, &expected);
    }
    let errors = [sigma(1.0) - 1.0, 0.5, 0.5, sigma(-1.0) - 1.0];
    let loss = errors.iter().map(|error| error * error).sum::<f32>() / 4.0;
    assert_near("loss", &[learner.meta_step(&task).unwrap().loss], &[loss]);
}
