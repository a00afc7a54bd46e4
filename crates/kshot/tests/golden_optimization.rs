//! MAML, its first-order form, ANIL and Meta-SGD against an independent PyTorch program.
//!
//! `golden/maml.safetensors` was made by `bench/reference/maml.py`; its metadata says with which version, command and
//! seed. Meta-gradients there come from automatic differentiation through the inner steps.

#[path = "common/golden.rs"]
mod golden;

use burn::tensor::Tensor;
use golden::{Golden, assert_close};
use kshot::learner::{Learner, Step, logits_on_host};
use kshot::model;
use kshot::named::Named;
use kshot::norm::Norm;

/// A learner with the file's weights; rates that it has are the file's.
fn learner(golden: &Golden, settings: &[(&str, &str)]) -> Box<dyn Learner> {
    let common = [("way", "5"), ("filters", "8")];
    golden.learner(&[&common[..], settings].concat())
}

/// Logits of the file's queries after adapting to its support set.
fn scores(golden: &Golden, learner: &dyn Learner, norm: Norm) -> Vec<f32> {
    let (episode, device) = (golden.episode(), learner.device());
    let task = learner.adapt(&episode.support_on(device), norm).unwrap();
    logits_on_host(
        learner
            .score(&task, episode.query_on(device), norm)
            .unwrap()
            .logits,
    )
}

/// Relative to the largest of a gradient: some times the 3e-6 to 7e-6 that are found.
const META_GRADIENT: f32 = 3e-5;

/// Loss, accuracy and every gradient of a training step are those of `name`.
#[track_caller]
fn assert_step(golden: &Golden, learner: &dyn Learner, name: &str) -> Step {
    let step = learner.meta_step(&golden.episode()).unwrap();
    assert_close("loss", &[step.loss], golden.values(&format!("{name}.loss")), 1e-5);
    let logits = golden.values(&format!("{name}.logits"));
    let accuracy = kshot::learner::accuracy(logits, 5, &golden.episode().query_labels());
    assert_close("accuracy", &[step.accuracy], &[accuracy as f32], 1e-6);
    golden::assert_gradients_within(golden, learner, &step, &format!("{name}.grad"), META_GRADIENT);
    step
}

#[test]
fn the_exact_meta_gradient_over_1_3_5_and_11_steps_agrees_with_pytorch() {
    let golden = Golden::read("maml");
    // Of 11 points on the way, only some are kept in memory and the others are come by again.
    for (steps, rate) in [("1", "0.4"), ("3", "0.1"), ("5", "0.1"), ("11", "0.02")] {
        let settings = [("method", "maml"), ("inner-steps", steps), ("inner-lr", rate)];
        let learner = learner(&golden, &settings);
        assert_step(&golden, learner.as_ref(), &format!("maml{steps}"));
    }
}

#[test]
fn the_first_order_gradient_agrees_with_pytorch() {
    let golden = Golden::read("maml");
    let settings = [
        ("method", "maml"),
        ("order", "1"),
        ("inner-steps", "3"),
        ("inner-lr", "0.1"),
    ];
    let learner = learner(&golden, &settings);
    assert_step(&golden, learner.as_ref(), "first3");
}

#[test]
fn anil_agrees_with_pytorch() {
    let golden = Golden::read("maml");
    for (steps, rate) in [("1", "0.4"), ("5", "0.1")] {
        let settings = [("method", "anil"), ("inner-steps", steps), ("inner-lr", rate)];
        let learner = learner(&golden, &settings);
        assert_step(&golden, learner.as_ref(), &format!("anil{steps}"));
    }
}

#[test]
fn meta_sgd_agrees_with_pytorch_down_to_the_gradients_of_its_rates() {
    let golden = Golden::read("maml");
    for steps in ["1", "3"] {
        let learner = learner(&golden, &[("method", "meta-sgd"), ("inner-steps", steps)]);
        assert_step(&golden, learner.as_ref(), &format!("meta_sgd{steps}"));
    }
}

