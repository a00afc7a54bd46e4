//! The methods: how a task is learned from its support set, and how that learning is itself learned.
//!
//! One file per paper, and one line in [`METHODS`]. A method is a *learner*, which adapts to a task and scores its
//! queries, and a *meta-learner*. Where the tensor engine takes the gradients of a loss it is a [`Method`]; where it
//! adapts a copy of its weights to each task, and forms the meta-gradient itself, it is a [`fast::Rule`]. Either becomes a
//! [`Learner`].

mod anil;
mod baseline_plus_plus;
mod common;
pub mod fast;
mod lesson;
mod lstm_learner;
mod maml;
mod mann;
mod matching;
mod meta_network;
mod meta_sgd;
mod nearest_neighbour;
mod prototypical;
mod relation;
mod reptile;
mod siamese;
mod warm_up;

use std::ops::RangeInclusive;

pub use common::one_hot;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use rand_chacha::ChaCha8Rng;

use crate::data::ImageShape;
use crate::encoder::Encoder;
use crate::episode::{Support, TaskShape};
use crate::error::Error;
use crate::learner::Learner;
use crate::norm::{Norm, Pass};
use crate::options::{OptionSpec, Options};
use crate::reproduce::Row;
use crate::settings::Layer;

/// Every method, in the order of listings.
pub static METHODS: &[&MethodSpec] = &[
    &siamese::SPEC,
    &matching::SPEC,
    &prototypical::SPEC,
    &relation::SPEC,
    &baseline_plus_plus::SPEC,
    &nearest_neighbour::SPEC,
    &maml::SPEC,
    &anil::SPEC,
    &meta_sgd::SPEC,
    &reptile::SPEC,
    &lstm_learner::SPEC,
    &mann::SPEC,
    &meta_network::SPEC,
];

/// How a method learns to learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// A kernel over embeddings.
    Metric,
    /// A learned starting point or update rule for gradient descent.
    Optimization,
    /// A network with a memory.
    Model,
}

impl Family {
    /// `metric`, `optimization` or `model`.
    pub const fn name(self) -> &'static str {
        match self {
            Family::Metric => "metric",
            Family::Optimization => "optimization",
            Family::Model => "model",
        }
    }
}

/// A named set of training settings.
pub struct Preset {
    /// `paper`, `strict`.
    pub name: &'static str,
    /// What it follows.
    pub summary: &'static str,
    /// Settings and values, as on the command line.
    pub settings: &'static [(&'static str, &'static str)],
}

/// What the registry holds of a method.
pub struct MethodSpec {
    /// `prototypical`.
    pub name: &'static str,
    /// Which of the three families.
    pub family: Family,
    /// Authors, year, title.
    pub paper: &'static str,
    /// One line.
    pub summary: &'static str,
    /// Options of its own.
    pub options: &'static [OptionSpec],
    /// Training settings that differ from the general defaults.
    pub defaults: &'static [(&'static str, &'static str)],
    /// Named sets of training settings.
    pub presets: &'static [Preset],
    /// Its paper's rows in the table that `kshot reproduce` makes; none for a method without one.
    pub rows: &'static [Row],
    /// Makes one with fresh weights.
    pub build: fn(MethodRequest<'_>) -> Result<Box<dyn Learner>, Error>,
}

impl MethodSpec {
    /// The settings of one of its presets.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the presets that there are.
    pub fn preset(&self, name: &str) -> Result<Layer, Error> {
        let Some(preset) = self.presets.iter().find(|preset| preset.name == name) else {
            let known: Vec<&str> = self.presets.iter().map(|preset| preset.name).collect();
            return Err(Error::Unknown {
                what: "preset",
                name: name.to_owned(),
                hint: format!("; method {} has {}", self.name, known.join(", ")),
            });
        };
        Ok(preset
            .settings
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect())
    }
}

/// What a method needs to know to be made.
pub struct MethodRequest<'a> {
    /// Its encoder, with fresh weights.
    pub encoder: Encoder,
    /// The size of the encoder's feature maps.
    pub maps: ImageShape,
    /// The size of the images.
    pub image: ImageShape,
    /// Classes per training episode.
    pub n_way: RangeInclusive<usize>,
    /// Its own options.
    pub options: &'a Options,
    /// Where further weights live; gradients are tracked there.
    pub device: &'a Device,
    /// For further fresh weights.
    pub rng: &'a mut ChaCha8Rng,
    /// Most weights that a layer may have: no more than a file that they come from has.
    pub most_weights: usize,
}

