//! Gradients, Hessian-vector products and meta-gradients of networks of plain numbers against central differences in `f64`.
//!
//! The loss in `f64`, and the descent for the meta-gradients, are written down here from the plain blocks of
//! `kshot-kernels`; the network computes in `f32`.

use kshot::inner::{Batch, Descent, Layer, Network, Order, Rates, Targets, Weights};
use kshot::ops::conv_block::{Activation, BlockForm, EPSILON, kernel_shape};
use kshot::random;
use kshot_kernels::plain;
use rand::RngExt;

const TASKS: usize = 2;
const EXAMPLES: usize = 6;
const LABELS: [usize; TASKS * EXAMPLES] = [0, 1, 2, 0, 1, 2, 2, 2, 1, 0, 1, 1];

fn block(side: usize, c_in: usize, c_out: usize, activation: Activation, pool: bool) -> Layer {
    Layer::Block {
        size: (side, side),
        weight: [3, 3, c_in, c_out],
        form: BlockForm {
            padding: 1,
            activation,
            pool,
        },
    }
}

fn linear(inputs: usize, outputs: usize, relu: bool) -> Layer {
    Layer::Linear {
        weight: [inputs, outputs],
        relu,
    }
}

/// Blocks without kinks, and blocks as encoders have them.
fn networks() -> [Vec<Layer>; 3] {
    let smooth = |side, c_in, c_out| block(side, c_in, c_out, Activation::Identity, false);
    let pooled = |side, c_in, c_out| block(side, c_in, c_out, Activation::Relu, true);
    [
        vec![smooth(4, 2, 3), smooth(4, 3, 2), linear(32, 3, false)],
        vec![
            pooled(8, 1, 16),
            pooled(4, 16, 5),
            linear(20, 7, true),
            linear(7, 3, false),
        ],
        vec![linear(4, 9, true), linear(9, 8, true), linear(8, 3, false)],
    ]
}

fn lengths(layers: &[Layer]) -> Vec<usize> {
    let of = |layer: &Layer| match *layer {
        Layer::Block { weight, .. } => vec![weight.iter().product(), weight[3], weight[3]],
        Layer::Linear { weight, .. } => vec![weight[0] * weight[1], weight[1]],
    };
    layers.iter().flat_map(of).collect()
}

/// One vector per parameter, `[tasks, length]`.
fn draw(layers: &[Layer], seed: u64) -> Vec<Vec<f32>> {
    let mut rng = random::stream(seed, &[]);
    let mut vector = |len: usize| (0..TASKS * len).map(|_| rng.random_range(-1.0f32..1.0)).collect();
    lengths(layers).into_iter().map(&mut vector).collect()
}

/// The sum over the tasks of each one's loss at `weights` + `by[0]` · `along[0]` + `by[1]` · `along[1]`.
fn loss(
    layers: &[Layer],
    weights: &[Vec<f32>],
    along: [&[Vec<f32>]; 2],
    by: [f64; 2],
    inputs: &[f32],
) -> f64 {
    (0..TASKS)
        .map(|task| {
            let part = |values: &[f32]| -> Vec<f64> {
                let len = values.len() / TASKS;
                values[task * len..(task + 1) * len]
                    .iter()
                    .map(|v| f64::from(*v))
                    .collect()
            };
            let mut numbers = (0..weights.len()).map(|index| {
                let [a, b] = along.map(|along| part(&along[index]));
                let moved = part(&weights[index]).into_iter().zip(a).zip(b);
                moved
                    .map(|((w, a), b)| w + by[0] * a + by[1] * b)
                    .collect::<Vec<f64>>()
            });
            let mut next = || numbers.next().unwrap();
            let mut values = part(inputs);
            for layer in layers {
                values = match *layer {
                    Layer::Block { size, weight, form } => {
                        let [k, _, c_in, c_out] = weight;
                        let shape = kernel_shape([EXAMPLES, size.0, size.1, c_in], [k, c_out], form, 1);
                        let (w, gamma, beta) = (next(), next(), next());
                        plain::forward(&shape, &values, &w, &gamma, &beta, f64::from(EPSILON)).out
                    }
                    Layer::Linear { weight, relu } => {
                        let (w, b) = (next(), next());
                        let row = |x: &[f64]| -> Vec<f64> {
                            let product =
                                |o: usize| (0..weight[0]).map(|i| x[i] * w[i * weight[1] + o]).sum::<f64>();
                            let y = (0..weight[1]).map(|o| b[o] + product(o));
                            y.map(|y| if relu { y.max(0.0) } else { y }).collect()
                        };
                        values.chunks_exact(weight[0]).flat_map(row).collect()
                    }
                };
            }
            let width = values.len() / EXAMPLES;
            let labels = &LABELS[task * EXAMPLES..];
            let losses = values
                .chunks_exact(width)
                .zip(labels)
                .map(|(row, label)| row.iter().map(|z| z.exp()).sum::<f64>().ln() - row[*label]);
            losses.sum::<f64>() / EXAMPLES as f64
        })
        .sum()
}

