//! A multilayer perceptron: fully connected layers with ReLU and without normalisation.
//!
//! With two layers of 40 units it is the network of the regression experiment of Finn, Abbeel, Levine 2017
//! (section 5.1); the linear output layer belongs to the method.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use rand_chacha::ChaCha8Rng;

use super::{Built, Encoder, EncoderRequest, EncoderSpec};
use crate::data::ImageShape;
use crate::error::Error;
use crate::inner::Layer;
use crate::layers::{Linear, check_sizes};
use crate::norm::Pass;
use crate::options::{OptionKind, OptionSpec};

pub static SPEC: EncoderSpec = EncoderSpec {
    name: "mlp",
    summary: "fully connected layers with ReLU, without normalisation",
    paper: "Finn, Abbeel, Levine 2017, Model-Agnostic Meta-Learning, section 5.1",
    options: &[
        OptionSpec {
            name: "depth",
            kind: OptionKind::Integer(1, 16),
            default: "2",
            help: "hidden layers",
        },
        OptionSpec {
            name: "units",
            kind: OptionKind::Integer(1, 8192),
            default: "40",
            help: "units of each hidden layer",
        },
    ],
    image_size: None,
    external: None,
    build,
};

/// The network; see the module.
#[derive(Module, Debug)]
pub struct Mlp {
    layers: Vec<Linear>,
}

fn build(request: &EncoderRequest<'_>, rng: &mut ChaCha8Rng) -> Result<Built, Error> {
    let units = request.options.integer("units");
    let mut inputs = request.image.len();
    let depth = request.options.integer("depth");
    // The second matrix has all further layers side by side.
    check_sizes(
        request.most_weights,
        &[(inputs, units), (units, (depth - 1) * units)],
    )?;
    let layers = (0..depth)
        .map(|_| {
            let layer = Linear::for_relu(inputs, units, rng, request.device);
            inputs = units;
            layer
        })
        .collect();
    Ok(Built {
        encoder: Encoder::Mlp(Mlp { layers }),
        maps: ImageShape {
            height: 1,
            width: 1,
            channels: units,
        },
    })
}

impl Mlp {
    /// `[n, height, width, channels]` → `[n, 1, 1, units]`.
    pub fn forward(&self, images: Tensor<4>, _pass: &mut Pass) -> Tensor<4> {
        let features = self
            .layers
            .iter()
            .fold(images.flatten::<2>(1, 3), |x, layer| relu(layer.forward(x)));
        let [n, units] = features.dims();
        features.reshape([n, 1, 1, units])
    }

    /// Its layers as a chain.
    pub fn layers(&self) -> Vec<Layer> {
        let layer = |layer: &Linear| Layer::Linear {
            weight: layer.weight.dims(),
            relu: true,
        };
        self.layers.iter().map(layer).collect()
    }
}
