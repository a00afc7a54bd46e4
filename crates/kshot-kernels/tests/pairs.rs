//! The norm, ReLU and pool over all pairs against the same in plain `f64`, and its gradients against central differences.

use kshot_kernels::{PairsShape, pairs_backward, pairs_forward, pairs_infer};
use proptest::prelude::*;

const EPS: f32 = 0.1;

/// All sums of a left and a right map, `[right, left, height, width, channels]`.
fn sums(shape: &PairsShape, left: &[f64], right: &[f64]) -> Vec<f64> {
    let len = shape.height * shape.width * shape.channels;
    let mut all = Vec::new();
    for right in right.chunks(len) {
        for left in left.chunks(len) {
            all.extend(left.iter().zip(right).map(|(a, b)| a + b));
        }
    }
    all
}

/// The mean and biased variance of each channel.
fn statistics(shape: &PairsShape, z: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let count = (z.len() / shape.channels) as f64;
    let of = |k: usize| z.iter().skip(k).step_by(shape.channels);
    let mean: Vec<f64> = (0..shape.channels).map(|k| of(k).sum::<f64>() / count).collect();
    let variance = (0..shape.channels)
        .map(|k| of(k).map(|v| (v - mean[k]).powi(2)).sum::<f64>() / count)
        .collect();
    (mean, variance)
}

/// The windows of the pool, in the order of the outputs.
fn windows(shape: &PairsShape, u: &[f64]) -> Vec<[f64; 4]> {
    let mut all = Vec::new();
    for map in u.chunks(shape.height * shape.width * shape.channels) {
        for y in 0..shape.height / 2 {
            for x in 0..shape.width / 2 {
                for k in 0..shape.channels {
                    let at = |dy, dx| map[((2 * y + dy) * shape.width + 2 * x + dx) * shape.channels + k];
                    all.push([at(0, 0), at(0, 1), at(1, 0), at(1, 1)]);
                }
            }
        }
    }
    all
}

fn pool(shape: &PairsShape, u: &[f64]) -> Vec<f64> {
    let largest = |window: [f64; 4]| match window.iter().find(|u| u.is_nan()) {
        // `f64::max` would lose a NaN.
        Some(nan) => *nan,
        None => window.into_iter().fold(0.0, f64::max),
    };
    windows(shape, u).into_iter().map(largest).collect()
}

/// Whether no window's winner and no activation's side hangs on less than rounding.
fn is_decided(shape: &PairsShape, u: &[f64]) -> bool {
    windows(shape, u).into_iter().all(|mut window| {
        window.sort_by(f64::total_cmp);
        let [.., second, first] = window;
        first < -1e-5 || (first > 1e-5 && first - second > 1e-5)
    })
}

/// What the pool gets.
fn normal(shape: &PairsShape, left: &[f64], right: &[f64], gamma: &[f64], beta: &[f64]) -> Vec<f64> {
    let z = sums(shape, left, right);
    let (mean, variance) = statistics(shape, &z);
    z.iter()
        .enumerate()
        .map(|(at, z)| {
            let k = at % shape.channels;
            gamma[k] * (z - mean[k]) / (variance[k] + f64::from(EPS)).sqrt() + beta[k]
        })
        .collect()
}

fn plain(shape: &PairsShape, left: &[f64], right: &[f64], gamma: &[f64], beta: &[f64]) -> Vec<f64> {
    pool(shape, &normal(shape, left, right, gamma, beta))
}

fn values(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed | 1;
    (0..len)
        .map(|_| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
        })
        .collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

