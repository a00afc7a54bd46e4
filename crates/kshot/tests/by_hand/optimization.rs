//! MAML, Meta-SGD, Reptile and the LSTM meta-learner on a network of one hidden unit.
//!
//! One pixel x, one hidden unit h = relu(e x + d), two classes with z = a h + b. At the start e = 1 and d, a, b are 0: the logits
//! are 0, the probabilities 1/2 and nothing reaches the hidden unit. The support set is x = 1 of class 0 and x = 2 of
//! class 1, so that
//!
//! ```text
//! ∂L/∂a = 1/2 [(−1/2) 1 + (1/2) 2] = 1/4 for class 0, −1/4 for class 1;   ∂L/∂b = ∂L/∂e = ∂L/∂d = 0.
//! ```

use kshot::data::ImageShape;
use kshot::episode::Episode;
use kshot::learner::{Learner, Step, logits_on_host};
use kshot::norm::Norm;

use crate::{assert_near, episode, gradient, learner, place, scores, set, sigma};

const PIXEL: ImageShape = ImageShape::square(1, 1);
const HIDDEN: &str = "encoder.layers.0.weight";
const WEIGHTS: [&str; 4] = [HIDDEN, "encoder.layers.0.bias", "head.weight", "head.bias"];

/// The network with the numbers above and `more` of the method's own.
fn start(settings: &[(&str, &str)], more: &[(&str, &[f32])]) -> Box<dyn Learner> {
    let network = [("way", "2"), ("encoder", "mlp"), ("depth", "1"), ("units", "1")];
    let numbers = std::iter::once((HIDDEN, &[1.0f32][..])).chain(more.iter().copied());
    let numbers: Vec<(&str, &[f32])> = numbers.collect();
    learner(&[&network[..], settings].concat(), PIXEL, &numbers)
}

/// The support set above, and x = 1 of either class as queries.
fn task() -> Episode {
    episode(PIXEL, 2, &[&[1.0], &[2.0]], &[&[1.0], &[1.0]])
}

/// Gradients of e, d, a and b.
#[track_caller]
fn assert_gradients(learner: &dyn Learner, step: &Step, expected: [&[f32]; 4]) {
    for (name, expected) in WEIGHTS.into_iter().zip(expected) {
        assert_near(name, &gradient(learner, step, name), expected);
    }
}

/// Where the inner step has a = (−1/2, 1/2), a query's logits are ∓1/2: losses ln(1 + e) and ln(1 + 1/e).
#[track_caller]
fn assert_loss_after_one_step(step: &Step) {
    let e = std::f32::consts::E;
    assert_near(
        "loss",
        &[step.loss],
        &[((1.0 + e).ln() + (1.0 + 1.0 / e).ln()) / 2.0],
    );
}

#[test]
fn maml_of_both_orders() {
    // One step of 2 from the gradient above: a = (−1/2, 1/2), all else as it was. With s = σ(1) − 1/2 the gradient of the
    // query loss there is v: −s and s in a and in b (h = 1), and through the hidden unit
    // Σ (p − y) a = p₁ − y₁, s on average, in e and d (x = 1). That is the first-order gradient.
    let s = sigma(1.0) - 0.5;
    let settings = [("method", "maml"), ("inner-lr", "2"), ("order", "1")];
    let first = start(&settings, &[]);
    let step = first.meta_step(&task()).unwrap();
    assert_loss_after_one_step(&step);
    assert_gradients(first.as_ref(), &step, [&[s], &[s], &[-s, s], &[-s, s]]);

    // The exact one is v − 2 H v, H at the start. Along v a support image's h moves by s (x + 1), z of class 1 by
    // s (x + 1) as well (a = 0) and of class 0 by as much downwards; so p₁ by 1/4 · 2 s (x + 1): s for x = 1, 3/2 s for x = 2.
    // Gradients of class 1 move by, in a: 1/2 [(s · 1 + 1/2 · 2 s) + (3/2 s · 2 − 1/2 · 3 s)] = 7/4 s; in b: 1/2 [s + 3/2 s] = 5/4 s.
    // In e: 1/2 Σ x Σ (p − y) v_a = 1/2 [1 · s − 2 · s] = −1/2 s; in d: 1/2 [s − s] = 0.
    let second = start(&[("method", "maml"), ("inner-lr", "2")], &[]);
    let step = second.meta_step(&task()).unwrap();
    assert_loss_after_one_step(&step);
    let (a, b) = (s - 2.0 * 1.75 * s, s - 2.0 * 1.25 * s);
    assert_gradients(second.as_ref(), &step, [&[2.0 * s], &[s], &[-a, a], &[-b, b]]);
}

