//! The block written down as plainly as possible, in `f64`: what every kernel is tested against.
//!
//! Slow on purpose. Slices have the layouts of [`BlockShape`]; the shape must have been validated.

use crate::shape::{Activation, BlockShape};

/// The result of [`forward`], with everything that [`backward`] needs.
#[derive(Clone, Debug)]
pub struct PlainForward {
    /// `[images, out_height, out_width, c_out]`
    pub out: Vec<f64>,
    /// The convolution's output, `[images, conv_height, conv_width, c_out]`.
    pub y: Vec<f64>,
    /// `[groups, c_out]`; zeros without a norm.
    pub mean: Vec<f64>,
    /// Biased variance, `[groups, c_out]`; ones without a norm.
    pub variance: Vec<f64>,
    /// `1 / sqrt(variance + eps)`, or 1 without a norm.
    pub inverse: Vec<f64>,
    /// For each output element the index into `y` that it came from.
    pub source: Vec<usize>,
    /// For each output element the activation's derivative.
    pub slope: Vec<f64>,
}

/// Gradients with respect to the inputs of [`forward`].
#[derive(Clone, Debug)]
pub struct PlainGradients {
    /// `[images, height, width, c_in]`
    pub input: Vec<f64>,
    /// `[kernel, kernel, c_in, c_out]`
    pub weight: Vec<f64>,
    /// `[c_out]`; zeros without a norm.
    pub gamma: Vec<f64>,
    /// `[c_out]`
    pub beta: Vec<f64>,
}

/// Calls `visit(y index, x index, weight index)` for every product of the convolution but those
/// with the padding's zeros; indices are those of whole pixels, without channels.
fn each_tap(shape: &BlockShape, mut visit: impl FnMut(usize, usize, usize)) {
    let (h, w, k, p) = (shape.height, shape.width, shape.kernel, shape.padding);
    let (ch, cw) = (shape.conv_height(), shape.conv_width());
    for image in 0..shape.images {
        for (i, j) in (0..ch).flat_map(|i| (0..cw).map(move |j| (i, j))) {
            for (a, b) in (0..k).flat_map(|a| (0..k).map(move |b| (a, b))) {
                let (row, column) = ((i + a).wrapping_sub(p), (j + b).wrapping_sub(p));
                if row < h && column < w {
                    visit(
                        (image * ch + i) * cw + j,
                        (image * h + row) * w + column,
                        a * k + b,
                    );
                }
            }
        }
    }
}

/// `[images, conv_height, conv_width, c_out]`
pub fn convolve(shape: &BlockShape, x: &[f64], w: &[f64]) -> Vec<f64> {
    let (ci, co) = (shape.c_in, shape.c_out);
    let mut y = vec![0.0; shape.images * shape.conv_height() * shape.conv_width() * co];
    each_tap(shape, |yi, xi, wi| {
        for c in 0..ci {
            for o in 0..co {
                y[yi * co + o] += x[xi * ci + c] * w[(wi * ci + c) * co + o];
            }
        }
    });
    y
}

/// Gradient with respect to the weight of [`convolve`].
fn convolve_weight(shape: &BlockShape, x: &[f64], dy: &[f64]) -> Vec<f64> {
    let (ci, co) = (shape.c_in, shape.c_out);
    let mut dw = vec![0.0; shape.weight_len()];
    each_tap(shape, |yi, xi, wi| {
        for c in 0..ci {
            for o in 0..co {
                dw[(wi * ci + c) * co + o] += x[xi * ci + c] * dy[yi * co + o];
            }
        }
    });
    dw
}

/// Gradient with respect to the input of [`convolve`].
fn convolve_input(shape: &BlockShape, w: &[f64], dy: &[f64]) -> Vec<f64> {
    let (ci, co) = (shape.c_in, shape.c_out);
    let mut dx = vec![0.0; shape.input_len()];
    each_tap(shape, |yi, xi, wi| {
        for c in 0..ci {
            for o in 0..co {
                dx[xi * ci + c] += w[(wi * ci + c) * co + o] * dy[yi * co + o];
            }
        }
    });
    dx
}

