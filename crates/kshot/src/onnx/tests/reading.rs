//! Files of our own and of other programs as encoders.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::classifier::{Picture, Polarity};
use crate::onnx::messages::{Dimension, Shape};
use crate::trained::Trained;

const DESCRIPTION: &str = "mean = [0.1, 0.2, 0.3]\nstd = [0.5, 0.25, 0.2]\n";

fn node(operator: &str, inputs: &[&str], output: &str, attributes: Vec<Attribute>) -> Node {
    Node {
        input: inputs.iter().map(|name| name.to_string()).collect(),
        output: vec![output.to_owned()],
        name: output.to_owned(),
        operator: operator.to_owned(),
        attributes,
    }
}

/// A value of these sizes; 0 stands for any.
fn value(name: &str, sizes: &[i64]) -> ValueInfo {
    let dimensions = sizes.iter().map(|&size| Dimension {
        value: (size > 0).then_some(size),
        parameter: (size == 0).then(|| "n".to_owned()),
    });
    let mut value = ValueInfo::tensor(name, &[]);
    if let Some(tensor) = value.kind.as_mut().and_then(|kind| kind.tensor.as_mut()) {
        tensor.shape = Some(Shape {
            dimensions: dimensions.collect(),
        });
    }
    value
}

/// The mean of each channel, `[n, channels, height, width]` to `[n, channels, 1, 1]`, and the model's own second output.
fn means(input: &[i64]) -> Model {
    Model {
        ir_version: 8,
        graph: Some(GraphMessage {
            nodes: vec![
                node("GlobalAveragePool", &["x"], "means", Vec::new()),
                node("Relu", &["means"], "positive", Vec::new()),
            ],
            name: "means".to_owned(),
            inputs: vec![value("x", input)],
            outputs: vec![value("means", &[]), value("positive", &[])],
            ..GraphMessage::default()
        }),
        operators: vec![OperatorSet {
            domain: String::new(),
            version: 13,
        }],
        ..Model::default()
    }
}

fn described(model: &Model, description: &str) -> Arc<[u8]> {
    let mut model = model.clone();
    model.metadata.push(Entry {
        key: KEY.to_owned(),
        value: description.to_owned(),
    });
    model.encode_to_vec().into()
}

fn session(bytes: Arc<[u8]>) -> Result<Session, Error> {
    Session::open(&OnnxFile::from_bytes(bytes, Path::new("model.onnx"))?)
}

#[track_caller]
fn refused(model: &Model, description: &str, expected: &str) {
    let error = session(described(model, description)).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
    assert!(
        error.starts_with("model.onnx: ") && !error.contains('\n'),
        "{error}"
    );
}

fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1e-6f32, |most, value| most.max(value.abs()));
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-5 * scale, "{found} {expected}");
    }
}

#[test]
fn an_exported_encoder_gives_the_same_embeddings_as_the_model_that_it_came_from() {
    let folder = tempfile::tempdir().unwrap();
    for (name, image) in [
        ("conv4", ImageShape::square(35, 3)),
        ("relation", ImageShape::square(30, 1)),
        ("mlp", ImageShape::square(6, 1)),
    ] {
        let file = random_model(name, image);
        let path = folder.path().join(format!("{name}.onnx"));
        fs::write(&path, encoder(&file).unwrap()).unwrap();
        let (ours, theirs) = (
            Trained::new(file, Path::new(name)).unwrap(),
            Trained::open(&path).unwrap(),
        );
        let mut rng = random::stream(5, &[]);
        let pictures: Vec<Picture> = (0..3)
            .map(|_| {
                let pixels = (0..image.len()).map(|_| rng.random_range(0.0..1.0)).collect();
                Picture::from_values(pixels).unwrap()
            })
            .collect();
        let pictures: Vec<&Picture> = pictures.iter().collect();
        let found = theirs.embed(&pictures).unwrap();
        for (found, expected) in found.iter().zip(ours.embed(&pictures).unwrap()) {
            close(found, &expected);
        }
        assert_eq!(theirs.input(), ours.input());
        assert_eq!(theirs.learner().kernel(), ours.learner().kernel());

        // A model file holds all of it, and has the same number.
        let bytes = theirs.file().to_bytes().unwrap();
        let again = Trained::from_bytes(&bytes, Path::new("again")).unwrap();
        assert_eq!(again.id(), theirs.id());
        assert_eq!(again.embed(&pictures).unwrap(), found);
        assert_eq!(encoder(again.file()).unwrap(), fs::read(&path).unwrap());
    }
}

