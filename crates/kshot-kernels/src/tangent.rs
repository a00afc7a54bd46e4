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

mod backward;
mod forward;

use crate::backward::Gradients;
use crate::buffer::Buffer;
use crate::dispatch::kernels;
use crate::engine::Engine;
use crate::parameters::{Parameters, collect};
use crate::patches;
use crate::plan::{Layout, chunks};
use crate::saved::Saved;
use crate::shape::BlockShape;
use crate::weight::{Weight, Weights};
use backward::Backward;
use forward::Forward;

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
    /// `ẏ`; empty without a norm, and with patches.
    y: Buffer,
    /// `ẏ` at the winners of the pool's windows; empty where `ẏ` is, or without a pool.
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
    let keeps_y = !(patches::apply(shape) && tangents.input.is_none());
    let kept = |len: usize| Buffer::take(if keeps_y { shape.images * len } else { 0 });
    let mut saved = TangentSaved {
        primal: Saved::new(shape, &layout, keeps_y),
        y: kept(layout.conv_len()),
        pooled: kept(if shape.pool { layout.out_len() } else { 0 }),
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
    if !keeps_y {
        pass.statistics_from_patches(&mut saved);
        saved.primal.set_affine(&parameters, eps);
        pass.all_at_once(&mut saved, out, tangent_out);
        return saved;
    }
    pass.convolve_and_pool(&mut saved);
    if shape.norm {
        saved.primal.set_affine(&parameters, eps);
    } else {
        saved.primal.set_bias(&parameters);
    }
    pass.finish(&mut saved, out, tangent_out);
    if !shape.norm {
        for map in [
            &mut saved.primal.y,
            &mut saved.primal.pooled,
            &mut saved.y,
            &mut saved.pooled,
        ] {
            *map = Buffer::take(0);
        }
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
    let weights = |form| {
        [parameters, directions].map(|parameters| Weights::new(shape, kernels, engine, form, parameters))
    };
    let patched = !saved.primal.patches.is_empty();
    let pass = Backward {
        shape,
        layout: Layout::of(shape),
        kernels,
        engine,
        chunks: chunks(shape),
        saved,
        x: (x, tangents.input),
        parameters: (parameters, directions),
        again: (want_input && patched).then(|| weights(Weight::forward)),
        weights: want_input.then(|| weights(Weight::backward)),
        dout: (dout, dtangent_out),
    };
    let (sums, mut weight, mut input) = if patched {
        let winners = pass.winners();
        let sums = pass.sums_from_patches(&winners);
        let weight = pass.weights_from_patches(&winners, &sums);
        (sums, Some(weight), (!want_input).then_some([None, None]))
    } else {
        (pass.sums(), None, None)
    };
    if weight.is_none() || input.is_none() {
        let (weights, inputs) = pass.gradients(&pass.factors(&sums));
        weight.get_or_insert(weights);
        input.get_or_insert(inputs);
    }
    let [weight, tangent_weight] = weight.unwrap_or_default();
    let [input, tangent_input] = input.unwrap_or_default();
    let of = |part: fn(&backward::Sums) -> &Vec<f64>| {
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
