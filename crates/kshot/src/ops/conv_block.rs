//! The convolution block, the operation in which a few-shot learner spends nearly all of its time:
//! convolution → batch normalisation → activation → 2×2 max-pool.

use burn::tensor::Tensor;
use kshot_kernels::{self as kernels, BlockShape};

use super::{composed, fused};

/// What follows the normalisation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// max(0, x).
    #[default]
    Relu,
    /// x where positive, the given slope times x elsewhere.
    LeakyRelu(f32),
}

/// The form of a block; channels and image size follow from the tensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockForm {
    /// Zero pixels added on every side: 0 or 1.
    pub padding: usize,
    /// What follows the normalisation.
    pub activation: Activation,
    /// Whether a 2×2 max-pool with stride 2 ends the block (an odd last row or column is dropped).
    pub pool: bool,
}

/// Added to the variance before its root, as in every published implementation.
pub const EPSILON: f32 = 1e-5;

/// A block's output under batch statistics, and those statistics.
pub struct Normalised {
    /// `[n, out_height, out_width, c_out]`.
    pub output: Tensor<4>,
    /// Mean of each channel over images and pixels, `[c_out]`; carries no gradient.
    pub mean: Tensor<1>,
    /// Biased variance of each channel, `[c_out]`; carries no gradient.
    pub variance: Tensor<1>,
}

/// The block under the statistics of `input` itself.
///
/// # Shapes
/// `input` `[n, height, width, c_in]`, `weight` `[k, k, c_in, c_out]`, `gamma` and `beta` `[c_out]`.
pub fn with_batch_statistics(
    form: BlockForm,
    input: Tensor<4>,
    weight: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
) -> Normalised {
    if fused::applies(form, &input, &weight) {
        fused::with_batch_statistics(form, input, weight, gamma, beta)
    } else {
        composed::with_batch_statistics(form, input, weight, gamma, beta)
    }
}

/// The block as an affine map of the convolution: `pool(activation(scale · conv(input) + shift))`.
///
/// With running statistics, `scale = γ / √(σ² + ε)` and `shift = β − μ · scale`; without a norm,
/// `scale` is 1 and `shift` the bias.
///
/// # Shapes
/// As [`with_batch_statistics`]; `scale` and `shift` `[c_out]`.
pub fn with_fixed_statistics(
    form: BlockForm,
    input: Tensor<4>,
    weight: Tensor<4>,
    scale: Tensor<1>,
    shift: Tensor<1>,
) -> Tensor<4> {
    // The kernel for fixed statistics carries no gradient, so tracked tensors take the composed form.
    if !input.device().is_autodiff() && fused::applies(form, &input, &weight) {
        fused::with_fixed_statistics(form, input, weight, scale, shift)
    } else {
        composed::with_fixed_statistics(form, input, weight, scale, shift)
    }
}

/// A block in the kernels' terms: `input` `[n, height, width, c_in]`, `weight` `[k, c_out]`, statistics by `groups`
/// equal groups of consecutive images.
pub fn kernel_shape(input: [usize; 4], weight: [usize; 2], form: BlockForm, groups: usize) -> BlockShape {
    let [images, height, width, c_in] = input;
    let [kernel, c_out] = weight;
    let activation = match form.activation {
        Activation::Identity => kernels::Activation::Identity,
        Activation::Relu => kernels::Activation::Relu,
        Activation::LeakyRelu(slope) => kernels::Activation::LeakyRelu(slope),
    };
    BlockShape {
        images,
        height,
        width,
        c_in,
        c_out,
        kernel,
        padding: form.padding,
        pool: form.pool,
        norm: true,
        groups,
        activation,
    }
}