/// Per-channel index of the statistics for pixel `pixel` of a map of `pixels` pixels per image.
fn statistic(shape: &BlockShape, pixels: usize, pixel: usize, channel: usize) -> usize {
    (pixel / pixels / shape.images_per_group()) * shape.c_out + channel
}

fn activate(activation: Activation, z: f64) -> (f64, f64) {
    if z <= 0.0 {
        let slope = f64::from(activation.negative_slope());
        (
            if activation == Activation::Relu {
                0.0
            } else {
                slope * z
            },
            slope,
        )
    } else {
        (z, 1.0)
    }
}

/// Activation and pool over the normalised map `z`: output, where from, and with which derivative.
///
/// The winner of a window is its first NaN, else the first of its largest values.
fn pool(shape: &BlockShape, z: &[f64]) -> (Vec<f64>, Vec<usize>, Vec<f64>) {
    let (co, cw) = (shape.c_out, shape.conv_width());
    let (side, step) = if shape.pool { (2, 2) } else { (1, 1) };
    let (mut out, mut source, mut slope) = (Vec::new(), Vec::new(), Vec::new());
    for image in 0..shape.images {
        for (i, j) in (0..shape.out_height()).flat_map(|i| (0..shape.out_width()).map(move |j| (i, j))) {
            for o in 0..co {
                let at = |a: usize, b: usize| {
                    ((image * shape.conv_height() + i * step + a) * cw + j * step + b) * co + o
                };
                let mut best = at(0, 0);
                for (a, b) in (0..side).flat_map(|a| (0..side).map(move |b| (a, b))) {
                    let candidate = z[at(a, b)];
                    if !z[best].is_nan() && (candidate.is_nan() || candidate > z[best]) {
                        best = at(a, b);
                    }
                }
                let (value, derivative) = activate(shape.activation, z[best]);
                out.push(value);
                source.push(best);
                slope.push(derivative);
            }
        }
    }
    (out, source, slope)
}

/// The block's training forward pass.
pub fn forward(
    shape: &BlockShape,
    x: &[f64],
    w: &[f64],
    gamma: &[f64],
    beta: &[f64],
    eps: f64,
) -> PlainForward {
    let y = convolve(shape, x, w);
    let (co, pixels) = (shape.c_out, shape.conv_height() * shape.conv_width());
    let stats = shape.statistics_len();
    let (mut mean, mut variance, mut inverse) = (vec![0.0; stats], vec![1.0; stats], vec![1.0; stats]);
    if shape.norm {
        let count = (shape.images_per_group() * pixels) as f64;
        for (i, v) in y.iter().enumerate() {
            mean[statistic(shape, pixels, i / co, i % co)] += v / count;
        }
        variance.fill(0.0);
        for (i, v) in y.iter().enumerate() {
            let s = statistic(shape, pixels, i / co, i % co);
            variance[s] += (v - mean[s]).powi(2) / count;
        }
        inverse = variance.iter().map(|v| 1.0 / (v + eps).sqrt()).collect();
    }
    let z: Vec<f64> = y
        .iter()
        .enumerate()
        .map(|(i, v)| {
            let s = statistic(shape, pixels, i / co, i % co);
            if shape.norm {
                gamma[i % co] * (v - mean[s]) * inverse[s] + beta[i % co]
            } else {
                v + beta[i % co]
            }
        })
        .collect();
    let (out, source, slope) = pool(shape, &z);
    PlainForward {
        out,
        y,
        mean,
        variance,
        inverse,
        source,
        slope,
    }
}