#[test]
fn meta_sgd_with_a_rate_of_2_for_some_weights_and_of_1_for_others() {
    // As MAML's step of 2, since only a has a gradient. Along α ∘ v (2 in a, 1 elsewhere) z of class 1 moves by s (2 x + 1), p₁ by
    // 3/2 s and 5/2 s. Class 1: in a 1/2 [(3/2 s + 1/2 · 2 s) + (5/2 s · 2 − 1/2 · 3 s)] = 3 s, in b 1/2 [3/2 s + 5/2 s] = 2 s.
    // In e: 1/2 [1 · 2 s − 2 · 2 s] = −s; in d 0.
    let rates: [(&str, &[f32]); 4] = [
        ("rates.encoder.layers.0.weight", &[1.0]),
        ("rates.encoder.layers.0.bias", &[1.0]),
        ("rates.head.weight", &[2.0, 2.0]),
        ("rates.head.bias", &[1.0, 1.0]),
    ];
    let learner = start(&[("method", "meta-sgd")], &rates);
    let step = learner.meta_step(&task()).unwrap();
    assert_loss_after_one_step(&step);
    let s = sigma(1.0) - 0.5;
    assert_gradients(
        learner.as_ref(),
        &step,
        [&[2.0 * s], &[s], &[2.0 * s, -2.0 * s], &[s, -s]],
    );
    // −∇Lₛ ∘ v: −(1/4)(−s) and −(−1/4) s in a; where the support set has no gradient, none.
    let expected: [&[f32]; 4] = [&[0.0], &[0.0], &[s / 4.0, s / 4.0], &[0.0, 0.0]];
    for ((name, _), expected) in rates.into_iter().zip(expected) {
        assert_near(name, &gradient(learner.as_ref(), &step, name), expected);
    }
}

/// Adam's second moments of a learner, those that a step leaves, with how many gradients they have seen last.
fn moments(learner: &dyn Learner, step: &Step) -> Vec<Vec<f32>> {
    let names = WEIGHTS.map(|name| format!("moments.{name}"));
    let names = names.iter().map(String::as_str).chain(["moments.seen"]);
    let carried = |name: &str| {
        let place = place(learner, name);
        let found = step.carried.iter().find(|(index, _)| *index == place);
        logits_on_host(found.unwrap().1.clone())
    };
    names.map(carried).collect()
}

#[test]
fn reptile_in_two_steps_of_adam_and_in_one_with_the_moments_of_the_other() {
    // Images and labels of the queries are those of the support set, so that all four say what two say.
    let task = episode(PIXEL, 2, &[&[1.0], &[2.0]], &[&[1.0], &[2.0]]);
    // First step, moments from 0: v = g² / 1000, made unbiased g², so that a weight moves by the rate, 1/2, against the sign of
    // its gradient, if it has one: a = (−1/2, 1/2).
    // Second step: logits ∓1/2 and ∓1, p₁ = σ(1) and σ(2). Class 1: ∂L/∂a = 1/2 [σ(1) − 2 σ(−2)] = g = ∂L/∂e, as Σ (p − y) a = p₁ − y₁;
    // ∂L/∂b = 1/2 [σ(1) − σ(−2)] = ∂L/∂d. All are positive. v of a = 999/1000 · (1/16) / 1000 + g² / 1000, of the others g² / 1000;
    // both are divided by 1 − (999/1000)² = 1.999 / 1000. So a moves by 1/2 g / √((0.999/16 + g²) / 1.999), the others by 1/2 √1.999.
    let g = (sigma(1.0) - 2.0 * sigma(-2.0)) / 2.0;
    let by_bias = (sigma(1.0) - sigma(-2.0)) / 2.0;
    let (a, others) = (
        0.5 * g / ((0.999 / 16.0 + g * g) / 1.999f32).sqrt(),
        0.5 * 1.999f32.sqrt(),
    );
    let settings = |steps| {
        [
            ("method", "reptile"),
            ("inner-lr", "0.5"),
            ("inner-batch", "100"),
            ("inner-steps", steps),
        ]
    };
    let two = start(&settings("2"), &[]);
    let step = two.meta_step(&task).unwrap();
    let entropies = [2.0f32.ln(), -(sigma(-1.0).ln() + sigma(2.0).ln()) / 2.0];
    assert_near("loss", &[step.loss], &[(entropies[0] + entropies[1]) / 2.0]);
    // θ − φ, the way back.
    assert_gradients(
        two.as_ref(),
        &step,
        [&[others], &[others], &[0.5 - a, a - 0.5], &[-others, others]],
    );
    let after = |steps: f32| {
        let [of_a, of_g, of_b] =
            [0.999 / 16.0 + g * g, g * g, by_bias * by_bias].map(|square| square / 1000.0);
        [vec![of_g], vec![of_b], vec![of_a; 2], vec![of_b; 2], vec![steps]]
    };
    // The moments are small: compared in thousandths.
    let thousands = |values: &[f32]| values.iter().map(|value| 1000.0 * value).collect::<Vec<_>>();
    let assert_moments = |found: &[Vec<f32>], expected: &[Vec<f32>]| {
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.len() == expected.len());
            assert_near("moments", &thousands(found), &thousands(expected));
        }
    };
    assert_moments(&moments(two.as_ref(), &step), &after(2.0));

    // The same in two tasks of one step each: the second goes on with the moments of the first.
    let mut one = start(&settings("1"), &[]);
    let step = one.meta_step(&task).unwrap();
    assert_gradients(one.as_ref(), &step, [&[0.0], &[0.0], &[0.5, -0.5], &[0.0, 0.0]]);
    let sixteenth = 1.0 / 16.0 / 1000.0;
    let first = moments(one.as_ref(), &step);
    assert_moments(
        &first,
        &[vec![0.0], vec![0.0], vec![sixteenth; 2], vec![0.0; 2], vec![1.0]],
    );
    set(
        one.as_mut(),
        &[
            ("head.weight", &[-0.5, 0.5]),
            ("moments.head.weight", &first[2]),
            ("moments.seen", &first[4]),
        ],
    );
    let step = one.meta_step(&task).unwrap();
    assert_gradients(
        one.as_ref(),
        &step,
        [&[others], &[others], &[-a, a], &[-others, others]],
    );
    assert_moments(&moments(one.as_ref(), &step), &after(2.0));
}

