//! ResNet-12: four residual blocks of three 3×3 convolutions each, for larger and coloured images.
//!
//! The encoder of Oreshkin et al. 2018 (TADAM) and Lee et al. 2019 (MetaOptNet), here with 64, 128,
//! 256 and 512 filters. A block is conv → norm → LeakyReLU(0.1), twice; conv → norm; plus a 1×1
//! convolution and norm of its input; LeakyReLU; 2×2 max-pool. The last maps are averaged over their pixels.
//!
//! Deviations: no DropBlock.

use burn::module::Module;
use burn::tensor::Tensor;
use rand_chacha::ChaCha8Rng;

use super::{Built, Encoder, EncoderRequest, EncoderSpec};
use crate::block::ConvBlock;
use crate::data::ImageShape;
use crate::error::Error;
use crate::layers::check_sizes;
use crate::norm::Pass;
use crate::ops::conv_block::{Activation, BlockForm};
use crate::ops::join::join;
use crate::options::{OptionKind, OptionSpec};

pub static SPEC: EncoderSpec = EncoderSpec {
    name: "resnet12",
    summary: "four residual blocks of three 3x3 convolutions, averaged over the last map",
    paper: "Lee et al. 2019, Meta-Learning with Differentiable Convex Optimization, section 4.1",
    options: &[OptionSpec {
        name: "width",
        kind: OptionKind::Integer(1, 512),
        default: "64",
        help: "filters of the first residual block; each later one has twice as many",
    }],
    image_size: None,
    external: None,
    build,
};

const SLOPE: f32 = 0.1;
const ACTIVE: BlockForm = BlockForm {
    padding: 1,
    activation: Activation::LeakyRelu(SLOPE),
    pool: false,
};
const LINEAR: BlockForm = BlockForm {
    padding: 1,
    activation: Activation::Identity,
    pool: false,
};
const SHORTCUT: BlockForm = BlockForm {
    padding: 0,
    activation: Activation::Identity,
    pool: false,
};
const BLOCKS: u32 = 4;

/// The network; see the module.
#[derive(Module, Debug)]
pub struct ResNet12 {
    blocks: Vec<ResidualBlock>,
}

#[derive(Module, Debug)]
struct ResidualBlock {
    first: ConvBlock,
    second: ConvBlock,
    third: ConvBlock,
    shortcut: ConvBlock,
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
    let width = request.options.integer("width");
    let widest = width << (BLOCKS - 1);
    check_sizes(
        request.most_weights,
        &[(9 * image.channels, width), (9 * widest, widest)],
    )?;
    let mut c_in = image.channels;
    let blocks = (0..BLOCKS)
        .map(|block| {
            let c_out = width << block;
            let mut conv =
                |kernel, c_in, form| ConvBlock::new(kernel, c_in, c_out, form, rng, request.device);
            let block = ResidualBlock {
                first: conv(3, c_in, ACTIVE),
                second: conv(3, c_out, ACTIVE),
                third: conv(3, c_out, LINEAR),
                shortcut: conv(1, c_in, SHORTCUT),
            };
            c_in = c_out;
            block
        })
        .collect();
    let maps = ImageShape {
        height: 1,
        width: 1,
        channels: c_in,
    };
    Ok(Built {
        encoder: Encoder::ResNet12(ResNet12 { blocks }),
        maps,
    })
}

impl ResNet12 {
    /// `[n, height, width, channels]` → `[n, 1, 1, 8 * width]`.
    pub fn forward(&self, images: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        let maps = self
            .blocks
            .iter()
            .fold(images, |maps, block| block.forward(maps, pass));
        maps.mean_dims(&[1, 2])
    }
}

impl ResidualBlock {
    fn forward(&self, input: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        let shortcut = self.shortcut.forward(input.clone(), pass);
        let maps = self.first.forward(input, pass);
        let maps = self.second.forward(maps, pass);
        let maps = self.third.forward(maps, pass);
        join(maps, shortcut, SLOPE)
    }
}