/// Gradients of `sum(out * dout)`.
pub fn backward(
    shape: &BlockShape,
    x: &[f64],
    w: &[f64],
    gamma: &[f64],
    saved: &PlainForward,
    dout: &[f64],
) -> PlainGradients {
    let (co, pixels) = (shape.c_out, shape.conv_height() * shape.conv_width());
    let mut dz = vec![0.0; saved.y.len()];
    for (i, d) in dout.iter().enumerate() {
        dz[saved.source[i]] += d * saved.slope[i];
    }
    let mut dgamma = vec![0.0; co];
    let mut dbeta = vec![0.0; co];
    let mut dy = dz.clone();
    for (i, d) in dz.iter().enumerate() {
        dbeta[i % co] += d;
    }
    if shape.norm {
        let count = (shape.images_per_group() * pixels) as f64;
        let (mut sum, mut dot) = (vec![0.0; saved.mean.len()], vec![0.0; saved.mean.len()]);
        for (i, d) in dz.iter().enumerate() {
            let s = statistic(shape, pixels, i / co, i % co);
            sum[s] += d;
            dot[s] += d * (saved.y[i] - saved.mean[s]) * saved.inverse[s];
        }
        for (s, d) in dot.iter().enumerate() {
            dgamma[s % co] += d;
        }
        for (i, d) in dy.iter_mut().enumerate() {
            let s = statistic(shape, pixels, i / co, i % co);
            let normal = (saved.y[i] - saved.mean[s]) * saved.inverse[s];
            *d = gamma[i % co] * saved.inverse[s] * (dz[i] - sum[s] / count - normal * dot[s] / count);
        }
    }
    PlainGradients {
        input: convolve_input(shape, w, &dy),
        weight: convolve_weight(shape, x, &dy),
        gamma: dgamma,
        beta: dbeta,
    }
}

/// The block with a given scale and shift per channel in place of the norm.
pub fn infer(shape: &BlockShape, x: &[f64], w: &[f64], scale: &[f64], shift: &[f64]) -> Vec<f64> {
    let co = shape.c_out;
    let y = convolve(shape, x, w);
    let z: Vec<f64> = y
        .iter()
        .enumerate()
        .map(|(i, v)| scale[i % co] * v + shift[i % co])
        .collect();
    pool(shape, &z).0
}

/// Directions of a directional derivative, in the layouts of what they belong to.
pub struct PlainTangents<'a> {
    /// Direction of the input.
    pub input: &'a [f64],
    /// Direction of the weight.
    pub weight: &'a [f64],
    /// Direction of gamma.
    pub gamma: &'a [f64],
    /// Direction of beta.
    pub beta: &'a [f64],
}

/// The result of [`tangent_forward`].
#[derive(Clone, Debug)]
pub struct PlainTangent {
    /// The forward pass itself.
    pub primal: PlainForward,
    /// The output's directional derivative.
    pub out: Vec<f64>,
    /// The directional derivative of the convolution's output.
    pub y: Vec<f64>,
    /// The directional derivative of the mean, `[groups, c_out]`; zeros without a norm.
    pub mean: Vec<f64>,
    /// `mean((y - mean) (ẏ - mean ẏ))`, half the variance's derivative; zeros without a norm.
    pub covariance: Vec<f64>,
}

/// The forward pass and its derivative in the given directions.
pub fn tangent_forward(
    shape: &BlockShape,
    (x, w, gamma, beta): (&[f64], &[f64], &[f64], &[f64]),
    tangents: &PlainTangents<'_>,
    eps: f64,
) -> PlainTangent {
    let primal = forward(shape, x, w, gamma, beta, eps);
    let (co, pixels) = (shape.c_out, shape.conv_height() * shape.conv_width());
    let by_weight = convolve(shape, x, tangents.weight);
    let by_input = convolve(shape, tangents.input, w);
    let y: Vec<f64> = by_weight.iter().zip(&by_input).map(|(a, b)| a + b).collect();
    let count = (shape.images_per_group() * pixels) as f64;
    let (mut mean, mut covariance) = (vec![0.0; primal.mean.len()], vec![0.0; primal.mean.len()]);
    if shape.norm {
        for (i, v) in y.iter().enumerate() {
            mean[statistic(shape, pixels, i / co, i % co)] += v / count;
        }
        for (i, v) in y.iter().enumerate() {
            let s = statistic(shape, pixels, i / co, i % co);
            covariance[s] += (primal.y[i] - primal.mean[s]) * (v - mean[s]) / count;
        }
    }
    let out = (0..primal.out.len())
        .map(|i| {
            let at = primal.source[i];
            let (s, c) = (statistic(shape, pixels, at / co, at % co), at % co);
            let dz = if shape.norm {
                let (u, du) = (primal.y[at] - primal.mean[s], y[at] - mean[s]);
                let dnormal = primal.inverse[s] * du - primal.inverse[s].powi(3) * covariance[s] * u;
                tangents.gamma[c] * u * primal.inverse[s] + gamma[c] * dnormal
            } else {
                y[at]
            };
            primal.slope[i] * (dz + tangents.beta[c])
        })
        .collect();
    PlainTangent {
        primal,
        out,
        y,
        mean,
        covariance,
    }
}

