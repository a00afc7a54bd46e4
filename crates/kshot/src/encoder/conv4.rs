//! Conv4: four blocks of 3×3 convolution, batch normalisation, ReLU and 2×2 max-pool.
//!
//! The encoder of Vinyals et al. 2016 (section 4.1.1), and since then of nearly every few-shot
//! paper. With 64 filters a 28×28 image becomes a vector of 64 numbers, an 84×84 one of 1,600.

use burn::module::Module;
use burn::tensor::Tensor;
use rand_chacha::ChaCha8Rng;

use super::{Built, Encoder, EncoderRequest, EncoderSpec};
use crate::block::ConvBlock;
use crate::data::ImageShape;
use crate::error::Error;
use crate::inner::Layer;
use crate::layers::check_sizes;
use crate::norm::Pass;
use crate::ops::conv_block::{Activation, BlockForm};
use crate::options::{OptionKind, OptionSpec};

pub static SPEC: EncoderSpec = EncoderSpec {
    name: "conv4",
    summary: "four 3x3 convolution blocks, each with batch norm, ReLU and 2x2 max-pool",
    paper: "Vinyals et al. 2016, Matching Networks for One Shot Learning, section 4.1.1",
    options: &[OptionSpec {
        name: "filters",
        kind: OptionKind::Integer(1, 1024),
        default: "64",
        help: "filters of each block",
    }],
    image_size: None,
    external: None,
    build,
};

const FORM: BlockForm = BlockForm {
    padding: 1,
    activation: Activation::Relu,
    pool: true,
};
const BLOCKS: usize = 4;

/// The network; see the module.
#[derive(Module, Debug)]
pub struct Conv4 {
    blocks: Vec<ConvBlock>,
}

fn build(request: &EncoderRequest<'_>, rng: &mut ChaCha8Rng) -> Result<Built, Error> {
    let smallest = 1 << BLOCKS;
    let image = request.image;
    if image.height < smallest || image.width < smallest {
        return Err(Error::ImageTooSmall {
            encoder: SPEC.name,
            image,
            smallest,
        });
    }
    let filters = request.options.integer("filters");
    check_sizes(
        request.most_weights,
        &[(9 * image.channels, filters), (9 * filters, filters)],
    )?;
    let blocks = (0..BLOCKS)
        .map(|block| {
            let c_in = if block == 0 { image.channels } else { filters };
            ConvBlock::new(3, c_in, filters, FORM, rng, request.device)
        })
        .collect();
    let maps = ImageShape {
        height: image.height / smallest,
        width: image.width / smallest,
        channels: filters,
    };
    Ok(Built {
        encoder: Encoder::Conv4(Conv4 { blocks }),
        maps,
    })
}

impl Conv4 {
    /// `[n, height, width, channels]` → `[n, height / 16, width / 16, filters]`.
    pub fn forward(&self, images: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        ConvBlock::forward_all(&self.blocks, images, pass)
    }

    /// Its blocks as a chain for `image`s.
    pub fn layers(&self, image: ImageShape) -> Vec<Layer> {
        ConvBlock::chain(&self.blocks, (image.height, image.width))
    }
}
