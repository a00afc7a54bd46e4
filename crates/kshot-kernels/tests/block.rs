//! Every kernel, on every instruction set that this machine has, against the plain `f64` version.

mod common;

use common::{Case, TOLERANCE, block, error, levels, shapes};
use kshot_kernels::plain;
use kshot_kernels::{Algorithm, BlockShape, SimdLevel, with_algorithm, with_simd_level};
use proptest::prelude::*;

fn check(case: &Case, level: SimdLevel) -> Result<(), TestCaseError> {
    let plain = case.plain();
    let (out, saved) = case.forward();
    let name = level.name();
    let close = |what: &str, found: &[f32], expected: &[f64]| {
        let error = error(found, expected);
        prop_assert!(error < TOLERANCE, "{name}: {what} is off by {error:.2e}");
        Ok(())
    };
    close("out", &out, &plain.out)?;
    close("mean", saved.mean(), &plain.mean)?;
    close("variance", saved.variance(), &plain.variance)?;
    close("inference", &case.infer(), &{
        let [x, w, scale, shift, _] = &case.wide;
        plain::infer(&case.shape, x, w, scale, shift)
    })?;
    if !case.is_decided(&plain) {
        return Ok(());
    }
    let [x, w, gamma, _, dout] = &case.wide;
    let expected = plain::backward(&case.shape, x, w, gamma, &plain, dout);
    let found = case.backward(&saved, true);
    close("weight gradient", &found.weight, &expected.weight)?;
    close("gamma gradient", &found.gamma, &expected.gamma)?;
    close("beta gradient", &found.beta, &expected.beta)?;
    close(
        "input gradient",
        found.input.as_deref().unwrap_or(&[]),
        &expected.input,
    )?;
    let without = case.backward(&saved, false);
    prop_assert!(without.input.is_none());
    prop_assert_eq!(without.weight, found.weight);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn every_level_agrees_with_the_plain_version_on_random_shapes(shape in shapes(4, 11, 40), seed: u64) {
        let case = Case::new(shape, seed);
        for level in levels() {
            with_simd_level(level, || check(&case, level)).unwrap()?;
        }
    }
}

#[test]
fn every_level_agrees_with_the_plain_version_on_the_encoders_own_shapes() {
    for (images, side, c_in, c_out) in [
        (3, 28, 1, 64),
        (2, 28, 3, 64),
        (5, 14, 64, 64),
        (9, 7, 64, 64),
        (9, 3, 64, 64),
        (3, 10, 32, 32),
        (3, 9, 48, 80),
    ] {
        for pool in [true, false] {
            let case = Case::decided(BlockShape {
                pool,
                ..block(images, side, c_in, c_out)
            });
            for level in levels() {
                with_simd_level(level, || check(&case, level)).unwrap().unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn both_algorithms_agree_with_the_plain_version(
        shape in shapes(4, 14, 5),
        (c_in, c_out) in (1..4usize, 1..4usize),
        seed: u64,
    ) {
        let shape = BlockShape { c_in: 16 * c_in, c_out: 16 * c_out, kernel: 3, ..shape };
        if shape.validate().is_err() {
            return Err(TestCaseError::reject("too small for the window"));
        }
        let case = Case::new(shape, seed);
        for level in levels() {
            for algorithm in [Algorithm::Direct, Algorithm::Winograd] {
                with_simd_level(level, || with_algorithm(algorithm, || check(&case, level))).unwrap()?;
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    for (images, side, c_in) in [(30, 28, 1), (30, 14, 64), (31, 7, 64), (2, 7, 64), (1, 14, 16)] {
        let case = Case::new(block(images, side, c_in, 64), 11);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| {
                let (out, saved) = case.forward();
                let gradients = case.backward(&saved, true);
                let stats = (saved.mean().to_vec(), saved.variance().to_vec());
                let rest = (gradients.weight, gradients.gamma, gradients.beta, gradients.input);
                format!("{out:?} {stats:?} {rest:?} {:?}", case.infer())
            })
        };
        let one = run(1);
        for threads in [2, 3] {
            assert!(
                run(threads) == one,
                "{threads} threads differ from one at {images} images"
            );
        }
    }
}

#[test]
fn nan_and_infinity_pass_through_as_in_the_plain_version() {
    for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for (norm, pool, side) in [
            (true, true, 6),
            (false, true, 6),
            (false, false, 5),
            (true, false, 9),
        ] {
            for activation in [
                kshot_kernels::Activation::Identity,
                kshot_kernels::Activation::Relu,
                kshot_kernels::Activation::LeakyRelu(0.1),
            ] {
                let shape = BlockShape {
                    norm,
                    pool,
                    activation,
                    ..block(2, side, 16, 20)
                };
                let mut case = Case::new(shape, 3);
                case.narrow[0][37] = special;
                case.wide[0][37] = f64::from(special);
                case.narrow[2][1] = 0.0;
                case.wide[2][1] = 0.0;
                let plain = case.plain();
                let inferred =
                    plain::infer(&shape, &case.wide[0], &case.wide[1], &case.wide[2], &case.wide[3]);
                for level in levels() {
                    with_simd_level(level, || {
                        let same = |found: &[f32], expected: &[f64]| {
                            for (i, (f, e)) in found.iter().zip(expected).enumerate() {
                                let close = (f64::from(*f) - e).abs() < 1e-3;
                                let same = f64::from(*f) == *e || (f.is_nan() && e.is_nan()) || close;
                                assert!(same, "{level:?} {shape:?} element {i}: {f} for {e}");
                            }
                        };
                        same(&case.forward().0, &plain.out);
                        same(&case.infer(), &inferred);
                    })
                    .unwrap();
                }
            }
        }
    }
}

#[test]
fn a_constant_far_from_zero_leaves_the_variance_right() {
    let shape = block(6, 12, 1, 16);
    let mut case = Case::new(shape, 5);
    for (narrow, wide) in case.narrow[0].iter_mut().zip(&mut case.wide[0]) {
        *narrow = 100.0 + *narrow / 8.0;
        *wide = f64::from(*narrow);
    }
    let plain = case.plain();
    for level in levels() {
        let saved = with_simd_level(level, || case.forward().1).unwrap();
        assert!(error(saved.variance(), &plain.variance) < 1e-4);
    }
}

#[test]
fn a_norm_over_one_value_gives_beta_and_no_gradient() {
    let shape = BlockShape {
        pool: false,
        padding: 0,
        ..block(1, 3, 16, 16)
    };
    let case = Case::new(shape, 1);
    for level in levels() {
        with_simd_level(level, || {
            let (out, saved) = case.forward();
            let expected: Vec<f64> = case.wide[3].iter().map(|beta| beta.max(0.0)).collect();
            assert!(error(&out, &expected) < TOLERANCE);
            let found = case.backward(&saved, true);
            assert!(error(&found.weight, &vec![0.0; shape.weight_len()]) < TOLERANCE);
            assert!(error(&found.input.unwrap(), &vec![0.0; shape.input_len()]) < TOLERANCE);
        })
        .unwrap();
    }
}

#[test]
#[should_panic(expected = "elements of `w`")]
fn a_slice_of_the_wrong_length_panics() {
    let case = Case::new(block(1, 4, 1, 1), 1);
    kshot_kernels::infer(
        &case.shape,
        &case.narrow[0],
        &[0.0; 8],
        &[1.0],
        &[0.0],
        &mut [0.0; 4],
    );
}