#[test]
fn layout_normalisation_and_output_are_those_of_the_description() {
    // Two pixels by two, colours in [0, 1].
    let pixels: Vec<f32> = (0..12).map(|at| at as f32 / 12.0).collect();
    let means_of: Vec<f32> = (0..3)
        .map(|channel| (0..4).map(|pixel| pixels[3 * pixel + channel]).sum::<f32>() / 4.0)
        .collect();
    let expected: Vec<f32> = [(0.1, 0.5), (0.2, 0.25), (0.3, 0.2)]
        .iter()
        .zip(&means_of)
        .map(|((mean, std), value)| (value - mean) / std)
        .collect();
    let first = format!("{DESCRIPTION}output = \"means\"\n");
    for input in [[0, 3, 2, 2], [1, 3, 2, 2]] {
        let session = session(described(&means(&input), &first)).unwrap();
        assert_eq!(
            (session.image(), session.features()),
            (ImageShape::square(2, 3), 3)
        );
        close(&session.embed(&pixels).unwrap(), &expected);
        assert!(session.embed(&pixels[1..]).is_err());
    }
    // Nothing is said of the sizes, and the channels lie last; the second output cuts what is below 0.
    let mut last = means(&[0, 0, 0, 0]);
    if let Some(graph) = &mut last.graph {
        let order = Attribute::of_integers("perm", vec![0, 3, 1, 2]);
        graph
            .nodes
            .insert(0, node("Transpose", &["x"], "first", vec![order]));
        graph.nodes[1].input = vec!["first".to_owned()];
    }
    let text = "mean = [0.5]\nstd = [2.0]\nlayout = \"nhwc\"\nsize = 2\nchannels = 3\noutput = \"positive\"\n\
                polarity = \"dark\"\nfit = \"stretch\"\ndistance = \"euclidean\"";
    let bytes = described(&last, text);
    let expected: Vec<f32> = means_of
        .iter()
        .map(|value| ((value - 0.5) / 2.0).max(0.0))
        .collect();
    close(
        &session(bytes.clone()).unwrap().embed(&pixels).unwrap(),
        &expected,
    );
    let file = OnnxFile::from_bytes(bytes, Path::new("dark.onnx")).unwrap();
    let trained = Trained::new(file.to_model_file(), Path::new("dark")).unwrap();
    assert_eq!(trained.name(), "dark");
    assert_eq!(trained.input().polarity, Polarity::Dark);
    assert_eq!(trained.input().fit, crate::data::folder::Fit::Stretch);
    assert_eq!(
        trained.learner().kernel(),
        Some(crate::method::Kernel::SquaredEuclidean)
    );
}

#[test]
fn the_description_lies_beside_the_file_and_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("means.onnx");
    let model = means(&[0, 3, 8, 8]);
    fs::write(&path, model.encode_to_vec()).unwrap();
    let error = Trained::open(&path).unwrap_err().to_string();
    for part in ["means.toml", "mean = [", "std = ["] {
        assert!(error.contains(part), "{error}");
    }
    fs::write(folder.path().join("means.toml"), DESCRIPTION).unwrap();
    let error = Trained::open(&path).unwrap_err().to_string();
    assert!(error.contains("2 outputs (means, positive)"), "{error}");
    fs::write(
        folder.path().join("means.toml"),
        format!("{DESCRIPTION}output = \"means\""),
    )
    .unwrap();
    assert_eq!(
        Trained::open(&path).unwrap().file().image,
        ImageShape::square(8, 3)
    );
    // It wins over one inside, and what is inside stays there without it.
    fs::write(&path, OnnxFile::open(&path).unwrap().bytes()).unwrap();
    fs::write(
        folder.path().join("means.toml"),
        format!("{DESCRIPTION}output = \"positive\""),
    )
    .unwrap();
    assert_eq!(OnnxFile::open(&path).unwrap().output(), "positive");
    fs::remove_file(folder.path().join("means.toml")).unwrap();
    assert_eq!(OnnxFile::open(&path).unwrap().output(), "means");
}

#[test]
fn models_of_anything_but_square_images_are_refused() {
    let one = "mean = [0.5]\nstd = [1.0]\noutput = \"means\"\n";
    let with = |more: &str| format!("{one}{more}");
    refused(&means(&[0, 3]), one, "the shape [?, 3], expected images");
    refused(&means(&[8, 3, 4, 4]), one, "or for 1");
    refused(&means(&[0, 3, 4, 8]), one, "4x8, and kshot makes square ones");
    refused(&means(&[0, 3, 0, 0]), one, "say size = N");
    refused(&means(&[0, 0, 4, 4]), one, "layout = \"nchw\"");
    refused(&means(&[0, 3, 3, 3]), one, "layout = \"nchw\"");
    refused(
        &means(&[0, 3, 4, 4]),
        &with("size = 5"),
        "size = 5, and its input `x`",
    );
    refused(&means(&[0, 3, 4, 4]), &with("channels = 1"), "channels = 1");
    refused(
        &means(&[0, 4, 8, 8]),
        &with("layout = \"nchw\""),
        "1 or 3 channels are taken",
    );
    refused(
        &means(&[0, 3, 1 << 40, 1 << 40]),
        one,
        "sides of 1 to 4096 pixels",
    );
    refused(
        &means(&[0, 1, 4, 4]),
        &format!("{DESCRIPTION}output = \"means\""),
        "3 numbers as mean",
    );
    let mut two = means(&[0, 3, 4, 4]);
    let mut whole = two.clone();
    let mut foreign = two.clone();
    let mut apart = two.clone();
    if let Some(graph) = &mut two.graph {
        graph.inputs.push(value("tokens", &[0, 77]));
    }
    refused(&two, one, "2 inputs (x, tokens)");
    let element = whole.graph.as_mut().unwrap().inputs[0].kind.as_mut().unwrap();
    element.tensor.as_mut().unwrap().element = 7;
    refused(&whole, one, "ONNX type 7");
    foreign.graph.as_mut().unwrap().nodes[0].operator = "Foo".to_owned();
    refused(&foreign, one, "operator `Foo` is not supported");
    apart.graph.as_mut().unwrap().nodes[1].input = vec!["nowhere".to_owned()];
    refused(&apart, one, "nowhere");
}

