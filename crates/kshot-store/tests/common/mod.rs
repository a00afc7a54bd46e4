//! A small model and pictures for it.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

#[cfg(all(unix, feature = "postgres"))]
pub mod postgres;

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use kshot::classifier::ContentHash;
use kshot::data::ImageShape;
use kshot::model_file::ModelFile;
use kshot::settings::{Layer, Settings};
use kshot::trained::Trained;
use kshot::{model, named};
use kshot_store::{NewExample, StoredModel};

/// A model with fresh weights; each seed another one.
pub fn untrained(method: &str, seed: u64) -> Trained {
    let text = seed.to_string();
    let layer = [("method", method), ("filters", "4"), ("seed", text.as_str())];
    let settings =
        Settings::resolve(&[&Layer::from(layer.map(|(k, v)| (k.to_owned(), v.to_owned())))]).unwrap();
    let image = ImageShape::square(28, 1);
    let learner = model::fresh(&settings, image).unwrap();
    let file = ModelFile {
        name: format!("{method}-{seed}"),
        settings: settings.layer(),
        image,
        weights: named::from_parameters(learner.parameters(), &learner.read(), ""),
        encoder: None,
        card: String::new(),
        prototypes: None,
    };
    Trained::new(file, Path::new("test")).unwrap()
}

/// A PNG of a bar: its place tells the class, its length the example.
pub fn png(place: u32, length: u32) -> Vec<u8> {
    let picture = image::GrayImage::from_fn(32, 32, |x, y| {
        let on = (8 * place + 2..8 * place + 6).contains(&x) && (4..8 + length).contains(&y);
        image::Luma([if on { 0 } else { 255 }])
    });
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// Three files of a class.
pub fn files(place: u32) -> Vec<(String, Vec<u8>)> {
    (0..3)
        .map(|n| (format!("{place}-{n}.png"), png(place, 4 * n)))
        .collect()
}

pub fn stored_model(id: &str) -> StoredModel {
    StoredModel {
        id: id.to_owned(),
        name: format!("model {id}"),
        bytes: vec![1, 2, 3],
    }
}

pub fn new_example(number: u8) -> NewExample {
    NewExample {
        name: format!("{number}.png"),
        hash: ContentHash([number; 16]),
        picture: vec![number; 100],
        embedding: Arc::from([f32::from(number), 0.5]),
    }
}
