//! The join of a residual block against plain `f64`, and its gradient against central differences.

use kshot_kernels::{JoinShape, join_backward, join_forward};
use proptest::prelude::*;

/// `pool(leaky(a + b))`, written down.
fn plain(shape: &JoinShape, a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut out = Vec::new();
    for n in 0..shape.images {
        for y in 0..shape.height / 2 {
            for x in 0..shape.width / 2 {
                for c in 0..shape.channels {
                    let z = |dy: usize, dx: usize| {
                        let row = (n * shape.height + 2 * y + dy) * shape.width + 2 * x + dx;
                        a[row * shape.channels + c] + b[row * shape.channels + c]
                    };
                    let best = [z(0, 0), z(0, 1), z(1, 0), z(1, 1)];
                    let best = match best.iter().find(|z| z.is_nan()) {
                        Some(nan) => *nan,
                        None => best.into_iter().fold(f64::NEG_INFINITY, f64::max),
                    };
                    out.push(if best <= 0.0 {
                        f64::from(shape.slope) * best
                    } else {
                        best
                    });
                }
            }
        }
    }
    out
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

proptest! {
    #[test]
    fn values_and_gradients_agree_with_the_plain_version(
        images in 1..4usize, height in 2..9usize, width in 2..9usize, channels in 1..20usize, seed: u64,
        slope in prop_oneof![Just(0.0f32), Just(0.1), Just(1.0)],
    ) {
        let shape = JoinShape { images, height, width, channels, slope };
        let (a, b) = (values(seed, shape.input_len()), values(seed ^ 99, shape.input_len()));
        let (out, codes) = join_forward(&shape, &a, &b);
        let expected = plain(&shape, &wide(&a), &wide(&b));
        for (found, expected) in out.iter().zip(&expected) {
            prop_assert!((f64::from(*found) - expected).abs() < 1e-6);
        }
        let dout = values(seed ^ 7, shape.output_len());
        let gradient = join_backward(&shape, &codes, &dout);
        let loss = |a: &[f64]| -> f64 {
            plain(&shape, a, &wide(&b)).iter().zip(&dout).map(|(out, dout)| out * f64::from(*dout)).sum()
        };
        // A few coordinates, with steps that change no winner: smaller than the differences of random values.
        for at in (0..a.len()).step_by(a.len() / 7 + 1) {
            let step = 1e-9;
            let moved = |by: f64| { let mut a = wide(&a); a[at] += by; loss(&a) };
            let expected = (moved(step) - moved(-step)) / (2.0 * step);
            prop_assert!((f64::from(gradient[at]) - expected).abs() < 1e-4, "{} {expected}", gradient[at]);
        }
    }
}

#[test]
fn a_window_with_a_nan_gives_nan_and_its_gradient_goes_there() {
    let shape = JoinShape {
        images: 1,
        height: 2,
        width: 2,
        channels: 1,
        slope: 0.1,
    };
    let (out, codes) = join_forward(&shape, &[1.0, f32::NAN, 5.0, f32::NAN], &[0.0; 4]);
    assert!(out[0].is_nan());
    assert_eq!(join_backward(&shape, &codes, &[3.0]), [0.0, 3.0, 0.0, 0.0]);
}

#[test]
fn infinities_come_out_as_in_the_plain_version() {
    let shape = JoinShape {
        images: 2,
        height: 5,
        width: 6,
        channels: 19,
        slope: 0.1,
    };
    let (mut a, mut b) = (values(1, shape.input_len()), values(2, shape.input_len()));
    for (at, value) in a.iter_mut().enumerate() {
        match at % 23 {
            0 => *value = f32::INFINITY,
            7 => *value = f32::NEG_INFINITY,
            _ => {}
        }
    }
    // Opposite infinities are NaN, in a window of its own.
    (a[0], b[0]) = (f32::INFINITY, f32::NEG_INFINITY);
    let (out, _) = join_forward(&shape, &a, &b);
    let expected = plain(&shape, &wide(&a), &wide(&b));
    assert!(expected[0].is_nan() && expected.contains(&f64::INFINITY));
    for (at, (found, expected)) in out.iter().zip(expected).enumerate() {
        let close = (f64::from(*found) - expected).abs() < 1e-6;
        let alike = close || f64::from(*found) == expected || (found.is_nan() && expected.is_nan());
        assert!(alike, "{at}: {found} {expected}");
    }
}

#[test]
fn of_equal_values_the_first_wins_and_zero_is_on_the_negative_side() {
    let shape = JoinShape {
        images: 1,
        height: 2,
        width: 3,
        channels: 1,
        slope: 0.5,
    };
    let (out, codes) = join_forward(&shape, &[0.0; 6], &[0.0; 6]);
    assert_eq!(out, [0.0]);
    assert_eq!(
        join_backward(&shape, &codes, &[2.0]),
        [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    );
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let shape = JoinShape {
        images: 1,
        height: 4,
        width: 4,
        channels: 3,
        slope: 0.1,
    };
    assert!(shape.validate().is_ok());
    assert!(JoinShape { images: 0, ..shape }.validate().is_err());
    assert!(JoinShape { width: 1, ..shape }.validate().is_err());
    assert!(JoinShape { slope: -1.0, ..shape }.validate().is_err());
    assert!(
        JoinShape {
            images: usize::MAX,
            ..shape
        }
        .validate()
        .is_err()
    );
}
