//! The network with a memory against the same formulas in plain `f64`, and its gradients against central differences of these.

mod common;

use common::{narrow, on_every_level};
use kshot_kernels::MemoryNetwork;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
struct Sizes {
    hidden: usize,
    rows: usize,
    width: usize,
    heads: usize,
    vectors: bool,
    sharpened: bool,
    n: usize,
    steps: usize,
}

/// What the network is given.
#[derive(Clone, Debug)]
struct Numbers {
    gates: Vec<f64>,
    recurrent: Vec<f64>,
    emit: Vec<f64>,
    emit_bias: Vec<f64>,
}

const DECAY: f64 = 0.9;

impl Sizes {
    fn emitted(&self) -> usize {
        self.heads * (self.width * (1 + usize::from(self.vectors)) + 1 + usize::from(self.sharpened))
    }

    fn outputs(&self) -> usize {
        self.hidden + self.heads * self.width
    }

    fn numbers(&self, mut seed: u64) -> Numbers {
        let mut draw = |count: usize| common::both(&mut seed, count).1;
        Numbers {
            gates: draw(self.steps * self.n * 4 * self.hidden),
            recurrent: draw(self.outputs() * 4 * self.hidden),
            emit: draw(self.hidden * self.emitted()),
            emit_bias: draw(self.emitted()),
        }
    }

