//! The training forward pass and inference.

use rayon::prelude::*;

use crate::buffer::Buffer;
use crate::dispatch::{Kernels, kernels};
use crate::engine::{Convolver, Engine, Weight};
use crate::patches::{self, Patches};
use crate::plan::{Chunk, Layout, chunks, split, widen};
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
    let pass = Pass::new(shape, x, w);
    let mut saved = Saved::new(shape, &pass.layout);
    if shape.norm && !patches::apply(shape) {
        pass.convolve_and_pool(gamma, &mut saved);
        saved.set_affine(gamma, beta, eps);
        pass.finish(&mut saved, out);
        return saved;
    }
    if shape.norm {
        saved.patches = pass.patches();
        for group in 0..shape.groups {
            let patches = saved.patches[group].clone();
            saved.set_statistics(group, (0..shape.c_out).map(|o| patches.moments(w, o)));
        }
        saved.set_affine(gamma, beta, eps);
    } else {
        saved.set_bias(beta);
    }
    let Saved {
        scale, shift, codes, ..
    } = &mut saved;
    pass.all_at_once(scale, shift, Some(codes), out);
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
    let pass = Pass::new(shape, x, w);
    let wide = |values| widen(values, shape.c_out, pass.layout.c_out);
    let (scale, shift) = (wide(scale), wide(shift));
    pass.all_at_once(&scale, &shift, None, out);
}

/// What the passes over a batch have in common.
struct Pass<'a> {
    shape: &'a BlockShape,
    layout: Layout,
    kernels: &'static Kernels,
    engine: Engine,
    chunks: Vec<Chunk>,
    x: &'a [f32],
    weight: Weight,
}

impl<'a> Pass<'a> {
    fn new(shape: &'a BlockShape, x: &'a [f32], w: &[f32]) -> Self {
        let (layout, kernels, engine) = (Layout::of(shape), kernels(), Engine::of(shape));
        let weight = Weight::forward(shape, &layout, kernels, engine, w);
        Self {
            shape,
            layout,
            kernels,
            engine,
            chunks: chunks(shape),
            x,
            weight,
        }
    }

    /// The input images of a chunk.
    fn images(&self, chunk: &Chunk) -> &[f32] {
        let len = self.shape.image_len();
        &self.x[chunk.start * len..chunk.end * len]
    }

