//! The training forward pass and inference.

use rayon::prelude::*;

use crate::buffer::Buffer;
use crate::dispatch::{Kernels, kernels};
use crate::plan::{Bordered, Chunk, Layout, chunks, split, widen};
use crate::saved::Saved;
use crate::shape::BlockShape;
use crate::statistics::Moments;

/// The training forward pass.
///
/// `x` is `[images, height, width, c_in]`, `w` is `[kernel, kernel, c_in, c_out]`, `gamma` and `beta`
/// are `[c_out]` and `out` is `[images, out_height, out_width, c_out]`. With `norm` the convolution's
/// output is normalised by the batch statistics of its group, `gamma * (y - mean) / sqrt(variance + eps) +
/// beta` with the biased variance; without it `gamma` is ignored and `beta` is the bias.
///
/// NaN propagates: it passes through the activation, and a window of the pool that holds one gives NaN.
///
/// # Panics
///
/// If a slice does not have the length that `shape` says, or `shape` fails [`BlockShape::validate`].
pub fn forward(
    shape: &BlockShape,
    x: &[f32],
    w: &[f32],
    gamma: &[f32],
    beta: &[f32],
    eps: f32,
    out: &mut [f32],
) -> Saved {
    shape.check(&[
        ("x", x.len(), shape.input_len()),
        ("w", w.len(), shape.weight_len()),
        ("beta", beta.len(), shape.c_out),
        (
            "gamma",
            gamma.len(),
            if shape.norm { shape.c_out } else { gamma.len() },
        ),
        ("out", out.len(), shape.output_len()),
    ]);
    let layout = Layout::of(shape);
    let pass = Pass {
        shape,
        layout,
        kernels: kernels(),
        chunks: chunks(shape),
        x,
        w: &weight(shape, &layout, w),
    };
    let mut saved = Saved::new(shape, &layout);
    if shape.norm {
        pass.convolve_and_pool(gamma, &mut saved);
        saved.set_affine(gamma, beta, eps);
        pass.finish(&mut saved, out);
    } else {
        saved.set_bias(beta);
        let Saved {
            scale, shift, codes, ..
        } = &mut saved;
        pass.all_at_once(scale, shift, Some(codes), out);
    }
    saved
}

/// Inference: `scale` and `shift`, `[c_out]`, stand for the norm (or for 1 and the bias). The map before
/// the pool never leaves the cache.
///
/// # Panics
///
/// As [`forward`].
pub fn infer(shape: &BlockShape, x: &[f32], w: &[f32], scale: &[f32], shift: &[f32], out: &mut [f32]) {
    shape.check(&[
        ("x", x.len(), shape.input_len()),
        ("w", w.len(), shape.weight_len()),
        ("scale", scale.len(), shape.c_out),
        ("shift", shift.len(), shape.c_out),
        ("out", out.len(), shape.output_len()),
    ]);
    let shape = &BlockShape { groups: 1, ..*shape };
    let layout = Layout::of(shape);
    let pass = Pass {
        shape,
        layout,
        kernels: kernels(),
        chunks: chunks(shape),
        x,
        w: &weight(shape, &layout, w),
    };
    let (scale, shift) = (
        widen(scale, shape.c_out, layout.c_out),
        widen(shift, shape.c_out, layout.c_out),
    );
    pass.all_at_once(&scale, &shift, None, out);
}

/// The weight with its output channels rounded up to whole vectors.
fn weight(shape: &BlockShape, layout: &Layout, w: &[f32]) -> Buffer {
    widen(w, shape.c_out, layout.c_out)
}

/// What the passes over a batch have in common.
struct Pass<'a> {
    shape: &'a BlockShape,
    layout: Layout,
    kernels: &'static Kernels,
    chunks: Vec<Chunk>,
    x: &'a [f32],
    w: &'a [f32],
}

