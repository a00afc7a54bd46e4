//! Nearest neighbour: a query has the class of the support image that is most like it.
//!
//! T. Cover, P. Hart: *Nearest Neighbor Pattern Classification*, IEEE Transactions on Information Theory
//! 13, 1967: the 1-NN rule. As a baseline of one-shot learning it stands in B. Lake, R. Salakhutdinov,
//! J. Tenenbaum: *Human-level concept learning through probabilistic program induction*, Science 350,
//! 2015, and in Koch et al. 2015 (table 2: 21.7 % on Lake's runs), on raw pixels.
//!
//! Images are compared by `--distance` between their features: the pixels by default (`--encoder
//! identity`), or what any other encoder makes of them. The score of a class is that of its nearest
//! support image, the negative squared Euclidean distance or the cosine times `--temperature`.
//!
//! Nothing is learned, so that by default `kshot train` makes the run and evaluates it without an episode.
//! With another encoder, training episodes move the running averages of its batch statistics and no weight.

use burn::module::Module;
use burn::tensor::Tensor;

use super::common::{STRICT, class_maxima, negative_log_likelihood, negative_squared_distances, unit};
use super::{Batch, Family, Method, MethodRequest, MethodSpec, Objective, Scores};
use crate::encoder::Encoder;
use crate::episode::Support;
use crate::error::Error;
use crate::learner::{Learner, erase};
use crate::norm::{Norm, Pass};
use crate::options::{OptionKind, OptionSpec};

pub static SPEC: MethodSpec = MethodSpec {
    name: "nearest-neighbour",
    family: Family::Metric,
    paper: "Cover, Hart 1967, Nearest Neighbor Pattern Classification",
    summary: "the class of the most similar support image: a baseline that learns nothing",
    options: &[
        OptionSpec {
            name: "distance",
            kind: OptionKind::Choice(&["euclidean", "cosine"]),
            default: "euclidean",
            help: "squared Euclidean distance, or cosine similarity times the temperature",
        },
        OptionSpec {
            name: "temperature",
            kind: OptionKind::Number(1e-3, 1e3),
            default: "10",
            help: "factor of the cosine similarity",
        },
    ],
    defaults: &[("encoder", "identity"), ("episodes", "0")],
    presets: &[STRICT],
    rows: &[],
    build,
};

/// The rule and its features; see the module.
#[derive(Module, Debug)]
pub struct NearestNeighbour {
    encoder: Encoder,
    #[module(skip)]
    distance: Distance,
}

/// How like each other two images are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Distance {
    /// −|a − b|².
    SquaredEuclidean,
    /// temperature · cos(a, b).
    Cosine { temperature: f32 },
}

/// An adapted task: the support images' features and labels.
pub struct Neighbours {
    /// `[n_support, features]`.
    features: Tensor<2>,
    labels: Vec<usize>,
    n_way: usize,
}

fn build(request: MethodRequest<'_>) -> Result<Box<dyn Learner>, Error> {
    let distance = match request.options.text("distance") {
        "cosine" => Distance::Cosine {
            temperature: request.options.number("temperature") as f32,
        },
        _ => Distance::SquaredEuclidean,
    };
    Ok(erase(
        NearestNeighbour {
            encoder: request.encoder,
            distance,
        },
        request.device,
    ))
}

impl Method for NearestNeighbour {
    type Task = Neighbours;

    fn adapt(&self, support: &Support, norm: Norm) -> Result<Neighbours, Error> {
        Ok(Neighbours {
            features: self.embed(support.images.clone(), norm),
            labels: support.labels.clone(),
            n_way: support.n_way,
        })
    }

    fn score(&self, task: &Neighbours, query: Tensor<4>, norm: Norm) -> Result<Scores, Error> {
        let likeness = self
            .distance
            .likeness(self.embed(query, norm), task.features.clone());
        let nearest = likeness.clone().max_dim(1).expand(likeness.dims());
        Ok(Scores {
            attention: Some(likeness.clone().equal(nearest).float()),
            logits: class_maxima(likeness, &task.labels, task.n_way),
        })
    }

    fn loss(&self, batch: &Batch, pass: &mut Pass) -> Result<Objective, Error> {
        let labels = &batch.support.labels;
        let images = Tensor::cat(vec![batch.support.images.clone(), batch.query.clone()], 0);
        // Detached: the loss says how good the features are, and moves nothing.
        let features = self.encoder.embed(images, pass).detach();
        let support = features.clone().narrow(0, 0, labels.len());
        let query = features.narrow(0, labels.len(), batch.query_labels.len());
        let likeness = self.distance.likeness(query, support);
        let logits = class_maxima(likeness, labels, batch.support.n_way);
        Ok(Objective {
            loss: negative_log_likelihood(logits.clone(), &batch.query_labels),
            logits,
        })
    }

    fn embed(&self, images: Tensor<4>, norm: Norm) -> Tensor<2> {
        self.encoder.embed(images, &mut Pass::evaluate(norm))
    }
}

impl Distance {
    /// `query` `[n_query, features]`, `support` `[n_support, features]` → `[n_query, n_support]`.
    fn likeness(self, query: Tensor<2>, support: Tensor<2>) -> Tensor<2> {
        match self {
            Self::SquaredEuclidean => negative_squared_distances(query, support),
            Self::Cosine { temperature } => unit(query)
                .matmul(unit(support).transpose())
                .mul_scalar(temperature),
        }
    }
}