#[test]
fn a_model_whose_weights_are_for_other_images_is_refused() {
    let mut model = means(&[0, 3, 4, 4]);
    let graph = model.graph.as_mut().unwrap();
    graph.nodes[0] = node("Conv", &["x", "w"], "means", Vec::new());
    graph.constants.push(Constant {
        dims: vec![2, 5, 1, 1],
        data_type: FLOAT,
        floats: vec![0.0; 10],
        name: "w".to_owned(),
        ..Constant::default()
    });
    refused(&model, &format!("{DESCRIPTION}output = \"means\""), "ONNX model");
}

#[test]
fn a_few_bytes_can_not_ask_for_all_memory() {
    let one = "mean = [0.5]\nstd = [1.0]\noutput = \"means\"\n";
    let integers = |name: &str, values: Vec<i64>| Constant {
        dims: vec![values.len() as i64],
        data_type: 7,
        integers: values,
        name: name.to_owned(),
        ..Constant::default()
    };
    // Weights that are not there.
    let mut model = means(&[0, 3, 4, 4]);
    let graph = model.graph.as_mut().unwrap();
    graph.nodes[0] = node("Add", &["x", "w"], "means", Vec::new());
    graph.constants.push(Constant {
        dims: vec![1 << 40],
        data_type: FLOAT,
        name: "w".to_owned(),
        ..Constant::default()
    });
    refused(&model, one, "ONNX model");
    // Constants that are computed from their sizes.
    let mut model = means(&[0, 3, 4, 4]);
    let graph = model.graph.as_mut().unwrap();
    graph.nodes[0] = node("Add", &["x", "w"], "means", Vec::new());
    graph
        .nodes
        .insert(0, node("ConstantOfShape", &["sizes"], "w", Vec::new()));
    graph.constants.push(integers("sizes", vec![1 << 20, 1 << 20]));
    refused(&model, one, "at most 1024 MiB");
    // The image itself, repeated.
    let mut model = means(&[0, 3, 4, 4]);
    let graph = model.graph.as_mut().unwrap();
    graph.nodes[0] = node("Tile", &["x", "repeats"], "means", Vec::new());
    graph
        .constants
        .push(integers("repeats", vec![1, 1, 1 << 20, 1 << 20]));
    refused(&model, one, "at most 1024 MiB");
    // Doubled again and again.
    let mut model = means(&[0, 3, 4, 4]);
    let graph = model.graph.as_mut().unwrap();
    graph.nodes.clear();
    let mut last = "x".to_owned();
    for doubling in 0..60 {
        let next = if doubling == 59 {
            "means".to_owned()
        } else {
            format!("doubled{doubling}")
        };
        let axis = Attribute::of_integer("axis", 2);
        graph
            .nodes
            .push(node("Concat", &[&last, &last], &next, vec![axis]));
        last = next;
    }
    graph.outputs.truncate(1);
    refused(&model, one, "at most 1024 MiB");
}

#[test]
fn no_damage_to_a_file_is_more_than_an_error() {
    let text = format!("{DESCRIPTION}output = \"means\"");
    let mut model = means(&[0, 3, 4, 4]);
    let graph = model.graph.as_mut().unwrap();
    graph.nodes[0] = node("Conv", &["x", "w"], "means", Vec::new());
    graph.constants.push(Constant {
        dims: vec![2, 3, 1, 1],
        data_type: FLOAT,
        floats: vec![0.5; 6],
        name: "w".to_owned(),
        ..Constant::default()
    });
    let bytes = described(&model, &text);
    session(bytes.clone()).unwrap();
    for length in 0..bytes.len() {
        // Without its last entry it may be a whole file that lacks the description.
        assert!(session(bytes[..length].into()).is_err(), "{length}");
    }
    for at in 0..bytes.len() {
        for flip in [0x01, 0x10, 0x80, 0xff] {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= flip;
            let _ = session(bytes.into());
        }
    }
}

/// Written by `bench/reference/onnx_models.py`; what is expected is what onnxruntime gives.
#[test]
fn models_that_pytorch_exported_give_what_they_give_elsewhere() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/onnx");
    let path = golden.join("expected.safetensors");
    let expected = named::from_bytes(&fs::read(&path).unwrap(), &path).unwrap();
    let values = |name: &str| &expected.iter().find(|array| array.name == name).unwrap().values;
    for name in ["resnet", "vit"] {
        let file = OnnxFile::open(&golden.join(format!("{name}.onnx"))).unwrap();
        let found = Session::open(&file).unwrap().embed(values("images")).unwrap();
        close(&found, values(name));
    }
}
