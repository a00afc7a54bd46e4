//! Prototypical networks.
//!
//! J. Snell, K. Swersky, R. Zemel: *Prototypical Networks for Few-shot Learning*, NeurIPS 2017.
//!
//! A class is represented by the mean of its support images' embeddings, its prototype (eq. 1):
//! c_k = 1/|S_k| Σ_{(x,y) ∈ S_k} f(x). A query belongs to class k with probability
//! softmax_k(−d(f(x̂), c_k)) (eq. 2), d being the squared Euclidean distance. Training minimises the
//! mean negative log-probability of the true classes of the queries (algorithm 1), support and
//! queries embedded in one forward pass.
//!
//! Deviations: none for `--distance euclidean` (`--label-smoothing`, 0 unless given, is not in the paper). The paper compares with cosine distance without
//! saying its scale (section 2.7); `--distance cosine` multiplies the cosine by `--temperature`.

use burn::module::Module;
use burn::tensor::Tensor;

use super::common::{
    LABEL_SMOOTHING, TUNED, TUNED_STRICT, class_means, negative_squared_distances,
    smoothed_negative_log_likelihood, unit,
};
use super::{Batch, Family, Kernel, Method, MethodRequest, MethodSpec, Objective, Preset, Scores};
use crate::encoder::Encoder;
use crate::episode::Support;
use crate::error::Error;
use crate::learner::{Learner, erase};
use crate::norm::{Norm, Pass};
use crate::options::{OptionKind, OptionSpec};
use crate::reproduce::{COLUMNS, Planned, Published, RUNNING, Row, Setup, W5S1, W5S5, W20S1, W20S5};

pub static SPEC: MethodSpec = MethodSpec {
    name: "prototypical",
    family: Family::Metric,
    paper: "Snell, Swersky, Zemel 2017, Prototypical Networks for Few-shot Learning",
    summary: "nearest class mean in a learned embedding",
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
        LABEL_SMOOTHING,
    ],
    defaults: &[
        ("way", "30"),
        ("query", "5"),
        ("episodes", "4000"),
        ("average", "0.998"),
    ],
    presets: &[
        Preset {
            name: "paper",
            summary: "the paper's Omniglot protocol to the letter: Vinyals' split, rotated classes everywhere, 60-way, \
                      5 queries, Adam 1e-3 halved every 2,000 episodes (give --shot as the test's)",
            settings: &[
                ("data", "omniglot"),
                ("split", "vinyals"),
                ("rotations", "all"),
                ("train-on", "trainval"),
                ("way", "60"),
                ("query", "5"),
                ("episodes", "20000"),
                ("schedule", "halving"),
                ("halve-every", "2000"),
                ("average", "0"),
            ],
        },
        TUNED,
        TUNED_STRICT,
        Preset {
            name: "lake",
            summary: "the strongest training for Lake's benchmark that is known here: from the built-in encoder on, at 32x32, on all \
                      background alphabets, half of the episodes from few alphabets; affine and elastic changes, stroke \
                      widths; test it by kshot eval --protocol lake --views 20",
            settings: &[
                ("data", "omniglot"),
                ("split", "official"),
                ("rotations", "train"),
                ("train-on", "trainval"),
                ("init-encoder", "omniglot-conv4"),
                ("image-size", "32"),
                ("way", "60"),
                ("query", "5"),
                ("few-alphabets", "0.5"),
                ("episodes", "3000"),
                ("average", "0.999"),
                ("rotate", "10"),
                ("shear", "0.15"),
                ("scale", "0.15"),
                ("shift", "2"),
                ("elastic", "1"),
                ("stroke", "0.5"),
                ("val-interval", "1000"),
            ],
        },
    ],
    rows: &[Row {
        variant: "",
        published: Published {
            source: "Snell et al. 2017, table 1",
            protocol: "Vinyals' split, rotated characters as further classes in the test too; 60-way training, shots as in the test",
            accuracy: &[
                (W5S1, 98.8, 0.0),
                (W5S5, 99.7, 0.0),
                (W20S1, 96.0, 0.0),
                (W20S5, 98.9, 0.0),
            ],
            presentations: &[],
        },
        paper: Setup {
            note: "One 1-shot model for all columns, where the paper trains one per number of shots; affine augmentation, \
                   a cosine schedule and averaged weights, where it has none and halves the rate every 2,000 episodes.",
            trainings: &[Planned {
                name: "",
                preset: "tuned",
                common: &[],
                settings: &[],
                columns: &COLUMNS,
                minutes: 11.0,
            }],
            tests: &[RUNNING],
        },
        strict: Setup {
            note: "The same training.",
            trainings: &[Planned {
                name: "",
                preset: "strict",
                common: &[],
                settings: &[],
                columns: &COLUMNS,
                minutes: 11.0,
            }],
            tests: &[RUNNING],
        },
    }],
    build,
};

