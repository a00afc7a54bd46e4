//! Convolutional Siamese networks.
//!
//! G. Koch, R. Zemel, R. Salakhutdinov: *Siamese Neural Networks for One-shot Image Recognition*, ICML
//! Deep Learning Workshop 2015.
//!
//! Twin encoders with shared weights embed two images; p = σ(Σ_j α_j |f(x₁)_j − f(x₂)_j| + b) is the
//! probability that they show the same class (section 3.1). Training minimises the binary
//! cross-entropy over pairs, half of one class, half of two, with an L2 penalty (section 3.2). A query
//! belongs to the class of the support image with the highest p (section 4.3).
//!
//! Deviations:
//! - Pairs come from episodes, so that the loop is that of every method: each query is paired with one support image
//!   of its own class and one of another. An image so stands in several pairs of an update; the paper draws each
//!   pair on its own, and every alphabet equally often.
//! - `--negatives hardest` pairs each query with the support image of another class that it is most probably the same
//!   as, instead of any: with many classes in an episode nearly all other pairs are soon told apart and teach nothing.
//! - The paper's p has no b (section 3.1); its initialisation of fully connected layers has biases. α starts uniform
//!   within ± 1/√features, the paper's from N(0, 0.2²), which `--encoder koch` keeps for its own layers. With
//!   `--alpha-start signed` no feature starts by taking difference for likeness.
//! - The paper minimises by stochastic gradient descent with a learning rate, momentum and L2 weight *for each layer*,
//!   found by a search whose result it does not give, and a decay of 1 % per epoch; here Adam with one rate, and one
//!   L2 weight (`--l2`) for the convolutions', the encoder's and the head's weights alike. Biases are not penalised.
//! - Affine distortions are drawn anew for every image instead of eight fixed ones per pair, with one size for both
//!   axes, log-uniform in [1/1.2, 1.2] instead of uniform in [0.8, 1.2]; `--augment-chance 0.5` is the paper's chance.
//! - Training ends after `--episodes`, or by `--patience` of validations as in the paper (20 epochs there).
//! - `--twin-distance` swaps |·| for the squared difference or for the elementwise product of the unit vectors (whose
//!   sum is the cosine).
//! - The paper has one support image per class; with more, `--pooling mean` takes the mean of their log-odds and
//!   `--pooling max` the greatest.
//!
//! `--preset koch` is the paper's training on Omniglot under `--split koch`: the 30 background alphabets train, and of
//! the 20 evaluation alphabets the 10 that Lake's one-shot runs leave out validate (20-way 1-shot trials, 320 of them
//! as in the paper), so that the benchmark's 10 are never seen. The paper also holds out people: 12 of the 20 train,
//! 4 validate and 4 test; here all 20 of an alphabet's drawings go with it. `--preset lake` is the one for impatient
//! readers: the same training set, a small encoder that other training (on the same 30 alphabets) has prepared, minutes.

use burn::module::Module;
use burn::tensor::activation::log_sigmoid;
use burn::tensor::{Int, Tensor};

use super::common::{TUNED, TUNED_STRICT, class_maxima, one_hot, unit};
use super::{Batch, Family, Method, MethodRequest, MethodSpec, Objective, Preset, Scores};
use crate::encoder::Encoder;
use crate::episode::Support;
use crate::error::Error;
use crate::layers::Linear;
use crate::learner::{Learner, erase};
use crate::norm::{Norm, Pass};
use crate::options::{OptionKind, OptionSpec};
use crate::parameters::squared_weights;
use crate::reproduce::{COLUMNS, Planned, Published, RUNNING, Row, Setup, W5S1, W5S5, W20S1, W20S5};

