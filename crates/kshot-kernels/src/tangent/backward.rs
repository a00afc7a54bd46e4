//! The passes of [`tangent_backward`](super::tangent_backward).

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::TangentSaved;
use crate::backward::{InputGradient, combine};
use crate::buffer::Buffer;
use crate::differentiator::Differentiator;
use crate::dispatch::Kernels;
use crate::engine::{Convolver, Engine};
use crate::parameters::{Parameters, collect};
use crate::patches::{WinnerSums, winner_sums};
use crate::plan::{Chunk, Layout};
use crate::shape::BlockShape;
use crate::weight::Weights;

/// For one group, per channel: parameter gradients from its images alone, and what the factors need.
#[derive(Clone, Default)]
pub struct Sums {
    pub gamma: Vec<f64>,
    pub beta: Vec<f64>,
    pub tangent_gamma: Vec<f64>,
    pub tangent_beta: Vec<f64>,
    factors: Vec<ChannelFactors>,
}

/// For one channel: `∂y = a g + b ġ + c y + d ẏ + e` and `∂ẏ = a ġ + d y + f`, with `g` and `ġ` the gradients with respect
/// to `z` and `ż` that arrive at the winners.
#[derive(Clone, Copy, Default)]
struct ChannelFactors {
    a: f64,
    b: f64,
    c: f64,
    d: f64,
    e: f64,
    f: f64,
}

/// [`ChannelFactors`] per group and channel.
pub struct Factors {
    a: Buffer,
    b: Buffer,
    c: Buffer,
    d: Buffer,
    e: Buffer,
    f: Buffer,
    zero: Buffer,
}

