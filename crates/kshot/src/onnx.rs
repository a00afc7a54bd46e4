//! ONNX files: a trained encoder as one, and the image models of other programs as encoders.
//!
//! [`encoder`] writes for programs that know nothing of kshot: `images` `[n, height, width, channels]` in, as kshot takes them,
//! `embeddings` `[n, features]` out, under running statistics. An [`OnnxFile`] is one that any program wrote, and a [`Session`]
//! computes it (feature `onnx`).

#[cfg(not(feature = "onnx"))]
mod absent;
mod description;
#[cfg(feature = "onnx")]
mod engine;
mod file;
mod messages;
mod session;

use prost::Message;

use crate::classifier::Input;
use crate::data::ImageShape;
use crate::device;
use crate::encoder::EncoderRequest;
use crate::error::Error;
use crate::inner::Layer;
use crate::layers::MOST_WEIGHTS;
use crate::model_file::ModelFile;
use crate::named::Named;
use crate::ops::conv_block::{Activation, EPSILON};
use crate::parameters;
use crate::random;
use crate::settings::Settings;
use messages::{Attribute, Constant, Entry, FLOAT, GraphMessage, Model, Node, OperatorSet, ValueInfo};

use file::KEY;

pub use description::{Description, Distance, Layout};
pub use file::OnnxFile;
pub use session::Session;

/// Version of the format and of its operators.
const IR_VERSION: i64 = 8;
const OPERATORS: i64 = 13;

/// The bytes of an ONNX file of `file`'s encoder, with its [`Description`] among them.
///
/// # Errors
/// An encoder that isn't a chain of blocks and dense layers, and weights that don't fit it.
pub fn encoder(file: &ModelFile) -> Result<Vec<u8>, Error> {
    if let Some(bytes) = &file.encoder {
        return Ok(bytes.to_vec());
    }
    let settings = file.resolve()?;
    let device = device::find("flex")?;
    let request = EncoderRequest {
        image: file.image,
        options: &settings.encoder_options,
        external: None,
        device: &device,
        most_weights: MOST_WEIGHTS,
    };
    let built = (settings.encoder.build)(&request, &mut random::stream(0, &[]))?;
    let layers = built.encoder.layers(file.image).map_err(|_| Error::Setting {
        name: "encoder",
        problem: format!(
            "only chains of blocks can be written as ONNX (conv4, mlp, relation); this model has {}",
            settings.encoder.name
        ),
    })?;
    let mut arrays = parameters::list(&built.encoder).into_iter().map(|parameter| {
        let name = format!("encoder.{}", parameter.name);
        let found = file.weights.iter().find(|array| array.name == name);
        found
            .filter(|array| array.shape == parameter.shape)
            .ok_or_else(|| Error::Setting {
                name: "encoder",
                problem: format!(
                    "the model has no array `{name}` of the shape {:?}",
                    parameter.shape
                ),
            })
    });
    let mut graph = Graph::new();
    for (number, layer) in layers.into_iter().enumerate() {
        let mut next = || arrays.next().unwrap_or_else(|| Err(missing()));
        match layer {
            Layer::Block { weight, form, .. } => {
                let [w, gamma, beta, mean, variance] = [next()?, next()?, next()?, next()?, next()?];
                graph.block(number, weight, form.padding, [w, gamma, beta, mean, variance]);
                graph.activation(form.activation);
                if form.pool {
                    graph.pool();
                }
            }
            Layer::Linear { weight, relu } => {
                graph.flatten();
                graph.linear(number, weight, [next()?, next()?]);
                if relu {
                    graph.activation(Activation::Relu);
                }
            }
        }
    }
    graph.flatten();
    let mut model = graph.finish(&file.name, file.image, built.maps.len());
    model.metadata = vec![Entry {
        key: KEY.to_owned(),
        value: description(&settings, file.image).to_text()?,
    }];
    Ok(model.encode_to_vec())
}

/// What the written file says of itself to a reader of ours.
fn description(settings: &Settings, image: ImageShape) -> Description {
    let Input { polarity, fit, .. } = Input::of(settings, image);
    Description {
        size: Some(image.height),
        channels: Some(image.channels),
        layout: Some(Layout::Nhwc),
        mean: vec![0.0],
        std: vec![1.0],
        output: None,
        fit,
        polarity,
        distance: match settings.method_options.text("distance") {
            "euclidean" => Distance::Euclidean,
            _ => Distance::Cosine,
        },
    }
}

fn missing() -> Error {
    Error::Setting {
        name: "encoder",
        problem: "the model has fewer arrays than its encoder".to_owned(),
    }
}

/// A graph under construction: each node takes the last one's output.
struct Graph {
    nodes: Vec<Node>,
    constants: Vec<Constant>,
    last: String,
    /// Whether the last output is `[n, channels, height, width]`, or else `[n, features]`.
    maps: bool,
}

