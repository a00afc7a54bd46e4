//! The block's public functions. Slices in, slices out; see [`BlockShape`] for the layouts.

use crate::plain;
use crate::shape::BlockShape;

/// What [`backward`] needs from [`forward`].
#[derive(Clone, Debug)]
pub struct Saved {
    mean: Vec<f32>,
    variance: Vec<f32>,
    plain: plain::PlainForward,
}

impl Saved {
    /// Mean of the convolution's output per group and channel, `[groups, c_out]`; zeros without a norm.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// Biased variance of the convolution's output per group and channel, `[groups, c_out]`; ones
    /// without a norm.
    pub fn variance(&self) -> &[f32] {
        &self.variance
    }
}

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

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|v| *v as f32).collect()
}

/// The training forward pass.
///
/// `x` is `[images, height, width, c_in]`, `w` is `[kernel, kernel, c_in, c_out]`, `gamma` and `beta`
/// are `[c_out]` and `out` is `[images, out_height, out_width, c_out]`. With `norm` the convolution's
/// output is normalised by the batch statistics of its group, `gamma * (y - mean) / sqrt(variance + eps) +
/// beta` with the biased variance; without it `gamma` is ignored and `beta` is the bias.
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
    check(
        shape,
        &[
            ("x", x.len(), shape.input_len()),
            ("w", w.len(), shape.weight_len()),
        ],
    );
    let plain = plain::forward(
        shape,
        &wide(x),
        &wide(w),
        &wide(gamma),
        &wide(beta),
        f64::from(eps),
    );
    out.copy_from_slice(&narrow(&plain.out));
    Saved {
        mean: narrow(&plain.mean),
        variance: narrow(&plain.variance),
        plain,
    }
}

/// Gradients of `sum(out * dout)`, where `out` is what [`forward`] gave for the same `shape`, `x`, `w` and
/// `gamma`.
///
/// # Panics
///
/// As [`forward`], and if `saved` comes from another shape.
pub fn backward(
    shape: &BlockShape,
    x: &[f32],
    w: &[f32],
    gamma: &[f32],
    saved: &Saved,
    dout: &[f32],
    want_input: bool,
) -> Gradients {
    let g = plain::backward(shape, &wide(x), &wide(w), &wide(gamma), &saved.plain, &wide(dout));
    gradients(&g, want_input)
}

/// Inference: `scale` and `shift`, `[c_out]`, stand for the norm (or for 1 and the bias).
///
/// # Panics
///
/// As [`forward`].
pub fn infer(shape: &BlockShape, x: &[f32], w: &[f32], scale: &[f32], shift: &[f32], out: &mut [f32]) {
    check(
        shape,
        &[
            ("x", x.len(), shape.input_len()),
            ("w", w.len(), shape.weight_len()),
        ],
    );
    out.copy_from_slice(&narrow(&plain::infer(
        shape,
        &wide(x),
        &wide(w),
        &wide(scale),
        &wide(shift),
    )));
}

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
    plain: plain::PlainTangent,
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
/// output's shape.
///
/// # Panics
///
/// As [`forward`].
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
    check(
        shape,
        &[
            ("x", x.len(), shape.input_len()),
            ("w", w.len(), shape.weight_len()),
        ],
    );
    let (x, w, gamma, beta) = (&wide(x), &wide(w), &wide(gamma), &wide(beta));
    let plain = with_tangents(shape, tangents, |t| {
        plain::tangent_forward(shape, (x, w, gamma, beta), t, f64::from(eps))
    });
    out.copy_from_slice(&narrow(&plain.primal.out));
    tangent_out.copy_from_slice(&narrow(&plain.out));
    TangentSaved { plain }
}

/// Gradients of `sum(out * dout) + sum(tangent_out * dtangent_out)` with respect to the values and to
/// their tangents.
///
/// # Panics
///
/// As [`backward`].
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
    let (x, w, gamma) = (&wide(x), &wide(w), &wide(gamma));
    let (primal, tangent) = with_tangents(shape, tangents, |t| {
        plain::tangent_backward(
            shape,
            (x, w, gamma),
            t,
            &saved.plain,
            &wide(dout),
            &wide(dtangent_out),
        )
    });
    TangentGradients {
        primal: gradients(&primal, want_input),
        tangent: gradients(&tangent, want_input),
    }
}

fn with_tangents<R>(
    shape: &BlockShape,
    tangents: &Tangents<'_>,
    run: impl FnOnce(&plain::PlainTangents<'_>) -> R,
) -> R {
    let input = tangents.input.map_or_else(|| vec![0.0; shape.input_len()], wide);
    run(&plain::PlainTangents {
        input: &input,
        weight: &wide(tangents.weight),
        gamma: &wide(tangents.gamma),
        beta: &wide(tangents.beta),
    })
}

fn gradients(plain: &plain::PlainGradients, want_input: bool) -> Gradients {
    Gradients {
        input: want_input.then(|| narrow(&plain.input)),
        weight: narrow(&plain.weight),
        gamma: narrow(&plain.gamma),
        beta: narrow(&plain.beta),
    }
}

fn check(shape: &BlockShape, lengths: &[(&str, usize, usize)]) {
    if let Err(error) = shape.validate() {
        panic!("{error}");
    }
    for (name, found, expected) in lengths {
        assert_eq!(found, expected, "length of `{name}`");
    }
}