/// What the passes have in common. Pairs are of a value and its tangent.
pub struct Backward<'a> {
    pub shape: &'a BlockShape,
    pub layout: Layout,
    pub kernels: &'static Kernels,
    pub engine: Engine,
    pub chunks: Vec<Chunk>,
    pub saved: &'a TangentSaved,
    pub x: (&'a [f32], Option<&'a [f32]>),
    pub parameters: (Parameters<'a>, Parameters<'a>),
    /// Weight and direction to compute `y` and `ẏ` again, where they are needed but weren't kept.
    pub again: Option<[Weights<'a>; 2]>,
    /// Weight and direction for the input gradient, where it is wanted.
    pub weights: Option<[Weights<'a>; 2]>,
    pub dout: (&'a [f32], &'a [f32]),
}

impl Backward<'_> {
    /// Sums over the windows' winners per group, of `g` and of `ġ`.
    pub fn winners(&self) -> [Vec<WinnerSums>; 2] {
        let primal = &self.saved.primal;
        [self.dout.0, self.dout.1].map(|dout| {
            let maps = (primal.codes.as_bytes(), dout);
            let (layout, kernels, chunks) = (&self.layout, self.kernels, &self.chunks);
            winner_sums(
                self.shape,
                layout,
                kernels,
                chunks,
                &primal.patches,
                self.x.0,
                maps,
            )
        })
    }

    /// As [`Self::sums`], from the sums over the winners.
    pub fn sums_from_patches(&self, [winners, tangents]: &[Vec<WinnerSums>; 2]) -> Vec<Sums> {
        let of_group = |(group, (winners, tangents)): (usize, (&WinnerSums, &WinnerSums))| {
            let (w, direction) = (self.parameters.0.w(group), self.parameters.1.w(group));
            let (g, t) = (winners.gradient.clone(), tangents.gradient.clone());
            self.group_sums(
                group,
                &[g, winners.dot(w), t, tangents.dot(w), tangents.dot(direction)],
            )
        };
        winners.iter().zip(tangents).enumerate().map(of_group).collect()
    }

    /// The weight gradients without `y` and `ẏ`, see [`crate::patches`].
    pub fn weights_from_patches(
        &self,
        [winners, tangents]: &[Vec<WinnerSums>; 2],
        sums: &[Sums],
    ) -> [Vec<f32>; 2] {
        let co = self.shape.c_out;
        let (mut of_values, mut of_tangents) = (Vec::new(), Vec::new());
        for (group, sums) in sums.iter().enumerate() {
            let patches = &self.saved.primal.patches[group];
            let (w, direction) = (self.parameters.0.w(group), self.parameters.1.w(group));
            let [mut dw, mut tangent_dw] = [(); 2].map(|()| vec![0.0; w.len()]);
            for (o, factors) in sums.factors.iter().enumerate() {
                let ChannelFactors { a, b, c, d, .. } = *factors;
                let [by_w, by_direction] = [w, direction].map(|w| patches.covariance(w, o));
                for (t, (by_w, by_direction)) in by_w.into_iter().zip(by_direction).enumerate() {
                    let at = t * co + o;
                    let (g, t) = (winners[group].products[at], tangents[group].products[at]);
                    dw[at] = a * g + b * t + patches.positions() * (c * by_w + d * by_direction);
                    tangent_dw[at] = a * t + patches.positions() * d * by_w;
                }
            }
            of_values.push(dw);
            of_tangents.push(tangent_dw);
        }
        [of_values, of_tangents].map(|groups| collect(&groups, self.parameters.0.per_group()))
    }

    /// Sums of `g`, `ġ`, `g u`, `ġ u` and `ġ u̇`, and what follows from them, per group.
    pub fn sums(&self) -> Vec<Sums> {
        let (shape, layout, saved) = (self.shape, &self.layout, self.saved);
        let (channels, out_len) = (layout.c_out, layout.out_len());
        let nothing = Buffer::take(if shape.norm { 0 } else { out_len });
        let parts: Vec<Vec<f64>> = self
            .chunks
            .par_iter()
            .map(|chunk| {
                let mut total = vec![0.0; 6 * channels];
                let mut image = Buffer::take(6 * channels);
                let at = chunk.group * channels;
                for k in chunk.start..chunk.end {
                    let (y, tangent) = match (shape.norm, shape.pool) {
                        (true, true) => (&saved.primal.pooled[k * out_len..], &saved.pooled[k * out_len..]),
                        (true, false) => (&saved.primal.y[k * out_len..], &saved.y[k * out_len..]),
                        (false, _) => (&nothing[..], &nothing[..]),
                    };
                    let codes = saved.primal.codes.as_bytes()[k * out_len..].as_ptr();
                    let of_image = k * shape.out_image_len();
                    let (dout, tangent_dout) =
                        (self.dout.0[of_image..].as_ptr(), self.dout.1[of_image..].as_ptr());
                    let (mean, tangent_mean) =
                        (saved.primal.wide_mean[at..].as_ptr(), saved.mean[at..].as_ptr());
                    let pixels = layout.pixels(shape, layout.out.0);
                    let sums: Vec<*mut f32> = image
                        .chunks_exact_mut(channels)
                        .map(<[f32]>::as_mut_ptr)
                        .collect();
                    let reduce = self.kernels.reduce;
                    // SAFETY: image `k` of each map, and a channel vector of each of the others.
                    unsafe {
                        reduce(&pixels, (codes, y.as_ptr()), dout, mean, (sums[0], sums[1]));
                        reduce(
                            &pixels,
                            (codes, y.as_ptr()),
                            tangent_dout,
                            mean,
                            (sums[2], sums[3]),
                        );
                        let tangent = (codes, tangent.as_ptr());
                        reduce(&pixels, tangent, tangent_dout, tangent_mean, (sums[4], sums[5]));
                    }
                    total
                        .iter_mut()
                        .zip(image.iter())
                        .for_each(|(t, v)| *t += f64::from(*v));
                }
                total
            })
            .collect();
        let mut groups = vec![vec![0.0; 6 * channels]; shape.groups];
        for (chunk, part) in self.chunks.iter().zip(&parts) {
            groups[chunk.group]
                .iter_mut()
                .zip(part)
                .for_each(|(sum, v)| *sum += v);
        }
        let of_group = |(group, totals): (usize, &Vec<f64>)| {
            let part = |k: usize| totals[k * channels..(k + 1) * channels].to_vec();
            self.group_sums(group, &[part(0), part(1), part(2), part(3), part(5)])
        };
        groups.iter().enumerate().map(of_group).collect()
    }

    /// From the sums of `g`, `g u`, `ġ`, `ġ u` and `ġ u̇` per channel.
    fn group_sums(&self, group: usize, totals: &[Vec<f64>; 5]) -> Sums {
        let (shape, channels, saved) = (self.shape, self.layout.c_out, self.saved);
        let count = (shape.images_per_group() * self.layout.conv.0 * self.layout.conv.1) as f64;
        let mut sums = Sums::default();
        for channel in 0..shape.c_out {
            let [g, gu, t, tu, tt] = totals.each_ref().map(|total| total[channel]);
            sums.beta.push(g);
            sums.tangent_beta.push(t);
            if !shape.norm {
                sums.gamma.push(0.0);
                sums.tangent_gamma.push(0.0);
                sums.factors.push(ChannelFactors {
                    a: 1.0,
                    ..ChannelFactors::default()
                });
                continue;
            }
            let of = |values: &[f32]| f64::from(values[group * channels + channel]);
            let (inverse, covariance) = (of(&saved.primal.inverse), of(&saved.covariance));
            let (mean, tangent_mean) = (of(&saved.primal.wide_mean), of(&saved.mean));
            let gamma = f64::from(self.parameters.0.gamma(group)[channel]);
            let direction = f64::from(self.parameters.1.gamma(group)[channel]);
            let cube = inverse.powi(3);
            sums.gamma.push(inverse * (gu + tt) - cube * covariance * tu);
            sums.tangent_gamma.push(inverse * tu);
            // The gradients with respect to n and ṅ are γ g + γ̇ ġ and γ ġ.
            let (sum_a, sum_b) = (gamma * g + direction * t, gamma * t);
            let (au, bu, bt) = (gamma * gu + direction * tu, gamma * tu, gamma * tt);
            let dinverse = au + bt - 3.0 * inverse * inverse * covariance * bu;
            let d = -cube * bu / count;
            let c = -dinverse * cube / count;
            sums.factors.push(ChannelFactors {
                a: inverse * gamma,
                b: inverse * direction - cube * covariance * gamma,
                c,
                d,
                e: (cube * covariance * sum_b - inverse * sum_a) / count - d * tangent_mean - c * mean,
                f: -inverse * sum_b / count - d * mean,
            });
        }
        sums
    }

    pub fn factors(&self, sums: &[Sums]) -> Factors {
        let channels = self.layout.c_out;
        let gather = |of: fn(&ChannelFactors) -> f64| {
            let mut buffer = Buffer::zeroed(self.shape.groups * channels);
            for (group, sums) in sums.iter().enumerate() {
                for (to, factors) in buffer[group * channels..].iter_mut().zip(&sums.factors) {
                    *to = of(factors) as f32;
                }
            }
            buffer
        };
        Factors {
            a: gather(|f| f.a),
            b: gather(|f| f.b),
            c: gather(|f| f.c),
            d: gather(|f| f.d),
            e: gather(|f| f.e),
            f: gather(|f| f.f),
            zero: gather(|_| 0.0),
        }
    }

    /// Weight gradients and, where they are wanted, input gradients; of the values and of the tangents.
    pub fn gradients(&self, factors: &Factors) -> ([Vec<f32>; 2], [Option<Vec<f32>>; 2]) {
        let shape = self.shape;
        let [mut dx, mut tangent_dx] = [(); 2].map(|()| InputGradient::new(shape, self.weights.is_some()));
        let (parts, tangent_parts): (Vec<Buffer>, Vec<Buffer>) = (
            &self.chunks,
            dx.split(&self.chunks),
            tangent_dx.split(&self.chunks),
        )
            .into_par_iter()
            .map(|(chunk, dx, tangent_dx)| self.chunk_gradients(chunk, factors, dx, tangent_dx))
            .unzip();
        let per_group = self.parameters.0.per_group();
        let dw = [&parts, &tangent_parts].map(|parts| combine(shape, &self.chunks, parts, per_group));
        // SAFETY: every chunk has written its images' gradients, and together they are all images.
        unsafe { (dw, [dx.written(), tangent_dx.written()]) }
    }

    /// Weight gradients from the images of one chunk; writes all of their input gradients.
    fn chunk_gradients(
        &self,
        chunk: &Chunk,
        factors: &Factors,
        dx: &mut [MaybeUninit<f32>],
        tangent_dx: &mut [MaybeUninit<f32>],
    ) -> (Buffer, Buffer) {
        let (shape, layout) = (self.shape, &self.layout);
        let x_len = shape.image_len();
        let held = self
            .weights
            .as_ref()
            .map(|weights| [0, 1].map(|k: usize| weights[k].of(chunk.group)));
        let [weight, direction] = [0, 1].map(|k: usize| held.as_ref().map(|held| &*held[k]));
        let new = |weight| Differentiator::new(shape, layout, self.kernels, self.engine, weight);
        // ∂w = x ⋆ ∂y + ẋ ⋆ ∂ẏ and ∂ẇ = x ⋆ ∂ẏ; ∂x = ∂y ∗ wᵀ + ∂ẏ ∗ ẇᵀ and ∂ẋ = ∂ẏ ∗ wᵀ.
        let (mut by_value, mut by_tangent) = (new(weight), new(weight));
        let mut crossed = (self.x.1.is_some() || direction.is_some()).then(|| new(direction));
        let block = by_value.block();
        let dx_len = if held.is_some() { x_len } else { 0 };
        let zeros = Buffer::zeroed(if self.x.1.is_none() && crossed.is_some() {
            block * x_len
        } else {
            0
        });
        let mut more = vec![MaybeUninit::uninit(); if crossed.is_some() { block * dx_len } else { 0 }];
        let again = self
            .again
            .as_ref()
            .map(|weights| [0, 1].map(|k: usize| weights[k].of(chunk.group)));
        let mut again = again.as_ref().map(|held| {
            [0, 1].map(|k: usize| {
                let convolver = Convolver::new(shape, layout, self.kernels, self.engine, &held[k]);
                (convolver, Buffer::take(block * layout.conv_len()))
            })
        });
        for first in (chunk.start..chunk.end).step_by(block) {
            let count = block.min(chunk.end - first);
            let images = first * x_len..(first + count) * x_len;
            let of_dx = (first - chunk.start) * dx_len..(first - chunk.start + count) * dx_len;
            let (dx, tangent_dx) = (&mut dx[of_dx.clone()], &mut tangent_dx[of_dx]);
            let x = &self.x.0[images.clone()];
            let of_maps = first * layout.conv_len()..(first + count) * layout.conv_len();
            let maps: [&[f32]; 2] = match &mut again {
                Some(again) => again.each_mut().map(|(convolver, map)| {
                    let map = &mut map[..count * layout.conv_len()];
                    for (image, y) in x.chunks_exact(x_len).zip(map.chunks_exact_mut(layout.conv_len())) {
                        convolver.run(image, y);
                    }
                    &*map
                }),
                None if shape.norm => [&self.saved.primal.y[of_maps.clone()], &self.saved.y[of_maps]],
                None => [&[], &[]],
            };
            let maps_of = |k: usize| {
                let len = if shape.norm { layout.conv_len() } else { 0 };
                maps.map(|map| &map[k * len..(k + 1) * len])
            };
            by_value.run(x, dx, |k, dy, row| {
                self.fill_value((chunk, first + k), factors, maps_of(k), (dy, row))
            });
            by_tangent.run(x, tangent_dx, |k, dy, row| {
                self.fill_tangent((chunk, first + k), factors, maps_of(k), (dy, row))
            });
            if let Some(crossed) = &mut crossed {
                let tangents = match self.x.1 {
                    Some(tangents) => &tangents[images],
                    None => &zeros[..count * x_len],
                };
                let more = &mut more[..count * dx_len];
                crossed.run(tangents, more, |k, dy, row| {
                    self.fill_tangent((chunk, first + k), factors, maps_of(k), (dy, row))
                });
                for (sum, v) in dx.iter_mut().zip(more.iter()) {
                    // SAFETY: `run` has written all of both.
                    unsafe { sum.write(sum.assume_init() + v.assume_init()) };
                }
            }
        }
        let mut dw = by_value.finish();
        if let Some(crossed) = crossed {
            dw.iter_mut()
                .zip(crossed.finish().iter())
                .for_each(|(sum, v)| *sum += v);
        }
        (dw, by_tangent.finish())
    }

    /// `∂y` of one image, from its `y` and `ẏ`.
    fn fill_value(
        &self,
        (chunk, image): (&Chunk, usize),
        factors: &Factors,
        [y, tangent]: [&[f32]; 2],
        (dy, row): (&mut [f32], usize),
    ) {
        let at = |values: &Buffer| values[chunk.group * self.layout.c_out..].as_ptr();
        let first = (
            at(&factors.a),
            self.shape.norm.then(|| (at(&factors.c), at(&factors.e))),
        );
        self.spread((image, self.dout.0), y, first, (dy, row), false);
        if self.shape.norm {
            let second = (at(&factors.b), Some((at(&factors.d), at(&factors.zero))));
            self.spread((image, self.dout.1), tangent, second, (dy, row), true);
        }
    }

    /// `∂ẏ` of one image, from its `y`.
    fn fill_tangent(
        &self,
        (chunk, image): (&Chunk, usize),
        factors: &Factors,
        [y, _]: [&[f32]; 2],
        (dy, row): (&mut [f32], usize),
    ) {
        let at = |values: &Buffer| values[chunk.group * self.layout.c_out..].as_ptr();
        let how = (
            at(&factors.a),
            self.shape.norm.then(|| (at(&factors.d), at(&factors.f))),
        );
        self.spread((image, self.dout.1), y, how, (dy, row), false);
    }

    fn spread(
        &self,
        (image, dout): (usize, &[f32]),
        y: &[f32],
        factors: (*const f32, Option<(*const f32, *const f32)>),
        (dy, row): (&mut [f32], usize),
        add: bool,
    ) {
        let (shape, layout) = (self.shape, &self.layout);
        assert!(y.len() == layout.conv_len() || !shape.norm);
        let codes = self.saved.primal.codes.as_bytes()[image * layout.out_len()..].as_ptr();
        let dout = dout[image * shape.out_image_len()..].as_ptr();
        let mut how = layout.spread(shape, row, factors);
        how.add = add;
        let pixels = layout.pixels(shape, layout.out.0);
        // SAFETY: image number `image` of `codes` and `dout`, one map each of `y` and `dy`, whose rows are `row` apart.
        unsafe { (self.kernels.spread)((&how, &pixels), (codes, y.as_ptr()), dout, dy.as_mut_ptr()) };
    }
}