impl Graph {
    fn new() -> Self {
        let mut graph = Self {
            nodes: Vec::new(),
            constants: Vec::new(),
            last: "images".to_owned(),
            maps: true,
        };
        graph.node(
            "Transpose",
            &[],
            vec![Attribute::of_integers("perm", vec![0, 3, 1, 2])],
        );
        graph
    }

    fn node(&mut self, operator: &str, constants: &[String], attributes: Vec<Attribute>) {
        let output = format!("{}_{}", operator.to_lowercase(), self.nodes.len());
        let mut inputs = vec![std::mem::replace(&mut self.last, output.clone())];
        inputs.extend_from_slice(constants);
        self.nodes.push(Node {
            input: inputs,
            output: vec![output.clone()],
            name: output,
            operator: operator.to_owned(),
            attributes,
        });
    }

    fn constant(&mut self, name: String, shape: &[usize], values: Vec<f32>) -> String {
        self.constants.push(Constant {
            dims: shape.iter().map(|&size| size as i64).collect(),
            data_type: FLOAT,
            floats: values,
            integers: Vec::new(),
            name: name.clone(),
        });
        name
    }

    /// Convolution with the norm's running statistics in its weights: `scale = γ / √(σ² + ε)`, `shift = β − μ · scale`.
    fn block(&mut self, number: usize, shape: [usize; 4], padding: usize, arrays: [&Named; 5]) {
        let [kernel, _, c_in, c_out] = shape;
        let [w, gamma, beta, mean, variance] = arrays.map(|array| &array.values);
        let scale: Vec<f32> = gamma
            .iter()
            .zip(variance)
            .map(|(gamma, variance)| gamma / (variance + EPSILON).sqrt())
            .collect();
        let mut folded = Vec::with_capacity(w.len());
        for o in 0..c_out {
            for i in 0..c_in {
                for at in 0..kernel * kernel {
                    folded.push(w[(at * c_in + i) * c_out + o] * scale[o]);
                }
            }
        }
        let shift = (0..c_out).map(|o| beta[o] - mean[o] * scale[o]).collect();
        let weight = self.constant(
            format!("block{number}.weight"),
            &[c_out, c_in, kernel, kernel],
            folded,
        );
        let bias = self.constant(format!("block{number}.bias"), &[c_out], shift);
        let pads = vec![padding as i64; 4];
        self.node(
            "Conv",
            &[weight, bias],
            vec![
                Attribute::of_integers("kernel_shape", vec![kernel as i64; 2]),
                Attribute::of_integers("pads", pads),
            ],
        );
    }

    fn activation(&mut self, activation: Activation) {
        match activation {
            Activation::Identity => {}
            Activation::Relu => self.node("Relu", &[], Vec::new()),
            Activation::LeakyRelu(slope) => {
                self.node("LeakyRelu", &[], vec![Attribute::of_float("alpha", slope)]);
            }
        }
    }

    fn pool(&mut self) {
        let two = |name| Attribute::of_integers(name, vec![2, 2]);
        self.node("MaxPool", &[], vec![two("kernel_shape"), two("strides")]);
    }

    /// Features in kshot's order: pixel by pixel, channels last.
    fn flatten(&mut self) {
        if std::mem::take(&mut self.maps) {
            self.node(
                "Transpose",
                &[],
                vec![Attribute::of_integers("perm", vec![0, 2, 3, 1])],
            );
            self.node("Flatten", &[], vec![Attribute::of_integer("axis", 1)]);
        }
    }

    fn linear(&mut self, number: usize, shape: [usize; 2], [weight, bias]: [&Named; 2]) {
        let weight = self.constant(format!("dense{number}.weight"), &shape, weight.values.clone());
        let bias = self.constant(format!("dense{number}.bias"), &shape[1..], bias.values.clone());
        self.node("Gemm", &[weight, bias], Vec::new());
    }

    fn finish(mut self, name: &str, image: ImageShape, features: usize) -> Model {
        if let Some(last) = self.nodes.last_mut() {
            last.output = vec!["embeddings".to_owned()];
        }
        let sizes = [image.height, image.width, image.channels];
        Model {
            ir_version: IR_VERSION,
            producer_name: "kshot".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            doc: format!(
                "Images of {image} in [0, 1] (line drawings: ink 1, paper 0) to embeddings of {features} features."
            ),
            graph: Some(GraphMessage {
                nodes: self.nodes,
                name: name.to_owned(),
                constants: self.constants,
                inputs: vec![ValueInfo::tensor("images", &sizes)],
                outputs: vec![ValueInfo::tensor("embeddings", &[features])],
            }),
            operators: vec![OperatorSet {
                domain: String::new(),
                version: OPERATORS,
            }],
            metadata: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
