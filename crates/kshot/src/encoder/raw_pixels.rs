//! Raw pixels: the images themselves as feature maps, for methods without any learned embedding.

use burn::module::Module;
use burn::tensor::Tensor;
use rand_chacha::ChaCha8Rng;

use super::{Built, Encoder, EncoderRequest, EncoderSpec};
use crate::error::Error;
use crate::norm::Pass;

pub static SPEC: EncoderSpec = EncoderSpec {
    name: "raw-pixels",
    summary: "the images as they are, nothing learned",
    paper: "Lake, Salakhutdinov, Tenenbaum 2015, Human-level concept learning, whose nearest-neighbour baseline it serves",
    options: &[],
    image_size: None,
    build,
};

/// The identity; see the module.
#[derive(Module, Debug)]
pub struct RawPixels {}

fn build(request: &EncoderRequest<'_>, _rng: &mut ChaCha8Rng) -> Result<Built, Error> {
    Ok(Built {
        encoder: Encoder::RawPixels(RawPixels {}),
        maps: request.image,
    })
}

impl RawPixels {
    /// `[n, height, width, channels]`, unchanged.
    pub fn forward(&self, images: Tensor<4>, _pass: &mut Pass) -> Tensor<4> {
        images
    }
}