impl Pass<'_> {
    /// The input images of a chunk.
    fn images(&self, chunk: &Chunk) -> impl Iterator<Item = &[f32]> {
        let len = self.shape.image_len();
        self.x[chunk.start * len..chunk.end * len].chunks_exact(len)
    }

    /// Fills `y`, the pooled map, the winners' numbers and the statistics.
    fn convolve_and_pool(&self, gamma: &[f32], saved: &mut Saved) {
        let (shape, layout, kernels) = (self.shape, &self.layout, self.kernels);
        // With gamma's sign known, the winner of a window is known before the statistics are.
        let sign: Vec<f32> = gamma
            .iter()
            .map(|g| if *g == 0.0 { 0.0 } else { g.signum() })
            .collect();
        let sign = widen(&sign, shape.c_out, layout.c_out);
        let (y_len, out_len) = (layout.conv_len(), layout.out_len());
        let ys = split(&self.chunks, y_len, &mut saved.y);
        let pooled = split(
            &self.chunks,
            if shape.pool { out_len } else { 0 },
            &mut saved.pooled,
        );
        let codes = split(&self.chunks, out_len, saved.codes.as_bytes_mut());
        let parts: Vec<Moments> = (&self.chunks, ys, pooled, codes)
            .into_par_iter()
            .map(|(chunk, ys, pooled, codes)| {
                let mut moments = Moments::empty(layout.c_out);
                let mut bordered = Bordered::new((shape.height, shape.width), shape.padding, shape.c_in);
                let mut mean = Buffer::take(2 * layout.c_out);
                let (mean, squares) = mean.split_at_mut(layout.c_out);
                for (k, image) in self.images(chunk).enumerate() {
                    let x = bordered.fill(image);
                    let y = &mut ys[k * y_len..][..y_len];
                    // SAFETY: `x` has the border, `y` a whole map, `w` all taps; see `Layout`.
                    unsafe {
                        let conv = layout.convolution(shape, layout.conv.0);
                        (kernels.convolve)(&conv, x.as_ptr(), self.w.as_ptr(), y.as_mut_ptr());
                        let size = (layout.conv.0, layout.conv.1, layout.c_out);
                        (kernels.moments)(size, y.as_ptr(), mean.as_mut_ptr(), squares.as_mut_ptr());
                    }
                    moments.add(layout.conv.0 * layout.conv.1, mean, squares);
                    if shape.pool {
                        let pooled = &mut pooled[k * out_len..][..out_len];
                        let codes = &mut codes[k * out_len..][..out_len];
                        // SAFETY: whole windows of `y`; `pooled` and `codes` have a place for each.
                        unsafe {
                            let pool = layout.pool(layout.out.0);
                            let (pooled, codes) = (pooled.as_mut_ptr(), codes.as_mut_ptr());
                            (kernels.pool)(&pool, y.as_ptr(), sign.as_ptr(), pooled, codes);
                        }
                    }
                }
                moments
            })
            .collect();
        let mut groups = vec![Moments::empty(layout.c_out); shape.groups];
        for (chunk, part) in self.chunks.iter().zip(&parts) {
            groups[chunk.group].merge(part);
        }
        saved.set_statistics(&groups);
    }

    /// Norm and activation of the pooled map.
    fn finish(&self, saved: &mut Saved, out: &mut [f32]) {
        let (shape, layout, kernels) = (self.shape, &self.layout, self.kernels);
        let (out_len, channels) = (layout.out_len(), layout.c_out);
        let from: &[f32] = if shape.pool { &saved.pooled } else { &saved.y };
        let (scale, shift) = (&saved.scale, &saved.shift);
        let codes = split(&self.chunks, out_len, saved.codes.as_bytes_mut());
        let outs = split(&self.chunks, shape.out_image_len(), out);
        (&self.chunks, codes, outs)
            .into_par_iter()
            .for_each(|(chunk, codes, out)| {
                let from = &from[chunk.start * out_len..chunk.end * out_len];
                let affine = (
                    scale[chunk.group * channels..].as_ptr(),
                    shift[chunk.group * channels..].as_ptr(),
                );
                // SAFETY: all rows of the chunk's images, one after another; each buffer holds them.
                unsafe {
                    let pixels = layout.pixels(shape, chunk.images() * layout.out.0);
                    let codes = (codes.as_mut_ptr(), shape.pool);
                    (kernels.finish)(&pixels, from.as_ptr(), affine, codes, out.as_mut_ptr());
                }
            });
    }

    /// Convolution, scale and shift, activation and pool in one go, a strip of rows at a time.
    fn all_at_once(&self, scale: &[f32], shift: &[f32], codes: Option<&mut Buffer>, out: &mut [f32]) {
        let (shape, layout, kernels) = (self.shape, &self.layout, self.kernels);
        let sign: Vec<f32> = scale
            .iter()
            .map(|s| if *s == 0.0 { 0.0 } else { s.signum() })
            .collect();
        let channels = layout.c_out;
        let rows = if shape.pool { 2 } else { 1 };
        let strip_len = layout.out.1 * channels;
        let mut nothing = Buffer::take(0);
        let (kept, codes) = match codes {
            Some(codes) => (layout.out_len(), codes),
            None => (0, &mut nothing),
        };
        let codes = split(&self.chunks, kept, codes.as_bytes_mut());
        let outs = split(&self.chunks, shape.out_image_len(), out);
        (&self.chunks, codes, outs)
            .into_par_iter()
            .for_each(|(chunk, codes, out)| {
                let mut bordered = Bordered::new((shape.height, shape.width), shape.padding, shape.c_in);
                let mut strip = Buffer::take(rows * layout.conv.1 * channels);
                let mut pooled = Buffer::take(strip_len);
                let mut unkept = Buffer::take_bytes(strip_len);
                let affine = (
                    scale[chunk.group * channels..].as_ptr(),
                    shift[chunk.group * channels..].as_ptr(),
                );
                let sign = &sign[chunk.group * channels..][..channels];
                for (k, image) in self.images(chunk).enumerate() {
                    let x = bordered.fill(image);
                    let out = &mut out[k * shape.out_image_len()..][..shape.out_image_len()];
                    for (i, out) in out.chunks_exact_mut(layout.out.1 * shape.c_out).enumerate() {
                        let x = &x[i * rows * layout.bordered.1 * shape.c_in..];
                        let codes = if kept > 0 {
                            &mut codes[k * kept + i * strip_len..][..strip_len]
                        } else {
                            &mut unkept.as_bytes_mut()[..strip_len]
                        };
                        // SAFETY: `x` starts at the strip's first row and holds the window's rows below it; `strip`
                        // has `rows` rows, the others one row of the output.
                        unsafe {
                            let conv = layout.convolution(shape, rows);
                            (kernels.convolve)(&conv, x.as_ptr(), self.w.as_ptr(), strip.as_mut_ptr());
                            let mut from = strip.as_ptr();
                            if shape.pool {
                                let (to, codes) = (pooled.as_mut_ptr(), codes.as_mut_ptr());
                                (kernels.pool)(&layout.pool(1), strip.as_ptr(), sign.as_ptr(), to, codes);
                                from = to;
                            }
                            let codes = (codes.as_mut_ptr(), shape.pool);
                            (kernels.finish)(&layout.pixels(shape, 1), from, affine, codes, out.as_mut_ptr());
                        }
                    }
                }
            });
    }
}
