//! The forward-mode rule (for Hessian-vector products) and its backward pass.
//!
//! With dots for tangents, `u = y − mean(y)`, `s = 1/√(var(y) + eps)` and `c = mean(u u̇)`, the norm `n = s u` has the
//! tangent `ṅ = s u̇ − s³ c u`, so that the block's output before the activation, at the winner of each pool window, has
//! the tangent
//!
//! ```text
//! ż = γ̇ n + γ ṅ + β̇,   ẏ = x∗ẇ + ẋ∗w
//! ```
//!
//! The backward pass goes through the pair (n, ṅ): with A and B the gradients with respect to `n` and `ṅ`, and N pixels,
//!
//! ```text
//! ∂c = −s³ Σ B u,   ∂s = Σ A u + Σ B u̇ − 3 s² c Σ B u
//! ∂ẏ = s (B − mean B) + ∂c u / N
//! ∂y = s (A − mean A) − s³ c (B − mean B) + (∂c u̇ − ∂s s³ u) / N
//! ```

use std::mem::MaybeUninit;

use rayon::prelude::*;

use crate::backward::{Gradients, InputGradient, combine};
use crate::buffer::Buffer;
use crate::dispatch::{Kernels, kernels};
use crate::engine::{Convolver, Differentiator, Engine, Weight, Weights};
use crate::forward::signs;
use crate::parameters::{Parameters, collect};
use crate::plan::{Chunk, Layout, chunks, split};
use crate::saved::Saved;
use crate::shape::BlockShape;
use crate::statistics::Pairs;

/// Directions of a directional derivative, in the layouts of what they belong to.
#[derive(Clone, Copy, Debug)]
pub struct Tangents<'a> {
    /// Direction of the input; `None` is zero.
    pub input: Option<&'a [f32]>,
    /// Direction of the weight.
    pub weight: &'a [f32],
    /// Direction of gamma; ignored without a norm.
    pub gamma: &'a [f32],
    /// Direction of beta.
    pub beta: &'a [f32],
}

/// What [`tangent_backward`] needs from [`tangent_forward`].
#[derive(Clone, Debug)]
pub struct TangentSaved {
    primal: Saved,
    /// `ẏ`; empty without a norm.
    y: Buffer,
    /// `ẏ` at the winners of the pool's windows; empty without a norm or without a pool.
    pooled: Buffer,
    /// Mean of `ẏ` and covariance of `y` and `ẏ`, `[groups, channels]`.
    mean: Buffer,
    covariance: Buffer,
}

impl TangentSaved {
    /// As [`Saved::mean`].
    pub fn mean(&self) -> &[f32] {
        self.primal.mean()
    }

    /// As [`Saved::variance`].
    pub fn variance(&self) -> &[f32] {
        self.primal.variance()
    }
}

/// Gradients with respect to the values and to their tangents.
#[derive(Clone, Debug)]
pub struct TangentGradients {
    /// With respect to `x`, `w`, `gamma`, `beta`.
    pub primal: Gradients,
    /// With respect to their tangents.
    pub tangent: Gradients,
}

/// The training forward pass and its derivative in the directions `tangents`; `tangent_out` has the
/// output's shape. As in [`forward`](crate::forward), each group may have its own parameters, and then its own tangents.
///
/// # Panics
///
/// As [`forward`](crate::forward).
#[allow(clippy::too_many_arguments)]
pub fn tangent_forward(
    shape: &BlockShape,
    x: &[f32],
    w: &[f32],
    gamma: &[f32],
    beta: &[f32],
    tangents: &Tangents<'_>,
    eps: f32,
    out: &mut [f32],
    tangent_out: &mut [f32],
) -> TangentSaved {
    shape.check(&[
        ("x", x.len(), shape.input_len()),
        (
            "x's tangent",
            tangents.input.map_or(x.len(), <[f32]>::len),
            x.len(),
        ),
        ("out", out.len(), shape.output_len()),
        ("tangent_out", tangent_out.len(), shape.output_len()),
    ]);
    let parameters = Parameters::new(shape, w, shape.norm.then_some(gamma), Some(beta));
    let directions = Parameters::new(
        shape,
        tangents.weight,
        shape.norm.then_some(tangents.gamma),
        Some(tangents.beta),
    );
    parameters.assert_like(&directions);
    let (layout, kernels) = (Layout::of(shape), kernels());
    let engine = Engine::of(shape, parameters.per_group());
    let channels = shape.groups * layout.c_out;
    let mut saved = TangentSaved {
        primal: Saved::new(shape, &layout, true),
        y: Buffer::take(shape.images * layout.conv_len()),
        pooled: Buffer::take(if shape.pool {
            shape.images * layout.out_len()
        } else {
            0
        }),
        mean: Buffer::zeroed(channels),
        covariance: Buffer::zeroed(channels),
    };
    let pass = Forward {
        shape,
        layout,
        kernels,
        engine,
        chunks: chunks(shape),
        x: (x, tangents.input),
        parameters: (parameters, directions),
        weights: [parameters, directions]
            .map(|parameters| Weights::new(shape, kernels, engine, Weight::forward, parameters)),
    };
    pass.convolve_and_pool(&mut saved);
    if shape.norm {
        saved.primal.set_affine(&parameters, eps);
    } else {
        saved.primal.set_bias(&parameters);
    }
    pass.finish(&mut saved, out, tangent_out);
    if !shape.norm {
        let nothing = || Buffer::take(0);
        (saved.primal.y, saved.primal.pooled, saved.y, saved.pooled) =
            (nothing(), nothing(), nothing(), nothing());
    }
    saved
}

