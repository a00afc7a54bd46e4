//! The networks over coordinates against the same formulas in plain `f64`, and their gradients against central differences
//! of these.

mod common;

use common::{narrow, on_every_level};
use kshot_kernels::{COORDINATE_HIDDEN as HIDDEN, CoordinateLstm, CoordinateMlp};
use proptest::prelude::*;

const GATES: usize = 4 * HIDDEN;

/// A network's arrays in the order of its fields.
type Arrays = Vec<Vec<f64>>;

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `bias + Σ inputs · weight`, column by column; `weight` is `[inputs, columns]`.
fn linear(inputs: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let column = |at: usize| {
        let products = inputs
            .iter()
            .enumerate()
            .map(|(row, x)| x * weight[row * bias.len() + at]);
        products.sum::<f64>() + bias[at]
    };
    (0..bias.len()).map(column).collect()
}

/// The LSTM's outputs of `x` `[steps, 2, n]`.
fn plain_lstm(arrays: &Arrays, steps: usize, x: &[f64]) -> Vec<f64> {
    let n = x.len() / (2 * steps);
    let one = |at: usize| {
        let (mut h, mut c) = ([0.0; HIDDEN], [0.0; HIDDEN]);
        for step in 0..steps {
            let own = [x[2 * step * n + at], x[(2 * step + 1) * n + at]];
            let gates = linear(&[&own[..], &h].concat(), &arrays[0], &arrays[1]);
            for unit in 0..HIDDEN {
                let [input, forget, candidate, output] = [0, 1, 2, 3].map(|gate| gates[gate * HIDDEN + unit]);
                c[unit] = sigmoid(forget) * c[unit] + sigmoid(input) * candidate.tanh();
                h[unit] = sigmoid(output) * c[unit].tanh();
            }
        }
        linear(&h, &arrays[2], &arrays[3])[0]
    };
    (0..n).map(one).collect()
}

/// The perceptron's outputs of `x` `[2, n]`.
fn plain_mlp(arrays: &Arrays, x: &[f64]) -> Vec<f64> {
    let n = x.len() / 2;
    // `f64::max` would lose a NaN.
    let relu = |layer: Vec<f64>| layer.into_iter().map(|u| if u < 0.0 { 0.0 } else { u });
    let one = |at: usize| {
        let first: Vec<f64> = relu(linear(&[x[at], x[n + at]], &arrays[0], &arrays[1])).collect();
        let second: Vec<f64> = relu(linear(&first, &arrays[2], &arrays[3])).collect();
        linear(&second, &arrays[4], &arrays[5])[0]
    };
    (0..n).map(one).collect()
}

fn draw(lens: &[usize], seed: &mut u64) -> Arrays {
    lens.iter().map(|len| common::both(seed, *len).1).collect()
}

const LSTM: [usize; 4] = [(2 + HIDDEN) * GATES, GATES, HIDDEN, 1];
const MLP: [usize; 6] = [2 * HIDDEN, HIDDEN, HIDDEN * HIDDEN, HIDDEN, HIDDEN, 1];

