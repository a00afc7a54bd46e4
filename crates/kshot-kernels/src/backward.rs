//! The backward pass.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use crate::buffer::Buffer;
use crate::dispatch::{Kernels, kernels};
use crate::engine::{Differentiator, Engine, Weight};
use crate::kernels::epilogue::Spread;
use crate::plan::{Chunk, Layout, chunks, narrow, split};
use crate::saved::Saved;
use crate::shape::BlockShape;

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
        ("w", w.len(), shape.weight_len()),
        (
            "gamma",
            gamma.len(),
            if shape.norm { shape.c_out } else { gamma.len() },
        ),
        ("dout", dout.len(), shape.output_len()),
    ]);
    assert_eq!(*shape, saved.shape, "`saved` comes from another shape");
    let pass = Pass {
        shape,
        layout: Layout::of(shape),
        kernels: kernels(),
        engine: Engine::of(shape),
        chunks: chunks(shape),
        saved,
        dout,
    };
    let sums = pass.sums();
    let factors = pass.factors(gamma, &sums);
    let w = want_input.then(|| Weight::backward(shape, &pass.layout, pass.kernels, pass.engine, w));
    let (weight, input) = pass.gradients(x, w.as_ref(), &factors);
    let total = |of: fn(&Sums) -> &[f64]| {
        let mut total = vec![0.0; shape.c_out];
        for sums in &sums {
            total.iter_mut().zip(of(sums)).for_each(|(t, v)| *t += v);
        }
        total.into_iter().map(|v| v as f32).collect()
    };
    let gamma = if shape.norm {
        total(|s| &s.gamma)
    } else {
        vec![0.0; shape.c_out]
    };
    Gradients {
        input,
        weight,
        gamma,
        beta: total(|s| &s.beta),
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
    dout: &'a [f32],
}

impl Pass<'_> {
    /// Sums of the arriving gradient and of its products with the normalised map, per group.
    fn sums(&self) -> Vec<Sums> {
        let (shape, layout, saved) = (self.shape, &self.layout, self.saved);
        let (channels, out_len) = (layout.c_out, layout.out_len());
        let nothing = Buffer::take(if shape.norm { 0 } else { out_len });
        let parts: Vec<Vec<f64>> = self
            .chunks
            .par_iter()
            .map(|chunk| {
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
            })
            .collect();
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
                gamma[c] += part[channels + c] * f64::from(inverse[c]);
            }
        }
        sums
    }

    fn factors(&self, gamma: &[f32], sums: &[Sums]) -> Factors {
        let (shape, channels, saved) = (self.shape, self.layout.c_out, self.saved);
        let count = (shape.images_per_group() * self.layout.conv.0 * self.layout.conv.1) as f64;
        let new = || Buffer::zeroed(shape.groups * channels);
        let (mut a, mut b, mut c) = (new(), new(), new());
        for (group, sums) in sums.iter().enumerate() {
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

    /// Weight gradient and, with the weight for it, input gradient.
    fn gradients(&self, x: &[f32], w: Option<&Weight>, factors: &Factors) -> (Vec<f32>, Option<Vec<f32>>) {
        let (shape, layout) = (self.shape, &self.layout);
        let mut dx: Vec<f32> = Vec::new();
        let dx_len = if w.is_some() { shape.image_len() } else { 0 };
        dx.reserve_exact(dx_len * shape.images);
        let dxs = split(
            &self.chunks,
            dx_len,
            &mut dx.spare_capacity_mut()[..dx_len * shape.images],
        );
        let parts: Vec<Buffer> = (&self.chunks, dxs)
            .into_par_iter()
            .map(|(chunk, dx)| self.chunk_gradients(chunk, x, w, factors, dx))
            .collect();
        // SAFETY: every chunk has written its images' gradients, and together they are all images.
        unsafe { dx.set_len(dx_len * shape.images) };
        let mut parts = parts.into_iter();
        let mut dw = parts.next().unwrap_or_else(|| Buffer::take(0));
        for part in parts {
            dw.iter_mut().zip(part.iter()).for_each(|(sum, v)| *sum += v);
        }
        (narrow(&dw, layout.c_out, shape.c_out), w.map(|_| dx))
    }

    /// The weight gradient from the images of one chunk; writes all of their input gradients to `dx`.
    fn chunk_gradients(
        &self,
        chunk: &Chunk,
        x: &[f32],
        w: Option<&Weight>,
        factors: &Factors,
        dx: &mut [MaybeUninit<f32>],
    ) -> Buffer {
        let (shape, layout, kernels, saved) = (self.shape, &self.layout, self.kernels, self.saved);
        let (x_len, y_len, out_len) = (shape.image_len(), layout.conv_len(), layout.out_len());
        let mut differentiator = Differentiator::new(shape, layout, kernels, self.engine, w);
        let at = chunk.group * layout.c_out;
        let affine = (factors.b[at..].as_ptr(), factors.c[at..].as_ptr());
        let factors = (factors.a[at..].as_ptr(), shape.norm.then_some(affine));
        let pixels = layout.pixels(shape, layout.out.0);
        let block = differentiator.block();
        for first in (chunk.start..chunk.end).step_by(block) {
            let count = block.min(chunk.end - first);
            let dx = match w {
                Some(_) => &mut dx[(first - chunk.start) * x_len..][..count * x_len],
                None => &mut [],
            };
            differentiator.run(&x[first * x_len..][..count * x_len], dx, |k, dy, dy_row| {
                let image = first + k;
                let y = if shape.norm {
                    saved.y[image * y_len..].as_ptr()
                } else {
                    std::ptr::null()
                };
                let codes = saved.codes.as_bytes()[image * out_len..].as_ptr();
                let dout = self.dout[image * shape.out_image_len()..].as_ptr();
                let how = Spread {
                    rows: layout.conv.0,
                    columns: layout.conv.1,
                    pool: shape.pool,
                    dy_row,
                    factors,
                };
                // SAFETY: image number `image` of each buffer; `dy` is a map with rows `dy_row` apart.
                unsafe { (kernels.spread)((&how, &pixels), (codes, y), dout, dy.as_mut_ptr()) };
            });
        }
        differentiator.finish()
    }
}