/// A few-shot learner and how it is meta-trained.
pub trait Method: Module + Sync + 'static {
    /// What adapting to a support set gives: prototypes, a memory, fast weights.
    type Task: Send + Sync + 'static;

    /// Learns a task from its labelled images; the model itself is left as it is.
    ///
    /// # Errors
    /// A support set that the method can't use.
    fn adapt(&self, support: &Support, norm: Norm) -> Result<Self::Task, Error>;

    /// Scores images `[n_query, height, width, channels]` against every class of the task.
    ///
    /// # Errors
    /// Images that the method can't use.
    fn score(&self, task: &Self::Task, query: Tensor<4>, norm: Norm) -> Result<Scores, Error>;

    /// The training loss of one episode, differentiable in the model's weights.
    ///
    /// # Errors
    /// An episode that the method can't use.
    fn loss(&self, batch: &Batch, pass: &mut Pass) -> Result<Objective, Error>;

    /// The mean of the training losses of several episodes in one computation, for a method that is faster so; the
    /// logits are those of the episodes one after the other. `None` where it takes them one by one.
    fn joint_loss(&self, _batches: &[Batch], _pass: &mut Pass) -> Option<Result<Objective, Error>> {
        None
    }

    /// See [`Learner::check_task`].
    ///
    /// # Errors
    /// Too many classes, or the first array that is too large.
    fn check_task(&self, _task: TaskShape, _together: usize) -> Result<(), Error> {
        Ok(())
    }

    /// Answers to images that are shown one after the other, each before its label: row t of the logits `[n, n_way]` is
    /// about image t, after images and labels 0 to t - 1.
    ///
    /// `None` for a method that knows support sets alone; see [`Learner::present`].
    ///
    /// # Errors
    /// A sequence that the method can't use.
    fn present(&self, _sequence: &Support, _norm: Norm) -> Option<Result<Tensor<2>, Error>> {
        None
    }

    /// Feature vectors `[n, features]` of images, for pictures of the embedding and for transfer.
    fn embed(&self, images: Tensor<4>, norm: Norm) -> Tensor<2>;

    /// How embeddings alone give its scores; `None` where they don't (feature maps, a whole support set, gradients).
    fn kernel(&self) -> Option<Kernel> {
        None
    }
}

/// How a method scores where embeddings alone decide, so that they can be kept per example.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kernel {
    /// The logit of a class is −|f(x̂) − c|², c the mean of its examples' embeddings.
    SquaredEuclidean,
    /// The logit of a class is `factor` · cos(f(x̂), c), c the mean of its examples' embeddings.
    Cosine {
        /// Of the cosine.
        factor: f32,
    },
    /// A class has the attention of its examples: its logit is log Σᵢ exp(`factor` · cos(f(x̂), f(xᵢ))).
    Attention {
        /// Of the cosines.
        factor: f32,
    },
    /// The logit of a class is that of its nearest example, −|f(x̂) − f(xᵢ)|².
    Nearest,
}

/// What a task's learner says of its queries.
#[derive(Clone, Debug)]
pub struct Scores {
    /// `[n_query, n_way]`: their softmax over the classes is P(y | x, S).
    pub logits: Tensor<2>,
    /// How much each support image counted for each query, `[n_query, n_support]`, where the method weighs them.
    pub attention: Option<Tensor<2>>,
}

/// An episode on a device.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The labelled images.
    pub support: Support,
    /// The images to be recognised, `[n_query, height, width, channels]`.
    pub query: Tensor<4>,
    /// Their labels, `[n_query]`.
    pub query_labels: Vec<usize>,
    /// The dataset's training class behind each label, `[n_way]`.
    pub classes: Vec<usize>,
    /// A number of this episode alone, for what a method draws at random in training.
    pub seed: u64,
}

/// A training loss and how well the episode was recognised.
#[derive(Clone, Debug)]
pub struct Objective {
    /// `[1]`, with the graph behind it.
    pub loss: Tensor<1>,
    /// `[n_query, n_way]`, as in [`Scores`].
    pub logits: Tensor<2>,
}

/// Finds a method by name.
///
/// # Errors
/// [`Error::Unknown`] with the nearest known name.
pub fn find(name: &str) -> Result<&'static MethodSpec, Error> {
    METHODS
        .iter()
        .find(|spec| spec.name == name)
        .copied()
        .ok_or_else(|| Error::Unknown {
            what: "method",
            name: name.to_owned(),
            hint: crate::suggest::hint(name, METHODS.iter().map(|spec| spec.name)),
        })
}