    fn with_network<R>(&self, numbers: &Numbers, then: impl FnOnce(&MemoryNetwork<'_>) -> R) -> R {
        let [recurrent, emit, emit_bias] =
            [&numbers.recurrent, &numbers.emit, &numbers.emit_bias].map(|values| narrow(values));
        then(&MemoryNetwork {
            hidden: self.hidden,
            rows: self.rows,
            width: self.width,
            heads: self.heads,
            usage_decay: DECAY as f32,
            vectors: self.vectors,
            sharpened: self.sharpened,
            recurrent: &recurrent,
            emit: &emit,
            emit_bias: &emit_bias,
        })
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn length(x: &[f64]) -> f64 {
    (x.iter().map(|x| x * x).sum::<f64>() + 1e-6).sqrt()
}

/// All outputs, `[steps, n, hidden + heads * width]`.
fn plain(sizes: &Sizes, numbers: &Numbers) -> Vec<f64> {
    let Sizes {
        hidden,
        rows,
        width,
        heads,
        n,
        ..
    } = *sizes;
    let mut outputs = vec![0.0; sizes.steps * n * sizes.outputs()];
    for s in 0..n {
        let mut output = vec![0.0; sizes.outputs()];
        let mut cell = vec![0.0; hidden];
        let mut memory = vec![vec![0.0; width]; rows];
        let mut read = vec![vec![0.0; rows]; heads];
        let mut usage = vec![0.0f64; rows];
        for t in 0..sizes.steps {
            let gate = |column: usize| -> f64 {
                let seen = output.iter().enumerate();
                numbers.gates[(t * n + s) * 4 * hidden + column]
                    + seen
                        .map(|(row, x)| x * numbers.recurrent[row * 4 * hidden + column])
                        .sum::<f64>()
            };
            let gates: Vec<f64> = (0..4 * hidden).map(gate).collect();
            for unit in 0..hidden {
                let [i, f, o, g] = [0, 1, 2, 3].map(|gate| gates[gate * hidden + unit]);
                cell[unit] = sigmoid(f) * cell[unit] + sigmoid(i) * g.tanh();
                output[unit] = sigmoid(o) * cell[unit].tanh();
            }
            let told: Vec<f64> = (0..sizes.emitted())
                .map(|column| {
                    let products =
                        (0..hidden).map(|unit| output[unit] * numbers.emit[unit * sizes.emitted() + column]);
                    numbers.emit_bias[column] + products.sum::<f64>()
                })
                .collect();
            let bent: Vec<f64> = told.iter().map(|x| x.tanh()).collect();
            let own = if sizes.vectors { heads * width } else { 0 };
            let mut least: Vec<usize> = (0..rows).collect();
            least.sort_by(|a, b| usage[*a].total_cmp(&usage[*b]));
            least.truncate(heads);
            least.iter().for_each(|row| memory[*row].fill(0.0));
            let mut write = read.clone();
            for (head, write) in write.iter_mut().enumerate() {
                let alpha = sigmoid(told[own + heads * width + head]);
                for (row, weight) in write.iter_mut().enumerate() {
                    let least = f64::from(u8::from(row == least[head]));
                    *weight = alpha * *weight + (1.0 - alpha) * least;
                    for (number, to) in memory[row].iter_mut().enumerate() {
                        *to += *weight * bent[own + head * width + number];
                    }
                }
            }
            for (head, read) in read.iter_mut().enumerate() {
                let key = &bent[head * width..][..width];
                let factor = if sizes.sharpened {
                    told[own + heads * width + heads + head].exp().ln_1p()
                } else {
                    1.0
                };
                let powers: Vec<f64> = memory
                    .iter()
                    .map(|row| {
                        let products = key.iter().zip(row).map(|(a, b)| a * b);
                        (factor * products.sum::<f64>() / (length(key) * length(row))).exp()
                    })
                    .collect();
                let sum: f64 = powers.iter().sum();
                for (to, power) in read.iter_mut().zip(powers) {
                    *to = power / sum;
                }
                for number in 0..width {
                    output[hidden + head * width + number] = memory
                        .iter()
                        .zip(&*read)
                        .map(|(row, weight)| weight * row[number])
                        .sum();
                }
            }
            for (row, usage) in usage.iter_mut().enumerate() {
                let now: f64 = read.iter().chain(&write).map(|weights| weights[row]).sum();
                *usage = DECAY * *usage + now;
            }
            outputs[(t * n + s) * sizes.outputs()..][..sizes.outputs()].copy_from_slice(&output);
        }
    }
    outputs
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_outputs_are_those_of_the_plain_formulas(
        hidden in 1usize..20, width in 1usize..9, (heads, spare) in (0usize..5, 0usize..70),
        vectors in any::<bool>(), sharpened in any::<bool>(), n in 1usize..6, steps in 1usize..7, seed in any::<u64>(),
    ) {
        let rows = heads + spare;
        let sizes = Sizes { hidden, rows, width, heads, vectors, sharpened, n, steps };
        let numbers = sizes.numbers(seed);
        let expected = plain(&sizes, &numbers);
        on_every_level(|level| {
            let found = sizes.with_network(&numbers, |network| network.forward(n, &narrow(&numbers.gates)).0);
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                assert!((f64::from(*found) - expected).abs() < 5e-5, "{level:?}: {found} {expected}");
            }
        });
    }
}

#[test]
fn gradients_agree_with_central_differences() {
    const REACH: f64 = 1e-5;
    let forms = [
        (2, false, false),
        (2, true, true),
        (2, false, true),
        (0, false, false),
    ];
    for (case, (heads, vectors, sharpened)) in forms.into_iter().enumerate() {
        let sizes = Sizes {
            hidden: 5,
            rows: 9,
            width: 3,
            heads,
            vectors,
            sharpened,
            n: 3,
            steps: 6,
        };
        let numbers = sizes.numbers(case as u64);
        let slope = common::both(&mut 99, sizes.steps * sizes.n * sizes.outputs()).1;
        let value = |numbers: &Numbers| -> f64 {
            let outputs = plain(&sizes, numbers);
            outputs
                .iter()
                .zip(&slope)
                .map(|(output, slope)| output * slope)
                .sum()
        };
        on_every_level(|level| {
            let found = sizes.with_network(&numbers, |network| {
                let (_, tape) = network.forward(sizes.n, &narrow(&numbers.gates));
                network.backward(&tape, &narrow(&slope))
            });
            type Part = fn(&mut Numbers) -> &mut Vec<f64>;
            let parts: [(&str, Part, &[f32]); 4] = [
                ("gates", |numbers| &mut numbers.gates, &found.gates),
                ("recurrent", |numbers| &mut numbers.recurrent, &found.recurrent),
                ("emit", |numbers| &mut numbers.emit, &found.emit),
                ("bias", |numbers| &mut numbers.emit_bias, &found.emit_bias),
            ];
            for (name, part, found) in parts {
                assert_eq!(found.len(), part(&mut numbers.clone()).len(), "{name}");
                for (at, found) in found.iter().enumerate() {
                    let moved = |by: f64| {
                        let mut numbers = numbers.clone();
                        part(&mut numbers)[at] += by;
                        value(&numbers)
                    };
                    let expected = (moved(REACH) - moved(-REACH)) / (2.0 * REACH);
                    assert!(
                        (f64::from(*found) - expected).abs() < 1e-4 * (1.0 + expected.abs()),
                        "{level:?} {heads} {vectors} {sharpened} {name} {at}: {found} {expected}"
                    );
                }
            }
        });
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let sizes = Sizes {
        hidden: 20,
        rows: 40,
        width: 10,
        heads: 3,
        vectors: false,
        sharpened: true,
        n: 7,
        steps: 9,
    };
    let numbers = sizes.numbers(5);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            sizes.with_network(&numbers, |network| {
                let (outputs, tape) = network.forward(sizes.n, &narrow(&numbers.gates));
                let found = network.backward(&tape, &outputs);
                [outputs, found.gates, found.recurrent, found.emit, found.emit_bias]
            })
        })
    };
    let bits = |results: [Vec<f32>; 5]| {
        results.map(|values| values.into_iter().map(f32::to_bits).collect::<Vec<_>>())
    };
    assert_eq!(bits(run(1)), bits(run(3)));
}

