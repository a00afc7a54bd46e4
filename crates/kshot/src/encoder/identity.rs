//! Identity: what comes in goes out, for data that is embedded already (`features:FILE`) and for raw pixels.
//!
//! With `--project N` a learned linear layer maps the numbers to N, so that there is something to train; without, heads
//! score the features as they are.

use burn::module::Module;
use burn::tensor::Tensor;
use rand_chacha::ChaCha8Rng;

use super::{Built, Encoder, EncoderRequest, EncoderSpec};
use crate::data::ImageShape;
use crate::error::Error;
use crate::layers::{Linear, check_sizes};
use crate::norm::Pass;
use crate::options::{OptionKind, OptionSpec};

pub static SPEC: EncoderSpec = EncoderSpec {
    name: "identity",
    summary: "the numbers themselves, for features that are computed already or raw pixels, or a learned projection of them",
    paper: "none: it adds nothing",
    options: &[OptionSpec {
        name: "project",
        kind: OptionKind::Integer(0, 65_536),
        default: "0",
        help: "numbers that a learned linear layer maps the features to, 0 for no layer",
    }],
    image_size: None,
    external: None,
    build,
};

/// The network; see the module.
#[derive(Module, Debug)]
pub struct Identity {
    projection: Option<Linear>,
}

fn build(request: &EncoderRequest<'_>, rng: &mut ChaCha8Rng) -> Result<Built, Error> {
    let outputs = request.options.integer("project");
    check_sizes(request.most_weights, &[(request.image.len(), outputs)])?;
    let projection = (outputs > 0).then(|| Linear::new(request.image.len(), outputs, rng, request.device));
    let maps = match outputs {
        0 => request.image,
        channels => ImageShape {
            height: 1,
            width: 1,
            channels,
        },
    };
    Ok(Built {
        encoder: Encoder::Identity(Identity { projection }),
        maps,
    })
}

impl Identity {
    /// `[n, height, width, channels]` → the same, or `[n, 1, 1, project]`.
    pub fn forward(&self, images: Tensor<4>, _pass: &mut Pass) -> Tensor<4> {
        match &self.projection {
            None => images,
            Some(projection) => {
                let projected = projection.forward(images.flatten(1, 3));
                let [n, features] = projected.dims();
                projected.reshape([n, 1, 1, features])
            }
        }
    }
}
