//! Gradients and Hessian-vector products of networks of plain numbers against central differences in `f64`.
//!
//! The loss in `f64` is written down here from the plain blocks of `kshot-kernels`; the network computes in `f32`.

use kshot::inner::{Batch, Layer, Network, Targets, Weights};
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