#[test]
fn an_infinite_gate_is_an_open_or_a_shut_one() {
    let sizes = Sizes {
        hidden: 4,
        rows: 6,
        width: 3,
        heads: 2,
        vectors: true,
        sharpened: true,
        n: 3,
        steps: 4,
    };
    for infinite in [f64::INFINITY, f64::NEG_INFINITY] {
        for gate in 0..4 * sizes.hidden {
            let mut numbers = sizes.numbers(6);
            numbers.gates[(sizes.n + 1) * 4 * sizes.hidden + gate] = infinite;
            let expected = plain(&sizes, &numbers);
            on_every_level(|level| {
                let found = sizes.with_network(&numbers, |network| {
                    network.forward(sizes.n, &narrow(&numbers.gates)).0
                });
                for (found, expected) in found.iter().zip(&expected) {
                    let close = (f64::from(*found) - expected).abs() < 5e-5;
                    assert!(close, "{level:?} {infinite} gate {gate}: {found} {expected}");
                }
            });
        }
    }
}

#[test]
fn nan_in_the_input_reaches_the_output_of_its_sequence_alone() {
    let sizes = Sizes {
        hidden: 4,
        rows: 6,
        width: 3,
        heads: 2,
        vectors: false,
        sharpened: true,
        n: 3,
        steps: 4,
    };
    let numbers = sizes.numbers(6);
    let mut gates = narrow(&numbers.gates);
    // A gate of sequence 1 at step 1.
    gates[(sizes.n + 1) * 4 * sizes.hidden] = f32::NAN;
    let outputs = sizes.with_network(&numbers, |network| network.forward(sizes.n, &gates).0);
    for (row, outputs) in outputs.chunks_exact(sizes.outputs()).enumerate() {
        let (step, sequence) = (row / sizes.n, row % sizes.n);
        let reached = step >= 1 && sequence == 1;
        assert_eq!(
            outputs.iter().any(|x| x.is_nan()),
            reached,
            "step {step} of sequence {sequence}"
        );
    }
}