fn with_lstm<R>(arrays: &Arrays, then: impl FnOnce(CoordinateLstm<'_>) -> R) -> R {
    let arrays: Vec<Vec<f32>> = arrays.iter().map(|array| narrow(array)).collect();
    then(CoordinateLstm {
        weight: &arrays[0],
        bias: &arrays[1],
        output: &arrays[2],
        output_bias: &arrays[3],
    })
}

fn with_mlp<R>(arrays: &Arrays, then: impl FnOnce(CoordinateMlp<'_>) -> R) -> R {
    let arrays: Vec<Vec<f32>> = arrays.iter().map(|array| narrow(array)).collect();
    then(CoordinateMlp {
        first: &arrays[0],
        first_bias: &arrays[1],
        second: &arrays[2],
        second_bias: &arrays[3],
        output: &arrays[4],
        output_bias: &arrays[5],
    })
}

/// Whether both are NaN, the same infinity, or close to each other.
fn alike(found: f32, expected: f64) -> bool {
    match expected.is_finite() {
        true => (f64::from(found) - expected).abs() < 5e-5 * (1.0 + expected.abs()),
        false => expected.is_nan() == found.is_nan() && (found.is_nan() || f64::from(found) == expected),
    }
}

fn assert_alike(what: &str, found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(alike(*found, *expected), "{what} {at}: {found} {expected}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_outputs_are_those_of_the_plain_formulas(n in 1usize..700, steps in 1usize..6, mut seed in any::<u64>()) {
        let (lstm, mlp) = (draw(&LSTM, &mut seed), draw(&MLP, &mut seed));
        let x = common::both(&mut seed, 2 * steps * n).1;
        let single = &x[..2 * n];
        let expected = (plain_lstm(&lstm, steps, &x), plain_mlp(&mlp, single));
        on_every_level(|level| {
            let found = with_lstm(&lstm, |lstm| lstm.forward(steps, &narrow(&x)));
            assert_alike(&format!("{level:?} LSTM"), &found, &expected.0);
            let found = with_mlp(&mlp, |mlp| mlp.forward(&narrow(single)));
            assert_alike(&format!("{level:?} perceptron"), &found, &expected.1);
        });
    }

    #[test]
    fn gradients_agree_with_central_differences(n in 1usize..300, steps in 1usize..5, mut seed in any::<u64>()) {
        let (lstm, mlp) = (draw(&LSTM, &mut seed), draw(&MLP, &mut seed));
        let x = common::both(&mut seed, 2 * steps * n).1;
        let single = x[..2 * n].to_vec();
        let slope = common::both(&mut seed, n).1;
        let value = |outputs: Vec<f64>| -> f64 { outputs.iter().zip(&slope).map(|(y, slope)| y * slope).sum() };
        let of_lstm = |arrays: &Arrays| value(plain_lstm(arrays, steps, &x));
        let of_mlp = |arrays: &Arrays| value(plain_mlp(arrays, &single));
        on_every_level(|level| {
            let found = with_lstm(&lstm, |lstm| lstm.gradients(steps, &narrow(&x), &narrow(&slope)));
            assert_differences(&format!("{level:?} LSTM"), &lstm, &of_lstm, &found, n);
            let found = with_mlp(&mlp, |mlp| mlp.gradients(&narrow(&single), &narrow(&slope)));
            assert_differences(&format!("{level:?} perceptron"), &mlp, &of_mlp, &found, n);
        });
    }
}

/// Compares some places of each array's gradient: plain formulas are slow.
fn assert_differences(
    what: &str,
    arrays: &Arrays,
    value: &dyn Fn(&Arrays) -> f64,
    found: &[Vec<f32>],
    n: usize,
) {
    // Small enough that hardly a ReLU turns.
    const REACH: f64 = 1e-7;
    for (array, found) in found.iter().enumerate() {
        assert_eq!(found.len(), arrays[array].len(), "{what}");
        for at in (0..found.len()).step_by(found.len().div_ceil(6)) {
            let moved = |by: f64| {
                let mut arrays = arrays.clone();
                arrays[array][at] += by;
                value(&arrays)
            };
            let expected = (moved(REACH) - moved(-REACH)) / (2.0 * REACH);
            let limit = 1e-4 * (1.0 + expected.abs()) * (n as f64).sqrt();
            let difference = (f64::from(found[at]) - expected).abs();
            assert!(
                difference < limit,
                "{what}, array {array}, {at}: {} {expected}",
                found[at]
            );
        }
    }
}

#[test]
fn nan_and_infinity_reach_the_output_of_their_coordinate_as_in_the_plain_formulas() {
    let (n, steps, mut seed) = (200, 3, 5);
    let (lstm, mlp) = (draw(&LSTM, &mut seed), draw(&MLP, &mut seed));
    let clean = common::both(&mut seed, 2 * steps * n).1;
    for (coordinate, bad) in [(0, f64::NAN), (63, f64::INFINITY), (199, f64::NEG_INFINITY)] {
        let mut x = clean.clone();
        // The second input of the last step, and of the perceptron's only one.
        for at in [n + coordinate, (2 * steps - 1) * n + coordinate] {
            x[at] = bad;
        }
        let single = &x[..2 * n];
        let expected = (plain_lstm(&lstm, steps, &x), plain_mlp(&mlp, single));
        assert_eq!(expected.1.iter().filter(|y| !y.is_finite()).count(), 1, "{bad}");
        on_every_level(|level| {
            let found = with_lstm(&lstm, |lstm| lstm.forward(steps, &narrow(&x)));
            assert_alike(&format!("{level:?} LSTM {bad}"), &found, &expected.0);
            let found = with_mlp(&mlp, |mlp| mlp.forward(&narrow(single)));
            assert_alike(&format!("{level:?} perceptron {bad}"), &found, &expected.1);
        });
    }
}

#[test]
fn nan_and_infinity_reach_the_gradients() {
    let (n, mut seed) = (200, 6);
    let (lstm, mlp) = (draw(&LSTM, &mut seed), draw(&MLP, &mut seed));
    let (x, slope) = (common::both(&mut seed, 2 * n).0, common::both(&mut seed, n).0);
    let gradients = |x: &[f32], slope: &[f32]| {
        [
            with_lstm(&lstm, |lstm| lstm.gradients(1, x, slope).to_vec()),
            with_mlp(&mlp, |mlp| mlp.gradients(x, slope).to_vec()),
        ]
    };
    on_every_level(|level| {
        let finite = |arrays: &[Vec<f32>]| arrays.iter().flatten().all(|value| value.is_finite());
        assert!(
            gradients(&x, &slope).iter().all(|arrays| finite(arrays)),
            "{level:?}"
        );
        let mut bad = x.clone();
        bad[n + 77] = f32::NAN;
        for arrays in gradients(&bad, &slope) {
            // The weights of that input, all of them.
            let columns = if arrays[0].len() == 2 * HIDDEN {
                HIDDEN
            } else {
                GATES
            };
            let row = &arrays[0][columns..2 * columns];
            assert!(row.iter().all(|value| value.is_nan()), "{level:?}: {row:?}");
        }
        for (bad, holds) in [
            (f32::NAN, f32::is_nan as fn(f32) -> bool),
            (f32::INFINITY, |value| value == f32::INFINITY),
        ] {
            let mut slope = slope.clone();
            slope[123] = bad;
            for arrays in gradients(&x, &slope) {
                // The output's bias is their sum.
                let last = &arrays[arrays.len() - 1];
                assert!(
                    last.iter().all(|value| holds(*value)),
                    "{level:?} {bad}: {last:?}"
                );
            }
        }
    });
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let (n, steps, mut seed) = (20_000, 2, 7);
    let (lstm, mlp) = (draw(&LSTM, &mut seed), draw(&MLP, &mut seed));
    let (x, dy) = (
        common::both(&mut seed, 2 * steps * n).0,
        common::both(&mut seed, n).0,
    );
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(|| {
            let of_lstm = with_lstm(&lstm, |lstm| {
                [
                    lstm.gradients(steps, &x, &dy).to_vec(),
                    vec![lstm.forward(steps, &x)],
                ]
                .concat()
            });
            let of_mlp = with_mlp(&mlp, |mlp| {
                let x = &x[..2 * n];
                [mlp.gradients(x, &dy).to_vec(), vec![mlp.forward(x)]].concat()
            });
            [of_lstm, of_mlp]
        })
    };
    assert_eq!(run(1), run(3));
}