#[test]
fn a_warm_up_s_tasks_are_learned_as_anil_learns_them_and_later_ones_by_the_method() {
    for (method, rate, own) in [
        ("maml", "inner-lr", "maml1"),
        ("meta-sgd", "first-rate", "meta_sgd1"),
    ] {
        for (seen, name) in [(0.0, "anil1"), (1.0, "anil1"), (2.0, own), (3.0, own)] {
            let mut golden = Golden::read("maml");
            let count = Named {
                name: "warm-up.seen".to_owned(),
                shape: vec![1],
                values: vec![seen],
            };
            golden.arrays.insert(count.name.clone(), count);
            let learner = learner(&golden, &[("method", method), (rate, "0.4"), ("warm-up", "2")]);
            assert_eq!(learner.provisional(), seen <= 2.0);
            let step = learner.meta_step(&golden.episode()).unwrap();
            assert_close("loss", &[step.loss], golden.values(&format!("{name}.loss")), 1e-5);
            let mut learned = 0;
            for (parameter, gradient) in learner.parameters().iter().zip(step.gradients) {
                let Some(gradient) = gradient else { continue };
                let expected = golden.values(&format!("{name}.grad.{}", parameter.name));
                assert_close(
                    &parameter.name,
                    &logits_on_host(gradient),
                    expected,
                    META_GRADIENT,
                );
                learned += 1;
            }
            let prefix = format!("{name}.grad.");
            let expected = golden
                .arrays
                .keys()
                .filter(|name| name.starts_with(&prefix))
                .count();
            assert_eq!(learned, expected, "{method} after {seen} tasks");
            let [(index, value)] = &step.carried[..] else {
                panic!("one number is carried");
            };
            assert_eq!(learner.parameters()[*index].name, "warm-up.seen");
            assert_eq!(logits_on_host(value.clone()), [seen + 1.0]);
        }
    }
}

#[test]
fn batch_statistics_of_the_adapted_queries_agree_with_pytorch() {
    let golden = Golden::read("maml");
    let learner = learner(&golden, &[("method", "maml")]);
    let step = learner.meta_step(&golden.episode()).unwrap();
    assert_eq!(step.statistics.len(), 8);
    for (index, observed) in step.statistics {
        let name = format!("stats.{}", learner.parameters()[index].name);
        assert_close(&name, &logits_on_host(observed), golden.values(&name), 1e-5);
    }
}

#[test]
fn adapted_scores_agree_with_pytorch_under_every_norm() {
    let golden = Golden::read("maml");
    for (norm, query_norm, name) in [
        (Norm::Episode, "averages", "maml1.logits"),
        (Norm::Running, "averages", "running.scores"),
        (Norm::Running, "support", "joined.scores"),
    ] {
        let learner = learner(&golden, &[("method", "maml"), ("query-norm", query_norm)]);
        assert_close(
            name,
            &scores(&golden, learner.as_ref(), norm),
            golden.values(name),
            1e-4,
        );
    }
}

#[test]
fn a_meta_batch_is_the_mean_of_its_tasks_and_has_the_same_bits_on_1_and_2_threads() {
    let golden = Golden::read("maml");
    // As many tasks as make several calls of the kernels, the last one smaller.
    let episodes: Vec<_> = (0..7)
        .map(|turn| {
            let mut episode = golden.episode();
            let image = episode.image.len();
            episode.support.rotate_left(2 * turn % 10 * image);
            episode.query.rotate_left(3 * turn % 15 * image);
            episode
        })
        .collect();
    for method in ["maml", "anil", "meta-sgd", "reptile"] {
        let steps = if method == "reptile" { "2" } else { "1" };
        let golden = Golden::read(if method == "reptile" { method } else { "maml" });
        let learner = learner(&golden, &[("method", method), ("inner-steps", steps)]);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| learner.meta_batch(&episodes).unwrap())
        };
        let flat = |step: &Step| -> Vec<f32> {
            let gradients = step.gradients.iter().flatten().cloned();
            let others = step.statistics.iter().chain(&step.carried);
            gradients
                .chain(others.map(|(_, values)| values.clone()))
                .flat_map(logits_on_host)
                .collect()
        };
        let together = run(2);
        assert_eq!(flat(&together), flat(&run(1)), "{method}");
        let apart = episodes.iter().map(|episode| learner.meta_step(episode).unwrap());
        let apart = Step::mean(apart.collect());
        let gradients = |step: &Step| -> Vec<f32> {
            step.gradients
                .iter()
                .flatten()
                .cloned()
                .flat_map(logits_on_host)
                .collect()
        };
        assert_close(method, &gradients(&together), &gradients(&apart), 1e-4);
        assert_close("loss", &[together.loss], &[apart.loss], 1e-5);
    }
}

