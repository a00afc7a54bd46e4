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
use crate::kernels::patches::{Planes, Winners};
use crate::parallel::each;
use crate::plan::{Bordered, Chunk, Layout};
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
fn shift(shape: &BlockShape, image: &[f32]) -> Vec<f32> {
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
    shift: Vec<f32>,
    positions: f64,
    /// `[taps]`
    sums: Vec<f64>,
    /// `[taps, taps]`; only the upper triangle until [`Self::settle`].
    products: Vec<f64>,
}

impl Patches {
    /// Of the images of a batch, per group.
    pub fn of_batch(
        shape: &BlockShape,
        layout: &Layout,
        kernels: &Kernels,
        chunks: &[Chunk],
        x: &[f32],
    ) -> Vec<Self> {
        let image_len = shape.image_len();
        let groups = x.chunks_exact(shape.images_per_group() * image_len);
        let mut groups: Vec<Self> = groups
            .map(|images| Self::empty(shape, shift(shape, &images[..image_len])))
            .collect();
        let parts: Vec<Self> = each(chunks, |chunk| {
            let mut part = groups[chunk.group].clone();
            part.add(
                shape,
                layout,
                kernels,
                &x[chunk.start * image_len..chunk.end * image_len],
            );
            part
        });
        for (chunk, part) in chunks.iter().zip(&parts) {
            groups[chunk.group].merge(part);
        }
        groups.iter_mut().for_each(Self::settle);
        groups
    }

    /// Of no images.
    fn empty(shape: &BlockShape, shift: Vec<f32>) -> Self {
        let taps = taps(shape);
        Self {
            shift,
            positions: 0.0,
            sums: vec![0.0; taps],
            products: vec![0.0; taps * taps],
        }
    }

    /// Adds the patches of dense images.
    fn add(&mut self, shape: &BlockShape, layout: &Layout, kernels: &Kernels, images: &[f32]) {
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
    fn merge(&mut self, other: &Self) {
        self.positions += other.positions;
        self.sums.iter_mut().zip(&other.sums).for_each(|(a, b)| *a += b);
        self.products
            .iter_mut()
            .zip(&other.products)
            .for_each(|(a, b)| *a += b);
    }

    /// After the last sum: from sums to means, from products to the covariance.
    fn settle(&mut self) {
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

    /// Mean of output channel `o` of a weight.
    pub fn mean(&self, w: &[f32], o: usize) -> f64 {
        let co = w.len() / self.sums.len();
        let shifts = self.shift.iter().cycle();
        let terms = self.sums.iter().zip(shifts).enumerate();
        terms
            .map(|(t, (mean, shift))| f64::from(w[t * co + o]) * (mean + f64::from(*shift)))
            .sum()
    }

    /// Covariance of output channel `o` of two weights.
    pub fn covariance_between(&self, (first, second): (&[f32], &[f32]), o: usize) -> f64 {
        let co = first.len() / self.sums.len();
        let covariance = self.covariance(second, o);
        covariance
            .into_iter()
            .enumerate()
            .map(|(t, covariance)| f64::from(first[t * co + o]) * covariance)
            .sum()
    }

    /// Mean and variance of output channel `o`.
    pub fn moments(&self, w: &[f32], o: usize) -> (f64, f64) {
        let variance = self.covariance_between((w, w), o);
        // A NaN stays; a negative variance is rounding.
        (self.mean(w, o), if variance < 0.0 { 0.0 } else { variance })
    }
}

/// For one group, sums over the winners of all windows: of the arriving gradient, and of its products with what the
/// convolution's window sees there, less its mean.
#[derive(Clone, Debug)]
pub struct WinnerSums {
    /// `[c_out]`
    pub gradient: Vec<f64>,
    /// `[taps, c_out]`
    pub products: Vec<f64>,
}

impl WinnerSums {
    /// Per output channel, the products times a weight summed over the taps: the sum of the gradient times the
    /// convolution's output, less its mean.
    pub fn dot(&self, w: &[f32]) -> Vec<f64> {
        let co = self.gradient.len();
        let mut sums = vec![0.0; co];
        for (w, products) in w.chunks_exact(co).zip(self.products.chunks_exact(co)) {
            for o in 0..co {
                sums[o] += f64::from(w[o]) * products[o];
            }
        }
        sums
    }
}

/// [`WinnerSums`] per group, of the gradient `dout` at the output and the winners' `codes`.
pub fn winner_sums(
    shape: &BlockShape,
    layout: &Layout,
    kernels: &Kernels,
    chunks: &[Chunk],
    patches: &[Patches],
    x: &[f32],
    (codes, dout): (&[u8], &[f32]),
) -> Vec<WinnerSums> {
    let (channels, co, x_len, taps) = (layout.c_out, shape.c_out, shape.image_len(), taps(shape));
    let winners = Winners {
        size: layout.out,
        pool: shape.pool,
        kernel: shape.kernel,
        channels: shape.c_in,
        x_row: layout.bordered.1 * shape.c_in,
    };
    let pixels = layout.pixels(shape, layout.out.0);
    let parts: Vec<Buffer> = each(chunks, |chunk| {
        let mut part = Buffer::zeroed((taps + 1) * channels);
        let (products, sums) = part.split_at_mut(taps * channels);
        let shift = &patches[chunk.group].shift;
        let mut bordered = Bordered::new((shape.height, shape.width), shape.padding, shape.c_in);
        bordered.shift_zeros(shift);
        let mut shifted = Buffer::take(x_len);
        for image in chunk.start..chunk.end {
            let from = x[image * x_len..][..x_len].iter().zip(shift.iter().cycle());
            shifted
                .iter_mut()
                .zip(from)
                .for_each(|(to, (from, shift))| *to = from - shift);
            let x = bordered.fill(&shifted);
            let codes = codes[image * layout.out_len()..].as_ptr();
            let dout = dout[image * shape.out_image_len()..].as_ptr();
            let to = (products.as_mut_ptr(), sums.as_mut_ptr());
            // SAFETY: `x` with its border, image number `image` of the maps, and sums of their sizes.
            unsafe { (kernels.gather)((&winners, &pixels), x.as_ptr(), (codes, dout), to) };
        }
        part
    });
    let empty = WinnerSums {
        gradient: vec![0.0; co],
        products: vec![0.0; taps * co],
    };
    let mut groups = vec![empty; shape.groups];
    for (chunk, part) in chunks.iter().zip(&parts) {
        let WinnerSums { gradient, products } = &mut groups[chunk.group];
        let (of_products, sums) = part.split_at(taps * channels);
        gradient
            .iter_mut()
            .zip(sums)
            .for_each(|(to, v)| *to += f64::from(*v));
        for (to, from) in products
            .chunks_exact_mut(co)
            .zip(of_products.chunks_exact(channels))
        {
            to.iter_mut().zip(from).for_each(|(to, v)| *to += f64::from(*v));
        }
    }
    for (winners, patches) in groups.iter_mut().zip(patches) {
        for (products, mean) in winners.products.chunks_exact_mut(co).zip(&patches.sums) {
            products
                .iter_mut()
                .zip(&winners.gradient)
                .for_each(|(p, gradient)| *p -= mean * gradient);
        }
    }
    groups
}
