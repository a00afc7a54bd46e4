//! A golden file, the episode in it, and comparisons with what it expects.
//!
//! The files of `golden/` were made by the programs of `bench/reference/`; a file's metadata says with which
//! version, command and seed. Weights, images and every expected number come from there.

// Each test program uses a part of this.
#![allow(dead_code)]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use kshot::data::ImageShape;
use kshot::episode::{Episode, TaskShape};
use kshot::learner::{Learner, Step, logits_on_host};
use kshot::model;
use kshot::named::Named;
use kshot::settings::Settings;
use safetensors::tensor::{Dtype, SafeTensors};

/// The episode of every file.
pub const TASK: TaskShape = TaskShape {
    n_way: 5,
    n_shot: 2,
    n_query: 3,
};
/// Its images.
pub const IMAGE: ImageShape = ImageShape::square(28, 1);

/// The arrays of a file by name.
pub struct Golden {
    pub arrays: HashMap<String, Named>,
    pub path: PathBuf,
}

impl Golden {
    /// `golden/{name}.safetensors`.
    pub fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.safetensors"));
        let bytes = std::fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let float = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
        let arrays = file
            .tensors()
            .into_iter()
            .filter(|(_, view)| view.dtype() == Dtype::F32)
            .map(|(name, view)| {
                let values = view.data().chunks_exact(4).map(float).collect();
                (
                    name.clone(),
                    Named {
                        name,
                        shape: view.shape().to_vec(),
                        values,
                    },
                )
            });
        Self {
            arrays: arrays.collect(),
            path,
        }
    }

    pub fn values(&self, name: &str) -> &[f32] {
        &self
            .arrays
            .get(name)
            .unwrap_or_else(|| panic!("golden file holds no `{name}`"))
            .values
    }

    pub fn episode(&self) -> Episode {
        let split = TASK.n_support() * IMAGE.len();
        let images = self.values("images");
        Episode {
            task: TASK,
            image: IMAGE,
            support: images[..split].to_vec(),
            query: images[split..].to_vec(),
            classes: (0..TASK.n_way).collect(),
            support_examples: vec![0; TASK.n_support()],
            query_examples: vec![0; TASK.n_queries()],
        }
    }

    /// A learner with the parameters and running statistics of this file, under the names that it has for them.
    pub fn learner(&self, settings: &[(&str, &str)]) -> Box<dyn Learner> {
        let settings = resolve(settings);
        let fresh = model::fresh(&settings, IMAGE).unwrap();
        let array = |name: &String| {
            self.arrays
                .get(name)
                .unwrap_or_else(|| panic!("golden file holds no `{name}`"))
                .clone()
        };
        let weights: Vec<Named> = fresh.parameters().iter().map(|p| array(&p.name)).collect();
        model::with_weights(&settings, IMAGE, &weights, &self.path).unwrap()
    }
}

/// Settings from names and values, as on the command line.
pub fn resolve(settings: &[(&str, &str)]) -> Settings {
    let layer: BTreeMap<String, String> = settings
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Settings::resolve(&[&layer]).unwrap()
}

/// Largest difference, relative to the largest expected magnitude.
pub fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let scale = expected
        .iter()
        .fold(1e-12f32, |scale, value| scale.max(value.abs()));
    found
        .iter()
        .zip(expected)
        .fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()))
        / scale
}

#[track_caller]
pub fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert!(found.iter().all(|value| value.is_finite()), "{what}: {found:?}");
    let difference = difference(found, expected);
    assert!(
        difference <= tolerance,
        "{what}: relative difference {difference:e}, allowed {tolerance:e}"
    );
}

/// Every trainable parameter's gradient is the file's `{prefix}.{name}`; the others have none.
#[track_caller]
pub fn assert_gradients(golden: &Golden, learner: &dyn Learner, step: &Step, prefix: &str) {
    assert_gradients_within(golden, learner, step, prefix, 1e-4);
}

/// As [`assert_gradients`], with a tolerance.
#[track_caller]
pub fn assert_gradients_within(
    golden: &Golden,
    learner: &dyn Learner,
    step: &Step,
    prefix: &str,
    tolerance: f32,
) {
    assert_eq!(step.gradients.len(), learner.parameters().len());
    for (parameter, gradient) in learner.parameters().iter().zip(&step.gradients) {
        assert_eq!(gradient.is_some(), parameter.trainable, "{}", parameter.name);
        if let Some(gradient) = gradient {
            let found = logits_on_host(gradient.clone());
            let expected = golden.values(&format!("{prefix}.{}", parameter.name));
            assert_close(&parameter.name, &found, expected, tolerance);
        }
    }
}