fn dot(a: &[Vec<f32>], b: &[Vec<f32>]) -> f64 {
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// The nearest of `found` must be within `tolerance` of `expected`: kinks of ReLU and pool disturb long steps,
/// rounding short ones.
#[track_caller]
fn assert_near(what: &str, found: [f64; 3], expected: f64, tolerance: f64) {
    let error = found.map(|found| (found - expected).abs() / expected.abs().max(0.05));
    let best = error.into_iter().fold(f64::INFINITY, f64::min);
    assert!(best < tolerance, "{what}: {found:?}, the network says {expected}");
}

#[test]
fn gradients_and_hessian_vector_products_agree_with_central_differences() {
    for (index, layers) in networks().into_iter().enumerate() {
        let network = Network::new(layers.clone());
        let weights = draw(&layers, 1);
        let mut rng = random::stream(2, &[]);
        let inputs: Vec<f32> = (0..TASKS * EXAMPLES * layers[0].inputs())
            .map(|_| rng.random_range(-1.0..1.0))
            .collect();
        let batch = Batch {
            tasks: TASKS,
            inputs: &inputs,
            targets: Targets::Labels(&LABELS),
        };
        let at = Weights::new(weights.clone(), TASKS);
        let gradient = network.gradient(&at, &batch, false).gradient;
        for seed in 10..14 {
            let (u, v) = (draw(&layers, seed), draw(&layers, seed + 100));
            let value = |by| loss(&layers, &weights, [&u, &v], by, &inputs);
            let slopes = [1e-3, 1e-4, 1e-5].map(|e| (value([e, 0.0]) - value([-e, 0.0])) / (2.0 * e));
            assert_near(
                &format!("{index}: gradient"),
                slopes,
                dot(gradient.values(), &u),
                1e-4,
            );
            let second = network.curvature(&at, &batch, &Weights::new(v.clone(), TASKS), false);
            let curvatures = [1e-3, 1e-4, 3e-5].map(|e| {
                let corners = value([e, e]) - value([e, -e]) - value([-e, e]) + value([-e, -e]);
                corners / (4.0 * e * e)
            });
            assert_near(
                &format!("{index}: product"),
                curvatures,
                dot(second.product.values(), &u),
                2e-3,
            );
            for (a, b) in std::iter::zip(
                second.gradient.values().iter().flatten(),
                gradient.values().iter().flatten(),
            ) {
                assert!((a - b).abs() < 1e-4 * (1.0 + b.abs()), "{index}: {a} {b}");
            }
        }
    }
}

/// Mean cross-entropy of one task's examples, and its gradient: one vector per parameter.
fn loss_and_gradient(
    layers: &[Layer],
    weights: &[Vec<f64>],
    inputs: &[f64],
    labels: &[usize],
) -> (f64, Vec<Vec<f64>>) {
    // Each layer's input, and what the blocks keep for their gradients.
    let mut met = Vec::new();
    let mut values = inputs.to_vec();
    let mut numbers = weights.iter();
    let mut next = || numbers.next().unwrap().as_slice();
    for layer in layers {
        let (output, step) = match *layer {
            Layer::Block { size, weight, form } => {
                let [k, _, c_in, c_out] = weight;
                let shape = kernel_shape([EXAMPLES, size.0, size.1, c_in], [k, c_out], form, 1);
                let (w, gamma, beta) = (next(), next(), next());
                let saved = plain::forward(&shape, &values, w, gamma, beta, f64::from(EPSILON));
                (saved.out.clone(), Ok((shape, w, gamma, saved)))
            }
            Layer::Linear {
                weight: [n_in, n_out],
                relu,
            } => {
                assert!(!relu, "kinks have no place here");
                let (w, b) = (next(), next());
                let row = |x: &[f64]| -> Vec<f64> {
                    let product = |o: usize| (0..n_in).map(|i| x[i] * w[i * n_out + o]).sum::<f64>();
                    (0..n_out).map(|o| b[o] + product(o)).collect()
                };
                (
                    values.chunks_exact(n_in).flat_map(row).collect(),
                    Err((w, n_in, n_out)),
                )
            }
        };
        met.push((std::mem::replace(&mut values, output), step));
    }
    let (width, share) = (values.len() / EXAMPLES, 1.0 / EXAMPLES as f64);
    let mut loss = 0.0;
    let mut slope = Vec::new();
    for (row, label) in values.chunks_exact(width).zip(labels) {
        let sum: f64 = row.iter().map(|z| z.exp()).sum();
        loss += share * (sum.ln() - row[*label]);
        slope.extend((0..width).map(|o| share * (row[o].exp() / sum - f64::from(u8::from(o == *label)))));
    }
    let mut gradient = Vec::new();
    for (input, step) in met.into_iter().rev() {
        match step {
            Ok((shape, w, gamma, saved)) => {
                let found = plain::backward(&shape, &input, w, gamma, &saved, &slope);
                gradient.extend([found.beta, found.gamma, found.weight]);
                slope = found.input;
            }
            Err((w, n_in, n_out)) => {
                let (mut by_weight, mut by_bias) = (vec![0.0; n_in * n_out], vec![0.0; n_out]);
                let mut by_input = vec![0.0; input.len()];
                for (example, d) in slope.chunks_exact(n_out).enumerate() {
                    for (o, d) in d.iter().enumerate() {
                        by_bias[o] += d;
                        for i in 0..n_in {
                            by_weight[i * n_out + o] += d * input[example * n_in + i];
                            by_input[example * n_in + i] += d * w[i * n_out + o];
                        }
                    }
                }
                gradient.extend([by_bias, by_weight]);
                slope = by_input;
            }
        }
    }
    gradient.reverse();
    (loss, gradient)
}

/// Two tasks' examples: support sets, then queries.
struct Examples {
    support: Vec<f32>,
    query: Vec<f32>,
    /// The queries' labels.
    labels: [usize; TASKS * EXAMPLES],
}

/// The sum over the tasks of the query loss after `steps` steps from `start` by `rates`, both `[tasks, length]`; by `f64`
/// from the first number to the last.
fn loss_after(
    layers: &[Layer],
    examples: &Examples,
    start: &[Vec<f64>],
    rates: &[Vec<f64>],
    steps: usize,
) -> f64 {
    let task_loss = |task: usize| {
        let part = |values: &[f64]| {
            let len = values.len() / TASKS;
            values[task * len..(task + 1) * len].to_vec()
        };
        let wide = |values: &[f32]| part(&values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>());
        let labels = |all: &[usize]| all[task * EXAMPLES..(task + 1) * EXAMPLES].to_vec();
        let mut weights: Vec<Vec<f64>> = start.iter().map(|values| part(values)).collect();
        let rates: Vec<Vec<f64>> = rates.iter().map(|values| part(values)).collect();
        for _ in 0..steps {
            let (_, gradient) =
                loss_and_gradient(layers, &weights, &wide(&examples.support), &labels(&LABELS));
            for ((weights, rates), gradient) in weights.iter_mut().zip(&rates).zip(&gradient) {
                for ((weight, rate), slope) in weights.iter_mut().zip(rates).zip(gradient) {
                    *weight -= rate * slope;
                }
            }
        }
        let query = wide(&examples.query);
        loss_and_gradient(layers, &weights, &query, &labels(&examples.labels)).0
    };
    (0..TASKS).map(task_loss).sum()
}

#[test]
fn meta_gradients_over_1_3_and_5_steps_agree_with_central_differences() {
    let [layers, ..] = networks();
    let network = Network::new(layers.clone());
    let start = draw(&layers, 21);
    let mut rng = random::stream(22, &[]);
    let mut images = || -> Vec<f32> {
        let count = TASKS * EXAMPLES * layers[0].inputs();
        (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
    };
    let examples = Examples {
        support: images(),
        query: images(),
        labels: [2, 1, 0, 0, 2, 1, 1, 2, 2, 0, 0, 1],
    };
    let batch = |inputs, labels| Batch {
        tasks: TASKS,
        inputs,
        targets: Targets::Labels(labels),
    };
    let (support, query) = (
        batch(&examples.support, &LABELS),
        batch(&examples.query, &examples.labels),
    );
    // Of either sign, as learned rates are; the same for both tasks.
    let mut each = draw(&layers, 23);
    for rates in &mut each {
        rates.truncate(rates.len() / TASKS);
        rates.iter_mut().for_each(|rate| *rate = 0.1 * *rate + 0.05);
    }
    let one: Vec<Vec<f32>> = each.iter().map(|rates| vec![0.1; rates.len()]).collect();
    let wide = |values: &[Vec<f32>], along: &[Vec<f32>], by: f64| -> Vec<Vec<f64>> {
        let moved = |(values, along): (&Vec<f32>, &Vec<f32>)| {
            let numbers = values.iter().cycle().zip(along);
            numbers.map(|(v, a)| f64::from(*v) + by * f64::from(*a)).collect()
        };
        values.iter().zip(along).map(moved).collect()
    };
    for (what, given, rates) in [
        ("one rate", &one, Rates::One(0.1)),
        ("each its rate", &each, Rates::Each(&each)),
    ] {
        for steps in [1, 3, 5] {
            let descent = Descent {
                network: &network,
                rates,
                steps,
            };
            let from = Weights::new(start.clone(), TASKS);
            let found = descent.meta_gradient(from, &support, &query, Order::Second, false);
            let slope = |by: &dyn Fn(f64) -> f64| [1e-3, 1e-4, 1e-5].map(|e| (by(e) - by(-e)) / (2.0 * e));
            for seed in 30..33 {
                let u = draw(&layers, seed);
                let with_start = |by: f64| {
                    loss_after(
                        &layers,
                        &examples,
                        &wide(&start, &u, by),
                        &wide(given, &u, 0.0),
                        steps,
                    )
                };
                assert_near(
                    &format!("{what}, {steps} steps, start"),
                    slope(&with_start),
                    dot(found.start.values(), &u),
                    1e-4,
                );
                let Some(by_rates) = &found.rates else {
                    assert_eq!(what, "one rate");
                    continue;
                };
                let with_rates = |by: f64| {
                    loss_after(
                        &layers,
                        &examples,
                        &wide(&start, &u, 0.0),
                        &wide(given, &u, by),
                        steps,
                    )
                };
                assert_near(
                    &format!("{what}, {steps} steps, rates"),
                    slope(&with_rates),
                    dot(by_rates.values(), &u),
                    1e-4,
                );
            }
        }
    }
}
