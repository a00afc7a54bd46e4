//! How far each algorithm is from the truth, and that it stays as near. `cargo test --release --test accuracy -- --nocapture`
//! prints the errors.

mod common;

use common::{block, both, levels};
use kshot_kernels::{Activation, Algorithm, BlockShape, Inference, InferenceBlock};
use kshot_kernels::{plain, with_algorithm, with_simd_level};

/// Root mean square and largest error, relative to the root mean square of what is expected.
fn errors(found: &[f32], expected: &[f64]) -> (f64, f64) {
    let count = expected.len() as f64;
    let scale = (expected.iter().map(|v| v * v).sum::<f64>() / count).sqrt();
    let errors = found
        .iter()
        .zip(expected)
        .map(|(f, e)| (f64::from(*f) - e) / scale);
    let (square, largest) = errors.fold((0.0, 0.0f64), |(sum, max), error| {
        (sum + error * error, max.max(error.abs()))
    });
    ((square / count).sqrt(), largest)
}

#[test]
fn winograd_stays_within_single_precision_noise() {
    for side in [14, 7] {
        let bare = BlockShape {
            norm: false,
            pool: false,
            activation: Activation::Identity,
            ..block(6, side, 64, 64)
        };
        let mut seed = 1;
        // The input of a hidden layer: half of it zeros, the rest positive.
        let (mut x, mut wide_x) = both(&mut seed, bare.input_len());
        x.iter_mut().for_each(|v| *v = v.max(0.0));
        wide_x.iter_mut().for_each(|v| *v = v.max(0.0));
        let (w, wide_w) = both(&mut seed, bare.weight_len());
        let (dout, wide_dout) = both(&mut seed, bare.output_len());
        let zeros = [0.0; 64];
        let plain = plain::forward(&bare, &wide_x, &wide_w, &[], &[0.0; 64], 0.0);
        let expected = plain::backward(&bare, &wide_x, &wide_w, &[], &plain, &wide_dout);
        for level in levels() {
            for (algorithm, typical, largest) in [
                (Algorithm::Direct, 5e-7, 5e-6),
                (Algorithm::Winograd, 1.5e-6, 2e-5),
            ] {
                let run = || {
                    let (out, saved) = kshot_kernels::forward_new(&bare, &x, &w, &[], &zeros, 0.0);
                    (
                        out,
                        kshot_kernels::backward(&bare, &x, &w, &[], &saved, &dout, true),
                    )
                };
                let (out, found) = with_simd_level(level, || with_algorithm(algorithm, run)).unwrap();
                for (what, (rms, max)) in [
                    ("forward", errors(&out, &plain.out)),
                    ("weight gradient", errors(&found.weight, &expected.weight)),
                    (
                        "input gradient",
                        errors(found.input.as_deref().unwrap_or(&[]), &expected.input),
                    ),
                ] {
                    println!(
                        "{side}x{side} {level:?} {algorithm:?} {what}: rms {rms:.1e}, largest {max:.1e}"
                    );
                    assert!(
                        rms < typical && max < largest,
                        "{level:?} {algorithm:?} {what}: {rms:.1e} {max:.1e}"
                    );
                }
            }
        }
    }
}

#[test]
fn inference_stays_within_single_precision_noise() {
    for side in [14, 7] {
        let shape = BlockShape {
            pool: true,
            activation: Activation::Identity,
            ..block(6, side, 64, 64)
        };
        let mut seed = 1;
        let (mut x, mut wide_x) = both(&mut seed, shape.input_len());
        x.iter_mut().for_each(|v| *v = v.max(0.0));
        wide_x.iter_mut().for_each(|v| *v = v.max(0.0));
        let (w, wide_w) = both(&mut seed, shape.weight_len());
        let (ones, zeros) = ([1.0; 64], [0.0; 64]);
        let expected = plain::infer(&shape, &wide_x, &wide_w, &[1.0; 64], &[0.0; 64]);
        let prepared = InferenceBlock {
            shape,
            w: &w,
            scale: &ones,
            shift: &zeros,
        };
        for level in levels() {
            let found = with_simd_level(level, || Inference::new(&[prepared]).run(&x)).unwrap();
            let (rms, max) = errors(&found, &expected);
            println!("{side}x{side} {level:?} inference: rms {rms:.1e}, largest {max:.1e}");
            assert!(rms < 5e-6 && max < 5e-5, "{level:?} {rms:.1e} {max:.1e}");
        }
    }
}
