//! The passes of [`tangent_forward`](super::tangent_forward).

use rayon::prelude::*;

use super::TangentSaved;
use crate::buffer::Buffer;
use crate::dispatch::Kernels;
use crate::engine::{Convolver, Engine};
use crate::forward::signs;
use crate::parameters::Parameters;
use crate::patches::Patches;
use crate::plan::{Chunk, Layout, split};
use crate::shape::BlockShape;
use crate::statistics::Pairs;
use crate::weight::Weights;

/// What the passes have in common. Pairs are of a value and its tangent.
pub struct Forward<'a> {
    pub shape: &'a BlockShape,
    pub layout: Layout,
    pub kernels: &'static Kernels,
    pub engine: Engine,
    pub chunks: Vec<Chunk>,
    pub x: (&'a [f32], Option<&'a [f32]>),
    pub parameters: (Parameters<'a>, Parameters<'a>),
    pub weights: [Weights<'a>; 2],
}

impl Forward<'_> {
    /// Statistics of `y` and `ẏ` from those of the input's patches, see [`crate::patches`].
    pub fn statistics_from_patches(&self, saved: &mut TangentSaved) {
        let (shape, layout) = (self.shape, &self.layout);
        let patches = Patches::of_batch(shape, layout, self.kernels, &self.chunks, self.x.0);
        for (group, patches) in patches.iter().enumerate() {
            let (w, direction) = (self.parameters.0.w(group), self.parameters.1.w(group));
            saved
                .primal
                .set_statistics(group, (0..shape.c_out).map(|o| patches.moments(w, o)));
            for o in 0..shape.c_out {
                let at = group * layout.c_out + o;
                saved.mean[at] = patches.mean(direction, o) as f32;
                saved.covariance[at] = patches.covariance_between((w, direction), o) as f32;
            }
        }
        saved.primal.patches = patches;
    }

    /// Both convolutions and all that follows, a strip of rows at a time.
    pub fn all_at_once(&self, saved: &mut TangentSaved, out: &mut [f32], tangent_out: &mut [f32]) {
        let (shape, layout, kernels, channels) = (self.shape, &self.layout, self.kernels, self.layout.c_out);
        let affine = self.affine_tangent(saved);
        let (scale, shift) = (&saved.primal.scale, &saved.primal.shift);
        let codes = split(&self.chunks, layout.out_len(), saved.primal.codes.as_bytes_mut());
        let outs = split(&self.chunks, shape.out_image_len(), out);
        let tangent_outs = split(&self.chunks, shape.out_image_len(), tangent_out);
        (&self.chunks, codes, outs, tangent_outs)
            .into_par_iter()
            .for_each(|(chunk, codes, out, tangent_out)| {
                let held = [0, 1].map(|k: usize| self.weights[k].of(chunk.group));
                let [mut by_weight, mut by_direction] =
                    [0, 1].map(|k: usize| Convolver::new(shape, layout, kernels, Engine::Direct, &held[k]));
                let of = |values: &[f32]| values[chunk.group * channels..].as_ptr();
                let signs = signs(&scale[chunk.group * channels..][..channels], channels);
                let rows = if shape.pool { 2 } else { 1 };
                let [mut y, mut tangent] = [(); 2].map(|()| Buffer::take(rows * layout.conv.1 * channels));
                let [mut pooled, mut picked] = [(); 2].map(|()| Buffer::take(layout.out.1 * channels));
                let strip_len = layout.out.1 * shape.c_out;
                let strips = out
                    .chunks_exact_mut(strip_len)
                    .zip(tangent_out.chunks_exact_mut(strip_len));
                let strips = strips.zip(codes.chunks_exact_mut(layout.out.1 * channels));
                for (k, ((out, tangent_out), codes)) in strips.enumerate() {
                    let (image, row) = (chunk.start + k / layout.out.0, k % layout.out.0);
                    if row == 0 {
                        let x = &self.x.0[image * shape.image_len()..][..shape.image_len()];
                        by_weight.place(x);
                        by_direction.place(x);
                    }
                    by_weight.run_rows(row * rows, rows, &mut y);
                    by_direction.run_rows(row * rows, rows, &mut tangent);
                    let mut maps = (y.as_ptr(), tangent.as_ptr());
                    // SAFETY: the strips have the rows that one row of the output needs, the rest has one such row.
                    unsafe {
                        if shape.pool {
                            let pool = layout.pool(1);
                            let (to, codes) = (pooled.as_mut_ptr(), codes.as_mut_ptr());
                            (kernels.pool)(&pool, maps.0, signs.as_ptr(), to, codes);
                            (kernels.pick)(&pool, maps.1, codes, picked.as_mut_ptr());
                            maps = (to, picked.as_ptr());
                        }
                        let pixels = layout.pixels(shape, 1);
                        let kept = (codes.as_mut_ptr(), shape.pool);
                        (kernels.finish)(&pixels, maps.0, (of(scale), of(shift)), kept, out.as_mut_ptr());
                        let [a, b, c] = &affine;
                        let affine = (of(a), of(b), of(c));
                        let to = tangent_out.as_mut_ptr();
                        (kernels.finish_tangent)(&pixels, maps, affine, codes.as_ptr(), to);
                    }
                }
            });
    }

    /// Fills `y`, `ẏ`, both pooled, the winners' numbers and the statistics.
    pub fn convolve_and_pool(&self, saved: &mut TangentSaved) {
        let (shape, layout, kernels) = (self.shape, &self.layout, self.kernels);
        let (x_len, y_len, out_len) = (shape.image_len(), layout.conv_len(), layout.out_len());
        let pooled_len = if shape.pool { out_len } else { 0 };
        let ys = split(&self.chunks, y_len, &mut saved.primal.y);
        let pooled = split(&self.chunks, pooled_len, &mut saved.primal.pooled);
        let codes = split(&self.chunks, out_len, saved.primal.codes.as_bytes_mut());
        let tangents = split(&self.chunks, y_len, &mut saved.y);
        let picked = split(&self.chunks, pooled_len, &mut saved.pooled);
        let parts: Vec<Pairs> = (&self.chunks, (ys, tangents), (pooled, picked, codes))
            .into_par_iter()
            .map(|(chunk, (ys, tangents), (pooled, picked, codes))| {
                let ones = vec![1.0; layout.c_out];
                let gamma = if shape.norm {
                    self.parameters.0.gamma(chunk.group)
                } else {
                    &ones
                };
                let signs = signs(gamma, layout.c_out);
                let [weight, direction] = [0, 1].map(|k: usize| self.weights[k].of(chunk.group));
                let new = |weight| Convolver::new(shape, layout, kernels, self.engine, weight);
                let (mut by_weight, mut by_direction) = (new(&weight), new(&direction));
                let mut pairs = Pairs::empty(layout.c_out);
                let mut scratch = Buffer::take(4 * layout.c_out);
                let block = by_weight.block();
                let mut more = Buffer::take(if self.x.1.is_some() { block * y_len } else { 0 });
                for first in (chunk.start..chunk.end).step_by(block) {
                    let images = first * x_len..(first + block).min(chunk.end) * x_len;
                    let from = first - chunk.start;
                    let count = block.min(chunk.end - first);
                    let ys = &mut ys[from * y_len..][..count * y_len];
                    let tangents = &mut tangents[from * y_len..][..count * y_len];
                    by_weight.run(&self.x.0[images.clone()], ys);
                    by_direction.run(&self.x.0[images.clone()], tangents);
                    if let Some(direction) = self.x.1 {
                        let more = &mut more[..count * y_len];
                        by_weight.run(&direction[images], more);
                        tangents
                            .iter_mut()
                            .zip(more.iter())
                            .for_each(|(sum, v)| *sum += v);
                    }
                    for (b, maps) in ys
                        .chunks_exact(y_len)
                        .zip(tangents.chunks_exact(y_len))
                        .enumerate()
                    {
                        if shape.norm {
                            pairs.add_maps(layout, kernels, maps, &mut scratch);
                        }
                        if shape.pool {
                            let of_image = (from + b) * out_len..(from + b + 1) * out_len;
                            let codes = codes[of_image.clone()].as_mut_ptr();
                            let pooled = pooled[of_image.clone()].as_mut_ptr();
                            let picked = picked[of_image].as_mut_ptr();
                            let pool = layout.pool(layout.out.0);
                            // SAFETY: whole windows of both maps; the others have a place for each.
                            unsafe {
                                (kernels.pool)(&pool, maps.0.as_ptr(), signs.as_ptr(), pooled, codes);
                                (kernels.pick)(&pool, maps.1.as_ptr(), codes, picked);
                            }
                        }
                    }
                }
                pairs
            })
            .collect();
        if shape.norm {
            let mut groups = vec![Pairs::empty(layout.c_out); shape.groups];
            for (chunk, part) in self.chunks.iter().zip(&parts) {
                groups[chunk.group].merge(part);
            }
            for (group, pairs) in groups.iter().enumerate() {
                saved.primal.set_statistics(group, pairs.first().settled());
                for (channel, (mean, covariance)) in pairs.second().enumerate() {
                    saved.mean[group * layout.c_out + channel] = mean as f32;
                    saved.covariance[group * layout.c_out + channel] = covariance as f32;
                }
            }
        }
    }

    /// Per group and channel: `ż = a y + b ẏ + c`.
    fn affine_tangent(&self, saved: &TangentSaved) -> [Buffer; 3] {
        let (shape, channels) = (self.shape, self.layout.c_out);
        let [mut a, mut b, mut c] = [(); 3].map(|()| Buffer::zeroed(shape.groups * channels));
        for group in 0..shape.groups {
            let beta = self.parameters.1.beta(group);
            for channel in 0..shape.c_out {
                let at = group * channels + channel;
                if !shape.norm {
                    (b[at], c[at]) = (1.0, beta[channel]);
                    continue;
                }
                let of = |values: &[f32]| f64::from(values[at]);
                let gamma = f64::from(self.parameters.0.gamma(group)[channel]);
                let direction = f64::from(self.parameters.1.gamma(group)[channel]);
                let inverse = of(&saved.primal.inverse);
                let by_y = direction * inverse - gamma * inverse.powi(3) * of(&saved.covariance);
                let by_tangent = gamma * inverse;
                let rest = f64::from(beta[channel])
                    - by_y * of(&saved.primal.wide_mean)
                    - by_tangent * of(&saved.mean);
                (a[at], b[at], c[at]) = (by_y as f32, by_tangent as f32, rest as f32);
            }
        }
        [a, b, c]
    }

    /// Norm and activation, of values and tangents.
    pub fn finish(&self, saved: &mut TangentSaved, out: &mut [f32], tangent_out: &mut [f32]) {
        let (shape, layout, kernels) = (self.shape, &self.layout, self.kernels);
        let (out_len, channels) = (layout.out_len(), layout.c_out);
        let [a, b, c] = self.affine_tangent(saved);
        let (ys, tangents): (&[f32], &[f32]) = if shape.pool {
            (&saved.primal.pooled, &saved.pooled)
        } else {
            (&saved.primal.y, &saved.y)
        };
        let (scale, shift) = (&saved.primal.scale, &saved.primal.shift);
        let codes = split(&self.chunks, out_len, saved.primal.codes.as_bytes_mut());
        let outs = split(&self.chunks, shape.out_image_len(), out);
        let tangent_outs = split(&self.chunks, shape.out_image_len(), tangent_out);
        (&self.chunks, codes, outs, tangent_outs)
            .into_par_iter()
            .for_each(|(chunk, codes, out, tangent_out)| {
                let images = chunk.start * out_len..chunk.end * out_len;
                let (ys, tangents) = (&ys[images.clone()], &tangents[images]);
                let of = |values: &[f32]| values[chunk.group * channels..].as_ptr();
                let pixels = layout.pixels(shape, chunk.images() * layout.out.0);
                // SAFETY: all rows of the chunk's images, one after another; each buffer holds them.
                unsafe {
                    let kept = (codes.as_mut_ptr(), shape.pool);
                    (kernels.finish)(
                        &pixels,
                        ys.as_ptr(),
                        (of(scale), of(shift)),
                        kept,
                        out.as_mut_ptr(),
                    );
                    let maps = (ys.as_ptr(), tangents.as_ptr());
                    let affine = (of(&a), of(&b), of(&c));
                    (kernels.finish_tangent)(&pixels, maps, affine, codes.as_ptr(), tangent_out.as_mut_ptr());
                }
            });
    }
}
