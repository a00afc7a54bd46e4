//! Classes of generated signs: something to begin with on an empty page.

use std::hash::{BuildHasher, RandomState};
use std::io::Cursor;

use image::{GrayImage, ImageFormat};
use kshot::data::{Dataset, Part};
use kshot::settings::{Layer, Settings};
use serde::Serialize;
use utoipa::ToSchema;

use crate::budget::Share;
use crate::decode::data_address;
use crate::entries::ClassEntry;
use crate::problem::Problem;
use crate::upload::Encoded;
use crate::workspace::Workspace;

/// Side of the generated pictures.
const SIDE: &str = "56";
/// Pictures of each class that are given away without being enrolled.
const UNSEEN: usize = 2;

/// A generated picture that is no example.
#[derive(Debug, Serialize, ToSchema)]
pub struct Unseen {
    /// The class that it belongs to.
    label: String,
    /// As a `data:` address.
    picture: String,
}

/// Makes `n_classes` classes of `n_examples` examples each. The signs are other ones each time, each of an alphabet of
/// its own; no model of kshot has been trained on them, whatever it was trained on.
///
/// # Errors
/// A quota.
pub fn enrol(
    workspace: &Workspace,
    n_classes: usize,
    n_examples: usize,
    share: &mut Share,
) -> Result<(Vec<ClassEntry>, Vec<Unseen>), Problem> {
    workspace.check_room(n_classes, n_classes * n_examples)?;
    let dataset = glyphs()?;
    let groups = dataset.classes(Part::Test).groups().len();
    let chance = RandomState::new();
    let start = usize::try_from(chance.hash_one(0u8) % 1_000_003).unwrap_or(0);
    let mut classes = Vec::new();
    let mut unseen = Vec::new();
    for index in 0..n_classes {
        let members = dataset.classes(Part::Test).groups()[(start + index) % groups]
            .1
            .clone();
        let sign = members.start + start % members.len().max(1);
        let draw = |example: usize| draw(dataset.as_ref(), sign, example);
        let class = workspace.add_numbered_class("Sign")?;
        let examples = (0..n_examples)
            .map(|example| {
                Ok(Encoded {
                    name: format!("generated {}", example + 1),
                    bytes: draw(example)?.into(),
                })
            })
            .collect::<Result<_, Problem>>()?;
        workspace.add_examples(&class.name, examples, share)?;
        for example in n_examples..n_examples + UNSEEN {
            unseen.push(Unseen {
                label: class.name.clone(),
                picture: data_address(&draw(example)?),
            });
        }
        classes.push(workspace.class(&class.name)?);
    }
    let order = |one: &Unseen| chance.hash_one(&one.picture);
    unseen.sort_by_cached_key(order);
    Ok((classes, unseen))
}

fn glyphs() -> Result<Box<dyn Dataset>, Problem> {
    let layer: Layer = [("data", "glyphs"), ("image-size", SIDE)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let settings = Settings::resolve(&[&layer]).map_err(Problem::internal)?;
    let request = settings.open_request().map_err(Problem::internal)?;
    (settings.dataset.open)(&request).map_err(Problem::internal)
}

/// A drawing as a PNG, dark on light.
fn draw(dataset: &dyn Dataset, sign: usize, example: usize) -> Result<Vec<u8>, Problem> {
    let shape = dataset.shape();
    let mut pixels = vec![0.0; shape.len()];
    dataset
        .read(Part::Test, sign, example, &mut pixels)
        .map_err(Problem::internal)?;
    png(&pixels, shape.width, shape.height)
}

/// Ink 1 on paper 0 as a PNG, dark on light.
fn png(ink: &[f32], width: usize, height: usize) -> Result<Vec<u8>, Problem> {
    let bytes = ink
        .iter()
        .map(|ink| 255 - (ink.clamp(0.0, 1.0) * 255.0).round() as u8)
        .collect();
    let picture = GrayImage::from_raw(width as u32, height as u32, bytes)
        .ok_or_else(|| Problem::internal("a generated picture of another size"))?;
    let mut file = Cursor::new(Vec::new());
    picture
        .write_to(&mut file, ImageFormat::Png)
        .map_err(Problem::internal)?;
    Ok(file.into_inner())
}
