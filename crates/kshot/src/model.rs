//! A learner from settings: the encoder and the method that they name, with fresh or given weights.

use std::path::Path;
use std::sync::Arc;

use crate::data::ImageShape;
use crate::encoder::EncoderRequest;
use crate::error::Error;
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
    build(settings, image, None)
}

fn build(
    settings: &Settings,
    image: ImageShape,
    external: Option<&Arc<[u8]>>,
) -> Result<Box<dyn Learner>, Error> {
    let device = device::find(settings.core.text("device"))?;
    let mut rng = random::stream(settings.seed(), &[INIT]);
    let request = EncoderRequest {
        image,
        options: &settings.encoder_options,
        external,
        device: &device,
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
    let mut learner = build(settings, image, encoder)?;
    let values = named::to_parameters(learner.parameters(), weights, "", path, learner.device())?;
    learner.write(&values);
    Ok(learner)
}
