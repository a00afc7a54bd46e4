//! Every kernel, on every instruction set that this machine has, against the plain `f64` version.

mod common;

use common::{Case, TOLERANCE, block, error, levels, on_every_level, shapes};
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
        return Err(TestCaseError::reject("undecided"));
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

/// Whether every element is what the plain version has; or, with `spoilt`, at least every element that is a number.
fn agrees(found: &[f32], expected: &[f64], spoilt: bool) -> bool {
    std::iter::zip(found, expected).all(|(f, e)| {
        let (f, e) = (f64::from(*f), *e);
        f == e || (f.is_nan() && (e.is_nan() || spoilt)) || (f - e).abs() < 1e-3
    })
}

/// One value of the first image isn't finite.
fn spoil(case: &mut Case, special: f32) {
    let at = 37 % (case.shape.input_len() / 2);
    case.narrow[0][at] = special;
    case.wide[0][at] = f64::from(special);
    // A scale of 0 hides neither NaN nor infinity.
    case.narrow[2][1] = 0.0;
    case.wide[2][1] = 0.0;
}

/// Norm, pool, side.
const SPOILT_FORMS: [(bool, bool, usize); 4] = [
    (true, true, 6),
    (false, true, 6),
    (false, false, 5),
    (true, false, 9),
];

/// First layers, shapes without Winograd's convolution, shapes with it.
const SPOILT_CHANNELS: [(usize, usize); 4] = [(1, 16), (3, 20), (16, 20), (32, 16)];

#[test]
fn nan_and_infinity_pass_through_as_in_the_plain_version() {
    use kshot_kernels::Activation::{Identity, LeakyRelu, Relu};
    for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for ((norm, pool, side), (c_in, c_out)) in SPOILT_FORMS
            .into_iter()
            .flat_map(|form| SPOILT_CHANNELS.map(|channels| (form, channels)))
        {
            for (activation, algorithm) in [Identity, Relu, LeakyRelu(0.1)]
                .into_iter()
                .flat_map(|a| [Algorithm::Direct, Algorithm::Winograd].map(|algorithm| (a, algorithm)))
            {
                let shape = BlockShape {
                    norm,
                    pool,
                    activation,
                    ..block(2, side, c_in, c_out)
                };
                // Winograd's convolution makes NaN of the whole tile; with a norm the whole channel is lost anyway.
                let winograd = algorithm == Algorithm::Winograd && c_in % 16 == 0 && c_out % 16 == 0;
                let mut case = Case::new(shape, 3);
                spoil(&mut case, special);
                let plain = case.plain();
                let [x, w, gamma, beta, dout] = &case.wide;
                let inferred = plain::infer(&shape, x, w, gamma, beta);
                let gradients = plain::backward(&shape, x, w, gamma, &plain, dout);
                on_every_level(|level| {
                    with_algorithm(algorithm, || {
                        let name = format!("{level:?} {algorithm:?} {special} {shape:?}");
                        let spoilt = winograd && !norm;
                        let (out, saved) = case.forward();
                        assert!(agrees(&out, &plain.out, spoilt), "{name}: out");
                        assert!(agrees(&case.infer(), &inferred, winograd), "{name}: inference");
                        let other = shape.output_len() / 2;
                        assert!(
                            agrees(&case.infer()[other..], &inferred[other..], false),
                            "{name}: other image"
                        );
                        let found = case.backward(&saved, true);
                        if spoilt {
                            // Other pixels win their windows; what matters is that nobody takes the gradient for a good one.
                            assert!(found.weight.iter().any(|v| v.is_nan()), "{name}: weight gradient");
                            return;
                        }
                        assert!(
                            agrees(&found.weight, &gradients.weight, false),
                            "{name}: weight gradient"
                        );
                        assert!(
                            agrees(&found.gamma, &gradients.gamma, false),
                            "{name}: gamma gradient"
                        );
                        assert!(
                            agrees(&found.beta, &gradients.beta, false),
                            "{name}: beta gradient"
                        );
                        let found = found.input.unwrap();
                        assert!(agrees(&found, &gradients.input, false), "{name}: input gradient");
                    });
                });
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