fn shapes() -> impl Strategy<Value = PairsShape> {
    (1..6usize, 1..12usize, 2..6usize, 2..6usize, 1..20usize).prop_map(
        |(left, right, height, width, channels)| PairsShape {
            left,
            right,
            height,
            width,
            channels,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn values_and_statistics_agree_with_the_plain_version(shape in shapes(), seed: u64) {
        let len = shape.height * shape.width * shape.channels;
        let (left, right) = (values(seed, shape.left * len), values(seed ^ 1, shape.right * len));
        let (gamma, beta) = (values(seed ^ 2, shape.channels), values(seed ^ 3, shape.channels));
        let (out, saved) = pairs_forward(&shape, &left, &right, &gamma, &beta, EPS);
        let expected = plain(&shape, &wide(&left), &wide(&right), &wide(&gamma), &wide(&beta));
        prop_assert_eq!(out.len(), expected.len());
        for (found, expected) in out.iter().zip(&expected) {
            prop_assert!((f64::from(*found) - expected).abs() < 1e-4, "{found} {expected}");
        }
        let (mean, variance) = statistics(&shape, &sums(&shape, &wide(&left), &wide(&right)));
        for k in 0..shape.channels {
            prop_assert!((f64::from(saved.mean[k]) - mean[k]).abs() < 1e-5);
            prop_assert!((f64::from(saved.variance[k]) - variance[k]).abs() < 1e-5);
        }
        let scaled: Vec<f64> = sums(&shape, &wide(&left), &wide(&right)).iter().enumerate()
            .map(|(at, z)| f64::from(gamma[at % shape.channels]) * z + f64::from(beta[at % shape.channels])).collect();
        let inferred = pairs_infer(&shape, &left, &right, &gamma, &beta);
        for (found, expected) in inferred.iter().zip(pool(&shape, &scaled)) {
            prop_assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} {expected}");
        }
    }

    #[test]
    fn gradients_agree_with_central_differences(shape in shapes(), seed: u64) {
        let len = shape.height * shape.width * shape.channels;
        let inputs = [
            values(seed, shape.left * len), values(seed ^ 1, shape.right * len),
            values(seed ^ 2, shape.channels), values(seed ^ 3, shape.channels),
        ];
        let [left, right, gamma, beta] = &inputs;
        let (_, saved) = pairs_forward(&shape, left, right, gamma, beta, EPS);
        let dout = values(seed ^ 4, shape.output_len());
        let found = pairs_backward(&shape, left, right, gamma, &saved, &dout);
        let loss = |inputs: &[Vec<f64>]| -> f64 {
            plain(&shape, &inputs[0], &inputs[1], &inputs[2], &inputs[3]).iter().zip(&dout)
                .map(|(out, dout)| out * f64::from(*dout)).sum()
        };
        let wide: Vec<Vec<f64>> = inputs.iter().map(|values| wide(values)).collect();
        prop_assume!(is_decided(&shape, &normal(&shape, &wide[0], &wide[1], &wide[2], &wide[3])));
        // Small enough that no window changes its winner.
        let step = 1e-8;
        for (which, gradient) in [&found.left, &found.right, &found.gamma, &found.beta].into_iter().enumerate() {
            let scale = gradient.iter().fold(1.0f32, |scale, value| scale.max(value.abs()));
            for at in (0..gradient.len()).step_by(gradient.len() / 5 + 1) {
                let moved = |by: f64| { let mut inputs = wide.clone(); inputs[which][at] += by; loss(&inputs) };
                let expected = (moved(step) - moved(-step)) / (2.0 * step);
                let error = (f64::from(gradient[at]) - expected).abs();
                prop_assert!(error < 2e-4 * f64::from(scale), "input {which}: {} {expected}", gradient[at]);
            }
        }
    }
}

/// Whether both are NaN, the same infinity, or close to each other.
fn alike(found: f32, expected: f64) -> bool {
    match expected.is_finite() {
        true => (f64::from(found) - expected).abs() < 1e-4,
        false => expected.is_nan() == found.is_nan() && (found.is_nan() || f64::from(found) == expected),
    }
}

#[test]
fn nan_and_infinity_come_out_as_in_the_plain_version() {
    let shape = PairsShape {
        left: 3,
        right: 5,
        height: 5,
        width: 4,
        channels: 19,
    };
    let len = shape.height * shape.width * shape.channels;
    let (gamma, beta) = (values(3, shape.channels), values(4, shape.channels));
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for channel in 0..shape.channels {
            let (mut left, mut right) = (values(1, shape.left * len), values(2, shape.right * len));
            // A pixel of the second map on the left, and one of the last on the right.
            left[len + 6 * shape.channels + channel] = bad;
            right[4 * len + 9 * shape.channels + channel] = bad;
            let z = sums(&shape, &wide(&left), &wide(&right));
            let scaled: Vec<f64> = z
                .iter()
                .enumerate()
                .map(|(at, z)| {
                    f64::from(gamma[at % shape.channels]) * z + f64::from(beta[at % shape.channels])
                })
                .collect();
            let inferred = pairs_infer(&shape, &left, &right, &gamma, &beta);
            for (at, (found, expected)) in inferred.iter().zip(pool(&shape, &scaled)).enumerate() {
                assert!(
                    alike(*found, expected),
                    "{bad} {channel} {at}: {found} {expected}"
                );
            }
            let (out, saved) = pairs_forward(&shape, &left, &right, &gamma, &beta, EPS);
            let expected = plain(&shape, &wide(&left), &wide(&right), &wide(&gamma), &wide(&beta));
            for (at, (found, expected)) in out.iter().zip(expected).enumerate() {
                assert!(
                    alike(*found, expected),
                    "{bad} {channel} {at}: {found} {expected}"
                );
                assert_eq!(
                    found.is_nan(),
                    at % shape.channels == channel,
                    "{bad} {channel} {at}"
                );
            }
            let dout = values(5, shape.output_len());
            let found = pairs_backward(&shape, &left, &right, &gamma, &saved, &dout);
            for gradient in [&found.left, &found.right, &found.gamma] {
                for (at, value) in gradient.iter().enumerate() {
                    assert_eq!(
                        value.is_nan(),
                        at % shape.channels == channel,
                        "{bad} {channel} {at}: {value}"
                    );
                }
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let shape = PairsShape {
        left: 20,
        right: 37,
        height: 5,
        width: 5,
        channels: 64,
    };
    let (left, right) = (values(1, 20 * 25 * 64), values(2, 37 * 25 * 64));
    let (gamma, beta) = (vec![1.0; 64], vec![0.1; 64]);
    let dout = values(3, shape.output_len());
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let (out, saved) = pairs_forward(&shape, &left, &right, &gamma, &beta, EPS);
            let gradients = pairs_backward(&shape, &left, &right, &gamma, &saved, &dout);
            (
                out,
                gradients.left,
                gradients.right,
                gradients.gamma,
                gradients.beta,
            )
        })
    };
    assert_eq!(run(1), run(3));
}