/// Gradients of `sum(out * dout) + sum(tangent_out * dtangent_out)` with respect to the primal
/// values (first) and to the tangents (second).
pub fn tangent_backward(
    shape: &BlockShape,
    (x, w, gamma): (&[f64], &[f64], &[f64]),
    tangents: &PlainTangents<'_>,
    saved: &PlainTangent,
    dout: &[f64],
    dtangent_out: &[f64],
) -> (PlainGradients, PlainGradients) {
    let primal = &saved.primal;
    let (co, pixels) = (shape.c_out, shape.conv_height() * shape.conv_width());
    let count = (shape.images_per_group() * pixels) as f64;
    let (mut dz, mut dtz) = (vec![0.0; primal.y.len()], vec![0.0; primal.y.len()]);
    for i in 0..dout.len() {
        dz[primal.source[i]] += dout[i] * primal.slope[i];
        dtz[primal.source[i]] += dtangent_out[i] * primal.slope[i];
    }
    let [mut dgamma, mut dbeta, mut dtgamma, mut dtbeta] = [(); 4].map(|()| vec![0.0; co]);
    for i in 0..dz.len() {
        dbeta[i % co] += dz[i];
        dtbeta[i % co] += dtz[i];
    }
    let (mut dy, mut dty) = (dz.clone(), dtz.clone());
    if shape.norm {
        // With u = y - mean, s = inverse, c = covariance: n = s u and ṅ = s u̇ - s³ c u.
        // a and b are the gradients with respect to n and ṅ.
        let stats = primal.mean.len();
        let [mut sum_a, mut sum_b, mut au, mut bu, mut bt] = [(); 5].map(|()| vec![0.0; stats]);
        let (mut a, mut b) = (vec![0.0; dz.len()], vec![0.0; dz.len()]);
        for i in 0..dz.len() {
            let (s, c) = (statistic(shape, pixels, i / co, i % co), i % co);
            let (u, t) = (primal.y[i] - primal.mean[s], saved.y[i] - saved.mean[s]);
            let inverse = primal.inverse[s];
            dtgamma[c] += dtz[i] * inverse * u;
            dgamma[c] +=
                dz[i] * inverse * u + dtz[i] * (inverse * t - inverse.powi(3) * saved.covariance[s] * u);
            a[i] = gamma[c] * dz[i] + tangents.gamma[c] * dtz[i];
            b[i] = gamma[c] * dtz[i];
            sum_a[s] += a[i];
            sum_b[s] += b[i];
            au[s] += a[i] * u;
            bu[s] += b[i] * u;
            bt[s] += b[i] * t;
        }
        for i in 0..dz.len() {
            let s = statistic(shape, pixels, i / co, i % co);
            let (u, t) = (primal.y[i] - primal.mean[s], saved.y[i] - saved.mean[s]);
            let (inverse, c) = (primal.inverse[s], saved.covariance[s]);
            let cube = inverse.powi(3);
            let dinverse = au[s] + bt[s] - 3.0 * inverse.powi(2) * c * bu[s];
            let dc = -cube * bu[s];
            dty[i] = inverse * (b[i] - sum_b[s] / count) + dc * u / count;
            dy[i] = inverse * (a[i] - sum_a[s] / count) - cube * c * (b[i] - sum_b[s] / count)
                + dc * t / count
                - dinverse * cube * u / count;
        }
    }
    let add = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(&b).map(|(a, b)| a + b).collect();
    let primal = PlainGradients {
        input: add(
            convolve_input(shape, w, &dy),
            convolve_input(shape, tangents.weight, &dty),
        ),
        weight: add(
            convolve_weight(shape, x, &dy),
            convolve_weight(shape, tangents.input, &dty),
        ),
        gamma: dgamma,
        beta: dbeta,
    };
    let tangent = PlainGradients {
        input: convolve_input(shape, w, &dty),
        weight: convolve_weight(shape, x, &dty),
        gamma: dtgamma,
        beta: dtbeta,
    };
    (primal, tangent)
}