pub static SPEC: MethodSpec = MethodSpec {
    name: "siamese",
    family: Family::Metric,
    paper: "Koch, Zemel, Salakhutdinov 2015, Siamese Neural Networks for One-shot Image Recognition",
    summary: "a learned probability that two images show the same class",
    options: &[
        OptionSpec {
            name: "twin-distance",
            kind: OptionKind::Choice(&["l1", "squared", "cosine"]),
            default: "l1",
            help: "how the twins' features are compared, elementwise",
        },
        OptionSpec {
            name: "negatives",
            kind: OptionKind::Choice(&["any", "hardest"]),
            default: "any",
            help: "a query's partner of another class in training: each in turn, or the one that is most like it",
        },
        OptionSpec {
            name: "alpha-start",
            kind: OptionKind::Choice(&["random", "signed"]),
            default: "random",
            help: "the comparison's weights at first: of random signs, or all of the one by which likeness speaks for one class",
        },
        OptionSpec {
            name: "pooling",
            kind: OptionKind::Choice(&["mean", "max"]),
            default: "mean",
            help: "over the log-odds of a class's support images",
        },
        OptionSpec {
            name: "l2",
            kind: OptionKind::Number(0.0, 1.0),
            default: "0.00001",
            help: "weight of the L2 penalty",
        },
    ],
    defaults: &[("way", "30"), ("shot", "1"), ("query", "5")],
    presets: &[
        Preset {
            name: "paper",
            summary: "Vinyals' re-run of the network under his protocol, with the paper's affine distortions",
            settings: &[
                ("data", "omniglot"),
                ("split", "vinyals"),
                ("rotations", "all"),
                ("rotate", "10"),
                ("shear", "0.3"),
                ("scale", "0.2"),
                ("shift", "2"),
            ],
        },
        TUNED,
        TUNED_STRICT,
        Preset {
            name: "lake",
            summary: "Koch's training set and Conv4 on 28x28 images for Lake's benchmark: from the built-in encoder on, with the \
                      hardest pairs, half of the episodes from few alphabets; test it by kshot eval --protocol lake --views 5",
            settings: &[
                ("data", "omniglot"),
                ("split", "koch"),
                ("rotations", "train"),
                ("init-encoder", "omniglot-conv4"),
                ("negatives", "hardest"),
                ("alpha-start", "signed"),
                ("way", "60"),
                ("query", "5"),
                ("few-alphabets", "0.5"),
                ("episodes", "1500"),
                ("lr", "0.0002"),
                ("average", "0.998"),
                ("rotate", "10"),
                ("shear", "0.15"),
                ("scale", "0.15"),
                ("shift", "2"),
                ("val-way", "20"),
                ("val-interval", "500"),
                ("test-way", "20"),
            ],
        },
        Preset {
            name: "koch",
            summary: "Koch's own training: his encoder on 105x105 images of the 30 background alphabets, 64 pairs of one \
                      class and 64 of two per update, 150,000 pairs between validations, at most 200 times so many, affine distortions each with a chance of 1/2; test it by \
                      kshot eval --protocol lake. Slow on a CPU",
            settings: &[
                ("encoder", "koch"),
                ("data", "omniglot"),
                ("split", "koch"),
                ("rotations", "none"),
                ("way", "32"),
                ("query", "2"),
                ("val-way", "20"),
                ("val-query", "1"),
                ("val-episodes", "16"),
                ("rotate", "10"),
                ("shear", "0.3"),
                ("scale", "0.2"),
                ("shift", "0.533"),
                ("augment-chance", "0.5"),
                ("schedule", "constant"),
                ("lr", "0.0001"),
                ("episodes", "234400"),
                ("val-interval", "1172"),
                ("report-interval", "10"),
                ("patience", "20"),
                ("test-way", "20"),
                ("test-query", "1"),
            ],
        },
    ],
    rows: &[Row {
        variant: "",
        published: Published {
            source: "Vinyals et al. 2016, table 1 (their re-run, without fine-tuning)",
            protocol: "1,200 training characters with their rotations, the other characters for the test",
            accuracy: &[
                (W5S1, 96.7, 0.0),
                (W5S5, 98.4, 0.0),
                (W20S1, 88.0, 0.0),
                (W20S5, 96.5, 0.0),
            ],
            presentations: &[],
        },
        paper: Setup {
            note: "Four blocks of 64 filters, where Koch's twins are larger; affine augmentation, a cosine schedule and \
                   averaged weights; five shots by the mean of their log-odds.",
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
pub struct Siamese {
    encoder: Encoder,
    /// α and b, `[features, 1]`.
    head: Linear,
    #[module(skip)]
    distance: Distance,
    #[module(skip)]
    negatives: Negatives,
    #[module(skip)]
    pooling: Pooling,
    #[module(skip)]
    l2: f32,
}

/// Elementwise comparison of two feature vectors.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Distance {
    L1,
    Squared,
    Cosine,
}

/// A query's partner of another class.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Negatives {
    Any,
    Hardest,
}

/// Over the log-odds of a class's support images.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Pooling {
    Mean,
    Max,
}

/// An adapted task: the support images' features and labels.
pub struct Supports {
    embeddings: Tensor<2>,
    labels: Vec<usize>,
    n_way: usize,
}

fn build(request: MethodRequest<'_>) -> Result<Box<dyn Learner>, Error> {
    let MethodRequest {
        encoder,
        maps,
        options,
        device,
        rng,
        ..
    } = request;
    let distance = match options.text("twin-distance") {
        "squared" => Distance::Squared,
        "cosine" => Distance::Cosine,
        _ => Distance::L1,
    };
    let negatives = if options.text("negatives") == "hardest" {
        Negatives::Hardest
    } else {
        Negatives::Any
    };
    let pooling = if options.text("pooling") == "max" {
        Pooling::Max
    } else {
        Pooling::Mean
    };
    let mut head = Linear::new(maps.len(), 1, rng, device);
    if options.text("alpha-start") == "signed" {
        let sign = if distance == Distance::Cosine { 1.0 } else { -1.0 };
        head.weight = head.weight.map(|alpha| alpha.abs() * sign);
    }
    let l2 = options.number("l2") as f32;
    Ok(erase(
        Siamese {
            encoder,
            head,
            distance,
            negatives,
            pooling,
            l2,
        },
        device,
    ))
}

impl Method for Siamese {
    type Task = Supports;

    fn adapt(&self, support: &Support, norm: Norm) -> Result<Supports, Error> {
        Ok(Supports {
            embeddings: self.embed(support.images.clone(), norm),
            labels: support.labels.clone(),
            n_way: support.n_way,
        })
    }

    fn score(&self, task: &Supports, query: Tensor<4>, norm: Norm) -> Result<Scores, Error> {
        let query = self.embed(query, norm);
        let odds = self.all_odds(query, task.embeddings.clone());
        Ok(Scores {
            logits: self.pool(odds, &task.labels, task.n_way),
            attention: None,
        })
    }

    fn loss(&self, batch: &Batch, pass: &mut Pass) -> Result<Objective, Error> {
        let (labels, n_way) = (&batch.support.labels, batch.support.n_way);
        let images = Tensor::cat(vec![batch.support.images.clone(), batch.query.clone()], 0);
        let embeddings = self.encoder.embed(images, pass);
        let support = embeddings.clone().narrow(0, 0, labels.len());
        let query = embeddings.narrow(0, labels.len(), batch.query_labels.len());
        let odds = self.all_odds(query.clone(), support.clone());
        let [own, other] = pairs(&batch.query_labels, labels, n_way);
        let paired = |partners: &[i32]| {
            let partners = Tensor::<1, Int>::from_data(partners, &support.device());
            self.odds(query.clone(), support.clone().select(0, partners))
        };
        let same = paired(&own);
        let different = match self.negatives {
            Negatives::Any => paired(&other),
            Negatives::Hardest => hardest(odds.clone(), &batch.query_labels, labels, n_way),
        };
        // −log σ(z) for a pair of one class, −log(1 − σ(z)) = −log σ(−z) for a pair of two.
        let entropy = -(log_sigmoid(same).mean() + log_sigmoid(-different).mean()).mul_scalar(0.5);
        let penalty = squared_weights(self, &query.device()).mul_scalar(self.l2);
        let logits = self.pool(odds, labels, n_way);
        Ok(Objective {
            loss: entropy + penalty,
            logits,
        })
    }

    fn embed(&self, images: Tensor<4>, norm: Norm) -> Tensor<2> {
        self.encoder.embed(images, &mut Pass::evaluate(norm))
    }
}

impl Siamese {
    /// Log-odds that the rows of `left` and `right`, `[n, features]` each, show the same class: `[n, 1]`.
    fn odds(&self, left: Tensor<2>, right: Tensor<2>) -> Tensor<2> {
        let compared = match self.distance {
            Distance::L1 => (left - right).abs(),
            Distance::Squared => (left - right).square(),
            Distance::Cosine => unit(left) * unit(right),
        };
        self.head.forward(compared)
    }

    /// Log-odds of every query with every support image: `[n_query, n_support]`.
    fn all_odds(&self, query: Tensor<2>, support: Tensor<2>) -> Tensor<2> {
        let [n_query, features] = query.dims();
        let n_support = support.dims()[0];
        let left = query.unsqueeze_dim::<3>(1).expand([n_query, n_support, features]);
        let right = support
            .unsqueeze_dim::<3>(0)
            .expand([n_query, n_support, features]);
        let rows = [n_query * n_support, features];
        self.odds(left.reshape(rows), right.reshape(rows))
            .reshape([n_query, n_support])
    }

    /// `odds` `[n_query, n_support]` → `[n_query, n_way]`.
    fn pool(&self, odds: Tensor<2>, labels: &[usize], n_way: usize) -> Tensor<2> {
        match self.pooling {
            Pooling::Mean => {
                let members = one_hot(labels, n_way, &odds.device());
                let counts = members.clone().sum_dim(0).clamp_min(1.0);
                odds.matmul(members / counts)
            }
            Pooling::Max => class_maxima(odds, labels, n_way),
        }
    }
}

/// For each query a support image of its own class and one of another: indices into the support set.
/// The choice goes around the classes and their examples, so that all of them are used alike.
fn pairs(query_labels: &[usize], support_labels: &[usize], n_way: usize) -> [Vec<i32>; 2] {
    let mut members = vec![Vec::new(); n_way];
    for (example, &label) in support_labels.iter().enumerate() {
        members[label].push(example as i32);
    }
    let nth = |class: usize, turn: usize| members[class][turn % members[class].len()];
    let same = query_labels
        .iter()
        .enumerate()
        .map(|(turn, &label)| nth(label, turn))
        .collect();
    let other = |(turn, &label): (usize, &usize)| {
        let step = 1 + turn % (n_way - 1).max(1);
        nth((label + step) % n_way, turn)
    };
    [same, query_labels.iter().enumerate().map(other).collect()]
}

/// The greatest log-odds of each query with a support image of another class: `[n_query, n_support]` → `[n_query, 1]`.
fn hardest(odds: Tensor<2>, query_labels: &[usize], labels: &[usize], n_way: usize) -> Tensor<2> {
    let [query, support] = [query_labels, labels].map(|labels| one_hot(labels, n_way, &odds.device()));
    let own = query.matmul(support.transpose());
    odds.mask_fill(own.greater_elem(0.5), f32::NEG_INFINITY)
        .max_dim(1)
}

#[cfg(test)]
mod tests {
    use super::pairs;
    use crate::data::ImageShape;
    use crate::learner::logits_on_host;
    use crate::model;
    use crate::settings::{Layer, Settings};

    /// α of a fresh network.
    fn alpha(distance: &str, start: &str) -> Vec<f32> {
        let layer = [
            ("method", "siamese"),
            ("twin-distance", distance),
            ("alpha-start", start),
        ];
        let layer: Layer = layer
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let settings = Settings::resolve(&[&layer]).unwrap();
        let learner = model::fresh(&settings, ImageShape::square(28, 1)).unwrap();
        let place = learner
            .parameters()
            .iter()
            .position(|one| one.name == "head.weight");
        logits_on_host(learner.read().swap_remove(place.unwrap()))
    }

    #[test]
    fn a_signed_start_lets_likeness_speak_for_one_class() {
        for (distance, sign) in [("l1", -1.0), ("squared", -1.0), ("cosine", 1.0)] {
            let random = alpha(distance, "random");
            assert!(random.iter().any(|alpha| *alpha > 0.0) && random.iter().any(|alpha| *alpha < 0.0));
            let expected: Vec<f32> = random.iter().map(|alpha| sign * alpha.abs()).collect();
            assert_eq!(alpha(distance, "signed"), expected, "{distance}");
        }
    }

    #[test]
    fn pairs_are_half_of_one_class_and_half_of_two() {
        let support = [0, 0, 1, 1, 2, 2];
        let query = [0, 1, 2, 0, 1, 2];
        let [same, different] = pairs(&query, &support, 3);
        for (turn, &label) in query.iter().enumerate() {
            assert_eq!(support[same[turn] as usize], label);
            assert_ne!(support[different[turn] as usize], label);
        }
    }
}