/// The network; see the module.
#[derive(Module, Debug)]
pub struct Prototypical {
    encoder: Encoder,
    #[module(skip)]
    distance: Distance,
    #[module(skip)]
    label_smoothing: f32,
}

/// How far a query is from a prototype.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Distance {
    /// |f(x̂) − c|².
    SquaredEuclidean,
    /// −temperature · cos(f(x̂), c).
    Cosine { temperature: f32 },
}

fn build(request: MethodRequest<'_>) -> Result<Box<dyn Learner>, Error> {
    let distance = match request.options.text("distance") {
        "cosine" => Distance::Cosine {
            temperature: request.options.number("temperature") as f32,
        },
        _ => Distance::SquaredEuclidean,
    };
    Ok(erase(
        Prototypical {
            encoder: request.encoder,
            distance,
            label_smoothing: request.options.number("label-smoothing") as f32,
        },
        request.device,
    ))
}

impl Method for Prototypical {
    /// The prototypes, `[n_way, features]`.
    type Task = Tensor<2>;

    fn adapt(&self, support: &Support, norm: Norm) -> Result<Tensor<2>, Error> {
        let embeddings = self.embed(support.images.clone(), norm);
        Ok(class_means(embeddings, &support.labels, support.n_way))
    }

    fn score(&self, task: &Tensor<2>, query: Tensor<4>, norm: Norm) -> Result<Scores, Error> {
        let logits = self.distance.logits(self.embed(query, norm), task.clone());
        Ok(Scores {
            logits,
            attention: None,
        })
    }

    fn loss(&self, batch: &Batch, pass: &mut Pass) -> Result<Objective, Error> {
        let n_support = batch.support.labels.len();
        let images = Tensor::cat(vec![batch.support.images.clone(), batch.query.clone()], 0);
        let embeddings = self.encoder.embed(images, pass);
        let support = embeddings.clone().narrow(0, 0, n_support);
        let query = embeddings.narrow(0, n_support, batch.query_labels.len());
        let prototypes = class_means(support, &batch.support.labels, batch.support.n_way);
        let logits = self.distance.logits(query, prototypes);
        let loss =
            smoothed_negative_log_likelihood(logits.clone(), &batch.query_labels, self.label_smoothing);
        Ok(Objective { loss, logits })
    }

    fn embed(&self, images: Tensor<4>, norm: Norm) -> Tensor<2> {
        self.encoder.embed(images, &mut Pass::evaluate(norm))
    }

    fn kernel(&self) -> Option<Kernel> {
        Some(match self.distance {
            Distance::SquaredEuclidean => Kernel::SquaredEuclidean,
            Distance::Cosine { temperature } => Kernel::Cosine { factor: temperature },
        })
    }
}

impl Distance {
    /// `query` `[n_query, features]`, `prototypes` `[n_way, features]` → `[n_query, n_way]`.
    fn logits(self, query: Tensor<2>, prototypes: Tensor<2>) -> Tensor<2> {
        match self {
            Self::SquaredEuclidean => negative_squared_distances(query, prototypes),
            Self::Cosine { temperature } => unit(query)
                .matmul(unit(prototypes).transpose())
                .mul_scalar(temperature),
        }
    }
}
