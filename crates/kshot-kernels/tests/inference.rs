//! Prepared blocks one after another, on every instruction set that this machine has, against the plain `f64` version.

mod common;

use common::{TOLERANCE, both, error, levels};
use kshot_kernels::{Activation, Algorithm, BlockShape, Inference, InferenceBlock};
use kshot_kernels::{plain, with_algorithm, with_simd_level};
use proptest::prelude::*;

/// Blocks that fit each other, with their operands in both precisions.
struct Chain {
    shapes: Vec<BlockShape>,
    narrow: Vec<[Vec<f32>; 3]>,
    wide: Vec<[Vec<f64>; 3]>,
    x: (Vec<f32>, Vec<f64>),
}

/// What a block takes over from nobody: output channels, window, padding, pool, activation.
type Form = (usize, bool, bool, bool, usize);

impl Chain {
    /// Of those of `forms` that fit.
    fn new(images: usize, size: (usize, usize), c_in: usize, forms: &[Form], mut seed: u64) -> Self {
        let mut shapes: Vec<BlockShape> = Vec::new();
        for (c_out, large, padded, pool, activation) in forms {
            let last = shapes.last();
            let shape = BlockShape {
                images,
                height: last.map_or(size.0, BlockShape::out_height),
                width: last.map_or(size.1, BlockShape::out_width),
                c_in: last.map_or(c_in, |last| last.c_out),
                c_out: *c_out,
                kernel: if *large { 3 } else { 1 },
                padding: usize::from(*large && *padded),
                pool: *pool,
                norm: true,
                groups: 1,
                activation: [Activation::Relu, Activation::Identity, Activation::LeakyRelu(0.2)][*activation],
            };
            if shape.validate().is_ok() {
                shapes.push(shape);
            }
        }
        let (mut narrow, mut wide) = (Vec::new(), Vec::new());
        for shape in &shapes {
            let operands = [shape.weight_len(), shape.c_out, shape.c_out].map(|len| both(&mut seed, len));
            narrow.push(operands.each_ref().map(|(narrow, _)| narrow.clone()));
            wide.push(operands.map(|(_, wide)| wide));
        }
        let x = both(&mut seed, shapes.first().map_or(0, BlockShape::input_len));
        Self {
            shapes,
            narrow,
            wide,
            x,
        }
    }

    fn inference(&self) -> Inference {
        let blocks = self.shapes.iter().zip(&self.narrow);
        let blocks: Vec<_> = blocks
            .map(|(shape, [w, scale, shift])| InferenceBlock {
                shape: *shape,
                w,
                scale,
                shift,
            })
            .collect();
        Inference::new(&blocks)
    }

    fn plain(&self) -> Vec<f64> {
        let blocks = self.shapes.iter().zip(&self.wide);
        blocks.fold(self.x.1.clone(), |x, (shape, [w, scale, shift])| {
            plain::infer(shape, &x, w, scale, shift)
        })
    }
}

fn check(chain: &Chain) -> Result<(), TestCaseError> {
    let expected = chain.plain();
    for level in levels() {
        for algorithm in [None, Some(Algorithm::Direct), Some(Algorithm::Winograd)] {
            let run = || chain.inference().run(&chain.x.0);
            let found = with_simd_level(level, || match algorithm {
                Some(algorithm) => with_algorithm(algorithm, run),
                None => run(),
            });
            let error = error(&found.unwrap(), &expected);
            prop_assert!(
                error < TOLERANCE,
                "{level:?} {algorithm:?} {:?}: off by {error:.2e}",
                chain.shapes
            );
        }
    }
    Ok(())
}

fn form() -> impl Strategy<Value = Form> {
    let channels = prop_oneof![Just(16usize), Just(32), 1..40usize];
    (
        channels,
        prop::bool::weighted(0.8),
        any::<bool>(),
        any::<bool>(),
        0..3usize,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn every_level_agrees_with_the_plain_version(
        images in 1..5usize,
        size in (3..20usize, 3..20usize),
        c_in in prop_oneof![Just(1usize), Just(3), Just(16), 1..20usize],
        forms in prop::collection::vec(form(), 1..4),
        seed: u64,
    ) {
        let chain = Chain::new(images, size, c_in, &forms, seed);
        prop_assume!(!chain.shapes.is_empty());
        check(&chain)?;
    }
}

/// Four blocks of 32 channels, as encoders have them.
fn encoder(images: usize, side: usize, c_in: usize) -> Chain {
    Chain::new(images, (side, side), c_in, &[(32, true, true, true, 0); 4], 3)
}

#[test]
fn encoders_agree_with_the_plain_version() {
    for (images, side, c_in) in [(3, 28, 1), (2, 28, 3), (1, 84, 3), (2, 105, 1)] {
        check(&encoder(images, side, c_in)).unwrap();
    }
}

#[test]
fn an_image_becomes_the_same_bits_alone_and_in_any_company() {
    let chain = encoder(37, 28, 1);
    let inference = chain.inference();
    let all = inference.run(&chain.x.0);
    let (image, answer) = (chain.x.0.len() / 37, all.len() / 37);
    for k in 0..37 {
        let alone = inference.run(&chain.x.0[k * image..][..image]);
        assert_eq!(alone, all[k * answer..][..answer], "image {k}");
    }
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        assert_eq!(
            pool.install(|| inference.run(&chain.x.0)),
            all,
            "{threads} threads"
        );
    }
}

#[test]
fn what_is_not_a_number_spoils_its_own_image_alone() {
    for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for activation in 0..3 {
            let forms = [
                (16, true, true, true, activation),
                (32, true, true, false, activation),
                (16, true, true, true, 1),
            ];
            let mut chain = Chain::new(3, (12, 12), 16, &forms, 3);
            let image = chain.x.0.len() / 3;
            let sound = chain.inference().run(&chain.x.0);
            chain.x.0[image + 40] = special;
            chain.x.1[image + 40] = f64::from(special);
            let expected = chain.plain();
            let answer = expected.len() / 3;
            for level in levels() {
                for algorithm in [Algorithm::Direct, Algorithm::Winograd] {
                    let run = || with_algorithm(algorithm, || chain.inference().run(&chain.x.0));
                    let found = with_simd_level(level, run).unwrap();
                    for (k, (found, expected)) in found.iter().zip(&expected).enumerate() {
                        let (name, found) = (
                            format!("{level:?} {algorithm:?} {special} {k}"),
                            f64::from(*found),
                        );
                        if k / answer == 1 {
                            // Winograd's convolution makes NaN of more pixels, and never a number of what isn't one.
                            let lost =
                                found.is_nan() && (expected.is_nan() || algorithm == Algorithm::Winograd);
                            assert!(
                                lost || found == *expected || (found - expected).abs() < 1e-3,
                                "{name}"
                            );
                        } else {
                            assert!(
                                (found - f64::from(sound[k])).abs() < 1e-3,
                                "{name}: another image"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn no_images_are_no_answers() {
    assert!(encoder(1, 16, 1).inference().run(&[]).is_empty());
}

#[test]
#[should_panic(expected = "a block's output and the next block's input")]
fn blocks_that_do_not_fit_each_other_are_refused() {
    let mut chain = encoder(1, 28, 1);
    chain.shapes.remove(1);
    chain.narrow.remove(1);
    chain.inference();
}

#[test]
#[should_panic(expected = "isn't a whole number of images")]
fn half_an_image_is_refused() {
    encoder(1, 28, 1).inference().run(&[0.0; 100]);
}
