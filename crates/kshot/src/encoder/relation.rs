//! The encoder of Relation networks: four 3×3 convolution blocks, of which only the first two pool.
//!
//! Sung et al. 2018, section 3.4: blocks 1 and 2 without padding and with a 2×2 max-pool, blocks 3 and
//! 4 padded and without a pool, so that a 28×28 image keeps 5×5 maps for the relation module.

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
    name: "relation",
    summary: "four 3x3 convolution blocks, two of them pooled: feature maps for relation networks",
    paper: "Sung et al. 2018, Learning to Compare: Relation Network for Few-Shot Learning, section 3.4",
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

const POOLED: BlockForm = BlockForm {
    padding: 0,
    activation: Activation::Relu,
    pool: true,
};
const PADDED: BlockForm = BlockForm {
    padding: 1,
    activation: Activation::Relu,
    pool: false,
};
const FORMS: [BlockForm; 4] = [POOLED, POOLED, PADDED, PADDED];
const SMALLEST: usize = 10;

/// The network; see the module.
#[derive(Module, Debug)]
pub struct RelationEncoder {
    blocks: Vec<ConvBlock>,
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
    let filters = request.options.integer("filters");
    check_sizes(
        request.most_weights,
        &[(9 * image.channels, filters), (9 * filters, filters)],
    )?;
    let mut maps = image;
    let blocks = FORMS
        .into_iter()
        .map(|form| {
            let block = ConvBlock::new(3, maps.channels, filters, form, rng, request.device);
            maps = ImageShape {
                height: ConvBlock::output_side(maps.height, 3, form),
                width: ConvBlock::output_side(maps.width, 3, form),
                channels: filters,
            };
            block
        })
        .collect();
    Ok(Built {
        encoder: Encoder::RelationEncoder(RelationEncoder { blocks }),
        maps,
    })
}

impl RelationEncoder {
    /// `[n, height, width, channels]` → `[n, (height - 6) / 4, (width - 6) / 4, filters]`, rounded down twice.
    pub fn forward(&self, images: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        ConvBlock::forward_all(&self.blocks, images, pass)
    }

    /// Its blocks as a chain for `image`s.
    pub fn layers(&self, image: ImageShape) -> Vec<Layer> {
        ConvBlock::chain(&self.blocks, (image.height, image.width))
    }
}
