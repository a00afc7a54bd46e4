//! Batch norm → ReLU → 2×2 max-pool over all pairs of two sets of maps: `pool(relu(norm(left[c] + right[q])))`.
//!
//! A convolution of two maps that are joined in depth is the sum of a convolution of each. A relation module thus
//! convolves every class's and every query's maps once, and what is left for each of the many pairs is a sum, the norm
//! and the pool. The statistics over all pairs follow from sums over each set, and so do the norm's gradients: nothing as
//! large as the pairs' maps is ever written.

use rayon::prelude::*;

use crate::shape::ShapeError;

/// Sizes of the two sets of maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairsShape {
    /// Maps on the left (classes).
    pub left: usize,
    /// Maps on the right (queries).
    pub right: usize,
    /// Height of every map, at least 2.
    pub height: usize,
    /// Width of every map, at least 2.
    pub width: usize,
    /// Channels of every map.
    pub channels: usize,
}

/// What [`pairs_backward`] needs of the forward pass.
#[derive(Clone, Debug)]
pub struct PairsSaved {
    /// Of each channel over all pairs and pixels, `[channels]`.
    pub mean: Vec<f32>,
    /// Biased variance of each channel, `[channels]`.
    pub variance: Vec<f32>,
    inverse: Vec<f64>,
    /// Sums over each set's maps, `[height, width, channels]`.
    sums: [Vec<f64>; 2],
    codes: Vec<u8>,
}

/// Gradients with respect to the inputs of [`pairs_forward`].
#[derive(Clone, Debug)]
pub struct PairsGradients {
    /// `[left, height, width, channels]`
    pub left: Vec<f32>,
    /// `[right, height, width, channels]`
    pub right: Vec<f32>,
    /// `[channels]`
    pub gamma: Vec<f32>,
    /// `[channels]`
    pub beta: Vec<f32>,
}

/// The code of an output that ReLU has set to 0; otherwise it is the place of the window's winner, 0 to 3.
const CUT: u8 = 4;

/// Parts of the right set whose sums are formed on their own, so that bits don't depend on the number of threads.
const PARTS: usize = 8;

impl PairsShape {
    /// Checks every size.
    ///
    /// # Errors
    /// A [`ShapeError`] that names what is wrong.
    pub fn validate(&self) -> Result<(), ShapeError> {
        let Self {
            left,
            right,
            height,
            width,
            channels,
        } = *self;
        for (field, value) in [("images", left), ("images", right), ("channels", channels)] {
            if value == 0 {
                return Err(ShapeError::Zero { field });
            }
        }
        if height < 2 || width < 2 {
            return Err(ShapeError::TooSmall {
                height,
                width,
                padding: 0,
                kernel: 1,
                pool: true,
            });
        }
        let bytes = [right, height, width, channels, size_of::<f64>()]
            .into_iter()
            .try_fold(left, usize::checked_mul);
        match bytes {
            Some(bytes) if bytes <= isize::MAX as usize => Ok(()),
            _ => Err(ShapeError::Overflow { buffer: "output" }),
        }
    }

    fn map_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    fn out_len(&self) -> usize {
        (self.height / 2) * (self.width / 2) * self.channels
    }

    /// Elements of the output, `[right, left, height / 2, width / 2, channels]`.
    pub fn output_len(&self) -> usize {
        self.right * self.left * self.out_len()
    }

    /// Pairs and pixels that a channel's statistics are taken over.
    fn count(&self) -> f64 {
        (self.left * self.right * self.height * self.width) as f64
    }

    /// Floats from the first pixel of an image to each pixel of output pixel `index`'s window.
    fn window(&self, index: usize) -> [usize; 4] {
        let columns = self.width / 2;
        let first = (index / columns * 2 * self.width + index % columns * 2) * self.channels;
        let row = self.width * self.channels;
        [
            first,
            first + self.channels,
            first + row,
            first + row + self.channels,
        ]
    }

    fn check(&self, lengths: &[(usize, usize)]) {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        for (found, expected) in lengths {
            assert_eq!(found, expected, "a slice is not as long as the pairs' shape says");
        }
    }
}

