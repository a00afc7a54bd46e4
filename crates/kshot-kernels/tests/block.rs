//! Every kernel, on every instruction set that this machine has, against the plain `f64` version.

mod common;

use common::{both, error, shapes};
use kshot_kernels::plain::{self, PlainForward};
use kshot_kernels::{BlockShape, Gradients, Saved, SimdLevel, with_simd_level};
use proptest::prelude::*;

/// Large enough that a norm over two values, whose variance may be next to nothing, doesn't blow rounding up.
const EPS: f32 = 0.1;

/// Single-precision noise, relative to the root mean square.
const TOLERANCE: f64 = 1e-4;

struct Case {
    shape: BlockShape,
    narrow: [Vec<f32>; 5],
    wide: [Vec<f64>; 5],
}

impl Case {
    fn new(shape: BlockShape, mut seed: u64) -> Self {
        let lens = [
            shape.input_len(),
            shape.weight_len(),
            shape.c_out,
            shape.c_out,
            shape.output_len(),
        ];
        let (mut narrow, mut wide) = <([Vec<f32>; 5], [Vec<f64>; 5])>::default();
        for (k, len) in lens.into_iter().enumerate() {
            (narrow[k], wide[k]) = both(&mut seed, len);
        }
        Self { shape, narrow, wide }
    }

    fn plain(&self) -> PlainForward {
        let [x, w, gamma, beta, _] = &self.wide;
        plain::forward(&self.shape, x, w, gamma, beta, f64::from(EPS))
    }

    fn forward(&self) -> (Vec<f32>, Saved) {
        let [x, w, gamma, beta, _] = &self.narrow;
        let mut out = vec![f32::NAN; self.shape.output_len()];
        let saved = kshot_kernels::forward(&self.shape, x, w, gamma, beta, EPS, &mut out);
        (out, saved)
    }

    fn backward(&self, saved: &Saved, want_input: bool) -> Gradients {
        let [x, w, gamma, _, dout] = &self.narrow;
        kshot_kernels::backward(&self.shape, x, w, gamma, saved, dout, want_input)
    }

    fn infer(&self) -> Vec<f32> {
        let [x, w, scale, shift, _] = &self.narrow;
        let mut out = vec![f32::NAN; self.shape.output_len()];
        kshot_kernels::infer(&self.shape, x, w, scale, shift, &mut out);
        out
    }

    /// Whether no window's winner and no activation's side hangs on less than rounding.
    fn is_decided(&self, plain: &PlainForward) -> bool {
        let shape = &self.shape;
        let (co, cw) = (shape.c_out, shape.conv_width());
        let pixels = shape.conv_height() * cw;
        let (gamma, beta) = (&self.wide[2], &self.wide[3]);
        let z = |at: usize| {
            let group = at / co / pixels / (shape.images / shape.groups);
            let s = group * co + at % co;
            let normal = (plain.y[at] - plain.mean[s]) * plain.inverse[s];
            if shape.norm {
                gamma[at % co] * normal + beta[at % co]
            } else {
                plain.y[at] + beta[at % co]
            }
        };
        plain.source.iter().enumerate().all(|(i, source)| {
            let first = if shape.pool {
                let (o, j, rest) = (i % co, i / co % shape.out_width(), i / co / shape.out_width());
                let (i, image) = (rest % shape.out_height(), rest / shape.out_height());
                ((image * shape.conv_height() + 2 * i) * cw + 2 * j) * co + o
            } else {
                *source
            };
            let offsets: &[usize] = if shape.pool {
                &[0, co, cw * co, (cw + 1) * co]
            } else {
                &[0]
            };
            let close = |at: usize| at != *source && (z(at) - z(*source)).abs() < 1e-5;
            z(*source).abs() > 1e-5 && !offsets.iter().any(|offset| close(first + offset))
        })
    }
}

fn levels() -> impl Iterator<Item = SimdLevel> {
    SimdLevel::ALL.into_iter().filter(|level| level.is_available())
}

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

/// A shape as encoders have it, with the given sizes.
fn block(images: usize, side: usize, c_in: usize, c_out: usize) -> BlockShape {
    BlockShape {
        images,
        height: side,
        width: side,
        c_in,
        c_out,
        kernel: 3,
        padding: 1,
        pool: true,
        norm: true,
        groups: 1,
        activation: kshot_kernels::Activation::Relu,
    }
}

#[test]
fn every_level_agrees_with_the_plain_version_on_the_encoders_own_shapes() {
    for (images, side, c_in, c_out) in [
        (5, 28, 1, 64),
        (4, 28, 3, 64),
        (5, 14, 64, 64),
        (9, 7, 64, 64),
        (9, 3, 64, 64),
        (3, 10, 32, 32),
        (3, 9, 48, 80),
    ] {
        for pool in [true, false] {
            let case = Case::new(
                BlockShape {
                    pool,
                    ..block(images, side, c_in, c_out)
                },
                7,
            );
            for level in levels() {
                with_simd_level(level, || check(&case, level)).unwrap().unwrap();
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
