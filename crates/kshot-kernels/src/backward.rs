//! The backward pass.

use std::mem::MaybeUninit;

use crate::buffer::Buffer;
use crate::differentiator::Differentiator;
use crate::dispatch::{Kernels, kernels};
use crate::engine::{Convolver, Engine};
use crate::parallel::each;
use crate::parameters::{Parameters, collect};
use crate::patches::{WinnerSums, winner_sums};
use crate::plan::{Chunk, Layout, chunks, split};
use crate::saved::Saved;
use crate::shape::{BlockShape, padded_channels};
use crate::weight::{Weight, Weights};

/// Gradients with respect to a block's inputs.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// `[images, height, width, c_in]`, where it was asked for.
    pub input: Option<Vec<f32>>,
    /// `[kernel, kernel, c_in, c_out]`
    pub weight: Vec<f32>,
    /// `[c_out]`; zeros without a norm.
    pub gamma: Vec<f32>,
    /// `[c_out]`; the bias's gradient without a norm.
    pub beta: Vec<f32>,
}

/// Gradients of `sum(out * dout)`, where `out` is what [`forward`](crate::forward) gave for the same `shape`,
/// `x`, `w` and `gamma`. The gradient of a pool's window goes to its winner: the first NaN, else the first of
/// the largest.
///
/// # Panics
///
/// As [`forward`](crate::forward), and if `saved` comes from another shape.
pub fn backward(
    shape: &BlockShape,
    x: &[f32],
    w: &[f32],
    gamma: &[f32],
    saved: &Saved,
    dout: &[f32],
    want_input: bool,
) -> Gradients {
    shape.check(&[
        ("x", x.len(), shape.input_len()),
        ("dout", dout.len(), shape.output_len()),
    ]);
    assert_eq!(*shape, saved.shape, "`saved` comes from another shape");
    let parameters = Parameters::new(shape, w, shape.norm.then_some(gamma), None);
    let (kernels, engine) = (kernels(), Engine::of(shape, parameters.per_group()));
    let weights = |form| Weights::new(shape, kernels, engine, form, parameters);
    let pass = Pass {
        shape,
        layout: Layout::of(shape),
        kernels,
        engine,
        chunks: chunks(shape),
        saved,
        parameters,
        again: (want_input && saved.forgot_y()).then(|| weights(Weight::forward)),
        backward: want_input.then(|| weights(Weight::backward)),
        x,
        dout,
    };
    let (sums, weight, input);
    if saved.patches.is_empty() {
        sums = pass.sums();
        (weight, input) = pass.gradients(&pass.factors(&sums));
    } else {
        let winners = pass.winners();
        sums = pass.sums_from_patches(&winners);
        let factors = pass.factors(&sums);
        weight = pass.weight_from_patches(&winners, &factors);
        input = if want_input {
            pass.gradients(&factors).1
        } else {
            None
        };
    }
    let (beta, gamma): (Vec<_>, Vec<_>) = sums.into_iter().map(|sums| (sums.beta, sums.gamma)).unzip();
    let per_group = parameters.per_group();
    Gradients {
        input,
        weight,
        gamma: collect(&gamma, per_group),
        beta: collect(&beta, per_group),
    }
}

/// For one group, per channel: the gradients of beta and gamma from its images alone.
struct Sums {
    beta: Vec<f64>,
    gamma: Vec<f64>,
}

/// For each group and channel: `dy = a * g + b * y + c`.
struct Factors {
    a: Buffer,
    b: Buffer,
    c: Buffer,
}

struct Pass<'a> {
    shape: &'a BlockShape,
    layout: Layout,
    kernels: &'static Kernels,
    engine: Engine,
    chunks: Vec<Chunk>,
    saved: &'a Saved,
    parameters: Parameters<'a>,
    /// To compute `y` again, where it wasn't kept.
    again: Option<Weights<'a>>,
    /// For the input gradient, where it is wanted.
    backward: Option<Weights<'a>>,
    x: &'a [f32],
    dout: &'a [f32],
}

