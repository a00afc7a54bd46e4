//! A trained encoder as an ONNX file, for programs that know nothing of kshot: `images` `[n, height, width, channels]` in, as
//! kshot takes them, `embeddings` `[n, features]` out, under running statistics.
//!
//! The messages are those of the format's `onnx.proto` that an encoder needs, with their field numbers.

use prost::Message;

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

/// Version of the format and of its operators.
const IR_VERSION: i64 = 8;
const OPERATORS: i64 = 13;

/// The bytes of an ONNX file of `file`'s encoder.
///
/// # Errors
/// An encoder that isn't a chain of blocks and dense layers, and weights that don't fit it.
pub fn encoder(file: &ModelFile) -> Result<Vec<u8>, Error> {
    let settings = file.resolve()?;
    let device = device::find("flex")?;
    let request = EncoderRequest {
        image: file.image,
        options: &settings.encoder_options,
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
    let features = built.maps.len();
    Ok(graph.finish(&file.name, file.image, features).encode_to_vec())
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
        }
    }
}

/// `TensorProto.DataType.FLOAT`.
const FLOAT: i32 = 1;

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(string, tag = "2")]
    producer_name: String,
    #[prost(string, tag = "3")]
    producer_version: String,
    #[prost(string, tag = "6")]
    doc: String,
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphMessage>,
    #[prost(message, repeated, tag = "8")]
    operators: Vec<OperatorSet>,
}

#[derive(Clone, PartialEq, Message)]
struct OperatorSet {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct GraphMessage {
    #[prost(message, repeated, tag = "1")]
    nodes: Vec<Node>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "5")]
    constants: Vec<Constant>,
    #[prost(message, repeated, tag = "11")]
    inputs: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    outputs: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    operator: String,
    #[prost(message, repeated, tag = "5")]
    attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(float, optional, tag = "2")]
    float: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    integer: Option<i64>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    integers: Vec<i64>,
    /// `AttributeProto.AttributeType`: 1 float, 2 integer, 7 integers.
    #[prost(int32, tag = "20")]
    kind: i32,
}

impl Attribute {
    fn of_float(name: &str, value: f32) -> Self {
        Self {
            name: name.to_owned(),
            float: Some(value),
            kind: 1,
            ..Self::default()
        }
    }

    fn of_integer(name: &str, value: i64) -> Self {
        Self {
            name: name.to_owned(),
            integer: Some(value),
            kind: 2,
            ..Self::default()
        }
    }

    fn of_integers(name: &str, values: Vec<i64>) -> Self {
        Self {
            name: name.to_owned(),
            integers: values,
            kind: 7,
            ..Self::default()
        }
    }
}

/// A `TensorProto` of floats.
#[derive(Clone, PartialEq, Message)]
struct Constant {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(float, repeated, tag = "4")]
    floats: Vec<f32>,
    #[prost(string, tag = "8")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    kind: Option<TypeMessage>,
}

impl ValueInfo {
    /// A tensor of any number of rows of these sizes.
    fn tensor(name: &str, sizes: &[usize]) -> Self {
        let any = Dimension {
            value: None,
            parameter: Some("n".to_owned()),
        };
        let sizes = sizes.iter().map(|&size| Dimension {
            value: Some(size as i64),
            parameter: None,
        });
        Self {
            name: name.to_owned(),
            kind: Some(TypeMessage {
                tensor: Some(TensorType {
                    element: FLOAT,
                    shape: Some(Shape {
                        dimensions: std::iter::once(any).chain(sizes).collect(),
                    }),
                }),
            }),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct TypeMessage {
    #[prost(message, optional, tag = "1")]
    tensor: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(int32, tag = "1")]
    element: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "1")]
    dimensions: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(int64, optional, tag = "1")]
    value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    parameter: Option<String>,
}

#[cfg(test)]
mod tests;
