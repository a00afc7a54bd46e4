//! The written file, read back and computed node by node in plain code, against the encoder itself.

#[cfg(feature = "onnx")]
mod reading;

use burn::tensor::{Tensor, TensorData};
use rand::RngExt;

use super::*;
use crate::learner::logits_on_host;
use crate::model;
use crate::named;
use crate::norm::Norm;
use crate::settings::{Layer as Settings_, Settings};

/// A tensor with its sizes.
struct Value {
    sizes: Vec<usize>,
    numbers: Vec<f64>,
}

impl Value {
    fn at(&self, place: [usize; 4]) -> f64 {
        let flat = place
            .iter()
            .zip(&self.sizes)
            .fold(0, |flat, (at, size)| flat * size + at);
        self.numbers[flat]
    }

    fn of(sizes: [usize; 4], value: impl Fn([usize; 4]) -> f64) -> Self {
        let mut numbers = Vec::new();
        for a in 0..sizes[0] {
            for b in 0..sizes[1] {
                for c in 0..sizes[2] {
                    for d in 0..sizes[3] {
                        numbers.push(value([a, b, c, d]));
                    }
                }
            }
        }
        Self {
            sizes: sizes.to_vec(),
            numbers,
        }
    }

    fn four(&self) -> [usize; 4] {
        [self.sizes[0], self.sizes[1], self.sizes[2], self.sizes[3]]
    }
}

fn run(graph: &GraphMessage, images: Value) -> Vec<f64> {
    let constant = |name: &str| {
        let found = graph
            .constants
            .iter()
            .find(|constant| constant.name == name)
            .unwrap();
        assert_eq!(found.data_type, FLOAT);
        Value {
            sizes: found.dims.iter().map(|&size| size as usize).collect(),
            numbers: found.floats.iter().map(|&value| f64::from(value)).collect(),
        }
    };
    assert_eq!(graph.inputs[0].name, "images");
    let (mut value, mut last) = (images, "images".to_owned());
    for node in &graph.nodes {
        assert_eq!(node.input[0], last, "a chain");
        last.clone_from(&node.output[0]);
        let integers = |name: &str| {
            let found = node.attributes.iter().find(|attribute| attribute.name == name);
            found
                .unwrap()
                .integers
                .iter()
                .map(|&value| value as usize)
                .collect::<Vec<_>>()
        };
        value = match node.operator.as_str() {
            "Transpose" => {
                let order = integers("perm");
                let from = value.four();
                Value::of([0, 1, 2, 3].map(|axis: usize| from[order[axis]]), |to| {
                    let mut at = [0; 4];
                    (0..4).for_each(|axis| at[order[axis]] = to[axis]);
                    value.at(at)
                })
            }
            "Conv" => {
                let (w, b) = (constant(&node.input[1]), constant(&node.input[2]));
                let (pad, [n, _, height, width]) = (integers("pads")[0], value.four());
                let [c_out, c_in, kernel, _] = w.four();
                let size = |side: usize| side + 2 * pad + 1 - kernel;
                Value::of([n, c_out, size(height), size(width)], |[image, o, y, x]| {
                    let mut sum = b.numbers[o];
                    for i in 0..c_in {
                        for dy in 0..kernel {
                            for dx in 0..kernel {
                                let (y, x) = ((y + dy).wrapping_sub(pad), (x + dx).wrapping_sub(pad));
                                if y < height && x < width {
                                    sum += value.at([image, i, y, x]) * w.at([o, i, dy, dx]);
                                }
                            }
                        }
                    }
                    sum
                })
            }
            "Relu" => Value {
                numbers: value.numbers.iter().map(|value| value.max(0.0)).collect(),
                sizes: value.sizes,
            },
            "MaxPool" => {
                assert_eq!(
                    (integers("kernel_shape"), integers("strides")),
                    (vec![2, 2], vec![2, 2])
                );
                let [n, c, height, width] = value.four();
                Value::of([n, c, height / 2, width / 2], |[image, c, y, x]| {
                    let pixel = |dy, dx| value.at([image, c, 2 * y + dy, 2 * x + dx]);
                    pixel(0, 0).max(pixel(0, 1)).max(pixel(1, 0)).max(pixel(1, 1))
                })
            }
            "Flatten" => Value {
                sizes: vec![value.sizes[0], value.sizes[1..].iter().product()],
                numbers: value.numbers,
            },
            "Gemm" => {
                let (w, b) = (constant(&node.input[1]), constant(&node.input[2]));
                let (inputs, outputs) = (w.sizes[0], w.sizes[1]);
                let rows = value.numbers.chunks_exact(inputs);
                let numbers = rows.flat_map(|row| {
                    (0..outputs)
                        .map(|o| {
                            b.numbers[o]
                                + (0..inputs)
                                    .map(|i| row[i] * w.numbers[i * outputs + o])
                                    .sum::<f64>()
                        })
                        .collect::<Vec<_>>()
                });
                Value {
                    numbers: numbers.collect(),
                    sizes: vec![value.sizes[0], outputs],
                }
            }
            other => panic!("{other}"),
        };
    }
    assert_eq!(
        (last.as_str(), graph.outputs[0].name.as_str()),
        ("embeddings", "embeddings")
    );
    value.numbers
}

