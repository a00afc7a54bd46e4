//! The methods: how a task is learned from its support set, and how that learning is itself learned.
//!
//! One file per paper, and one line in [`METHODS`]. A method is a *learner* ([`Method::adapt`],
//! [`Method::score`]) and a *meta-learner* ([`Method::loss`]).

mod common;
mod mann;
mod matching;
mod meta_network;
mod prototypical;
mod relation;
mod siamese;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use rand_chacha::ChaCha8Rng;

use crate::data::ImageShape;
use crate::encoder::Encoder;
use crate::episode::Support;
use crate::error::Error;
use crate::learner::Learner;
use crate::norm::{Norm, Pass};
use crate::options::{OptionSpec, Options};

/// Every method, in the order of listings.
pub static METHODS: &[&MethodSpec] = &[
    &siamese::SPEC,
    &matching::SPEC,
    &prototypical::SPEC,
    &relation::SPEC,
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
    /// Makes one with fresh weights.
    pub build: fn(MethodRequest<'_>) -> Result<Box<dyn Learner>, Error>,
}

/// What a method needs to know to be made.
pub struct MethodRequest<'a> {
    /// Its encoder, with fresh weights.
    pub encoder: Encoder,
    /// The size of the encoder's feature maps.
    pub maps: ImageShape,
    /// The most classes of a training episode: outputs of a method whose head has one for each.
    pub n_way: usize,
    /// Its own options.
    pub options: &'a Options,
    /// Where further weights live; gradients are tracked there.
    pub device: &'a Device,
    /// For further fresh weights.
    pub rng: &'a mut ChaCha8Rng,
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

    /// Answers to images that are shown one after the other, each before its label: row t of the logits `[n, n_way]` is
    /// about image t, after images and labels 0 to t - 1.
    ///
    /// Without a sequence of its own a method adapts anew before each image, and a class that has not been seen yet is
    /// never its answer.
    ///
    /// # Errors
    /// A sequence that the method can't use.
    fn present(&self, sequence: &Support, norm: Norm) -> Result<Tensor<2>, Error> {
        common::present_by_adapting(self, sequence, norm)
    }

    /// Feature vectors `[n, features]` of images, for pictures of the embedding and for transfer.
    fn embed(&self, images: Tensor<4>, norm: Norm) -> Tensor<2>;
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
