//! The forward-mode rule (for Hessian-vector products) and its backward pass.

use crate::backward::Gradients;
use crate::plain;
use crate::shape::BlockShape;

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|v| *v as f32).collect()
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
    shape.check(&[
        ("x", x.len(), shape.input_len()),
        ("w", w.len(), shape.weight_len()),
    ]);
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