#[test]
fn the_lstm_learner_s_rule() {
    // A memory of one unit that sees nothing: its gates are 1/2 and its candidate is tanh 1, so that its state is tanh(1) / 2 and it says
    // m = tanh(tanh(1) / 2) / 2. The forget gate is σ(2 m + β) with β = ln 3 − 2 m: f = 3/4; the input gate σ(0): i = 1/2.
    let m = 0.5 * (0.5 * 1.0f32.tanh()).tanh();
    let numbers: [(&str, &[f32]); 3] = [
        ("rule.memory.bias", &[0.0, 0.0, 1.0, 0.0]),
        ("rule.forget.weight", &[2.0, 0.0, 0.0]),
        ("rule.forget.bias", &[3.0f32.ln() - 2.0 * m]),
    ];
    let settings = [
        ("method", "lstm-learner"),
        ("lstm-units", "1"),
        ("inner-steps", "1"),
        ("clip", "0"),
    ];
    let learner = start(&settings, &numbers);
    // θ₁ = 3/4 θ₀ − 1/2 ∇L: e = 3/4, a = (−1/8, 1/8), d = b = 0. A query of x = 1 has h = 3/4 and logits ∓3/32.
    for norm in [Norm::Episode, Norm::Running] {
        let (logits, _) = scores(learner.as_ref(), &task(), norm);
        assert_near("logits", &logits, &[-0.09375, 0.09375, -0.09375, 0.09375]);
    }
    // p₁ = σ(3/16); s = p₁ − 1/2. The query loss's gradient at θ₁ is 3/4 s in a (class 1), s in b, and s / 4 in e and in d, as
    // Σ (p − y) a = 1/4 (p₁ − y₁). In θ₀ it is 3/4 of that.
    let s = sigma(0.1875) - 0.5;
    let step = learner.meta_step(&task()).unwrap();
    let loss = -(sigma(-0.1875).ln() + sigma(0.1875).ln()) / 2.0;
    assert_near("loss", &[step.loss], &[loss]);
    let (quarter, a, b) = (0.75 * s / 4.0, 0.75 * 0.75 * s, 0.75 * s);
    assert_gradients(
        learner.as_ref(),
        &step,
        [&[quarter], &[quarter], &[-a, a], &[-b, b]],
    );
    // Only e is not 0 at the start: the forget gate's bias has s / 4 · 1 · f (1 − f), its weights that times what they see, which
    // is m, θ₀ and the gate's last value, 0. The input gate: −Σ v ∇L i (1 − i) = (3/4 s · 1/4 + 3/4 s · 1/4) / 4, whose weights see
    // m, and a's θ₀, 0.
    let forget = s / 4.0 * 3.0 / 16.0;
    let input = 2.0 * 0.75 * s * 0.25 * 0.25;
    for (name, expected) in [
        ("rule.forget.bias", vec![forget]),
        ("rule.forget.weight", vec![forget * m, forget, 0.0]),
        ("rule.input.bias", vec![input]),
        ("rule.input.weight", vec![input * m, 0.0, 0.0]),
    ] {
        assert_near(name, &gradient(learner.as_ref(), &step, name), &expected);
    }
}
