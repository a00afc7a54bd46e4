//! An episode: one small N-way K-shot task, the unit that a few-shot learner learns from.

use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::rand_core::Rng;
use serde::{Deserialize, Serialize};

use crate::data::ImageShape;
use crate::random;

/// The size of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TaskShape {
    /// Classes (N).
    pub n_way: usize,
    /// Labelled examples of each class (K).
    pub n_shot: usize,
    /// Examples of each class to be recognised (Q).
    pub n_query: usize,
}

impl TaskShape {
    /// Labelled images in the task.
    pub const fn n_support(&self) -> usize {
        self.n_way * self.n_shot
    }

    /// Images to be recognised.
    pub const fn n_queries(&self) -> usize {
        self.n_way * self.n_query
    }
}

impl std::fmt::Display for TaskShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}-way {}-shot, {} queries per class",
            self.n_way, self.n_shot, self.n_query
        )
    }
}

/// One task in host memory: plain numbers, so that it can be made on any thread and kept or sent.
///
/// Both sets are class-major: all examples of label 0, then of label 1, and so on.
#[derive(Clone, Debug, PartialEq)]
pub struct Episode {
    /// N, K and Q.
    pub task: TaskShape,
    /// Size of every image.
    pub image: ImageShape,
    /// `[n_way * n_shot, height, width, channels]`.
    pub support: Vec<f32>,
    /// `[n_way * n_query, height, width, channels]`.
    pub query: Vec<f32>,
    /// The dataset's class index behind each label.
    pub classes: Vec<usize>,
    /// Which example of its class each support image is, `[n_way * n_shot]`.
    pub support_examples: Vec<usize>,
    /// Which example of its class each query image is, `[n_way * n_query]`.
    pub query_examples: Vec<usize>,
}

impl Episode {
    /// Labels of the support images, `[n_way * n_shot]`.
    pub fn support_labels(&self) -> Vec<usize> {
        class_major(self.task.n_way, self.task.n_shot)
    }

    /// Labels of the query images, `[n_way * n_query]`.
    pub fn query_labels(&self) -> Vec<usize> {
        class_major(self.task.n_way, self.task.n_query)
    }

    /// A number that depends on which examples of which classes the episode is made of, and in which places.
    pub fn fingerprint(&self) -> u64 {
        let path: Vec<u64> = [&self.classes, &self.support_examples, &self.query_examples]
            .into_iter()
            .flatten()
            .map(|&index| index as u64)
            .collect();
        random::stream(0, &path).next_u64()
    }

    /// The labelled images on `device`.
    pub fn support_on(&self, device: &Device) -> Support {
        Support {
            images: images(&self.support, self.image, device),
            labels: self.support_labels(),
            n_way: self.task.n_way,
        }
    }

    /// The images to be recognised on `device`, `[n_way * n_query, height, width, channels]`.
    pub fn query_on(&self, device: &Device) -> Tensor<4> {
        images(&self.query, self.image, device)
    }
}

/// The labelled images of a task on a device: what a learner adapts to.
#[derive(Clone, Debug)]
pub struct Support {
    /// `[n_support, height, width, channels]`.
    pub images: Tensor<4>,
    /// The label of each image, below `n_way`; classes may differ in their number of examples.
    pub labels: Vec<usize>,
    /// How many classes there are.
    pub n_way: usize,
}

/// Copies `pixels` (whole images of `shape`) to `device` as `[n, height, width, channels]`.
pub fn images(pixels: &[f32], shape: ImageShape, device: &Device) -> Tensor<4> {
    let n = pixels.len() / shape.len();
    let data = TensorData::new(pixels.to_vec(), [n, shape.height, shape.width, shape.channels]);
    Tensor::from_data(data, device)
}

fn class_major(n_way: usize, per_class: usize) -> Vec<usize> {
    (0..n_way)
        .flat_map(|label| std::iter::repeat_n(label, per_class))
        .collect()
}