/// Under the statistics of all pairs: the output `[right, left, height / 2, width / 2, channels]` and what the backward
/// pass needs. `left` is `[left, height, width, channels]`, `right` `[right, ...]`, `gamma` and `beta` `[channels]`.
///
/// # Panics
/// Where `shape` is not valid or a slice is not as long as it says.
pub fn pairs_forward(
    shape: &PairsShape,
    left: &[f32],
    right: &[f32],
    gamma: &[f32],
    beta: &[f32],
    eps: f32,
) -> (Vec<f32>, PairsSaved) {
    let channels = shape.channels;
    shape.check(&[
        (left.len(), shape.left * shape.map_len()),
        (right.len(), shape.right * shape.map_len()),
        (gamma.len(), channels),
        (beta.len(), channels),
    ]);
    let sums = [left, right].map(|maps| sum_of_maps(maps, shape.map_len()));
    let (mean, variance) = moments(shape, [left, right], &sums);
    let inverse: Vec<f64> = variance
        .iter()
        .map(|variance| 1.0 / (variance + f64::from(eps)).sqrt())
        .collect();
    let scale: Vec<f32> = gamma
        .iter()
        .zip(&inverse)
        .map(|(gamma, inverse)| (f64::from(*gamma) * inverse) as f32)
        .collect();
    let shift: Vec<f32> = (0..channels)
        .map(|k| (f64::from(beta[k]) - mean[k] * f64::from(gamma[k]) * inverse[k]) as f32)
        .collect();
    let mut codes = vec![0; shape.output_len()];
    let out = activate(shape, left, right, &scale, &shift, Some(&mut codes));
    let narrow = |values: &[f64]| values.iter().map(|value| *value as f32).collect();
    let saved = PairsSaved {
        mean: narrow(&mean),
        variance: narrow(&variance),
        inverse,
        sums,
        codes,
    };
    (out, saved)
}

/// Under a given scale and shift of each channel in the place of the norm.
///
/// # Panics
/// As [`pairs_forward`].
pub fn pairs_infer(
    shape: &PairsShape,
    left: &[f32],
    right: &[f32],
    scale: &[f32],
    shift: &[f32],
) -> Vec<f32> {
    shape.check(&[
        (left.len(), shape.left * shape.map_len()),
        (right.len(), shape.right * shape.map_len()),
        (scale.len(), shape.channels),
        (shift.len(), shape.channels),
    ]);
    activate(shape, left, right, scale, shift, None)
}

/// Gradients of `sum(out * dout)`, where `out` is what [`pairs_forward`] gave for the same arguments.
///
/// # Panics
/// As [`pairs_forward`].
pub fn pairs_backward(
    shape: &PairsShape,
    left: &[f32],
    right: &[f32],
    gamma: &[f32],
    saved: &PairsSaved,
    dout: &[f32],
) -> PairsGradients {
    let (channels, map_len) = (shape.channels, shape.map_len());
    shape.check(&[
        (left.len(), shape.left * map_len),
        (right.len(), shape.right * map_len),
        (gamma.len(), channels),
        (saved.codes.len(), shape.output_len()),
        (dout.len(), shape.output_len()),
    ]);
    let (left_gradient, right_gradient) = arrived(shape, &saved.codes, dout);
    // Of gamma and beta: `sum(g)` and `sum(g * z_hat)`, where `z = left + right`.
    let mut beta = vec![0.0f64; channels];
    let mut products = vec![0.0f64; channels];
    for (at, gradient) in left_gradient.iter().enumerate() {
        beta[at % channels] += f64::from(*gradient);
        products[at % channels] += f64::from(*gradient) * f64::from(left[at]);
    }
    for (at, gradient) in right_gradient.iter().enumerate() {
        products[at % channels] += f64::from(*gradient) * f64::from(right[at]);
    }
    let mean: Vec<f64> = saved.mean.iter().map(|mean| f64::from(*mean)).collect();
    let dgamma: Vec<f64> = (0..channels)
        .map(|k| saved.inverse[k] * (products[k] - mean[k] * beta[k]))
        .collect();
    // dz = scale (g - sum(g) / n - z_hat sum(g z_hat) / n), summed over the other set.
    let finish = |arrived: Vec<f32>, maps: &[f32], others: usize, other_sum: &[f64]| {
        let count = shape.count();
        let mut gradient = arrived;
        gradient
            .par_chunks_exact_mut(map_len)
            .zip(maps.par_chunks_exact(map_len))
            .for_each(|(gradient, map)| {
                for (at, (gradient, z)) in gradient.iter_mut().zip(map).enumerate() {
                    let k = at % channels;
                    let others = others as f64;
                    let normalised = saved.inverse[k] * (others * (f64::from(*z) - mean[k]) + other_sum[at]);
                    let g = f64::from(*gradient) - others * beta[k] / count - normalised * dgamma[k] / count;
                    *gradient = (f64::from(gamma[k]) * saved.inverse[k] * g) as f32;
                }
            });
        gradient
    };
    let narrow = |values: &[f64]| values.iter().map(|value| *value as f32).collect();
    PairsGradients {
        left: finish(left_gradient, left, shape.right, &saved.sums[1]),
        right: finish(right_gradient, right, shape.left, &saved.sums[0]),
        gamma: narrow(&dgamma),
        beta: narrow(&beta),
    }
}