/// Gradients of `sum(out * dout) + sum(tangent_out * dtangent_out)` with respect to the values and to
/// their tangents.
///
/// # Panics
///
/// As [`backward`](crate::backward).
#[allow(clippy::too_many_arguments)]
pub fn tangent_backward(
    shape: &BlockShape,
    x: &[f32],
    w: &[f32],
    gamma: &[f32],
    tangents: &Tangents<'_>,
    saved: &TangentSaved,
    dout: &[f32],
    dtangent_out: &[f32],
    want_input: bool,
) -> TangentGradients {
    shape.check(&[
        ("x", x.len(), shape.input_len()),
        (
            "x's tangent",
            tangents.input.map_or(x.len(), <[f32]>::len),
            x.len(),
        ),
        ("dout", dout.len(), shape.output_len()),
        ("dtangent_out", dtangent_out.len(), shape.output_len()),
    ]);
    assert_eq!(*shape, saved.primal.shape, "`saved` comes from another shape");
    let parameters = Parameters::new(shape, w, shape.norm.then_some(gamma), None);
    let directions = Parameters::new(shape, tangents.weight, shape.norm.then_some(tangents.gamma), None);
    parameters.assert_like(&directions);
    let (kernels, engine, per_group) = (
        kernels(),
        Engine::of(shape, parameters.per_group()),
        parameters.per_group(),
    );
    let weights = |parameters| Weights::new(shape, kernels, engine, Weight::backward, parameters);
    let pass = Backward {
        shape,
        layout: Layout::of(shape),
        kernels,
        engine,
        chunks: chunks(shape),
        saved,
        x: (x, tangents.input),
        parameters: (parameters, directions),
        weights: want_input.then(|| [parameters, directions].map(weights)),
        dout: (dout, dtangent_out),
    };
    let sums = pass.sums();
    let factors = pass.factors(&sums);
    let ([weight, tangent_weight], [input, tangent_input]) = pass.gradients(&factors);
    let of = |part: fn(&Sums) -> &Vec<f64>| {
        let parts: Vec<Vec<f64>> = sums.iter().map(|sums| part(sums).clone()).collect();
        collect(&parts, per_group)
    };
    TangentGradients {
        primal: Gradients {
            input,
            weight,
            gamma: of(|s| &s.gamma),
            beta: of(|s| &s.beta),
        },
        tangent: Gradients {
            input: tangent_input,
            weight: tangent_weight,
            gamma: of(|s| &s.tangent_gamma),
            beta: of(|s| &s.tangent_beta),
        },
    }
}

struct Forward<'a> {
    shape: &'a BlockShape,
    layout: Layout,
    kernels: &'static Kernels,
    engine: Engine,
    chunks: Vec<Chunk>,
    x: (&'a [f32], Option<&'a [f32]>),
    parameters: (Parameters<'a>, Parameters<'a>),
    weights: [Weights<'a>; 2],
}

