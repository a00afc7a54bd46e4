//! A learner from settings: the encoder and the method that they name, with fresh or given weights.

use std::path::Path;
use std::sync::Arc;

use crate::data::ImageShape;
use crate::encoder::EncoderRequest;
use crate::error::Error;
use crate::layers::MOST_WEIGHTS;
use crate::learner::Learner;
use crate::method::MethodRequest;
use crate::named::{self, Named};
use crate::settings::Settings;
use crate::{device, random};

/// The stream of fresh weights below a training's seed.
const INIT: u64 = 0x1717;

/// A learner with fresh weights, a pure function of the settings' seed.
///
/// # Errors
/// An encoder or method that can't be made so.
pub fn fresh(settings: &Settings, image: ImageShape) -> Result<Box<dyn Learner>, Error> {
    build(settings, image, None, MOST_WEIGHTS)
}

fn build(
    settings: &Settings,
    image: ImageShape,
    external: Option<&Arc<[u8]>>,
    most_weights: usize,
) -> Result<Box<dyn Learner>, Error> {
    let device = device::find(settings.core.text("device"))?;
    let mut rng = random::stream(settings.seed(), &[INIT]);
    let request = EncoderRequest {
        image,
        options: &settings.encoder_options,
        external,
        device: &device,
        most_weights,
    };
    let built = (settings.encoder.build)(&request, &mut rng)?;
    let options = &settings.method_options;
    (settings.method.build)(MethodRequest {
        encoder: built.encoder,
        maps: built.maps,
        image,
        n_way: settings.train_tasks().n_way,
        options,
        device: &device,
        rng: &mut rng,
        most_weights,
    })
}

/// A learner with the weights of a checkpoint; `path` is where they came from.
///
/// # Errors
/// As [`fresh`], and arrays that don't fit the model.
pub fn with_weights(
    settings: &Settings,
    image: ImageShape,
    weights: &[Named],
    path: &Path,
) -> Result<Box<dyn Learner>, Error> {
    with_encoder(settings, image, weights, None, path)
}

/// As [`with_weights`], with an encoder that came along in a file of its own (see [`crate::encoder::External`]).
///
/// # Errors
/// As [`with_weights`].
pub fn with_encoder(
    settings: &Settings,
    image: ImageShape,
    weights: &[Named],
    encoder: Option<&Arc<[u8]>>,
    path: &Path,
) -> Result<Box<dyn Learner>, Error> {
    // A small file that asks for a huge model is refused before that is made.
    let most_weights = weights.iter().map(|array| array.values.len()).sum();
    let mut learner = build(settings, image, encoder, most_weights)?;
    let values = named::to_parameters(learner.parameters(), weights, "", path, learner.device())?;
    learner.write(&values);
    Ok(learner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Layer;

    #[test]
    fn a_small_file_that_asks_for_a_huge_model_is_refused_before_that_is_made() {
        let image = ImageShape::square(1024, 3);
        for (method, encoder, options) in [
            ("prototypical", "mlp", &[("units", "8192")][..]),
            ("prototypical", "mlp", &[("depth", "16"), ("units", "1024")]),
            ("prototypical", "koch", &[("units", "65536")]),
            ("prototypical", "identity", &[("project", "65536")]),
            ("prototypical", "conv4", &[("filters", "1024")]),
            ("prototypical", "conv5", &[("filters", "1024")]),
            ("prototypical", "resnet12", &[("width", "512")]),
            ("matching", "identity", &[("fce", "true")]),
            ("mann", "identity", &[("controller", "4096")]),
            ("relation", "relation", &[("relation-filters", "1024")]),
            ("maml", "mlp", &[("way", "20")]),
            ("baseline++", "pixels", &[("base-classes", "1000000")]),
        ] {
            let mut layer = Layer::from([("method", method), ("encoder", encoder)].map(owned));
            layer.extend(options.iter().copied().map(owned));
            let settings = Settings::resolve(&[&layer]).unwrap();
            let error = with_weights(&settings, image, &[], Path::new("x")).err().unwrap();
            assert!(
                error.to_string().contains(" weights, more than the 0 "),
                "{layer:?}: {error}"
            );
        }
    }

    fn owned((name, value): (&str, &str)) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }
}