#[test]
fn one_step_on_a_linear_classifier_agrees_with_a_hand_computation() {
    // One pixel, one hidden unit that passes it on (weight 1), two classes, all other numbers 0: logits are 0, so
    // the probabilities are 1/2. Support: x = 1 of class 0, x = 2 of class 1.
    // ∂L/∂W = 1/2 [(−1/2 · 1 + 1/2 · 2), (1/2 · 1 − 1/2 · 2)] = [1/4, −1/4], ∂L/∂b = 0. One step of 2: W = [−1/2, 1/2].
    // Query: x = 1 of class 0 and of class 1: logits ∓1/2, p = σ(±1), losses ln(1 + e) and ln(1 + 1/e).
    let layer = [
        ("method", "anil"),
        ("way", "2"),
        ("encoder", "mlp"),
        ("depth", "1"),
        ("units", "1"),
        ("inner-lr", "2"),
    ];
    let image = kshot::data::ImageShape::square(1, 1);
    let mut learner = model::fresh(&golden::resolve(&layer), image).unwrap();
    let values: Vec<Tensor<1>> = learner
        .parameters()
        .iter()
        .zip(learner.read())
        .map(|(parameter, value)| {
            let one = parameter.name == "encoder.layers.0.weight";
            value.zeros_like().add_scalar(if one { 1.0 } else { 0.0 })
        })
        .collect();
    learner.write(&values);
    let episode = kshot::episode::Episode {
        task: kshot::episode::TaskShape {
            n_way: 2,
            n_shot: 1,
            n_query: 1,
        },
        image,
        support: vec![1.0, 2.0],
        query: vec![1.0, 1.0],
        classes: vec![0, 1],
        support_examples: vec![0; 2],
        query_examples: vec![0; 2],
    };
    let step = learner.meta_step(&episode).unwrap();
    let e = std::f32::consts::E;
    let loss = ((1.0 + e).ln() + (1.0 + 1.0 / e).ln()) / 2.0;
    assert_close("loss", &[step.loss], &[loss], 1e-6);
    // At θ′, ∂L_q/∂W = p − 1/2 averaged over the queries: s = σ(1) − 1/2 at class 1, −s at class 0; the same for b.
    // The Hessian of Lₛ at 0 in (W₀ − W₁, b₀ − b₁) terms: p(1 − p) = 1/4 times the means of x², x, 1 = 5/2, 3/2, 1;
    // H v for v = [−s, s] (both in W and b) is 1/2 v (5/2 + 3/2) in W and 1/2 v (3/2 + 1) in b.
    let s = 1.0 / (1.0 + 1.0 / e) - 0.5;
    let found = |name: &str| {
        let index = learner
            .parameters()
            .iter()
            .position(|parameter| parameter.name == name)
            .unwrap();
        logits_on_host(step.gradients[index].clone().unwrap())
    };
    let by_weight = 1.0 - 2.0 * 0.5 * 4.0;
    let by_bias = 1.0 - 2.0 * 0.5 * 2.5;
    assert_close(
        "weight",
        &found("head.weight"),
        &[-s * by_weight, s * by_weight],
        1e-5,
    );
    assert_close("bias", &found("head.bias"), &[-s * by_bias, s * by_bias], 1e-5);
}

