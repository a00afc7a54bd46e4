//! The norm of a convolution with few input channels, without its output.
//!
//! The convolution's output is linear in the patches `p` that the window sees: `y = w·p`. So its mean and variance
//! over the batch follow from the patches' own: `mean(y) = w·mean(p)` and `var(y) = wᵀ cov(p) w`, and with one input
//! channel `cov(p)` is a 9×9 matrix where `y` has 64 channels. The weight gradient needs no `y` either:
//!
//! ```text
//! dy = a g + b (y − mean(y)) − a mean(g)
//! dw = Σ p dy = a Σ (p − mean(p)) g + b n cov(p) w
//! ```
//!
//! with `g` the gradient that arrives at the pool's winners. That saves both storing and reading the largest map of
//! an encoder. The sums are taken of `p − shift`, where `shift` is near the mean, so that a variance that is small
//! beside the mean isn't lost.

use crate::buffer::Buffer;
use crate::dispatch::Kernels;
use crate::kernels::patches::Planes;
use crate::plan::Layout;
use crate::shape::BlockShape;

/// Most taps for which this is done.
const MOST_TAPS: usize = 32;

/// Whether a block takes its statistics from the patches.
pub fn apply(shape: &BlockShape) -> bool {
    shape.norm && taps(shape) <= MOST_TAPS
}

fn taps(shape: &BlockShape) -> usize {
    shape.kernel * shape.kernel * shape.c_in
}

/// What is subtracted from each input channel: its mean over the first of a group's images.
pub fn shift(shape: &BlockShape, image: &[f32]) -> Vec<f32> {
    let mut sums = vec![0.0f64; shape.c_in];
    for pixel in image.chunks_exact(shape.c_in) {
        sums.iter_mut()
            .zip(pixel)
            .for_each(|(sum, v)| *sum += f64::from(*v));
    }
    let pixels = (shape.height * shape.width) as f64;
    sums.into_iter().map(|sum| (sum / pixels) as f32).collect()
}

/// Mean and covariance of a group's patches.
#[derive(Clone, Debug)]
pub struct Patches {
    /// What was subtracted from each input channel before the sums were taken.
    pub shift: Vec<f32>,
    positions: f64,
    /// `[taps]`
    sums: Vec<f64>,
    /// `[taps, taps]`; only the upper triangle until [`Self::settle`].
    products: Vec<f64>,
}

impl Patches {
    /// Of no images.
    pub fn empty(shape: &BlockShape, shift: Vec<f32>) -> Self {
        let taps = taps(shape);
        Self {
            shift,
            positions: 0.0,
            sums: vec![0.0; taps],
            products: vec![0.0; taps * taps],
        }
    }

    /// Adds the patches of dense images.
    pub fn add(&mut self, shape: &BlockShape, layout: &Layout, kernels: &Kernels, images: &[f32]) {
        let (height, width) = layout.bordered;
        let planes = Planes {
            rows: layout.conv.0,
            columns: layout.conv.1,
            kernel: shape.kernel,
            channels: shape.c_in,
            strides: (width, height * width),
        };
        let mut buffer = Buffer::take(shape.c_in * height * width);
        for (plane, shift) in buffer.chunks_exact_mut(height * width).zip(&self.shift) {
            plane.fill(-shift);
        }
        for image in images.chunks_exact(shape.image_len()) {
            for (channel, shift) in self.shift.iter().enumerate() {
                let inside = channel * height * width + shape.padding * (width + 1);
                let rows = buffer[inside..].chunks_mut(width);
                for (to, from) in rows.zip(image.chunks_exact(shape.width * shape.c_in)) {
                    let from = from.iter().skip(channel).step_by(shape.c_in);
                    to.iter_mut().zip(from).for_each(|(to, from)| *to = from - shift);
                }
            }
            // SAFETY: `buffer` holds all planes, with the border that the window needs; the sums have their sizes.
            unsafe {
                let (sums, products) = (self.sums.as_mut_ptr(), self.products.as_mut_ptr());
                (kernels.correlate)(&planes, buffer.as_ptr(), sums, products);
            }
            self.positions += (layout.conv.0 * layout.conv.1) as f64;
        }
    }

    /// Adds the sums of others of the same group.
    pub fn merge(&mut self, other: &Self) {
        self.positions += other.positions;
        self.sums.iter_mut().zip(&other.sums).for_each(|(a, b)| *a += b);
        self.products
            .iter_mut()
            .zip(&other.products)
            .for_each(|(a, b)| *a += b);
    }

    /// After the last sum: from sums to means, from products to the covariance.
    pub fn settle(&mut self) {
        let taps = self.sums.len();
        self.sums.iter_mut().for_each(|sum| *sum /= self.positions);
        for t in 0..taps {
            for u in t..taps {
                let covariance = self.products[t * taps + u] / self.positions - self.sums[t] * self.sums[u];
                self.products[t * taps + u] = covariance;
                self.products[u * taps + t] = covariance;
            }
        }
    }

    /// Mean of tap `t` after the shift was subtracted.
    pub fn mean(&self, t: usize) -> f64 {
        self.sums[t]
    }

    /// Number of patches.
    pub fn positions(&self) -> f64 {
        self.positions
    }

    /// Covariance of all taps with output channel `o` of a weight `[taps, c_out]`.
    pub fn covariance(&self, w: &[f32], o: usize) -> Vec<f64> {
        let (taps, co) = (self.sums.len(), w.len() / self.sums.len());
        let with = |row: &[f64]| (0..taps).map(|u| row[u] * f64::from(w[u * co + o])).sum();
        self.products.chunks_exact(taps).map(with).collect()
    }

    /// Mean and variance of output channel `o`.
    pub fn moments(&self, w: &[f32], o: usize) -> (f64, f64) {
        let (taps, co) = (self.sums.len(), w.len() / self.sums.len());
        let weight = |t: usize| f64::from(w[t * co + o]);
        let mean = |t: usize| self.sums[t] + f64::from(self.shift[t % self.shift.len()]);
        let covariance = self.covariance(w, o);
        let variance: f64 = (0..taps).map(|t| weight(t) * covariance[t]).sum();
        // A NaN stays; a negative variance is rounding.
        let variance = if variance < 0.0 { 0.0 } else { variance };
        ((0..taps).map(|t| weight(t) * mean(t)).sum(), variance)
    }
}
