//! The convolution block out of stock tensor operations: for every device without kernels of ours, and on every device for
//! gradients under fixed statistics. The tests below hold it against the kernels, which have a plain version of their own.

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

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
    use kshot_kernels as kernels;
    use rand::RngExt;

    use super::super::conv_block::kernel_shape;
    use super::super::fused;
    use super::*;

    const IMAGES: [usize; 4] = [3, 7, 6, 5];
    const OUTPUTS: usize = 16;

    /// Windows and paddings that the kernels have, with every activation, with and without a pool.
    fn forms() -> Vec<(usize, BlockForm)> {
        let mut forms = Vec::new();
        for (kernel, padding) in [(1, 0), (3, 0), (3, 1)] {
            for activation in [Activation::Identity, Activation::Relu, Activation::LeakyRelu(0.2)] {
                for pool in [false, true] {
                    let form = BlockForm {
                        padding,
                        activation,
                        pool,
                    };
                    forms.push((kernel, form));
                }
            }
        }
        forms
    }

    /// Values in [-1, 1), with gradients where the device has them.
    fn random<const D: usize>(seed: u64, dims: [usize; D], device: &Device) -> Tensor<D> {
        let mut rng = crate::random::stream(seed, &[]);
        let count = dims.iter().product();
        let values: Vec<f32> = (0..count).map(|_| rng.random_range(-1.0..1.0)).collect();
        let tensor = Tensor::from_data(TensorData::new(values, dims), device);
        if device.is_autodiff() {
            tensor.require_grad()
        } else {
            tensor
        }
    }

    fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().iter::<f32>().collect()
    }

    /// The same to single-precision noise, relative to the largest.
    #[track_caller]
    fn assert_close(what: &str, found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len(), "{what}");
        let scale = expected
            .iter()
            .fold(1e-3f32, |scale, value| scale.max(value.abs()));
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() <= 1e-5 * scale,
                "{what}: {found} for {expected} of {scale}"
            );
        }
    }

    /// Output and whatever statistics `block` gives, then the gradients of the operands for fixed gradients of the output.
    fn run(
        kernel: usize,
        block: impl Fn(Tensor<4>, Tensor<4>, Tensor<1>, Tensor<1>) -> (Tensor<4>, Vec<Tensor<1>>),
    ) -> Vec<Vec<f32>> {
        let device = Device::flex().autodiff();
        let input = random(1, IMAGES, &device);
        let weight = random(2, [kernel, kernel, IMAGES[3], OUTPUTS], &device);
        let (gamma, beta) = (random(3, [OUTPUTS], &device), random(4, [OUTPUTS], &device));
        let (output, statistics) = block(input.clone(), weight.clone(), gamma.clone(), beta.clone());
        let slopes = random(5, output.dims(), &device).detach();
        let gradients = (output.clone() * slopes).sum().backward();
        let mut found = vec![host(output.inner())];
        found.extend(statistics.into_iter().map(|one| host(one.inner())));
        found.push(host(input.grad(&gradients).unwrap()));
        found.push(host(weight.grad(&gradients).unwrap()));
        found.extend([&gamma, &beta].map(|one| host(one.grad(&gradients).unwrap())));
        found
    }

    fn compare(what: &str, found: &[Vec<f32>], expected: &[Vec<f32>]) {
        for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert_close(&format!("{what}, {place}"), found, expected);
        }
    }

    #[test]
    fn under_batch_statistics_every_form_agrees_with_the_kernels_and_so_do_the_gradients() {
        type Block = fn(BlockForm, Tensor<4>, Tensor<4>, Tensor<1>, Tensor<1>) -> Normalised;
        for (kernel, form) in forms() {
            let [stock, ours] = [
                with_batch_statistics as Block,
                fused::with_batch_statistics as Block,
            ]
            .map(|block| {
                run(kernel, |input, weight, gamma, beta| {
                    let found = block(form, input, weight, gamma, beta);
                    (found.output, vec![found.mean, found.variance])
                })
            });
            assert_eq!((stock.len(), ours.len()), (7, 7));
            compare(&format!("{kernel}, {form:?}"), &stock, &ours);
        }
    }

    /// Output of the block and gradients by the kernels, which know no scale without a norm: it goes into the weights.
    fn by_the_kernels(kernel: usize, form: BlockForm) -> Vec<Vec<f32>> {
        let device = Device::flex();
        let weights = [kernel, kernel, IMAGES[3], OUTPUTS];
        let (input, weight) = (
            host(random(1, IMAGES, &device)),
            host(random(2, weights, &device)),
        );
        let (scale, shift) = (
            host(random(3, [OUTPUTS], &device)),
            host(random(4, [OUTPUTS], &device)),
        );
        let scaled: Vec<f32> = weight
            .iter()
            .zip(scale.iter().cycle())
            .map(|(w, s)| w * s)
            .collect();
        let mut shape = kernel_shape(IMAGES, [kernel, OUTPUTS], form, 1);
        shape.norm = false;
        let unused = vec![0.0; OUTPUTS];
        let (output, saved) = kernels::forward_new(&shape, &input, &scaled, &unused, &shift, 0.0);
        let dims = [IMAGES[0], shape.out_height(), shape.out_width(), OUTPUTS];
        let slopes = host(random(5, dims, &device));
        let found = kernels::backward(&shape, &input, &scaled, &unused, &saved, &slopes, true);
        let by_weight = found
            .weight
            .iter()
            .zip(scale.iter().cycle())
            .map(|(d, s)| d * s)
            .collect();
        let mut by_scale = vec![0.0; OUTPUTS];
        for (place, (d, w)) in found.weight.iter().zip(&weight).enumerate() {
            by_scale[place % OUTPUTS] += d * w;
        }
        vec![output, found.input.unwrap(), by_weight, by_scale, found.beta]
    }

    #[test]
    fn under_fixed_statistics_every_form_agrees_with_the_kernels_and_so_do_the_gradients() {
        for (kernel, form) in forms() {
            let stock = run(kernel, |input, weight, scale, shift| {
                (
                    with_fixed_statistics(form, input, weight, scale, shift),
                    Vec::new(),
                )
            });
            let what = format!("{kernel}, {form:?}");
            compare(&what, &stock, &by_the_kernels(kernel, form));
            let device = Device::flex();
            let ours = fused::with_fixed_statistics(
                form,
                random(1, IMAGES, &device),
                random(2, [kernel, kernel, IMAGES[3], OUTPUTS], &device),
                random(3, [OUTPUTS], &device),
                random(4, [OUTPUTS], &device),
            );
            assert_close(&what, &stock[0], &host(ours));
        }
    }

    #[test]
    fn what_follows_a_convolution_is_the_block_after_it() {
        // A 1x1 convolution is the same products in every program, so that maps and gradients come from it alike.
        let bare = BlockForm {
            padding: 0,
            activation: Activation::Identity,
            pool: false,
        };
        let maps = |input: Tensor<4>, weight: Tensor<4>| convolve(bare, input, weight).permute([0, 2, 3, 1]);
        let normalised = run(1, |input, weight, gamma, beta| {
            let found = norm_relu_pool(maps(input, weight), gamma, beta);
            (found.output, vec![found.mean, found.variance])
        });
        let whole = run(1, |input, weight, gamma, beta| {
            let found = fused::with_batch_statistics(RELU_POOL, input, weight, gamma, beta);
            (found.output, vec![found.mean, found.variance])
        });
        compare("norm", &normalised, &whole);
        let affine = run(1, |input, weight, scale, shift| {
            (affine_relu_pool(maps(input, weight), scale, shift), Vec::new())
        });
        compare("affine", &affine, &by_the_kernels(1, RELU_POOL));
    }
}