impl Forward<'_> {
    /// Fills `y`, `ẏ`, both pooled, the winners' numbers and the statistics.
    fn convolve_and_pool(&self, saved: &mut TangentSaved) {
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
    fn finish(&self, saved: &mut TangentSaved, out: &mut [f32], tangent_out: &mut [f32]) {
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

/// For one group, per channel: parameter gradients from its images alone, and what the factors need.
#[derive(Clone, Default)]
struct Sums {
    gamma: Vec<f64>,
    beta: Vec<f64>,
    tangent_gamma: Vec<f64>,
    tangent_beta: Vec<f64>,
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
struct Factors {
    a: Buffer,
    b: Buffer,
    c: Buffer,
    d: Buffer,
    e: Buffer,
    f: Buffer,
    zero: Buffer,
}

struct Backward<'a> {
    shape: &'a BlockShape,
    layout: Layout,
    kernels: &'static Kernels,
    engine: Engine,
    chunks: Vec<Chunk>,
    saved: &'a TangentSaved,
    x: (&'a [f32], Option<&'a [f32]>),
    parameters: (Parameters<'a>, Parameters<'a>),
    /// Weight and direction for the input gradient, where it is wanted.
    weights: Option<[Weights<'a>; 2]>,
    dout: (&'a [f32], &'a [f32]),
}

impl Backward<'_> {
    /// Sums of `g`, `ġ`, `g u`, `ġ u` and `ġ u̇`, and what follows from them, per group.
    fn sums(&self) -> Vec<Sums> {
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
        groups
            .iter()
            .enumerate()
            .map(|(group, totals)| self.group_sums(group, totals))
            .collect()
    }

    fn group_sums(&self, group: usize, totals: &[f64]) -> Sums {
        let (shape, channels, saved) = (self.shape, self.layout.c_out, self.saved);
        let count = (shape.images_per_group() * self.layout.conv.0 * self.layout.conv.1) as f64;
        let mut sums = Sums::default();
        for channel in 0..shape.c_out {
            let total = |k: usize| totals[k * channels + channel];
            let (g, gu, t, tu, tt) = (total(0), total(1), total(2), total(3), total(5));
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

    fn factors(&self, sums: &[Sums]) -> Factors {
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
    fn gradients(&self, factors: &Factors) -> ([Vec<f32>; 2], [Option<Vec<f32>>; 2]) {
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
        for first in (chunk.start..chunk.end).step_by(block) {
            let count = block.min(chunk.end - first);
            let images = first * x_len..(first + count) * x_len;
            let of_dx = (first - chunk.start) * dx_len..(first - chunk.start + count) * dx_len;
            let (dx, tangent_dx) = (&mut dx[of_dx.clone()], &mut tangent_dx[of_dx]);
            let x = &self.x.0[images.clone()];
            by_value.run(x, dx, |k, dy, row| {
                self.fill_value(chunk, first + k, factors, dy, row)
            });
            by_tangent.run(x, tangent_dx, |k, dy, row| {
                self.fill_tangent(chunk, first + k, factors, dy, row)
            });
            if let Some(crossed) = &mut crossed {
                let tangents = match self.x.1 {
                    Some(tangents) => &tangents[images],
                    None => &zeros[..count * x_len],
                };
                let more = &mut more[..count * dx_len];
                crossed.run(tangents, more, |k, dy, row| {
                    self.fill_tangent(chunk, first + k, factors, dy, row)
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

    /// `∂y` of one image.
    fn fill_value(&self, chunk: &Chunk, image: usize, factors: &Factors, dy: &mut [f32], row: usize) {
        let at = |values: &Buffer| values[chunk.group * self.layout.c_out..].as_ptr();
        let (y, tangent) = (&self.saved.primal.y, &self.saved.y);
        let first = (
            at(&factors.a),
            self.shape.norm.then(|| (at(&factors.c), at(&factors.e))),
        );
        self.spread(image, self.dout.0, y, first, (dy, row), false);
        if self.shape.norm {
            let second = (at(&factors.b), Some((at(&factors.d), at(&factors.zero))));
            self.spread(image, self.dout.1, tangent, second, (dy, row), true);
        }
    }

    /// `∂ẏ` of one image.
    fn fill_tangent(&self, chunk: &Chunk, image: usize, factors: &Factors, dy: &mut [f32], row: usize) {
        let at = |values: &Buffer| values[chunk.group * self.layout.c_out..].as_ptr();
        let how = (
            at(&factors.a),
            self.shape.norm.then(|| (at(&factors.d), at(&factors.f))),
        );
        self.spread(image, self.dout.1, &self.saved.primal.y, how, (dy, row), false);
    }

    fn spread(
        &self,
        image: usize,
        dout: &[f32],
        y: &Buffer,
        factors: (*const f32, Option<(*const f32, *const f32)>),
        (dy, row): (&mut [f32], usize),
        add: bool,
    ) {
        let (shape, layout) = (self.shape, &self.layout);
        let out_len = layout.out_len();
        let y = if shape.norm {
            y[image * layout.conv_len()..].as_ptr()
        } else {
            std::ptr::null()
        };
        let codes = self.saved.primal.codes.as_bytes()[image * out_len..].as_ptr();
        let dout = dout[image * shape.out_image_len()..].as_ptr();
        let mut how = layout.spread(shape, row, factors);
        how.add = add;
        let pixels = layout.pixels(shape, layout.out.0);
        // SAFETY: image number `image` of each buffer; `dy` is a map with rows `row` apart.
        unsafe { (self.kernels.spread)((&how, &pixels), (codes, y), dout, dy.as_mut_ptr()) };
    }
}