#[test]
fn reptile_agrees_with_pytorch() {
    // `golden/reptile.safetensors` comes from `bench/reference/reptile.py`. Steps on all of a task's images, and on mini-batches
    // of which the last begins a new shuffle.
    let golden = Golden::read("reptile");
    for (batch, prefix) in [("1000", ""), ("10", "mini.")] {
        let settings = [
            ("method", "reptile"),
            ("inner-steps", "3"),
            ("inner-batch", batch),
        ];
        let learner = learner(&golden, &settings);
        let step = learner.meta_step(&golden.episode()).unwrap();
        let loss = golden.values(&format!("{prefix}loss"));
        assert_close("loss", &[step.loss], loss, 1e-5);
        golden::assert_gradients_within(&golden, learner.as_ref(), &step, &format!("{prefix}grad"), 1e-4);
        let after = format!("{prefix}after.");
        assert_eq!(
            step.carried.len(),
            golden
                .arrays
                .keys()
                .filter(|name| name.starts_with(&after))
                .count()
        );
        for (index, value) in step.carried {
            let name = format!("{after}{}", learner.parameters()[index].name);
            assert_close(&name, &logits_on_host(value), golden.values(&name), 1e-4);
        }
    }
}

#[test]
fn reptile_s_adaptation_in_a_test_agrees_with_pytorch_under_either_norm() {
    let golden = Golden::read("reptile");
    let settings = [("method", "reptile"), ("test-steps", "4"), ("test-batch", "4")];
    let learner = learner(&golden, &settings);
    for (norm, name) in [
        (Norm::Episode, "test.episode.scores"),
        (Norm::Running, "test.running.scores"),
    ] {
        assert_close(
            name,
            &scores(&golden, learner.as_ref(), norm),
            golden.values(name),
            1e-4,
        );
    }
}

#[test]
fn reptile_s_tasks_of_a_meta_batch_leave_the_moments_as_one_after_the_other() {
    let golden = Golden::read("reptile");
    let settings = [
        ("method", "reptile"),
        ("inner-steps", "1"),
        ("inner-batch", "1000"),
    ];
    let learner = learner(&golden, &settings);
    let other = {
        let mut episode = golden.episode();
        episode.query.reverse();
        episode
    };
    // With one step the gradients are those at the same weights whether or not the tasks share the moments.
    let episodes = [
        golden.episode(),
        other.clone(),
        golden.episode(),
        other.clone(),
        other,
    ];
    let together = learner.meta_batch(&episodes).unwrap();
    let mut one_by_one = self::learner(&golden, &settings);
    for episode in &episodes {
        let mut values = one_by_one.read();
        for (index, value) in one_by_one.meta_step(episode).unwrap().carried {
            values[index] = value;
        }
        one_by_one.write(&values);
    }
    let expected = one_by_one.read();
    for (index, value) in together.carried {
        let name = &learner.parameters()[index].name;
        assert_close(
            name,
            &logits_on_host(value),
            &logits_on_host(expected[index].clone()),
            1e-5,
        );
    }
}

#[test]
fn the_lstm_learner_agrees_with_pytorch() {
    // `golden/lstm-learner.safetensors` comes from `bench/reference/lstm_learner.py`.
    let golden = Golden::read("lstm-learner");
    let settings = [
        ("method", "lstm-learner"),
        ("inner-steps", "3"),
        ("lstm-units", "6"),
    ];
    let learner = learner(&golden, &settings);
    let step = learner.meta_step(&golden.episode()).unwrap();
    assert_close("loss", &[step.loss], golden.values("loss"), 1e-5);
    golden::assert_gradients_within(&golden, learner.as_ref(), &step, "grad", 1e-3);
    // Under running statistics the queries meet the averages over the support set's passes.
    for (norm, name) in [(Norm::Episode, "logits"), (Norm::Running, "running.scores")] {
        assert_close(
            name,
            &scores(&golden, learner.as_ref(), norm),
            golden.values(name),
            1e-4,
        );
    }
}