impl Pass<'_> {
    /// See [`WinnerSums`]; one per group.
    fn winners(&self) -> Vec<WinnerSums> {
        let codes = self.saved.codes.as_bytes();
        let (patches, maps) = (&self.saved.patches, (codes, self.dout));
        winner_sums(
            self.shape,
            &self.layout,
            self.kernels,
            &self.chunks,
            patches,
            self.x,
            maps,
        )
    }

    /// As [`Self::sums`], from the sums over the winners.
    fn sums_from_patches(&self, winners: &[WinnerSums]) -> Vec<Sums> {
        let of_group = |(group, winners): (usize, &WinnerSums)| {
            let mut gamma = winners.dot(self.parameters.w(group));
            let inverse = &self.saved.inverse[group * self.layout.c_out..];
            gamma
                .iter_mut()
                .zip(inverse)
                .for_each(|(sum, inverse)| *sum *= f64::from(*inverse));
            Sums {
                beta: winners.gradient.clone(),
                gamma,
            }
        };
        winners.iter().enumerate().map(of_group).collect()
    }

    /// The weight gradient without `y`, see [`crate::patches`].
    fn weight_from_patches(&self, winners: &[WinnerSums], factors: &Factors) -> Vec<f32> {
        let (co, channels, saved) = (self.shape.c_out, self.layout.c_out, self.saved);
        let of_group = |(group, winners): (usize, &WinnerSums)| {
            let (patches, w) = (&saved.patches[group], self.parameters.w(group));
            let mut dw = vec![0.0; w.len()];
            for o in 0..co {
                let at = group * channels + o;
                let (a, b) = (f64::from(factors.a[at]), f64::from(factors.b[at]));
                for (t, covariance) in patches.covariance(w, o).into_iter().enumerate() {
                    dw[t * co + o] = a * winners.products[t * co + o] + b * patches.positions() * covariance;
                }
            }
            dw
        };
        let groups: Vec<Vec<f64>> = winners.iter().enumerate().map(of_group).collect();
        collect(&groups, self.parameters.per_group())
    }

    /// Sums of the arriving gradient and of its products with the normalised map, per group.
    fn sums(&self) -> Vec<Sums> {
        let (shape, layout, saved) = (self.shape, &self.layout, self.saved);
        let (channels, out_len) = (layout.c_out, layout.out_len());
        let nothing = Buffer::take(if shape.norm { 0 } else { out_len });
        let parts: Vec<Vec<f64>> = each(&self.chunks, |chunk| {
            let mut total = vec![0.0; 2 * channels];
            let mut image = Buffer::take(2 * channels);
            for k in chunk.start..chunk.end {
                // Without a norm the products are of no use, and any map does in the place of `y`.
                let y = match (shape.norm, shape.pool) {
                    (true, true) => &saved.pooled[k * out_len..],
                    (true, false) => &saved.y[k * out_len..],
                    (false, _) => &nothing[..],
                };
                let codes = &saved.codes.as_bytes()[k * out_len..];
                let dout = &self.dout[k * shape.out_image_len()..];
                let mean = &saved.wide_mean[chunk.group * channels..];
                let (sum, dot) = image.split_at_mut(channels);
                // SAFETY: image `k` of each buffer, and a channel vector of each of the others.
                unsafe {
                    (self.kernels.reduce)(
                        &layout.pixels(shape, layout.out.0),
                        (codes.as_ptr(), y.as_ptr()),
                        dout.as_ptr(),
                        mean.as_ptr(),
                        (sum.as_mut_ptr(), dot.as_mut_ptr()),
                    );
                }
                total
                    .iter_mut()
                    .zip(image.iter())
                    .for_each(|(t, v)| *t += f64::from(*v));
            }
            total
        });
        let co = shape.c_out;
        let mut sums: Vec<Sums> = (0..shape.groups)
            .map(|_| Sums {
                beta: vec![0.0; co],
                gamma: vec![0.0; co],
            })
            .collect();
        for (chunk, part) in self.chunks.iter().zip(&parts) {
            let inverse = &saved.inverse[chunk.group * channels..];
            let Sums { beta, gamma } = &mut sums[chunk.group];
            for c in 0..co {
                beta[c] += part[c];
                if shape.norm {
                    gamma[c] += part[channels + c] * f64::from(inverse[c]);
                }
            }
        }
        sums
    }

    fn factors(&self, sums: &[Sums]) -> Factors {
        let (shape, channels, saved) = (self.shape, self.layout.c_out, self.saved);
        let count = (shape.images_per_group() * self.layout.conv.0 * self.layout.conv.1) as f64;
        let new = || Buffer::zeroed(shape.groups * channels);
        let (mut a, mut b, mut c) = (new(), new(), new());
        for (group, sums) in sums.iter().enumerate() {
            let gamma = self.parameters.gamma(group);
            for channel in 0..shape.c_out {
                let at = group * channels + channel;
                if !shape.norm {
                    a[at] = 1.0;
                    continue;
                }
                let inverse = f64::from(saved.inverse[at]);
                let scale = f64::from(gamma[channel]) * inverse;
                let slope = -scale * inverse * sums.gamma[channel] / count;
                a[at] = scale as f32;
                b[at] = slope as f32;
                c[at] = (-scale * sums.beta[channel] / count - slope * f64::from(saved.wide_mean[at])) as f32;
            }
        }
        Factors { a, b, c }
    }

    /// Weight gradient and, where it is wanted, input gradient.
    fn gradients(&self, factors: &Factors) -> (Vec<f32>, Option<Vec<f32>>) {
        let shape = self.shape;
        let mut dx = InputGradient::new(shape, self.backward.is_some());
        let parts: Vec<Buffer> = each(self.chunks.iter().zip(dx.split(&self.chunks)), |(chunk, dx)| {
            self.chunk_gradients(chunk, factors, dx)
        });
        let dw = combine(shape, &self.chunks, &parts, self.parameters.per_group());
        // SAFETY: every chunk has written its images' gradients, and together they are all images.
        (dw, unsafe { dx.written() })
    }

    /// The weight gradient from the images of one chunk; writes all of their input gradients to `dx`.
    fn chunk_gradients(&self, chunk: &Chunk, factors: &Factors, dx: &mut [MaybeUninit<f32>]) -> Buffer {
        let (shape, layout, kernels, saved) = (self.shape, &self.layout, self.kernels, self.saved);
        let (x_len, y_len, out_len) = (shape.image_len(), layout.conv_len(), layout.out_len());
        let weight = self.backward.as_ref().map(|weights| weights.of(chunk.group));
        let mut differentiator = Differentiator::new(shape, layout, kernels, self.engine, weight.as_deref());
        let again = self.again.as_ref().map(|weights| weights.of(chunk.group));
        let mut again = again.as_deref().map(|weight| {
            (
                Convolver::new(shape, layout, kernels, self.engine, weight),
                Buffer::take(y_len),
            )
        });
        let at = chunk.group * layout.c_out;
        let affine = (factors.b[at..].as_ptr(), factors.c[at..].as_ptr());
        let factors = (factors.a[at..].as_ptr(), shape.norm.then_some(affine));
        let pixels = layout.pixels(shape, layout.out.0);
        let block = differentiator.block();
        for first in (chunk.start..chunk.end).step_by(block) {
            let count = block.min(chunk.end - first);
            let dx_len = if weight.is_some() { x_len } else { 0 };
            let dx = &mut dx[(first - chunk.start) * dx_len..][..count * dx_len];
            differentiator.run(&self.x[first * x_len..][..count * x_len], dx, |k, dy, dy_row| {
                let image = first + k;
                let y = match &mut again {
                    Some((convolver, y)) => {
                        convolver.run(&self.x[image * x_len..][..x_len], y);
                        y.as_ptr()
                    }
                    None if shape.norm => saved.y[image * y_len..].as_ptr(),
                    None => std::ptr::null(),
                };
                let codes = saved.codes.as_bytes()[image * out_len..].as_ptr();
                let dout = self.dout[image * shape.out_image_len()..].as_ptr();
                let how = layout.spread(shape, dy_row, factors);
                // SAFETY: image number `image` of each buffer; `dy` is a map with rows `dy_row` apart.
                unsafe { (kernels.spread)((&how, &pixels), (codes, y), dout, dy.as_mut_ptr()) };
            });
        }
        differentiator.finish()
    }
}

