//! Prototypical networks against an independent PyTorch program.
//!
//! `golden/prototypical.safetensors` was made by `bench/reference/prototypical.py`; its metadata says
//! with which version, command and seed. Weights, images and every expected number come from there.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use kshot::data::ImageShape;
use kshot::episode::{Episode, Support, TaskShape};
use kshot::learner::{Learner, Step, logits_on_host};
use kshot::model;
use kshot::named::Named;
use kshot::norm::Norm;
use kshot::settings::Settings;
use safetensors::tensor::{Dtype, SafeTensors};

const TASK: TaskShape = TaskShape {
    n_way: 5,
    n_shot: 2,
    n_query: 3,
};
const IMAGE: ImageShape = ImageShape::square(28, 1);

struct Golden {
    arrays: HashMap<String, Named>,
    path: PathBuf,
}

impl Golden {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/prototypical.safetensors");
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

    fn values(&self, name: &str) -> &[f32] {
        &self
            .arrays
            .get(name)
            .unwrap_or_else(|| panic!("golden file holds no `{name}`"))
            .values
    }

    fn episode(&self) -> Episode {
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

    /// A learner with the file's weights and running statistics.
    fn learner(&self, distance: &str) -> Box<dyn Learner> {
        let settings: BTreeMap<String, String> = [("filters", "16"), ("distance", distance)]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        let settings = Settings::resolve(&[&settings]).unwrap();
        let mut weights: Vec<Named> = self
            .arrays
            .values()
            .filter(|array| array.name.starts_with("encoder."))
            .cloned()
            .collect();
        for block in 0..4 {
            for (theirs, ours) in [("mean", "running_mean"), ("variance", "running_variance")] {
                let mut array = self.arrays[&format!("running.{block}.{theirs}")].clone();
                array.name = format!("encoder.blocks.{block}.{ours}");
                weights.push(array);
            }
        }
        model::with_weights(&settings, IMAGE, &weights, &self.path).unwrap()
    }
}

/// Largest difference, relative to the largest expected magnitude.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
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
fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    let difference = difference(found, expected);
    assert!(
        difference <= tolerance,
        "{what}: relative difference {difference:e}, allowed {tolerance:e}"
    );
}

#[track_caller]
fn assert_gradients(golden: &Golden, learner: &dyn Learner, step: &Step, prefix: &str) {
    for (parameter, gradient) in learner.parameters().iter().zip(&step.gradients) {
        assert_eq!(gradient.is_some(), parameter.trainable, "{}", parameter.name);
        if let Some(gradient) = gradient {
            let found = logits_on_host(gradient.clone());
            let expected = golden.values(&format!("{prefix}.{}", parameter.name));
            assert_close(&parameter.name, &found, expected, 1e-4);
        }
    }
}

fn all_images(golden: &Golden, learner: &dyn Learner) -> Tensor<4> {
    let n = TASK.n_support() + TASK.n_queries();
    let data = TensorData::new(golden.values("images").to_vec(), [n, 28, 28, 1]);
    Tensor::from_data(data, learner.device())
}

#[test]
fn loss_gradients_and_batch_statistics_agree_with_pytorch() {
    let golden = Golden::read();
    let learner = golden.learner("euclidean");
    let step = learner.meta_step(&golden.episode()).unwrap();
    assert_close("loss", &[step.loss], golden.values("loss"), 1e-5);
    assert_gradients(&golden, learner.as_ref(), &step, "grad");
    assert_eq!(step.statistics.len(), 8);
    for (index, observed) in &step.statistics {
        let name = &learner.parameters()[*index].name;
        let block: usize = name.split('.').nth(2).unwrap().parse().unwrap();
        let found = logits_on_host(observed.clone());
        if name.ends_with("mean") {
            assert_close(name, &found, golden.values(&format!("stats.{block}.mean")), 1e-5);
        } else {
            // The running average takes the unbiased variance, the file holds the biased one.
            let side = 28 >> block;
            let count = (25 * side * side) as f32;
            let expected: Vec<f32> = golden
                .values(&format!("stats.{block}.variance"))
                .iter()
                .map(|v| v * count / (count - 1.0))
                .collect();
            assert_close(name, &found, &expected, 1e-5);
        }
    }
}

#[test]
fn embeddings_agree_with_pytorch_under_both_norms() {
    let golden = Golden::read();
    let learner = golden.learner("euclidean");
    for (norm, name) in [
        (Norm::Episode, "embeddings"),
        (Norm::Running, "embeddings_running"),
    ] {
        let found = logits_on_host(learner.embed(all_images(&golden, learner.as_ref()), norm));
        assert_close(name, &found, golden.values(name), 2e-5);
    }
}

#[test]
fn cosine_loss_and_gradients_agree_with_pytorch() {
    let golden = Golden::read();
    let learner = golden.learner("cosine");
    let step = learner.meta_step(&golden.episode()).unwrap();
    assert_close("loss", &[step.loss], golden.values("cosine.loss"), 1e-5);
    assert_gradients(&golden, learner.as_ref(), &step, "cosine.grad");
}

#[test]
fn scores_are_the_negative_squared_distances_to_the_mean_embeddings() {
    let golden = Golden::read();
    let learner = golden.learner("euclidean");
    let episode = golden.episode();
    let support: Support = episode.support_on(learner.device());
    let task = learner.adapt(&support, Norm::Running).unwrap();
    let scores = learner
        .score(&task, episode.query_on(learner.device()), Norm::Running)
        .unwrap();
    let embeddings = golden.values("embeddings_running");
    let features = embeddings.len() / (TASK.n_support() + TASK.n_queries());
    let row = |index: usize| &embeddings[index * features..(index + 1) * features];
    let mut expected = Vec::new();
    for query in 0..TASK.n_queries() {
        for class in 0..TASK.n_way {
            let distance: f64 = (0..features)
                .map(|f| {
                    let mean = (0..TASK.n_shot)
                        .map(|k| f64::from(row(class * TASK.n_shot + k)[f]))
                        .sum::<f64>()
                        / TASK.n_shot as f64;
                    (f64::from(row(TASK.n_support() + query)[f]) - mean).powi(2)
                })
                .sum();
            expected.push(-distance as f32);
        }
    }
    assert_close("scores", &logits_on_host(scores.logits), &expected, 1e-4);
}
