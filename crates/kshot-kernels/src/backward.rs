//! The backward pass.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use crate::buffer::Buffer;
use crate::dispatch::{Kernels, kernels};
use crate::kernels::direct::Conv;
use crate::kernels::epilogue::Spread;
use crate::plan::{Bordered, Chunk, Layout, chunks, narrow, split};
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
        chunks: chunks(shape),
        saved,
        dout,
    };
    let sums = pass.sums();
    let factors = pass.factors(gamma, &sums);
    let flipped = want_input.then(|| flip(shape, &pass.layout, w));
    let (weight, input) = pass.gradients(x, flipped.as_deref(), &factors);
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

/// The weight for the convolution that gives the input gradient: `[kernel, kernel, c_out, c_in]`, both
/// window axes reversed, channels rounded up.
fn flip(shape: &BlockShape, layout: &Layout, w: &[f32]) -> Buffer {
    let (taps, ci, co) = (shape.kernel * shape.kernel, shape.c_in, shape.c_out);
    let mut flipped = Buffer::zeroed(taps * layout.c_out * layout.c_in);
    for tap in 0..taps {
        let to = &mut flipped[(taps - 1 - tap) * layout.c_out * layout.c_in..];
        for c in 0..ci {
            for o in 0..co {
                to[o * layout.c_in + c] = w[(tap * ci + c) * co + o];
            }
        }
    }
    flipped
}

struct Pass<'a> {
    shape: &'a BlockShape,
    layout: Layout,
    kernels: &'static Kernels,
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

    /// Weight gradient and, with the `flipped` weight, input gradient.
    fn gradients(
        &self,
        x: &[f32],
        flipped: Option<&[f32]>,
        factors: &Factors,
    ) -> (Vec<f32>, Option<Vec<f32>>) {
        let (shape, layout) = (self.shape, &self.layout);
        let mut dx: Vec<f32> = Vec::new();
        let mut dx_len = 0;
        if flipped.is_some() {
            dx_len = shape.image_len();
            dx.reserve_exact(shape.input_len());
        }
        let dxs = split(
            &self.chunks,
            dx_len,
            &mut dx.spare_capacity_mut()[..dx_len * shape.images],
        );
        let parts: Vec<Buffer> = (&self.chunks, dxs)
            .into_par_iter()
            .map(|(chunk, dx)| self.chunk_gradients(chunk, x, flipped, factors, dx))
            .collect();
        // SAFETY: every chunk has written its images' gradients, and together they are all images.
        unsafe { dx.set_len(dx_len * shape.images) };
        let mut parts = parts.into_iter();
        let mut dw = parts.next().unwrap_or_else(|| Buffer::take(0));
        for part in parts {
            dw.iter_mut().zip(part.iter()).for_each(|(sum, v)| *sum += v);
        }
        (narrow(&dw, layout.c_out, shape.c_out), flipped.map(|_| dx))
    }

    /// The weight gradient from the images of one chunk; writes all of their input gradients to `dx`.
    fn chunk_gradients(
        &self,
        chunk: &Chunk,
        x: &[f32],
        flipped: Option<&[f32]>,
        factors: &Factors,
        dx: &mut [MaybeUninit<f32>],
    ) -> Buffer {
        let (shape, layout, kernels, saved) = (self.shape, &self.layout, self.kernels, self.saved);
        let (x_len, y_len, out_len) = (shape.image_len(), layout.conv_len(), layout.out_len());
        let mut dw = Buffer::zeroed(shape.kernel * shape.kernel * shape.c_in * layout.c_out);
        let mut x_bordered = Bordered::new((shape.height, shape.width), shape.padding, shape.c_in);
        let mut dy = Bordered::new(layout.conv, layout.dy_border, layout.c_out);
        let dy_row = dy.row();
        // The input gradient has whole vectors of channels; other channel counts go through a copy.
        let mut wide_dx = Buffer::take(if layout.c_in == shape.c_in {
            0
        } else {
            x_len / shape.c_in * layout.c_in
        });
        let to_weight = Conv {
            y_strides: (dy_row, layout.c_out),
            ..layout.convolution(shape, layout.conv.0)
        };
        let to_input = Conv {
            rows: shape.height,
            columns: shape.width,
            kernel: shape.kernel,
            channels: layout.c_out,
            x_strides: (dy_row, layout.c_out),
            out_channels: layout.c_in,
            y_strides: (shape.width * layout.c_in, layout.c_in),
        };
        let at = chunk.group * layout.c_out;
        let affine = (factors.b[at..].as_ptr(), factors.c[at..].as_ptr());
        let how = Spread {
            rows: layout.conv.0,
            columns: layout.conv.1,
            pool: shape.pool,
            dy_row,
            factors: (factors.a[at..].as_ptr(), shape.norm.then_some(affine)),
        };
        for (k, image) in (chunk.start..chunk.end).enumerate() {
            let x = x_bordered.fill(&x[image * x_len..][..x_len]);
            let y = if shape.norm {
                saved.y[image * y_len..].as_ptr()
            } else {
                std::ptr::null()
            };
            let codes = saved.codes.as_bytes()[image * out_len..].as_ptr();
            let dout = self.dout[image * shape.out_image_len()..].as_ptr();
            // SAFETY: image number `image` of each buffer; `dy` and `x` carry their borders.
            unsafe {
                let pixels = layout.pixels(shape, layout.out.0);
                (kernels.spread)((&how, &pixels), (codes, y), dout, dy.inside_mut().as_mut_ptr());
                let inside = dy.inside().as_ptr();
                (kernels.weight_gradient)(&to_weight, x.as_ptr(), inside, dw.as_mut_ptr());
            }
            let Some(flipped) = flipped else {
                continue;
            };
            let dx = &mut dx[k * x_len..][..x_len];
            let to = if layout.c_in == shape.c_in {
                dx.as_mut_ptr().cast()
            } else {
                wide_dx.as_mut_ptr()
            };
            // SAFETY: `dy` with its border gives `height` by `width` pixels, for which there is room at `to`.
            unsafe { (kernels.convolve)(&to_input, dy.all().as_ptr(), flipped.as_ptr(), to) };
            if layout.c_in != shape.c_in {
                for (to, from) in dx
                    .chunks_exact_mut(shape.c_in)
                    .zip(wide_dx.chunks_exact(layout.c_in))
                {
                    for (to, from) in to.iter_mut().zip(from) {
                        to.write(*from);
                    }
                }
            }
        }
        dw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flipping_twice_gives_the_weight_again() {
        let shape = BlockShape {
            images: 1,
            height: 4,
            width: 4,
            c_in: 16,
            c_out: 16,
            kernel: 3,
            padding: 1,
            pool: false,
            norm: false,
            groups: 1,
            activation: crate::Activation::Identity,
        };
        let w: Vec<f32> = (0..shape.weight_len()).map(|i| i as f32).collect();
        let layout = Layout::of(&shape);
        let flipped = flip(&shape, &layout, &w);
        assert_ne!(flipped[..], w[..]);
        assert_eq!(flip(&shape, &layout, &flipped)[..], w[..]);
        assert_eq!(flipped[0], w[8 * 256]);
    }
}
