//! What the backward pass needs of the forward pass.

use crate::buffer::Buffer;
use crate::parameters::Parameters;
use crate::patches::Patches;
use crate::plan::Layout;
use crate::shape::BlockShape;

/// What [`backward`](crate::backward) needs from [`forward`](crate::forward). Its memory is used again by
/// later calls once it is dropped.
#[derive(Clone, Debug)]
pub struct Saved {
    pub(crate) shape: BlockShape,
    /// `[groups, c_out]`, as the caller sees them.
    mean: Vec<f32>,
    variance: Vec<f32>,
    /// `[groups, channels]` with the channels rounded up to whole vectors.
    pub(crate) wide_mean: Buffer,
    pub(crate) inverse: Buffer,
    pub(crate) scale: Buffer,
    pub(crate) shift: Buffer,
    /// Statistics of the input's patches per group; empty where they aren't taken.
    pub(crate) patches: Vec<Patches>,
    /// The convolution's output; empty without a norm, and with patches.
    pub(crate) y: Buffer,
    /// The winners of the pool's windows before the norm; empty where `y` is, or without a pool.
    pub(crate) pooled: Buffer,
    /// A byte per output element, see [`crate::kernels::epilogue`].
    pub(crate) codes: Buffer,
}

impl Saved {
    pub(crate) fn new(shape: &BlockShape, layout: &Layout, keeps_y: bool) -> Self {
        let channels = shape.groups * layout.c_out;
        let y = if keeps_y {
            shape.images * layout.conv_len()
        } else {
            0
        };
        let pooled = if keeps_y && shape.pool {
            shape.images * layout.out_len()
        } else {
            0
        };
        let filled = |value: f32| {
            let mut buffer = Buffer::take(channels);
            buffer.fill(value);
            buffer
        };
        Self {
            shape: *shape,
            mean: vec![0.0; shape.statistics_len()],
            variance: vec![1.0; shape.statistics_len()],
            wide_mean: filled(0.0),
            inverse: filled(1.0),
            scale: filled(1.0),
            shift: filled(0.0),
            patches: Vec::new(),
            y: Buffer::take(y),
            pooled: Buffer::take(pooled),
            codes: Buffer::take_bytes(shape.images * layout.out_len()),
        }
    }

    /// Mean of the convolution's output per group and channel, `[groups, c_out]`; zeros without a norm.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// Biased variance of the convolution's output per group and channel, `[groups, c_out]`; ones
    /// without a norm.
    pub fn variance(&self) -> &[f32] {
        &self.variance
    }

    /// Whether the backward pass must compute `y` again to have it.
    pub(crate) fn forgot_y(&self) -> bool {
        !self.patches.is_empty()
    }

    /// Mean and variance of each channel of one group.
    pub(crate) fn set_statistics(&mut self, group: usize, moments: impl Iterator<Item = (f64, f64)>) {
        let at = group * self.shape.c_out;
        for (channel, (mean, variance)) in moments.take(self.shape.c_out).enumerate() {
            self.mean[at + channel] = mean as f32;
            self.variance[at + channel] = variance as f32;
        }
    }

    /// Scale and shift of the norm from the statistics.
    pub(crate) fn set_affine(&mut self, parameters: &Parameters<'_>, eps: f32) {
        let co = self.shape.c_out;
        let wide = self.scale.len() / self.shape.groups;
        for group in 0..self.shape.groups {
            let (gamma, beta) = (parameters.gamma(group), parameters.beta(group));
            for channel in 0..co {
                let (from, to) = (group * co + channel, group * wide + channel);
                let mean = self.mean[from];
                let inverse = 1.0 / (f64::from(self.variance[from]) + f64::from(eps)).sqrt();
                let scale = f64::from(gamma[channel]) * inverse;
                self.wide_mean[to] = mean;
                self.inverse[to] = inverse as f32;
                self.scale[to] = scale as f32;
                self.shift[to] = (f64::from(beta[channel]) - f64::from(mean) * scale) as f32;
            }
        }
    }

    /// The bias in the place of a norm.
    pub(crate) fn set_bias(&mut self, parameters: &Parameters<'_>) {
        let wide = self.scale.len() / self.shape.groups;
        for (group, shift) in self.shift.chunks_exact_mut(wide).enumerate() {
            shift[..self.shape.c_out].copy_from_slice(parameters.beta(group));
        }
    }
}
