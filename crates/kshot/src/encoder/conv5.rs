//! Conv5: five blocks of 3×3 convolution, ReLU and 2×2 max-pool, then a dense layer; no norm and no bias anywhere.
//!
//! The network of Munkhdalai & Yu 2017 (section 4.1.1), whose weights a meta-learner can generate: there is nothing in it
//! but weights. A block whose maps are a single pixel high or wide has no pool (28×28 images: the fifth).

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;

use super::{Built, Encoder, EncoderRequest, EncoderSpec};
use crate::block::he_normal;
use crate::data::ImageShape;
use crate::error::Error;
use crate::layers::{check_sizes, uniform};
use crate::norm::Pass;
use crate::ops::layered;
use crate::options::{OptionKind, OptionSpec};

pub static SPEC: EncoderSpec = EncoderSpec {
    name: "conv5",
    summary: "five 3x3 convolution blocks with ReLU and 2x2 max-pool, and a dense layer; no norm, no bias",
    paper: "Munkhdalai & Yu 2017, Meta Networks, section 4.1.1",
    options: &[OptionSpec {
        name: "filters",
        kind: OptionKind::Integer(1, 1024),
        default: "64",
        help: "filters of each block, and width of the dense layer",
    }],
    image_size: None,
    external: None,
    build,
};

const BLOCKS: usize = 5;

/// The network; see the module.
#[derive(Module, Debug)]
pub struct Conv5 {
    /// `[3, 3, c_in, filters]` each.
    pub blocks: Vec<Param<Tensor<4>>>,
    /// `[height * width * filters of the last maps, filters]`.
    pub dense: Param<Tensor<2>>,
}

fn build(request: &EncoderRequest<'_>, rng: &mut ChaCha8Rng) -> Result<Built, Error> {
    let (image, filters) = (request.image, request.options.integer("filters"));
    let maps = ImageShape {
        height: 1,
        width: 1,
        channels: filters,
    };
    let matrices = [
        (9 * image.channels, filters),
        (9 * filters, filters),
        (features(image, filters), filters),
    ];
    check_sizes(request.most_weights, &matrices)?;
    Ok(Built {
        encoder: Encoder::Conv5(Conv5::new(image, filters, rng, request.device)),
        maps,
    })
}

impl Conv5 {
    /// One with fresh weights for images of this shape.
    pub fn new(image: ImageShape, filters: usize, rng: &mut ChaCha8Rng, device: &Device) -> Self {
        let block = |block: usize, rng: &mut ChaCha8Rng| {
            let c_in = if block == 0 { image.channels } else { filters };
            fresh_block([3, 3, c_in, filters], rng, device)
        };
        let features = features(image, filters);
        Self {
            blocks: (0..BLOCKS).map(|index| block(index, rng)).collect(),
            dense: uniform(features, filters, features, rng, device),
        }
    }

    /// Another network of the same form with fresh weights.
    pub fn like(&self, rng: &mut ChaCha8Rng, device: &Device) -> Self {
        let block = |weight: &Param<Tensor<4>>, rng: &mut ChaCha8Rng| fresh_block(weight.dims(), rng, device);
        let [features, filters] = self.dense.dims();
        Self {
            blocks: self.blocks.iter().map(|weight| block(weight, rng)).collect(),
            dense: uniform(features, filters, features, rng, device),
        }
    }

    /// `[n, height, width, channels]` → `[n, 1, 1, filters]`.
    pub fn forward(&self, images: Tensor<4>, _pass: &mut Pass) -> Tensor<4> {
        let maps = self.blocks.iter().fold(images, |maps, weight| {
            let [_, height, width, _] = maps.dims();
            layered::convolution(maps, weight.val().unsqueeze(), pools(height, width))
        });
        let dense = maps.flatten::<2>(1, 3).matmul(self.dense.val());
        dense.unsqueeze_dims(&[1, 1])
    }
}

/// Values of the last maps.
fn features(image: ImageShape, filters: usize) -> usize {
    let (mut height, mut width) = (image.height, image.width);
    for _ in 0..BLOCKS {
        if pools(height, width) {
            (height, width) = (height / 2, width / 2);
        }
    }
    height * width * filters
}

fn fresh_block(shape: [usize; 4], rng: &mut ChaCha8Rng, device: &Device) -> Param<Tensor<4>> {
    let fan_in: usize = shape[..3].iter().product();
    let values = he_normal(fan_in, fan_in * shape[3], rng);
    Param::from_data(TensorData::new(values, shape), device)
}

/// Whether a block pools maps of this size.
pub fn pools(height: usize, width: usize) -> bool {
    height > 1 && width > 1
}
