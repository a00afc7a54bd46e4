//! Encoders: images in, feature maps out. One file each, and one line in the list below.

mod conv4;
pub(crate) mod conv5;
mod identity;
mod koch;
mod mlp;
mod onnx;
mod pixels;
mod relation;
mod resnet12;

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use rand_chacha::ChaCha8Rng;

use crate::data::ImageShape;
use crate::error::Error;
use crate::inner::Layer;
use crate::norm::Pass;
use crate::options::{OptionSpec, Options};

/// What the registry holds of an encoder.
pub struct EncoderSpec {
    /// `conv4`.
    pub name: &'static str,
    /// One line.
    pub summary: &'static str,
    /// Where it was first used.
    pub paper: &'static str,
    /// Options of its own.
    pub options: &'static [OptionSpec],
    /// Side of the images that it is made for, where `--image-size` does not say another.
    pub image_size: Option<usize>,
    /// For one that lies in a file of its own.
    pub external: Option<External>,
    /// Makes one with fresh weights.
    pub build: fn(&EncoderRequest<'_>, &mut ChaCha8Rng) -> Result<Built, Error>,
}

/// An encoder that lies in a file of its own, not in weights that are trained here.
pub struct External {
    /// The option that names the file.
    pub option: &'static str,
    /// The images that it takes.
    pub image: fn(&Options) -> Result<ImageShape, Error>,
    /// All of it, as [`EncoderRequest::external`] takes it.
    pub bytes: fn(&Options) -> Result<Arc<[u8]>, Error>,
}

/// What an encoder needs to know to be made.
pub struct EncoderRequest<'a> {
    /// The images it will see.
    pub image: ImageShape,
    /// Its own options.
    pub options: &'a Options,
    /// What [`External::bytes`] gave, where it was kept; else its option names the file.
    pub external: Option<&'a Arc<[u8]>>,
    /// Where its weights live.
    pub device: &'a Device,
    /// Most weights that a layer may have: no more than a file that they come from has.
    pub most_weights: usize,
}

/// An encoder and what it gives.
pub struct Built {
    /// With fresh weights.
    pub encoder: Encoder,
    /// The size of its feature maps.
    pub maps: ImageShape,
}

/// The encoders by module and type: from this list follow the registry, the dispatch and the names.
macro_rules! encoders {
    ($($module:ident :: $kind:ident),+ $(,)?) => {
        /// Every encoder, in the order of listings.
        pub static ENCODERS: &[&EncoderSpec] = &[$(&$module::SPEC),+];

        /// Any of the registered encoders.
        #[derive(Module, Debug)]
        pub enum Encoder {
            $(#[doc = concat!("See `", stringify!($module), ".rs`.")] $kind($module::$kind)),+
        }

        impl Encoder {
            /// Feature maps `[n, out_height, out_width, features]` of images `[n, height, width, channels]`.
            pub fn maps(&self, images: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
                match self { $(Self::$kind(encoder) => encoder.forward(images, pass)),+ }
            }
        }
    };
}

encoders! {
    conv4::Conv4,
    mlp::Mlp,
    conv5::Conv5,
    pixels::Pixels,
    relation::RelationEncoder,
    resnet12::ResNet12,
    koch::Koch,
    identity::Identity,
    onnx::Onnx,
}

impl Encoder {
    /// Feature vectors `[n, out_height * out_width * features]` of images `[n, height, width, channels]`.
    pub fn embed(&self, images: Tensor<4>, pass: &mut Pass) -> Tensor<2> {
        self.maps(images, pass).flatten(1, 3)
    }

    /// The encoder as a chain of layers for `image`s, whose parameters are the encoder's trainable ones in their order:
    /// for methods that adapt a copy of its weights to each task.
    ///
    /// # Errors
    /// An encoder that isn't a chain.
    pub fn layers(&self, image: ImageShape) -> Result<Vec<Layer>, Error> {
        match self {
            Self::Conv4(encoder) => Ok(encoder.layers(image)),
            Self::RelationEncoder(encoder) => Ok(encoder.layers(image)),
            Self::Mlp(encoder) => Ok(encoder.layers()),
            _ => Err(Error::Setting {
                name: "encoder",
                problem: "this method adapts the encoder's weights and needs one that is a chain of blocks; \
                          take --encoder conv4, mlp or relation"
                    .to_owned(),
            }),
        }
    }
}

/// Finds an encoder by name.
///
/// # Errors
/// [`Error::Unknown`] with the nearest known name.
pub fn find(name: &str) -> Result<&'static EncoderSpec, Error> {
    ENCODERS
        .iter()
        .find(|spec| spec.name == name)
        .copied()
        .ok_or_else(|| Error::Unknown {
            what: "encoder",
            name: name.to_owned(),
            hint: crate::suggest::hint(name, ENCODERS.iter().map(|spec| spec.name)),
        })
}
