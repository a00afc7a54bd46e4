//! The recurrent update rule against the same formulas in plain `f64`, and its gradients against central differences of
//! these.

mod common;

use common::{narrow, on_every_level};
use kshot_kernels::{RuleInputs, UpdateRule};
use proptest::prelude::*;

/// All numbers of a rule: memory, bias, both gates with their biases last.
#[derive(Clone, Debug)]
struct Numbers {
    units: usize,
    weight: Vec<f64>,
    bias: Vec<f64>,
    gates: [Vec<f64>; 2],
}

/// What the steps are told, coordinate by coordinate.
#[derive(Clone, Debug)]
struct Told {
    shared: [f64; 2],
    /// `[2, n]`
    inputs: Vec<f64>,
    gradient: Vec<f64>,
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Where the coordinates end.
fn plain(numbers: &Numbers, theta: &[f64], steps: &[Told]) -> Vec<f64> {
    let units = numbers.units;
    let n = theta.len();
    let one = |at: usize| {
        let (mut theta, mut f, mut i) = (theta[at], 0.0, 0.0);
        let (mut h, mut c) = (vec![0.0; units], vec![0.0; units]);
        for told in steps {
            let own = [told.inputs[at], told.inputs[n + at]];
            let seen: Vec<f64> = told.shared.iter().chain(&own).chain(&h).copied().collect();
            let gate = |column: usize| -> f64 {
                let products = seen
                    .iter()
                    .enumerate()
                    .map(|(row, x)| x * numbers.weight[row * 4 * units + column]);
                numbers.bias[column] + products.sum::<f64>()
            };
            let gates: Vec<f64> = (0..4 * units).map(gate).collect();
            for unit in 0..units {
                let [input, forget, candidate, output] = [0, 1, 2, 3].map(|gate| gates[gate * units + unit]);
                c[unit] = sigmoid(forget) * c[unit] + sigmoid(input) * candidate.tanh();
                h[unit] = sigmoid(output) * c[unit].tanh();
            }
            let open = |weight: &[f64], last: f64| {
                let products = h.iter().zip(weight).map(|(h, w)| h * w);
                sigmoid(
                    products.sum::<f64>()
                        + weight[units] * theta
                        + weight[units + 1] * last
                        + weight[units + 2],
                )
            };
            (f, i) = (open(&numbers.gates[0], f), open(&numbers.gates[1], i));
            theta = f * theta - i * told.gradient[at];
        }
        theta
    };
    (0..n).map(one).collect()
}

fn with_rule<R>(numbers: &Numbers, then: impl FnOnce(&UpdateRule<'_>) -> R) -> R {
    let units = numbers.units;
    let (weight, bias) = (narrow(&numbers.weight), narrow(&numbers.bias));
    let [forget, input] = [0, 1].map(|gate| narrow(&numbers.gates[gate]));
    then(&UpdateRule {
        units,
        weight: &weight,
        bias: &bias,
        forget: (&forget[..units + 2], forget[units + 2]),
        input: (&input[..units + 2], input[units + 2]),
    })
}

fn with_told<R>(steps: &[Told], then: impl FnOnce(&[RuleInputs<'_>]) -> R) -> R {
    let narrowed: Vec<_> = steps
        .iter()
        .map(|told| (narrow(&told.shared), narrow(&told.inputs), narrow(&told.gradient)))
        .collect();
    let told: Vec<RuleInputs<'_>> = narrowed
        .iter()
        .map(|(shared, inputs, gradient)| RuleInputs {
            shared: [shared[0], shared[1]],
            inputs,
            gradient,
        })
        .collect();
    then(&told)
}

fn case(units: usize, n: usize, steps: usize, mut seed: u64) -> (Numbers, Vec<f64>, Vec<Told>) {
    let mut draw = |count: usize| common::both(&mut seed, count).1;
    let numbers = Numbers {
        units,
        weight: draw((4 + units) * 4 * units),
        bias: draw(4 * units),
        gates: [(); 2].map(|()| draw(units + 3)),
    };
    let theta = draw(n);
    let told = (0..steps).map(|_| Told {
        shared: [draw(1)[0], draw(1)[0]],
        inputs: draw(2 * n),
        gradient: draw(n),
    });
    let told = told.collect();
    (numbers, theta, told)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_steps_are_those_of_the_plain_formulas(
        units in 1usize..9, n in 1usize..300, steps in 0usize..5, seed in any::<u64>(),
    ) {
        let (numbers, theta, told) = case(units, n, steps, seed);
        let expected = plain(&numbers, &theta, &told);
        on_every_level(|level| {
            let found: Vec<f32> = with_rule(&numbers, |rule| {
                let mut state = rule.start(&narrow(&theta));
                with_told(&told, |told| told.iter().for_each(|told| rule.step(&mut state, *told)));
                state.theta().collect()
            });
            assert_eq!(found.len(), n);
            for (found, expected) in found.iter().zip(&expected) {
                assert!((f64::from(*found) - expected).abs() < 2e-5, "{level:?}: {found} {expected}");
            }
        });
    }
}

#[test]
fn gradients_agree_with_central_differences() {
    const REACH: f64 = 1e-5;
    for (units, n, steps) in [(3, 10, 4), (20, 130, 3), (4, 128, 1)] {
        let (numbers, theta, told) = case(units, n, steps, 7);
        let slope = case(1, n, 0, 8).1;
        let end = |numbers: &Numbers, theta: &[f64]| -> f64 {
            let ends = plain(numbers, theta, &told);
            ends.iter().zip(&slope).map(|(end, slope)| end * slope).sum()
        };
        on_every_level(|level| {
            let found = with_rule(&numbers, |rule| {
                with_told(&told, |told| {
                    rule.gradients(&narrow(&theta), told, &narrow(&slope))
                })
            });
            let check = |what: &str, at: usize, found: f32, move_by: &dyn Fn(f64) -> f64| {
                let expected = (move_by(REACH) - move_by(-REACH)) / (2.0 * REACH);
                let limit = 2e-5 * (1.0 + expected.abs()) * (n as f64).sqrt();
                assert!(
                    (f64::from(found) - expected).abs() < limit,
                    "{level:?} {units} {what} {at}: {found} {expected}"
                );
            };
            // A few places of each: plain formulas are slow.
            let some = |len: usize| (0..len).step_by(len.div_ceil(40).max(1));
            for at in some(numbers.weight.len()) {
                check("weight", at, found.weight[at], &|by| {
                    let mut moved = numbers.clone();
                    moved.weight[at] += by;
                    end(&moved, &theta)
                });
            }
            for at in some(numbers.bias.len()) {
                check("bias", at, found.bias[at], &|by| {
                    let mut moved = numbers.clone();
                    moved.bias[at] += by;
                    end(&moved, &theta)
                });
            }
            for (gate, (weight, bias)) in [&found.forget, &found.input].into_iter().enumerate() {
                let all = [weight.as_slice(), &[*bias]].concat();
                for at in 0..units + 3 {
                    check("gate", at, all[at], &|by| {
                        let mut moved = numbers.clone();
                        moved.gates[gate][at] += by;
                        end(&moved, &theta)
                    });
                }
            }
            for at in some(n) {
                check("theta", at, found.theta[at], &|by| {
                    let mut moved = theta.clone();
                    moved[at] += by;
                    end(&numbers, &moved)
                });
            }
            assert_eq!(found.theta.len(), n);
        });
    }
}

#[test]
fn nan_and_infinity_reach_their_coordinate_as_in_the_plain_formulas() {
    let (n, at) = (300, 131);
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for part in 0..4 {
            let (numbers, mut theta, mut told) = case(20, n, 3, 11);
            match part {
                0 => told[1].inputs[at] = bad,
                1 => told[1].inputs[n + at] = bad,
                2 => told[1].gradient[at] = bad,
                _ => theta[at] = bad,
            }
            let expected = plain(&numbers, &theta, &told);
            on_every_level(|level| {
                let found: Vec<f32> = with_rule(&numbers, |rule| {
                    let mut state = rule.start(&narrow(&theta));
                    with_told(&told, |told| {
                        told.iter().for_each(|told| rule.step(&mut state, *told))
                    });
                    state.theta().collect()
                });
                for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    let close = (f64::from(*found) - expected).abs() < 2e-5;
                    let alike =
                        close || f64::from(*found) == *expected || (found.is_nan() && expected.is_nan());
                    assert!(alike, "{level:?} {bad} in part {part}, {at}: {found} {expected}");
                }
                if bad.is_nan() {
                    assert_eq!(
                        found.iter().filter(|theta| theta.is_nan()).count(),
                        1,
                        "{level:?} {part}"
                    );
                }
            });
        }
    }
}

#[test]
fn the_bits_do_not_depend_on_the_number_of_threads() {
    let (numbers, theta, told) = case(20, 5000, 3, 3);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let found = pool.install(|| {
            with_rule(&numbers, |rule| {
                with_told(&told, |told| {
                    rule.gradients(&narrow(&theta), told, &narrow(&theta))
                })
            })
        });
        [
            found.weight,
            found.bias,
            found.forget.0,
            found.input.0,
            found.theta,
        ]
    };
    assert_eq!(run(1), run(3));
}