/// A model whose every number is random, the norms' statistics too.
fn random_model(encoder: &str, image: ImageShape) -> ModelFile {
    let layer = [("method", "prototypical"), ("encoder", encoder)];
    let filters = ["conv4", "relation"]
        .contains(&encoder)
        .then_some(("filters", "5"));
    let layer: Settings_ = layer
        .into_iter()
        .chain(filters)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let settings = Settings::resolve(&[&layer]).unwrap();
    let learner = model::fresh(&settings, image).unwrap();
    let mut weights = named::from_parameters(learner.parameters(), &learner.read(), "");
    let mut rng = random::stream(3, &[]);
    for array in &mut weights {
        let least = if array.name.ends_with("running_variance") {
            0.5
        } else {
            -0.5
        };
        array
            .values
            .iter_mut()
            .for_each(|value| *value = rng.random_range(least..1.0));
    }
    ModelFile {
        name: "random".to_owned(),
        settings: settings.layer(),
        image,
        weights,
        encoder: None,
        card: String::new(),
        prototypes: None,
    }
}

#[test]
fn the_written_graph_computes_what_the_encoder_does() {
    for (encoder_name, image) in [
        ("conv4", ImageShape::square(35, 3)),
        ("relation", ImageShape::square(30, 1)),
        ("mlp", ImageShape::square(6, 2)),
    ] {
        let file = random_model(encoder_name, image);
        let bytes = encoder(&file).unwrap();
        let read = Model::decode(&bytes[..]).unwrap();
        assert_eq!(
            (read.ir_version, read.operators[0].version),
            (IR_VERSION, OPERATORS)
        );
        let mut rng = random::stream(4, &[]);
        let pixels: Vec<f32> = (0..2 * image.len()).map(|_| rng.random_range(0.0..1.0)).collect();
        let sizes = [2, image.height, image.width, image.channels];
        let found = run(
            &read.graph.unwrap(),
            Value {
                sizes: sizes.to_vec(),
                numbers: pixels.iter().map(|&value| f64::from(value)).collect(),
            },
        );
        let settings = file.resolve().unwrap();
        let learner =
            model::with_weights(&settings, image, &file.weights, std::path::Path::new("test")).unwrap();
        let images = Tensor::from_data(TensorData::new(pixels, sizes), learner.device());
        let expected = logits_on_host(learner.embed(images, Norm::Running));
        assert_eq!(found.len(), expected.len(), "{encoder_name}");
        let scale = expected
            .iter()
            .fold(0.0f64, |most, value| most.max(f64::from(value.abs())));
        for (found, expected) in found.iter().zip(&expected) {
            let error = (found - f64::from(*expected)).abs();
            assert!(error <= 1e-5 * scale, "{encoder_name}: {found} {expected}");
        }
    }
}

#[test]
fn what_is_no_chain_is_refused() {
    let mut file = random_model("conv4", ImageShape::square(28, 1));
    file.weights.pop();
    file.weights.remove(0);
    let error = encoder(&file).unwrap_err().to_string();
    assert!(error.contains("encoder.") || error.contains("array"), "{error}");
    let file = random_model("resnet12", ImageShape::square(28, 1));
    let error = encoder(&file).unwrap_err().to_string();
    assert!(error.contains("conv4, mlp, relation"), "{error}");
}