/// `[n, len]` → `[len]`
fn sum_of_maps(maps: &[f32], len: usize) -> Vec<f64> {
    let mut sum = vec![0.0; len];
    for map in maps.chunks_exact(len) {
        sum.iter_mut()
            .zip(map)
            .for_each(|(sum, value)| *sum += f64::from(*value));
    }
    sum
}

/// Mean and biased variance of each channel over all sums of a left and a right map.
fn moments(shape: &PairsShape, maps: [&[f32]; 2], sums: &[Vec<f64>; 2]) -> (Vec<f64>, Vec<f64>) {
    let (channels, pixels) = (shape.channels, (shape.height * shape.width) as f64);
    let sizes = [shape.left as f64, shape.right as f64];
    // Each set's own mean first, so that its squares don't cancel.
    let means: [Vec<f64>; 2] = [0, 1].map(|set: usize| {
        let mut mean = vec![0.0; channels];
        for (at, sum) in sums[set].iter().enumerate() {
            mean[at % channels] += sum / (sizes[set] * pixels);
        }
        mean
    });
    let mut variance = vec![0.0; channels];
    for set in [0, 1] {
        for (at, value) in maps[set].iter().enumerate() {
            let k = at % channels;
            variance[k] += (f64::from(*value) - means[set][k]).powi(2) / (sizes[set] * pixels);
        }
    }
    // What the two sets have in common at each pixel.
    for (at, (left, right)) in sums[0].iter().zip(&sums[1]).enumerate() {
        let k = at % channels;
        variance[k] += 2.0 * (left / sizes[0] - means[0][k]) * (right / sizes[1] - means[1][k]) / pixels;
    }
    let mean = means[0]
        .iter()
        .zip(&means[1])
        .map(|(left, right)| left + right)
        .collect();
    (
        mean,
        variance
            .into_iter()
            .map(|v: f64| if v < 0.0 { 0.0 } else { v })
            .collect(),
    )
}

/// `pool(relu(scale * (left + right) + shift))` of every pair, and the code of each output where they are wanted.
fn activate(
    shape: &PairsShape,
    left: &[f32],
    right: &[f32],
    scale: &[f32],
    shift: &[f32],
    codes: Option<&mut [u8]>,
) -> Vec<f32> {
    let (channels, map_len, out_len) = (shape.channels, shape.map_len(), shape.out_len());
    let affine = |maps: &[f32], shift: &[f32]| -> Vec<f32> {
        maps.iter()
            .enumerate()
            .map(|(at, value)| scale[at % channels] * value + shift[at % channels])
            .collect()
    };
    let left = affine(left, shift);
    let right = affine(right, &vec![0.0; channels]);
    let mut out = vec![0.0; shape.output_len()];
    let per_right = shape.left * out_len;
    let one = |right: &[f32], out: &mut [f32], mut codes: Option<&mut [u8]>| {
        for (c, (left, out)) in left
            .chunks_exact(map_len)
            .zip(out.chunks_exact_mut(out_len))
            .enumerate()
        {
            for (index, out) in out.chunks_exact_mut(channels).enumerate() {
                let pixels = shape
                    .window(index)
                    .map(|at| (&left[at..at + channels], &right[at..at + channels]));
                match &mut codes {
                    None => pool(pixels, out),
                    Some(codes) => {
                        let at = c * out_len + index * channels;
                        pool_with_codes(pixels, out, &mut codes[at..at + channels]);
                    }
                }
            }
        }
    };
    let pairs = right
        .par_chunks_exact(map_len)
        .zip(out.par_chunks_exact_mut(per_right));
    match codes {
        None => pairs.for_each(|(right, out)| one(right, out, None)),
        Some(codes) => pairs
            .zip(codes.par_chunks_exact_mut(per_right))
            .for_each(|((right, out), codes)| one(right, out, Some(codes))),
    }
    out
}

