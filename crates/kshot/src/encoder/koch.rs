//! Koch's twin: four convolutions with large windows, then a fully connected layer of 4,096 sigmoids.
//!
//! Koch, Zemel, Salakhutdinov 2015, figure 4: on 105×105 images, convolutions of 64@10×10, 128@7×7, 128@4×4 and
//! 256@4×4 without padding, each with a bias and ReLU, the first three with a 2×2 max-pool; then 4,096 sigmoid
//! units. No batch normalisation. Weights and biases start as section 3.2 says: convolutions from N(0, 0.01²), the
//! fully connected layer from N(0, 0.2²), all biases from N(0.5, 0.01²).
//!
//! Other sizes from 65×65 pixels on work; the fully connected layer then has as many inputs as the last maps have
//! values. The windows are too large for the block kernels: these are the tensor engine's own convolutions.

use burn::module::{Module, Param};
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::module::{conv2d, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use super::{Built, Encoder, EncoderRequest, EncoderSpec};
use crate::data::ImageShape;
use crate::error::Error;
use crate::layers::{Linear, check_sizes};
use crate::norm::Pass;
use crate::options::{OptionKind, OptionSpec};

pub static SPEC: EncoderSpec = EncoderSpec {
    name: "koch",
    summary: "four convolutions of 10x10, 7x7, 4x4 and 4x4, then 4,096 sigmoid units, on 105x105 images",
    paper: "Koch, Zemel, Salakhutdinov 2015, Siamese Neural Networks for One-shot Image Recognition, figure 4",
    options: &[
        OptionSpec {
            name: "filters",
            kind: OptionKind::Integer(1, 1024),
            default: "64",
            help: "filters of the first convolution; the others have 2, 2 and 4 times as many",
        },
        OptionSpec {
            name: "units",
            kind: OptionKind::Integer(1, 65_536),
            default: "4096",
            help: "sigmoid units of the last layer",
        },
    ],
    image_size: Some(105),
    external: None,
    build,
};

/// Window, multiple of `--filters`, and whether a 2×2 max-pool follows.
const CONVOLUTIONS: [(usize, usize, bool); 4] = [(10, 1, true), (7, 2, true), (4, 2, true), (4, 4, false)];
/// The smallest side that leaves the last convolution one pixel.
const SMALLEST: usize = 65;

/// Standard deviations of section 3.2.
const CONVOLUTION_DEVIATION: f32 = 0.01;
const LINEAR_DEVIATION: f32 = 0.2;
const BIAS_MEAN: f32 = 0.5;
const BIAS_DEVIATION: f32 = 0.01;

/// The network; see the module.
#[derive(Module, Debug)]
pub struct Koch {
    convolutions: Vec<Convolution>,
    units: Linear,
}

#[derive(Module, Debug)]
struct Convolution {
    /// `[k, k, c_in, c_out]`.
    weight: Param<Tensor<4>>,
    /// `[c_out]`.
    bias: Param<Tensor<1>>,
    #[module(skip)]
    pool: bool,
}

fn build(request: &EncoderRequest<'_>, rng: &mut ChaCha8Rng) -> Result<Built, Error> {
    let image = request.image;
    if image.height < SMALLEST || image.width < SMALLEST {
        return Err(Error::ImageTooSmall {
            encoder: SPEC.name,
            image,
            smallest: SMALLEST,
        });
    }
    let (filters, units) = (
        request.options.integer("filters"),
        request.options.integer("units"),
    );
    let mut c_in = image.channels;
    for (window, multiple, _) in CONVOLUTIONS {
        check_sizes(
            request.most_weights,
            &[(window * window * c_in, multiple * filters)],
        )?;
        c_in = multiple * filters;
    }
    let mut maps = image;
    let convolutions = CONVOLUTIONS
        .into_iter()
        .map(|(window, multiple, pool)| {
            let shape = [window, window, maps.channels, multiple * filters];
            maps = ImageShape {
                height: output_side(maps.height, window, pool),
                width: output_side(maps.width, window, pool),
                channels: multiple * filters,
            };
            Convolution {
                weight: normal(shape, 0.0, CONVOLUTION_DEVIATION, rng, request.device),
                bias: normal([maps.channels], BIAS_MEAN, BIAS_DEVIATION, rng, request.device),
                pool,
            }
        })
        .collect();
    check_sizes(request.most_weights, &[(maps.len(), units)])?;
    let units = Linear {
        weight: normal([maps.len(), units], 0.0, LINEAR_DEVIATION, rng, request.device),
        bias: normal([units], BIAS_MEAN, BIAS_DEVIATION, rng, request.device),
    };
    let maps = ImageShape {
        height: 1,
        width: 1,
        channels: units.bias.dims()[0],
    };
    Ok(Built {
        encoder: Encoder::Koch(Koch { convolutions, units }),
        maps,
    })
}

impl Koch {
    /// `[n, height, width, channels]` → `[n, 1, 1, units]`, in `(0, 1)`.
    pub fn forward(&self, images: Tensor<4>, _pass: &mut Pass) -> Tensor<4> {
        // Stock convolutions are channels-first.
        let maps = self
            .convolutions
            .iter()
            .fold(images.permute([0, 3, 1, 2]), |maps, layer| layer.forward(maps));
        let rows = maps.permute([0, 2, 3, 1]).flatten::<2>(1, 3);
        let features = sigmoid(self.units.forward(rows));
        let [n, units] = features.dims();
        features.reshape([n, 1, 1, units])
    }
}

impl Convolution {
    /// `[n, c_in, height, width]` → `[n, c_out, out_height, out_width]`.
    fn forward(&self, maps: Tensor<4>) -> Tensor<4> {
        let options = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
        let weight = self.weight.val().permute([3, 2, 0, 1]);
        let maps = relu(conv2d(maps, weight, Some(self.bias.val()), options));
        if self.pool {
            max_pool2d(maps, MaxPoolOptions::new([2, 2]))
        } else {
            maps
        }
    }
}

/// Height or width after a convolution of `window`, and a pool where there is one.
fn output_side(side: usize, window: usize, pool: bool) -> usize {
    let convolved = (side + 1).saturating_sub(window);
    if pool { convolved / 2 } else { convolved }
}

/// A parameter drawn from N(`mean`, `deviation`²).
fn normal<const D: usize>(
    shape: [usize; D],
    mean: f32,
    deviation: f32,
    rng: &mut ChaCha8Rng,
    device: &Device,
) -> Param<Tensor<D>> {
    let normal = Normal::new(mean, deviation).unwrap_or_else(|_| unreachable!("a positive deviation"));
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| normal.sample(rng)).collect();
    Param::from_data(TensorData::new(values, shape), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_maps_have_the_sides_of_figure_4() {
        let mut side = 105;
        let sides: Vec<usize> = CONVOLUTIONS
            .iter()
            .map(|&(window, _, pool)| {
                side = output_side(side, window, pool);
                side
            })
            .collect();
        assert_eq!(sides, [48, 21, 9, 6]);
        let smallest = |side| {
            CONVOLUTIONS
                .iter()
                .fold(side, |side, &(window, _, pool)| output_side(side, window, pool))
        };
        assert_eq!((smallest(SMALLEST - 1), smallest(SMALLEST)), (0, 1));
    }
}