/// The input gradient while it is written, chunk by chunk.
pub(crate) struct InputGradient {
    values: Vec<f32>,
    image_len: usize,
    len: usize,
    wanted: bool,
}

impl InputGradient {
    pub fn new(shape: &BlockShape, wanted: bool) -> Self {
        let (image_len, len) = if wanted {
            (shape.image_len(), shape.input_len())
        } else {
            (0, 0)
        };
        Self {
            values: Vec::with_capacity(len),
            image_len,
            len,
            wanted,
        }
    }

    /// Each chunk's part.
    pub fn split(&mut self, chunks: &[Chunk]) -> Vec<&mut [MaybeUninit<f32>]> {
        split(
            chunks,
            self.image_len,
            &mut self.values.spare_capacity_mut()[..self.len],
        )
    }

    /// The gradient, where it is wanted.
    ///
    /// # Safety
    /// Every element of every part has been written.
    pub unsafe fn written(mut self) -> Option<Vec<f32>> {
        // SAFETY: the caller's.
        unsafe { self.values.set_len(self.len) };
        self.wanted.then_some(self.values)
    }
}

/// Sums each chunk's weight gradient, `[taps, c_in, channels]`, in the order of the chunks: over all of them, or over
/// each group's.
pub(crate) fn combine(shape: &BlockShape, chunks: &[Chunk], parts: &[Buffer], per_group: bool) -> Vec<f32> {
    let (co, channels) = (shape.c_out, padded_channels(shape.c_out));
    let taps = shape.kernel * shape.kernel;
    let results = if per_group { shape.groups } else { 1 };
    let len = results * shape.weight_len();
    let mut dw = Vec::with_capacity(len);
    let places = dw.spare_capacity_mut()[..len].chunks_mut(shape.c_in * co);
    each(places.enumerate(), |(k, dw)| {
        let (result, tap) = (k / taps, k % taps);
        let own = chunks
            .iter()
            .zip(parts)
            .filter(|(chunk, _)| !per_group || chunk.group == result);
        let mut parts = own.map(|(_, part)| part[tap * shape.c_in * channels..].chunks_exact(channels));
        let Some(first) = parts.next() else {
            dw.fill(MaybeUninit::new(0.0));
            return;
        };
        for (to, from) in dw.chunks_exact_mut(co).zip(first) {
            to.write_copy_of_slice(&from[..co]);
        }
        for part in parts {
            for (to, from) in dw.chunks_exact_mut(co).zip(part) {
                for (sum, v) in to.iter_mut().zip(from) {
                    // SAFETY: the first part wrote it.
                    unsafe { sum.write(sum.assume_init() + v) };
                }
            }
        }
    });
    // SAFETY: each of its parts wrote all that is its own.
    unsafe { dw.set_len(len) };
    dw
}