/// The greater of two, the first among equals; a NaN wins.
#[inline(always)]
#[allow(clippy::neg_cmp_op_on_partial_ord)]
fn beats(value: f32, best: f32) -> bool {
    !(value <= best) & !best.is_nan()
}

fn pool(pixels: [(&[f32], &[f32]); 4], out: &mut [f32]) {
    for (k, out) in out.iter_mut().enumerate() {
        let mut best = pixels[0].0[k] + pixels[0].1[k];
        for (left, right) in &pixels[1..] {
            let value = left[k] + right[k];
            best = if beats(value, best) { value } else { best };
        }
        *out = if best <= 0.0 { 0.0 } else { best };
    }
}

fn pool_with_codes(pixels: [(&[f32], &[f32]); 4], out: &mut [f32], codes: &mut [u8]) {
    for (k, (out, code)) in out.iter_mut().zip(codes).enumerate() {
        let mut best = pixels[0].0[k] + pixels[0].1[k];
        let mut winner = 0;
        for (place, (left, right)) in pixels.iter().enumerate().skip(1) {
            let value = left[k] + right[k];
            let better = beats(value, best);
            best = if better { value } else { best };
            winner = if better { place as u8 } else { winner };
        }
        let cut = best <= 0.0;
        *out = if cut { 0.0 } else { best };
        *code = if cut { CUT } else { winner };
    }
}

/// The arriving gradient at the winners, summed over the other set: for each left map and for each right map.
fn arrived(shape: &PairsShape, codes: &[u8], dout: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (channels, map_len, out_len) = (shape.channels, shape.map_len(), shape.out_len());
    let per_right = shape.left * out_len;
    let per_part = shape.right.div_ceil(PARTS);
    let mut right = vec![0.0; shape.right * map_len];
    let parts: Vec<Vec<f32>> = (
        right.par_chunks_mut(per_part * map_len),
        codes.par_chunks(per_part * per_right),
        dout.par_chunks(per_part * per_right),
    )
        .into_par_iter()
        .map(|(right, codes, dout)| {
            let mut left = vec![0.0; shape.left * map_len];
            let pairs = codes.chunks_exact(per_right).zip(dout.chunks_exact(per_right));
            for (right, (codes, dout)) in right.chunks_exact_mut(map_len).zip(pairs) {
                let classes = codes.chunks_exact(out_len).zip(dout.chunks_exact(out_len));
                for (left, (codes, dout)) in left.chunks_exact_mut(map_len).zip(classes) {
                    let outputs = codes.chunks_exact(channels).zip(dout.chunks_exact(channels));
                    for (index, (codes, dout)) in outputs.enumerate() {
                        for (place, at) in shape.window(index).into_iter().enumerate() {
                            let left = &mut left[at..at + channels];
                            let right = &mut right[at..at + channels];
                            for k in 0..channels {
                                let gradient = if codes[k] == place as u8 { dout[k] } else { 0.0 };
                                left[k] += gradient;
                                right[k] += gradient;
                            }
                        }
                    }
                }
            }
            left
        })
        .collect();
    let mut left = vec![0.0; shape.left * map_len];
    for part in parts {
        left.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
    }
    (left, right)
}
