//! An ONNX file of any program with what is needed to give it pictures.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message;

use super::description::{Description, Layout};
use super::messages::{Entry, FLOAT, GraphOutline, Outline, ValueInfo};
use crate::classifier::Polarity;
use crate::data::ImageShape;
use crate::data::folder::Fit;
use crate::error::Error;
use crate::model_file::ModelFile;
use crate::settings::Layer;

/// Longest file, in bytes: a store keeps it as one value of its database, which has no room for more.
const MAX_FILE: u64 = 900 << 20;
/// The description's key in the file's own metadata.
pub(super) const KEY: &str = "kshot";

/// An ONNX file that maps one image to one embedding. Its bytes hold the description too: they are complete by themselves,
/// and any other program reads them as before.
#[derive(Clone, Debug)]
pub struct OnnxFile {
    bytes: Arc<[u8]>,
    path: PathBuf,
    description: Description,
    image: ImageShape,
    layout: Layout,
    output: String,
}

impl OnnxFile {
    /// Reads `path` and the description beside it (else the one inside it).
    ///
    /// # Errors
    /// A file that is none or too long, a missing description, one that contradicts the model, and a model that doesn't
    /// map images to embeddings.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if !path.exists() {
            return Err(wrong(
                path,
                "no ONNX file is there; a run needs the one that it was trained on, in its place".to_owned(),
            ));
        }
        let length = fs::metadata(path).map_err(|error| Error::io(path, error))?.len();
        if length > MAX_FILE {
            return Err(wrong(
                path,
                format!(
                    "{} MiB, and at most {} MiB are read; take a smaller model",
                    length >> 20,
                    MAX_FILE >> 20
                ),
            ));
        }
        let mut bytes = fs::read(path).map_err(|error| Error::io(path, error))?;
        if let Some(description) = Description::beside(path)? {
            // Messages one behind the other are one message: nothing that is there changes.
            let more = Outline {
                graph: None,
                metadata: vec![Entry {
                    key: KEY.to_owned(),
                    value: description.to_text()?,
                }],
            };
            bytes.extend(more.encode_to_vec());
        }
        Self::from_bytes(bytes.into(), path)
    }

    /// From bytes that hold their description; `path` is where they came from.
    ///
    /// # Errors
    /// As [`OnnxFile::open`].
    pub fn from_bytes(bytes: Arc<[u8]>, path: &Path) -> Result<Self, Error> {
        let wrong = |problem: String| wrong(path, problem);
        let outline = Outline::decode(&bytes[..])
            .map_err(|error| wrong(format!("not a readable ONNX file ({error})")))?;
        let graph = outline.graph.ok_or_else(|| {
            wrong("an ONNX file without a model; it is damaged, or something else".to_owned())
        })?;
        let text = outline.metadata.iter().rev().find(|entry| entry.key == KEY);
        let Some(text) = text else {
            return Err(wrong(format!(
                "nothing says how pictures go into this model; write its training's numbers into {}, for instance \
                 `mean = [0.485, 0.456, 0.406]` and `std = [0.229, 0.224, 0.225]` (or [0.0] and [1.0] for pixels \
                 from 0 to 1), and size, channels, layout and output where the model leaves them open",
                Description::place(path).display()
            )));
        };
        let description = Description::parse(&text.value, path)?;
        let (layout, image) = image(&graph, &description).map_err(&wrong)?;
        let output = output(&graph, &description).map_err(&wrong)?;
        Ok(Self {
            bytes,
            path: path.to_owned(),
            description,
            image,
            layout,
            output,
        })
    }

    /// Complete by themselves: [`OnnxFile::from_bytes`] takes them.
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// Where it came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How pictures go in.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The images that it takes.
    pub fn image(&self) -> ImageShape {
        self.image
    }

    /// Where their channels lie.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The output that is the embedding.
    pub fn output(&self) -> &str {
        &self.output
    }

    /// A model that compares its embeddings, for applications: nothing of it was trained here.
    pub fn to_model_file(&self) -> ModelFile {
        let fit = match self.description.fit {
            Fit::Crop => "crop",
            Fit::Pad => "pad",
            Fit::Stretch => "stretch",
        };
        // What pictures a model takes follows from the data that it was trained on.
        let data: &[(&str, &str)] = match self.description.polarity {
            Polarity::Ink => &[("data", "glyphs")],
            Polarity::Light => &[("data", "folder:elsewhere"), ("fit", fit)],
            Polarity::Dark => &[("data", "folder:elsewhere"), ("fit", fit), ("invert", "true")],
        };
        let (side, channels) = (self.image.height.to_string(), self.image.channels.to_string());
        let settings: Layer = [
            ("method", "prototypical"),
            ("distance", self.description.distance.name()),
            ("encoder", "onnx"),
            ("image-size", &side),
            ("channels", &channels),
        ]
        .iter()
        .chain(data)
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
        let name = self.path.file_stem();
        ModelFile {
            name: name.map_or_else(|| "onnx".to_owned(), |name| name.to_string_lossy().into_owned()),
            settings,
            image: self.image,
            weights: Vec::new(),
            encoder: Some(self.bytes.clone()),
            card: String::new(),
            prototypes: None,
        }
    }
}

