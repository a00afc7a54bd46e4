//! Encoders: images in, feature maps out. One file each, and one line in the list below.

mod conv4;
mod identity;
mod relation;
mod resnet12;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use rand_chacha::ChaCha8Rng;

use crate::data::ImageShape;
use crate::error::Error;
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
    /// Makes one with fresh weights.
    pub build: fn(&EncoderRequest<'_>, &mut ChaCha8Rng) -> Result<Built, Error>,
}

/// What an encoder needs to know to be made.
pub struct EncoderRequest<'a> {
    /// The images it will see.
    pub image: ImageShape,
    /// Its own options.
    pub options: &'a Options,
    /// Where its weights live.
    pub device: &'a Device,
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
    relation::RelationEncoder,
    resnet12::ResNet12,
    identity::Identity,
}

impl Encoder {
    /// Feature vectors `[n, out_height * out_width * features]` of images `[n, height, width, channels]`.
    pub fn embed(&self, images: Tensor<4>, pass: &mut Pass) -> Tensor<2> {
        self.maps(images, pass).flatten(1, 3)
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
