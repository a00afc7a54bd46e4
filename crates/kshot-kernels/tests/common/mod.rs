//! Random shapes and values for the tests.
#![allow(dead_code)]

use kshot_kernels::plain::{self, PlainForward};
use kshot_kernels::{Activation, BlockShape, Gradients, Saved, SimdLevel, with_simd_level};
use proptest::prelude::*;

/// Shapes with every combination of parts, sizes up to the given ones (exclusive). A norm has six values at least: over
/// one or two, the true gradient is nothing but what rounding leaves.
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
            let enough = |shape: &BlockShape| !norm || n * shape.conv_height() * shape.conv_width() >= 6;
            (shape.validate().is_ok() && enough(&shape)).then_some(shape)
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

/// Large enough that a norm over two values, whose variance may be next to nothing, doesn't blow rounding up.
pub const EPS: f32 = 0.1;

/// The encoders' own where a norm is over so many values that their variance is safely above it, else [`EPS`].
pub fn eps(shape: &BlockShape) -> f32 {
    let values = shape.images / shape.groups * shape.conv_height() * shape.conv_width();
    if values >= 100 { 1e-5 } else { EPS }
}

/// Single-precision noise, relative to the root mean square.
pub const TOLERANCE: f64 = 1e-4;

/// A block with random operands `x`, `w`, `gamma`, `beta`, `dout` in both precisions.
pub struct Case {
    pub shape: BlockShape,
    pub narrow: [Vec<f32>; 5],
    pub wide: [Vec<f64>; 5],
}

impl Case {
    pub fn new(shape: BlockShape, mut seed: u64) -> Self {
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

    /// The first of some seeds whose case is decided, see [`Self::is_decided`].
    pub fn decided(shape: BlockShape) -> Self {
        let cases = (0..50).map(|seed| Self::new(shape, seed));
        cases
            .into_iter()
            .find(|case| case.is_decided(&case.plain()))
            .expect("one of 50 seeds is decided")
    }

    pub fn plain(&self) -> PlainForward {
        let [x, w, gamma, beta, _] = &self.wide;
        plain::forward(&self.shape, x, w, gamma, beta, f64::from(eps(&self.shape)))
    }

    pub fn forward(&self) -> (Vec<f32>, Saved) {
        let [x, w, gamma, beta, _] = &self.narrow;
        let mut out = vec![f32::NAN; self.shape.output_len()];
        let saved = kshot_kernels::forward(&self.shape, x, w, gamma, beta, eps(&self.shape), &mut out);
        (out, saved)
    }

    pub fn backward(&self, saved: &Saved, want_input: bool) -> Gradients {
        let [x, w, gamma, _, dout] = &self.narrow;
        kshot_kernels::backward(&self.shape, x, w, gamma, saved, dout, want_input)
    }

    pub fn infer(&self) -> Vec<f32> {
        let [x, w, scale, shift, _] = &self.narrow;
        let mut out = vec![f32::NAN; self.shape.output_len()];
        kshot_kernels::infer(&self.shape, x, w, scale, shift, &mut out);
        out
    }

    /// Whether no window's winner and no activation's side hangs on less than rounding.
    pub fn is_decided(&self, plain: &PlainForward) -> bool {
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

/// The instruction sets of this machine.
pub fn levels() -> impl Iterator<Item = SimdLevel> {
    SimdLevel::ALL.into_iter().filter(|level| level.is_available())
}

/// A shape as encoders have it, with the given sizes.
pub fn block(images: usize, side: usize, c_in: usize, c_out: usize) -> BlockShape {
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
        activation: Activation::Relu,
    }
}

/// Runs `body` with each instruction set that the machine has.
pub fn on_every_level(mut body: impl FnMut(SimdLevel)) {
    for level in levels() {
        with_simd_level(level, || body(level)).unwrap();
    }
}

/// The same numbers in single precision.
pub fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|v| *v as f32).collect()
}
