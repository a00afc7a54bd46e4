//! Random shapes and values for the tests.
#![allow(dead_code)]

use kshot_kernels::{Activation, BlockShape};
use proptest::prelude::*;

/// Shapes with every combination of parts, sizes up to the given ones (exclusive).
pub fn shapes(images: usize, side: usize, channels: usize) -> impl Strategy<Value = BlockShape> {
    let sizes = (1..images, 1..side, 1..side, 1..channels, 1..channels);
    let parts = (
        0..4usize,
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        1..5usize,
        0..3usize,
    );
    (sizes, parts).prop_filter_map(
        "does not fit",
        |((n, h, w, c_in, c_out), (k, p, pool, norm, groups, a))| {
            let activation = [Activation::Identity, Activation::Relu, Activation::LeakyRelu(0.2)][a];
            let kernel = if k > 0 { 3 } else { 1 };
            let shape = BlockShape {
                images: n * groups,
                height: h,
                width: w,
                c_in,
                c_out,
                kernel,
                padding: usize::from(kernel == 3 && p),
                pool,
                norm,
                groups,
                activation,
            };
            shape.validate().is_ok().then_some(shape)
        },
    )
}

/// Values in [-1, 1) that depend on the seed alone.
pub fn values(seed: &mut u64, len: usize) -> Vec<f64> {
    let mut next = || {
        *seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (*seed >> 40) as f64 / f64::from(1u32 << 23) - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Values that are the same in both precisions.
pub fn both(seed: &mut u64, len: usize) -> (Vec<f32>, Vec<f64>) {
    let narrow: Vec<f32> = values(seed, len).into_iter().map(|v| v as f32).collect();
    let wide = narrow.iter().map(|v| f64::from(*v)).collect();
    (narrow, wide)
}

/// Largest difference, relative to the root mean square of `expected`, or to 0.1 where that is less: where the
/// true gradient is zero because a norm over one or two values leaves nothing, its terms aren't.
pub fn error(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square: f64 = expected.iter().map(|v| v * v).sum();
    let scale = (square / expected.len() as f64).sqrt().max(0.1);
    found
        .iter()
        .zip(expected)
        .map(|(f, e)| (f64::from(*f) - e).abs() / scale)
        .fold(0.0, f64::max)
}
