//! The training forward pass.

use std::mem::MaybeUninit;

use crate::buffer::Buffer;
use crate::dispatch::{Kernels, kernels};
use crate::engine::{Convolver, Engine};
use crate::inference::as_uninit;
use crate::parallel::each;
use crate::parameters::Parameters;
use crate::patches::{self, Patches};
use crate::plan::{Chunk, Layout, chunks, split};
use crate::saved::Saved;
use crate::shape::BlockShape;
use crate::statistics::Moments;
use crate::weight::{Held, Weight, Weights};

/// The training forward pass.
///
/// `x` is `[images, height, width, c_in]`, `w` is `[kernel, kernel, c_in, c_out]`, `gamma` and `beta`
/// are `[c_out]` and `out` is `[images, out_height, out_width, c_out]`. With `norm` the convolution's
/// output is normalised by the batch statistics of its group, `gamma * (y - mean) / sqrt(variance + eps) +
/// beta` with the biased variance; without it `gamma` is ignored and `beta` is the bias.
///
/// Each group may have its own parameters: `w` as `[groups, kernel, kernel, c_in, c_out]`, `gamma` and `beta` as
/// `[groups, c_out]`. The gradients then come in the same shapes.
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
    run_forward(shape, x, w, gamma, beta, eps, as_uninit(out))
}

/// As [`forward`], with an output of its own that isn't filled with zeros first.
///
/// # Panics
///
/// As [`forward`].
pub fn forward_new(
    shape: &BlockShape,
    x: &[f32],
    w: &[f32],
    gamma: &[f32],
    beta: &[f32],
    eps: f32,
) -> (Vec<f32>, Saved) {
    shape.check(&[]);
    let mut out = Vec::with_capacity(shape.output_len());
    let saved = run_forward(
        shape,
        x,
        w,
        gamma,
        beta,
        eps,
        &mut out.spare_capacity_mut()[..shape.output_len()],
    );
    // SAFETY: `run_forward` has written every element.
    unsafe { out.set_len(shape.output_len()) };
    (out, saved)
}

/// [`forward`], writing every element of `out`.
fn run_forward(
    shape: &BlockShape,
    x: &[f32],
    w: &[f32],
    gamma: &[f32],
    beta: &[f32],
    eps: f32,
    out: &mut [MaybeUninit<f32>],
) -> Saved {
    shape.check(&[
        ("x", x.len(), shape.input_len()),
        ("out", out.len(), shape.output_len()),
    ]);
    let parameters = Parameters::new(shape, w, shape.norm.then_some(gamma), Some(beta));
    let pass = Pass::new(shape, x, parameters);
    let keeps_y = shape.norm && !patches::apply(shape);
    let mut saved = Saved::new(shape, &pass.layout, keeps_y);
    if keeps_y {
        pass.convolve_and_pool(&mut saved);
        saved.set_affine(&parameters, eps);
        pass.finish(&mut saved, out);
        return saved;
    }
    if shape.norm {
        saved.patches = Patches::of_batch(shape, &pass.layout, pass.kernels, &pass.chunks, x);
        for group in 0..shape.groups {
            let patches = saved.patches[group].clone();
            let w = parameters.w(group);
            saved.set_statistics(group, (0..shape.c_out).map(|o| patches.moments(w, o)));
        }
        saved.set_affine(&parameters, eps);
    } else {
        saved.set_bias(&parameters);
    }
    let Saved {
        scale, shift, codes, ..
    } = &mut saved;
    pass.all_at_once(scale, shift, codes, out);
    saved
}

/// 1, -1 or 0 as the values are positive, negative or zero: with a scale's sign known, the winner of a window is known
/// before the norm's statistics are.
pub(crate) fn signs(scale: &[f32], wide: usize) -> Buffer {
    let mut signs = Buffer::zeroed(wide);
    for (to, scale) in signs.iter_mut().zip(scale) {
        *to = if *scale == 0.0 { 0.0 } else { scale.signum() };
    }
    signs
}

/// What the passes over a batch have in common.
struct Pass<'a> {
    shape: &'a BlockShape,
    layout: Layout,
    kernels: &'static Kernels,
    engine: Engine,
    chunks: Vec<Chunk>,
    x: &'a [f32],
    parameters: Parameters<'a>,
    weights: Weights<'a>,
}

impl<'a> Pass<'a> {
    fn new(shape: &'a BlockShape, x: &'a [f32], parameters: Parameters<'a>) -> Self {
        let (layout, kernels) = (Layout::of(shape), kernels());
        let engine = Engine::of(shape, parameters.per_group());
        let weights = Weights::new(shape, kernels, engine, Weight::forward, parameters);
        Self {
            shape,
            layout,
            kernels,
            engine,
            chunks: chunks(shape),
            x,
            parameters,
            weights,
        }
    }

    /// The input images of a chunk.
    fn images(&self, chunk: &Chunk) -> &[f32] {
        let len = self.shape.image_len();
        &self.x[chunk.start * len..chunk.end * len]
    }

