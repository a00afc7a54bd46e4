//! Methods and encoders whose numbers can be computed by hand.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use kshot::data::ImageShape;
use kshot::episode::{Support, images};
use kshot::learner::{Learner, logits_on_host};
use kshot::model;
use kshot::norm::Norm;
use kshot::settings::Settings;

fn learner(settings: &[(&str, &str)], image: ImageShape) -> Result<Box<dyn Learner>, kshot::Error> {
    let layer: BTreeMap<String, String> = settings
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    model::fresh(&Settings::resolve(&[&layer]).unwrap(), image)
}

#[test]
fn nearest_neighbour_takes_the_nearest_support_image_of_each_class() {
    let image = ImageShape::square(1, 1);
    let learner = learner(&[("method", "nearest-neighbour")], image).unwrap();
    let device = learner.device();
    // Classes 0 at 0 and 1, class 1 at 0.6.
    let support = Support {
        images: images(&[0.0, 1.0, 0.6], image, device),
        labels: vec![0, 0, 1],
        n_way: 2,
    };
    let task = learner.adapt(&support, Norm::Running).unwrap();
    let scores = learner
        .score(&task, images(&[0.9, 0.7], image, device), Norm::Running)
        .unwrap();
    let found = logits_on_host(scores.logits);
    for (found, expected) in found.iter().zip([-0.01, -0.09, -0.09, -0.01]) {
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
    let attention = logits_on_host(scores.attention.unwrap());
    assert_eq!(attention, [0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
}

#[test]
fn nearest_neighbour_by_cosine_does_not_see_how_dark_an_image_is() {
    let image = ImageShape {
        height: 1,
        width: 2,
        channels: 1,
    };
    let learner = learner(&[("method", "nearest-neighbour"), ("distance", "cosine")], image).unwrap();
    let device = learner.device();
    let support = Support {
        images: images(&[1.0, 0.0, 0.6, 0.8], image, device),
        labels: vec![0, 1],
        n_way: 2,
    };
    let task = learner.adapt(&support, Norm::Running).unwrap();
    let scores = learner
        .score(&task, images(&[0.1, 0.0], image, device), Norm::Running)
        .unwrap();
    let found = logits_on_host(scores.logits);
    assert!(
        (found[0] - 10.0).abs() < 1e-5 && (found[1] - 6.0).abs() < 1e-5,
        "{found:?}"
    );
}

#[test]
fn koch_s_encoder_has_the_shapes_of_figure_4_and_gives_sigmoids() {
    let settings = [
        ("method", "prototypical"),
        ("encoder", "koch"),
        ("filters", "2"),
        ("units", "7"),
    ];
    let image = ImageShape::square(105, 1);
    let learner = learner(&settings, image).unwrap();
    let shapes: Vec<&[usize]> = learner.parameters().iter().map(|p| &p.shape[..]).collect();
    let expected: [&[usize]; 10] = [
        &[10, 10, 1, 2],
        &[2],
        &[7, 7, 2, 4],
        &[4],
        &[4, 4, 4, 4],
        &[4],
        &[4, 4, 4, 8],
        &[8],
        &[6 * 6 * 8, 7],
        &[7],
    ];
    assert_eq!(shapes, expected);
    let pixels: Vec<f32> = (0..2 * image.len()).map(|i| (i % 7) as f32 / 7.0).collect();
    let features = learner.embed(images(&pixels, image, learner.device()), Norm::Running);
    assert_eq!(features.dims(), [2, 7]);
    assert!(
        logits_on_host(features)
            .iter()
            .all(|value| (0.0..=1.0).contains(value))
    );
}

#[test]
fn koch_s_encoder_on_constant_images_computed_by_hand() {
    // Each convolution has weights w and biases b alike, so its maps are constant: c ← max(0, k² c_in w c + b).
    let image = ImageShape::square(65, 1);
    let settings = [
        ("method", "prototypical"),
        ("encoder", "koch"),
        ("filters", "1"),
        ("units", "1"),
    ];
    let mut learner = learner(&settings, image).unwrap();
    let fill = |name: &str| match name {
        name if name.ends_with("bias") => 0.1,
        name if name.contains("units") => 0.25,
        _ => 0.01,
    };
    let values: Vec<Tensor<1>> = learner
        .parameters()
        .iter()
        .zip(learner.read())
        .map(|(parameter, value)| value.zeros_like().add_scalar(fill(&parameter.name)))
        .collect();
    learner.write(&values);
    let mut value = 0.5f64;
    for (window, c_in) in [(10, 1), (7, 1), (4, 2), (4, 2)] {
        value = f64::from(window * window * c_in) * 0.01 * value + 0.1;
    }
    let expected = 1.0 / (1.0 + (-(4.0 * 0.25 * value + 0.1)).exp());
    let features = learner.embed(
        images(&vec![0.5; image.len()], image, learner.device()),
        Norm::Running,
    );
    let found = f64::from(logits_on_host(features)[0]);
    assert!((found - expected).abs() < 1e-6, "{found} {expected}");
}

#[test]
fn koch_s_encoder_starts_as_section_3_2_says() {
    let settings = [
        ("method", "prototypical"),
        ("encoder", "koch"),
        ("filters", "8"),
        ("units", "16"),
    ];
    let learner = learner(&settings, ImageShape::square(105, 1)).unwrap();
    for (parameter, value) in learner.parameters().iter().zip(learner.read()) {
        let values = logits_on_host(value);
        let n = values.len() as f64;
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let variance = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
        let (expected, deviation) = match &parameter.name {
            name if name.ends_with("bias") => (0.5, 0.01),
            name if name.contains("units") => (0.0, 0.2),
            _ => (0.0, 0.01),
        };
        // Five standard errors.
        assert!(
            (mean - expected).abs() < 5.0 * deviation / n.sqrt(),
            "{}: {mean}",
            parameter.name
        );
        let ratio = variance.sqrt() / deviation;
        assert!(
            (ratio - 1.0).abs() < 5.0 / (2.0 * n).sqrt(),
            "{}: {ratio}",
            parameter.name
        );
    }
}

#[test]
fn images_too_small_for_koch_s_encoder_are_refused() {
    let settings = [("method", "siamese"), ("encoder", "koch")];
    let error = learner(&settings, ImageShape::square(64, 1))
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("65x65") && error.contains("--image-size"),
        "{error}"
    );
}

#[test]
fn an_encoder_says_which_image_size_it_is_made_for() {
    let side = |pairs: &[(&str, &str)]| {
        let layer: BTreeMap<String, String> = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Settings::resolve(&[&layer])
            .unwrap()
            .open_request()
            .unwrap()
            .image_size
    };
    assert_eq!(side(&[("encoder", "koch")]), Some(105));
    assert_eq!(side(&[("encoder", "koch"), ("image-size", "84")]), Some(84));
    assert_eq!(side(&[("encoder", "conv4")]), None);
}
