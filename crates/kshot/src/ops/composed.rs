//! The convolution block out of stock tensor operations: for every device without kernels of ours,
//! and as the plain statement that the kernels are tested against.

use burn::tensor::Tensor;
use burn::tensor::activation::{leaky_relu, relu};
use burn::tensor::module::{conv2d, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};

use super::conv_block::{Activation, BlockForm, EPSILON, Normalised};

/// See [`super::conv_block::with_batch_statistics`].
pub fn with_batch_statistics(
    form: BlockForm,
    input: Tensor<4>,
    weight: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
) -> Normalised {
    normalise(form, convolve(form, input, weight), gamma, beta)
}

/// Norm under the statistics of `maps` `[n, height, width, c]` themselves, ReLU and pool.
pub fn norm_relu_pool(maps: Tensor<4>, gamma: Tensor<1>, beta: Tensor<1>) -> Normalised {
    normalise(RELU_POOL, maps.permute([0, 3, 1, 2]), gamma, beta)
}

/// Scale and shift of `maps` `[n, height, width, c]`, ReLU and pool.
pub fn affine_relu_pool(maps: Tensor<4>, scale: Tensor<1>, shift: Tensor<1>) -> Tensor<4> {
    let y = maps.permute([0, 3, 1, 2]);
    finish(RELU_POOL, y * per_channel(scale) + per_channel(shift))
}

const RELU_POOL: BlockForm = BlockForm {
    padding: 0,
    activation: Activation::Relu,
    pool: true,
};

/// What follows the convolution `y`, `[n, c_out, height, width]`.
fn normalise(form: BlockForm, y: Tensor<4>, gamma: Tensor<1>, beta: Tensor<1>) -> Normalised {
    let channels = y.dims()[1];
    let mean = y.clone().mean_dims(&[0, 2, 3]);
    let centred = y - mean.clone();
    let variance = centred.clone().square().mean_dims(&[0, 2, 3]);
    let normalised = centred / variance.clone().add_scalar(EPSILON).sqrt();
    let output = normalised * per_channel(gamma) + per_channel(beta);
    Normalised {
        output: finish(form, output),
        mean: mean.detach().reshape([channels]),
        variance: variance.detach().reshape([channels]),
    }
}

/// See [`super::conv_block::with_fixed_statistics`].
pub fn with_fixed_statistics(
    form: BlockForm,
    input: Tensor<4>,
    weight: Tensor<4>,
    scale: Tensor<1>,
    shift: Tensor<1>,
) -> Tensor<4> {
    finish(
        form,
        convolve(form, input, weight) * per_channel(scale) + per_channel(shift),
    )
}

/// `[n, c_out, height, width]`: stock convolutions are channels-first.
fn convolve(form: BlockForm, input: Tensor<4>, weight: Tensor<4>) -> Tensor<4> {
    let options = ConvOptions::new([1, 1], [form.padding, form.padding], [1, 1], 1);
    conv2d(
        input.permute([0, 3, 1, 2]),
        weight.permute([3, 2, 0, 1]),
        None,
        options,
    )
}

fn per_channel(values: Tensor<1>) -> Tensor<4> {
    let channels = values.dims()[0];
    values.reshape([1, channels, 1, 1])
}

fn finish(form: BlockForm, y: Tensor<4>) -> Tensor<4> {
    let y = match form.activation {
        Activation::Identity => y,
        Activation::Relu => relu(y),
        Activation::LeakyRelu(slope) => leaky_relu(y, f64::from(slope)),
    };
    let y = if form.pool {
        max_pool2d(y, MaxPoolOptions::new([2, 2]))
    } else {
        y
    };
    y.permute([0, 2, 3, 1])
}