    /// Fills `y`, the pooled map, the winners' numbers and the statistics.
    fn convolve_and_pool(&self, saved: &mut Saved) {
        let (shape, layout, kernels) = (self.shape, &self.layout, self.kernels);
        let (y_len, out_len) = (layout.conv_len(), layout.out_len());
        let ys = split(&self.chunks, y_len, &mut saved.y);
        let pooled = split(
            &self.chunks,
            if shape.pool { out_len } else { 0 },
            &mut saved.pooled,
        );
        let codes = split(&self.chunks, out_len, saved.codes.as_bytes_mut());
        let parts: Vec<Moments> = each(
            self.chunks.iter().zip(ys).zip(pooled.into_iter().zip(codes)),
            |((chunk, ys), (pooled, codes))| {
                let signs = signs(self.parameters.gamma(chunk.group), layout.c_out);
                let weight = self.weights.of(chunk.group);
                let mut convolver = Convolver::new(shape, layout, kernels, self.engine, &weight);
                let mut moments = Moments::empty(layout.c_out);
                let mut scratch = Buffer::take(2 * layout.c_out);
                let block = convolver.block();
                let images = self.images(chunk).chunks(block * shape.image_len());
                for (k, (images, ys)) in images.zip(ys.chunks_mut(block * y_len)).enumerate() {
                    convolver.run(images, ys);
                    for (b, y) in ys.chunks_exact(y_len).enumerate() {
                        moments.add_map(layout, kernels, y, &mut scratch);
                        if shape.pool {
                            let at = (k * block + b) * out_len;
                            let pooled = pooled[at..][..out_len].as_mut_ptr();
                            let codes = codes[at..][..out_len].as_mut_ptr();
                            let pool = layout.pool(layout.out.0);
                            // SAFETY: whole windows of `y`; `pooled` and `codes` have a place for each.
                            unsafe { (kernels.pool)(&pool, y.as_ptr(), signs.as_ptr(), pooled, codes) };
                        }
                    }
                }
                moments
            },
        );
        let mut groups = vec![Moments::empty(layout.c_out); shape.groups];
        for (chunk, part) in self.chunks.iter().zip(&parts) {
            groups[chunk.group].merge(part);
        }
        for (group, moments) in groups.iter().enumerate() {
            saved.set_statistics(group, moments.settled());
        }
    }

    /// Norm and activation of the pooled map.
    fn finish(&self, saved: &mut Saved, out: &mut [MaybeUninit<f32>]) {
        let (shape, layout, kernels) = (self.shape, &self.layout, self.kernels);
        let (out_len, channels) = (layout.out_len(), layout.c_out);
        let from: &[f32] = if shape.pool { &saved.pooled } else { &saved.y };
        let (scale, shift) = (&saved.scale, &saved.shift);
        let codes = split(&self.chunks, out_len, saved.codes.as_bytes_mut());
        let outs = split(&self.chunks, shape.out_image_len(), out);
        each(
            self.chunks.iter().zip(codes).zip(outs),
            |((chunk, codes), out)| {
                let from = &from[chunk.start * out_len..chunk.end * out_len];
                let affine = (
                    scale[chunk.group * channels..].as_ptr(),
                    shift[chunk.group * channels..].as_ptr(),
                );
                // SAFETY: all rows of the chunk's images, one after another; each buffer holds them.
                unsafe {
                    let pixels = layout.pixels(shape, chunk.images() * layout.out.0);
                    let codes = (codes.as_mut_ptr(), shape.pool);
                    (kernels.finish)(&pixels, from.as_ptr(), affine, codes, out.as_mut_ptr().cast());
                }
            },
        );
    }

    /// Convolution, scale and shift, activation and pool in one go, without the convolution's output in memory.
    fn all_at_once(&self, scale: &[f32], shift: &[f32], codes: &mut Buffer, out: &mut [MaybeUninit<f32>]) {
        let (shape, layout, kernels) = (self.shape, &self.layout, self.kernels);
        let (channels, kept) = (layout.c_out, layout.out_len());
        let codes = split(&self.chunks, kept, codes.as_bytes_mut());
        let outs = split(&self.chunks, shape.out_image_len(), out);
        each(
            self.chunks.iter().zip(codes).zip(outs),
            |((chunk, codes), out)| {
                let of_group = chunk.group * channels..(chunk.group + 1) * channels;
                let shift = &shift[of_group.clone()];
                let weight = if shape.norm {
                    let w = self.parameters.w(chunk.group);
                    Held::Own(Weight::scaled(
                        shape,
                        layout,
                        kernels,
                        self.engine,
                        w,
                        &scale[of_group],
                    ))
                } else {
                    self.weights.of(chunk.group)
                };
                let images = self.images(chunk).chunks_exact(shape.image_len());
                let outs = out.chunks_exact_mut(shape.out_image_len());
                let mut convolver = Convolver::new(shape, layout, kernels, self.engine, &weight);
                if self.engine == Engine::Direct {
                    for ((image, codes), out) in images.zip(codes.chunks_exact_mut(kept)).zip(outs) {
                        convolver.run_to_the_end(image, shift, codes, out);
                    }
                    return;
                }
                let (mut ones, mut pooled) = (Buffer::take(channels), Buffer::take(kept));
                ones.fill(1.0);
                let block = convolver.block();
                let mut ys = Buffer::take(block * layout.conv_len());
                let mut maps = codes.chunks_exact_mut(kept).zip(outs);
                for images in self.images(chunk).chunks(block * shape.image_len()) {
                    let ys = &mut ys[..images.len() / shape.image_len() * layout.conv_len()];
                    convolver.run(images, ys);
                    for (y, (codes, out)) in ys.chunks_exact(layout.conv_len()).zip(&mut maps) {
                        let (mut from, pixels) = (y.as_ptr(), layout.pixels(shape, layout.out.0));
                        // SAFETY: whole maps of one image; `pooled` has room for one.
                        unsafe {
                            if shape.pool {
                                let (to, codes) = (pooled.as_mut_ptr(), codes.as_mut_ptr());
                                (kernels.pool)(&layout.pool(layout.out.0), from, ones.as_ptr(), to, codes);
                                from = to;
                            }
                            let affine = (ones.as_ptr(), shift.as_ptr());
                            let codes = (codes.as_mut_ptr(), shape.pool);
                            (kernels.finish)(&pixels, from, affine, codes, out.as_mut_ptr().cast());
                        }
                    }
                }
            },
        );
    }
}