    fn convolver(&self) -> Convolver<'_> {
        Convolver::new(self.shape, &self.layout, self.kernels, self.engine, &self.weight)
    }

    /// Statistics of the input's patches, per group.
    fn patches(&self) -> Vec<Patches> {
        let shape = self.shape;
        let group_len = shape.images_per_group() * shape.image_len();
        let mut groups: Vec<Patches> = self
            .x
            .chunks_exact(group_len)
            .map(|images| Patches::empty(shape, patches::shift(shape, &images[..shape.image_len()])))
            .collect();
        let parts: Vec<Patches> = self
            .chunks
            .par_iter()
            .map(|chunk| {
                let mut part = groups[chunk.group].clone();
                part.add(shape, &self.layout, self.kernels, self.images(chunk));
                part
            })
            .collect();
        for (chunk, part) in self.chunks.iter().zip(&parts) {
            groups[chunk.group].merge(part);
        }
        groups.iter_mut().for_each(Patches::settle);
        groups
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
                let mut convolver = self.convolver();
                let mut mean = Buffer::take(2 * layout.c_out);
                let (mean, squares) = mean.split_at_mut(layout.c_out);
                let block = convolver.block();
                let images = self.images(chunk).chunks(block * shape.image_len());
                for (k, (images, ys)) in images.zip(ys.chunks_mut(block * y_len)).enumerate() {
                    convolver.run(images, ys);
                    for (b, y) in ys.chunks_exact(y_len).enumerate() {
                        // SAFETY: `y` is a whole map, `mean` and `squares` a vector of channels.
                        unsafe {
                            let size = (layout.conv.0, layout.conv.1, layout.c_out);
                            (kernels.moments)(size, y.as_ptr(), mean.as_mut_ptr(), squares.as_mut_ptr());
                        }
                        moments.add(layout.conv.0 * layout.conv.1, mean, squares);
                        if shape.pool {
                            let at = (k * block + b) * out_len;
                            let pooled = pooled[at..][..out_len].as_mut_ptr();
                            let codes = codes[at..][..out_len].as_mut_ptr();
                            let pool = layout.pool(layout.out.0);
                            // SAFETY: whole windows of `y`; `pooled` and `codes` have a place for each.
                            unsafe { (kernels.pool)(&pool, y.as_ptr(), sign.as_ptr(), pooled, codes) };
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
        for (group, moments) in groups.iter().enumerate() {
            saved.set_statistics(group, moments.settled());
        }
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

    /// Convolution, scale and shift, activation and pool in one go, as many rows at a time as stay in the cache.
    fn all_at_once(&self, scale: &[f32], shift: &[f32], codes: Option<&mut Buffer>, out: &mut [f32]) {
        let (shape, layout) = (self.shape, &self.layout);
        let sign: Vec<f32> = scale
            .iter()
            .map(|s| if *s == 0.0 { 0.0 } else { s.signum() })
            .collect();
        let channels = layout.c_out;
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
                let mut convolver = self.convolver();
                let of_group = chunk.group * channels..(chunk.group + 1) * channels;
                let mut tail = Tail {
                    affine: (&scale[of_group.clone()], &shift[of_group.clone()]),
                    sign: &sign[of_group],
                    pooled: Buffer::take(layout.out_len()),
                    unkept: Buffer::take_bytes(layout.out_len()),
                };
                if self.engine == Engine::Direct {
                    let rows = if shape.pool { 2 } else { 1 };
                    let mut strip = Buffer::take(rows * layout.conv.1 * channels);
                    for (k, image) in self.images(chunk).chunks_exact(shape.image_len()).enumerate() {
                        convolver.place(image);
                        let out = &mut out[k * shape.out_image_len()..][..shape.out_image_len()];
                        for (i, out) in out.chunks_exact_mut(layout.out.1 * shape.c_out).enumerate() {
                            convolver.run_rows(i * rows, rows, &mut strip);
                            let len = layout.out.1 * channels;
                            let codes = (kept > 0).then(|| &mut codes[k * kept + i * len..][..len]);
                            self.finish_rows(1, &mut tail, &strip, codes, out);
                        }
                    }
                    return;
                }
                let block = convolver.block();
                let mut ys = Buffer::take(block * layout.conv_len());
                for (k, images) in self.images(chunk).chunks(block * shape.image_len()).enumerate() {
                    let count = images.len() / shape.image_len();
                    let ys = &mut ys[..count * layout.conv_len()];
                    convolver.run(images, ys);
                    for (b, y) in ys.chunks_exact(layout.conv_len()).enumerate() {
                        let image = k * block + b;
                        let out = &mut out[image * shape.out_image_len()..][..shape.out_image_len()];
                        let codes = (kept > 0).then(|| &mut codes[image * kept..][..kept]);
                        self.finish_rows(layout.out.0, &mut tail, y, codes, out);
                    }
                }
            });
    }

    /// Pool, scale, shift and activation of the first `rows` output rows that `y` gives.
    fn finish_rows(
        &self,
        rows: usize,
        tail: &mut Tail<'_>,
        y: &[f32],
        codes: Option<&mut [u8]>,
        out: &mut [f32],
    ) {
        let (shape, layout, kernels) = (self.shape, &self.layout, self.kernels);
        let Tail {
            affine: (scale, shift),
            sign,
            pooled,
            unkept,
        } = tail;
        let codes = codes.unwrap_or(unkept.as_bytes_mut());
        let y_rows = if shape.pool { 2 * rows } else { rows };
        assert!(
            y.len() >= y_rows * layout.conv.1 * layout.c_out
                && out.len() == rows * layout.out.1 * shape.c_out
        );
        let mut from = y.as_ptr();
        // SAFETY: `y` has the rows, as just checked; `pooled` and `codes` have room for as many rows of the output.
        unsafe {
            if shape.pool {
                let pool = layout.pool(rows);
                (kernels.pool)(
                    &pool,
                    from,
                    sign.as_ptr(),
                    pooled.as_mut_ptr(),
                    codes.as_mut_ptr(),
                );
                from = pooled.as_ptr();
            }
            let affine = (scale.as_ptr(), shift.as_ptr());
            let codes = (codes.as_mut_ptr(), shape.pool);
            (kernels.finish)(&layout.pixels(shape, rows), from, affine, codes, out.as_mut_ptr());
        }
    }
}

/// What follows the convolution in [`Pass::all_at_once`], and its scratch.
struct Tail<'a> {
    affine: (&'a [f32], &'a [f32]),
    sign: &'a [f32],
    pooled: Buffer,
    unkept: Buffer,
}
