//! An image model of any other program, from an ONNX file, as it is: CLIP, DINOv2, a ResNet.
//!
//! What the file doesn't say of itself (normalisation; where it is left open the size of the images, the place of their
//! channels, which output) stands in a description beside it, `NAME.toml` for `NAME.onnx`; see [`crate::onnx::Description`].
//! Nothing in it is trained. Methods work on its embeddings, each of which depends on its own image alone.

use std::path::Path;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use rand_chacha::ChaCha8Rng;

use super::{Built, Encoder, EncoderRequest, EncoderSpec, External};
use crate::data::ImageShape;
use crate::error::Error;
use crate::norm::Pass;
use crate::onnx::{OnnxFile, Session};
use crate::options::{OptionKind, OptionSpec, Options};

/// The option that names the file.
const FILE: &str = "onnx-file";

pub static SPEC: EncoderSpec = EncoderSpec {
    name: "onnx",
    summary: "an image model of another program, from an ONNX file, as it is",
    paper: "none: that of the model",
    options: &[OptionSpec {
        name: FILE,
        kind: OptionKind::Text,
        default: "",
        help: "the ONNX file NAME.onnx, with its description NAME.toml beside it",
    }],
    image_size: None,
    external: Some(External {
        option: FILE,
        image: |options| Ok(file(options)?.image()),
        bytes: |options| Ok(file(options)?.bytes().clone()),
    }),
    build,
};

/// The model; see the module.
#[derive(Module, Debug)]
pub struct Onnx {
    #[module(skip)]
    session: Arc<Session>,
}

fn file(options: &Options) -> Result<OnnxFile, Error> {
    match options.text(FILE) {
        "" => Err(Error::Setting {
            name: "encoder",
            problem: format!("onnx needs the model; give --{FILE} NAME.onnx"),
        }),
        path => OnnxFile::open(Path::new(path)),
    }
}

fn build(request: &EncoderRequest<'_>, _rng: &mut ChaCha8Rng) -> Result<Built, Error> {
    let file = match request.external {
        Some(bytes) => OnnxFile::from_bytes(bytes.clone(), Path::new("the model's encoder"))?,
        None => file(request.options)?,
    };
    if file.image() != request.image {
        return Err(Error::Setting {
            name: "encoder",
            problem: format!(
                "{} takes images of {}, found {}; leave --image-size and --channels to it, and take data that has such \
                 images",
                file.path().display(),
                file.image(),
                request.image
            ),
        });
    }
    let session = Arc::new(Session::open(&file)?);
    let maps = ImageShape {
        height: 1,
        width: 1,
        channels: session.features(),
    };
    Ok(Built {
        encoder: Encoder::Onnx(Onnx { session }),
        maps,
    })
}

impl Onnx {
    /// `[n, height, width, channels]` → `[n, 1, 1, features]`. Where the model fails on an image, which it did not when it
    /// was made ready, all are not-a-number: training, evaluation and applications refuse that.
    pub fn forward(&self, images: Tensor<4>, _pass: &mut Pass) -> Tensor<4> {
        let (n, device) = (images.dims()[0], images.device());
        let shape = [n, 1, 1, self.session.features()];
        let pixels: Vec<f32> = images.into_data().iter::<f32>().collect();
        let rows = self.session.embed(&pixels);
        let rows = rows.unwrap_or_else(|_| vec![f32::NAN; shape.iter().product()]);
        Tensor::from_data(TensorData::new(rows, shape), &device)
    }
}