fn wrong(path: &Path, problem: String) -> Error {
    Error::Checkpoint {
        path: path.to_owned(),
        problem,
    }
}

fn names(values: &[&ValueInfo]) -> String {
    let names: Vec<&str> = values.iter().map(|value| value.name.as_str()).collect();
    names.join(", ")
}

/// The images that the model takes, by its one input and the description.
fn image(graph: &GraphOutline, description: &Description) -> Result<(Layout, ImageShape), String> {
    // Old files list their weights among the inputs.
    let is_weight = |input: &&ValueInfo| graph.constants.iter().any(|weight| weight.name == input.name);
    let inputs: Vec<&ValueInfo> = graph.inputs.iter().filter(|input| !is_weight(input)).collect();
    let [input] = inputs[..] else {
        return Err(format!(
            "the model has {} inputs ({}), and one that is an image is needed; export its part for images alone",
            inputs.len(),
            names(&inputs)
        ));
    };
    let name = &input.name;
    let tensor = input.kind.as_ref().and_then(|kind| kind.tensor.as_ref());
    let tensor = tensor.ok_or_else(|| format!("its input `{name}` is no tensor"))?;
    if tensor.element != FLOAT {
        return Err(format!(
            "its input `{name}` holds numbers of ONNX type {}, expected 32-bit floats ({FLOAT}); export it so",
            tensor.element
        ));
    }
    let sizes: Vec<Option<usize>> = match &tensor.shape {
        // Nothing is said of any size.
        None => vec![None; 4],
        Some(shape) => {
            let sizes = shape.dimensions.iter().map(|size| size.value);
            sizes
                .map(|size| {
                    size.and_then(|size| usize::try_from(size).ok())
                        .filter(|&size| size > 0)
                })
                .collect()
        }
    };
    let shown = || {
        let sizes: Vec<String> = sizes
            .iter()
            .map(|size| size.map_or_else(|| "?".to_owned(), |size| size.to_string()))
            .collect();
        format!("[{}]", sizes.join(", "))
    };
    let &[batch, a, b, c] = sizes.as_slice() else {
        return Err(format!(
            "its input `{name}` has the shape {}, expected images, [n, channels, height, width] or [n, height, width, \
             channels]",
            shown()
        ));
    };
    if batch.is_some_and(|n| n != 1) {
        return Err(format!(
            "its input `{name}` has the shape {}; export it for any number of images, or for 1",
            shown()
        ));
    }
    let is_channels = |size: Option<usize>| matches!(size, Some(1 | 3));
    let layout = match (description.layout, is_channels(a), is_channels(c)) {
        (Some(layout), ..) => layout,
        (None, true, false) => Layout::Nchw,
        (None, false, true) => Layout::Nhwc,
        _ => {
            return Err(format!(
                "its input `{name}` of the shape {} doesn't tell where the channels lie; say layout = \"nchw\" or \
                 \"nhwc\" in its description",
                shown()
            ));
        }
    };
    let (channels, height, width) = match layout {
        Layout::Nchw => (a, b, c),
        Layout::Nhwc => (c, a, b),
    };
    let agreed = |what: &str, model: Option<usize>, said: Option<usize>| match (model, said) {
        (Some(model), Some(said)) if model != said => Err(format!(
            "its description says {what} = {said}, and its input `{name}` has the shape {}",
            shown()
        )),
        (None, None) => Err(format!(
            "its input `{name}` of the shape {} leaves its {what} open; say {what} = N in its description",
            shown()
        )),
        (model, said) => Ok(model.or(said).unwrap_or(1)),
    };
    if let (Some(height), Some(width)) = (height, width)
        && height != width
    {
        return Err(format!(
            "its images are {height}x{width}, and kshot makes square ones; export it for a square"
        ));
    }
    let side = agreed("size", height.or(width), description.size)?;
    let channels = agreed("channels", channels, description.channels)?;
    if ![1, 3].contains(&channels) || !(1..=4096).contains(&side) {
        return Err(format!(
            "its images are {side}x{side}x{channels}, and sides of 1 to 4096 pixels and 1 or 3 channels are taken"
        ));
    }
    for (what, numbers) in [("mean", &description.mean), ("std", &description.std)] {
        if ![1, channels].contains(&numbers.len()) {
            return Err(format!(
                "its description has {} numbers as {what}, and its images {channels} channels",
                numbers.len()
            ));
        }
    }
    Ok((layout, ImageShape::square(side, channels)))
}

/// The name of the output that is the embedding.
fn output(graph: &GraphOutline, description: &Description) -> Result<String, String> {
    let outputs: Vec<&ValueInfo> = graph.outputs.iter().collect();
    match (&description.output, &outputs[..]) {
        (Some(name), _) if outputs.iter().any(|output| output.name == *name) => Ok(name.clone()),
        (Some(name), _) => Err(format!(
            "it has no output `{name}`; there are {}",
            names(&outputs)
        )),
        (None, [output]) => Ok(output.name.clone()),
        (None, _) => Err(format!(
            "it has {} outputs ({}); say output = \"NAME\" in its description",
            outputs.len(),
            names(&outputs)
        )),
    }
}
