//! Matching networks, with simple and with full-context embeddings.
//!
//! O. Vinyals, C. Blundell, T. Lillicrap, K. Kavukcuoglu, D. Wierstra: *Matching Networks for One Shot
//! Learning*, NeurIPS 2016.
//!
//! A query attends over the support set, a(x̂, xᵢ) = softmaxᵢ(t · cos(f(x̂), g(xᵢ))), and its label is
//! the attention-weighted mean of the support labels, ŷ = Σ a yᵢ (eq. 1). Training minimises −log ŷ at
//! the true class. Simple embedding: f = g = the encoder.
//!
//! Full-context embeddings (`--fce`, appendix A): g reads the support set with a bidirectional LSTM,
//! g(xᵢ, S) = h→ᵢ + h←ᵢ + g'(xᵢ) (eq. 6); f reads g(S) with `--reads` steps of attention,
//! ĥₖ, cₖ = LSTM(f'(x̂), [hₖ₋₁, rₖ₋₁], cₖ₋₁), hₖ = ĥₖ + f'(x̂), rₖ₋₁ = Σᵢ softmaxᵢ(hₖ₋₁ᵀ g(xᵢ)) g(xᵢ) (eqs. 2 to 5).
//! The result depends on the order in which g reads the support set, which the paper leaves open:
//! `--support-order shuffled` (default) reads it in a fixed shuffle of its positions, `--support-order sampled` class by
//! class, in which neighbours share a class more often than not.
//!
//! Deviations: cosines lie in [−1, 1], so that the paper's softmax (t = 1) is nearly flat and learns
//! little; `--attention learned` (default) learns t from 10 on, `--attention fixed` keeps the letter, t = 1.
//! `--label-smoothing`, 0 unless given, is not in the paper.

use burn::module::{Module, Param};
use burn::tensor::activation::softmax;
use burn::tensor::{Int, Tensor, TensorData};
use rand::seq::SliceRandom;

use super::common::{LABEL_SMOOTHING, TUNED, TUNED_STRICT, one_hot, smoothed_negative_log_likelihood, unit};
use super::{Batch, Family, Kernel, Method, MethodRequest, MethodSpec, Objective, Preset, Scores};
use crate::encoder::Encoder;
use crate::episode::{Support, TaskShape};
use crate::error::Error;
use crate::layers::{LstmCell, check_array, check_sizes};
use crate::learner::{Learner, erase};
use crate::norm::{Norm, Pass};
use crate::ops::lstm;
use crate::options::{OptionKind, OptionSpec};
use crate::random;
use crate::reproduce::{COLUMNS, Planned, Published, RUNNING, Row, Setup, W5S1, W5S5, W20S1, W20S5};

pub static SPEC: MethodSpec = MethodSpec {
    name: "matching",
    family: Family::Metric,
    paper: "Vinyals et al. 2016, Matching Networks for One Shot Learning",
    summary: "attention over the support set, by cosine",
    options: &[
        OptionSpec {
            name: "attention",
            kind: OptionKind::Choice(&["learned", "fixed"]),
            default: "learned",
            help: "factor of the cosines: learned from 10 on, or 1 as in the paper",
        },
        OptionSpec {
            name: "fce",
            kind: OptionKind::Flag,
            default: "false",
            help: "full-context embeddings",
        },
        OptionSpec {
            name: "reads",
            kind: OptionKind::Integer(1, 64),
            default: "5",
            help: "read steps of the query's attention over the support set, with --fce",
        },
        OptionSpec {
            name: "support-order",
            kind: OptionKind::Choice(&["shuffled", "sampled"]),
            default: "shuffled",
            help: "how --fce reads the support set: in a fixed shuffle, or class by class",
        },
        LABEL_SMOOTHING,
    ],
    defaults: &[("way", "20"), ("shot", "1"), ("query", "5")],
    presets: &[
        Preset {
            name: "paper",
            summary: "the paper's Omniglot protocol: rotated classes, 20-way (give --shot as the test's)",
            settings: &[
                ("data", "omniglot"),
                ("split", "vinyals"),
                ("rotations", "all"),
                ("way", "20"),
                ("query", "5"),
            ],
        },
        TUNED,
        TUNED_STRICT,
    ],
    rows: &[
        Row {
            variant: "",
            published: Published {
                source: "Vinyals et al. 2016, table 1 (without fine-tuning)",
                protocol: "1,200 training characters with their rotations, the other characters for the test",
                accuracy: &[
                    (W5S1, 98.1, 0.0),
                    (W5S5, 98.9, 0.0),
                    (W20S1, 93.8, 0.0),
                    (W20S5, 98.5, 0.0),
                ],
                presentations: &[],
            },
            paper: Setup {
                note: "A learned factor of the cosines; one 60-way 1-shot model for all columns; affine augmentation, a \
                       cosine schedule and averaged weights.",
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
        },
        Row {
            variant: "fce",
            published: Published {
                source: "Vinyals et al. 2016",
                protocol: "no number on Omniglot",
                accuracy: &[],
                presentations: &[],
            },
            paper: Setup {
                note: "Full-context embeddings, 20-way; tested with as many shots as it was trained with.",
                trainings: &[
                    Planned::new("", "tuned", FCE, &[W5S1, W20S1], 8.0),
                    Planned::new("5-shot", "tuned", FCE_5_SHOT, &[W5S5, W20S5], 16.0),
                ],
                tests: &[RUNNING],
            },
            strict: Setup {
                note: "The same training.",
                trainings: &[
                    Planned::new("", "strict", FCE, &[W5S1, W20S1], 8.0),
                    Planned::new("5-shot", "strict", FCE_5_SHOT, &[W5S5, W20S5], 16.0),
                ],
                tests: &[RUNNING],
            },
        },
    ],
    build,
};

/// Full-context embeddings are trained with fewer classes: they read the support set image by image.
const FCE: &[(&str, &str)] = &[("fce", "true"), ("way", "20")];

/// The same for 5 examples of each.
const FCE_5_SHOT: &[(&str, &str)] = &[("fce", "true"), ("way", "20"), ("shot", "5")];

/// The network; see the module.
#[derive(Module, Debug)]
pub struct Matching {
    encoder: Encoder,
    /// log t, `[1]`.
    log_factor: Param<Tensor<1>>,
    context: Option<Context>,
    #[module(skip)]
    label_smoothing: f32,
}

/// The two readers of full-context embeddings.
#[derive(Module, Debug)]
struct Context {
    forward: LstmCell,
    backward: LstmCell,
    query: LstmCell,
    #[module(skip)]
    reads: usize,
    #[module(skip)]
    shuffled: bool,
}

/// An adapted task: g of the support images, and their labels.
pub struct Attended {
    support: Tensor<2>,
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
        most_weights,
        ..
    } = request;
    let learned = options.text("attention") == "learned";
    let start = if learned { 10.0f32.ln() } else { 0.0 };
    let log_factor = Param::from_data(TensorData::new(vec![start], [1]), device).set_require_grad(learned);
    let features = maps.len();
    if options.flag("fce") {
        check_sizes(
            most_weights,
            &[(features.saturating_mul(3), features.saturating_mul(4))],
        )?;
    }
    let context = options.flag("fce").then(|| Context {
        forward: LstmCell::new(2 * features, features, rng, device),
        backward: LstmCell::new(2 * features, features, rng, device),
        query: LstmCell::new(3 * features, features, rng, device),
        reads: options.integer("reads"),
        shuffled: options.text("support-order") == "shuffled",
    });
    Ok(erase(
        Matching {
            encoder,
            log_factor,
            context,
            label_smoothing: options.number("label-smoothing") as f32,
        },
        device,
    ))
}

impl Method for Matching {
    type Task = Attended;

    fn adapt(&self, support: &Support, norm: Norm) -> Result<Attended, Error> {
        let embeddings = self.embed(support.images.clone(), norm);
        Ok(Attended {
            support: self.contextual_support(embeddings),
            labels: support.labels.clone(),
            n_way: support.n_way,
        })
    }

    fn score(&self, task: &Attended, query: Tensor<4>, norm: Norm) -> Result<Scores, Error> {
        let (logits, attention) = self.attend(self.embed(query, norm), task);
        Ok(Scores {
            logits,
            attention: Some(attention),
        })
    }

    fn loss(&self, batch: &Batch, pass: &mut Pass) -> Result<Objective, Error> {
        let n_support = batch.support.labels.len();
        let images = Tensor::cat(vec![batch.support.images.clone(), batch.query.clone()], 0);
        let embeddings = self.encoder.embed(images, pass);
        let task = Attended {
            support: self.contextual_support(embeddings.clone().narrow(0, 0, n_support)),
            labels: batch.support.labels.clone(),
            n_way: batch.support.n_way,
        };
        let query = embeddings.narrow(0, n_support, batch.query_labels.len());
        let (logits, _) = self.attend(query, &task);
        // The logits are log-probabilities already, which a further log-softmax leaves as they are.
        Ok(Objective {
            loss: smoothed_negative_log_likelihood(logits.clone(), &batch.query_labels, self.label_smoothing),
            logits,
        })
    }

    fn check_task(&self, task: TaskShape, _together: usize) -> Result<(), Error> {
        let Some(context) = &self.context else {
            return Ok(());
        };
        let gates = (context.query.bias.dims()[0], "gates");
        check_array(
            "reads",
            "the readings of a task's queries",
            &[(task.n_queries(), "queries"), (context.reads, "reads"), gates],
        )?;
        check_array(
            "shot",
            "the readings of its labelled images",
            &[(task.n_support(), "images"), (2, "directions"), gates],
        )
    }

    fn embed(&self, images: Tensor<4>, norm: Norm) -> Tensor<2> {
        self.encoder.embed(images, &mut Pass::evaluate(norm))
    }

    fn kernel(&self) -> Option<Kernel> {
        let factor = || self.log_factor.val().exp().into_scalar();
        self.context
            .is_none()
            .then(|| Kernel::Attention { factor: factor() })
    }
}

impl Matching {
    /// g: `[n_support, features]` → `[n_support, features]`.
    fn contextual_support(&self, embeddings: Tensor<2>) -> Tensor<2> {
        match &self.context {
            None => embeddings,
            Some(context) => context.read_support(embeddings),
        }
    }

    /// log ŷ `[n_query, n_way]`, and the attention weights `[n_query, n_support]`.
    fn attend(&self, query: Tensor<2>, task: &Attended) -> (Tensor<2>, Tensor<2>) {
        let query = match &self.context {
            None => query,
            Some(context) => context.read_query(query, &task.support),
        };
        let cosines = unit(query).matmul(unit(task.support.clone()).transpose());
        let attention = softmax(cosines * self.log_factor.val().exp().unsqueeze(), 1);
        let labels = one_hot(&task.labels, task.n_way, &attention.device());
        // A class that gets no weight at all has a finite logit, far below any other.
        let logits = attention.clone().matmul(labels).clamp_min(1e-30).log();
        (logits, attention)
    }
}

impl Context {
    /// g(xᵢ, S) = h→ᵢ + h←ᵢ + g'(xᵢ).
    fn read_support(&self, embeddings: Tensor<2>) -> Tensor<2> {
        let n_support = embeddings.dims()[0];
        let mut order: Vec<i32> = (0..n_support as i32).collect();
        if self.shuffled {
            order.shuffle(&mut random::stream(0, &[n_support as u64]));
        }
        let mut place = vec![0i32; n_support];
        for (position, &example) in order.iter().enumerate() {
            place[example as usize] = position as i32;
        }
        let device = embeddings.device();
        let index = |values: &[i32]| Tensor::<1, Int>::from_data(values, &device);
        let read = embeddings.clone().select(0, index(&order));
        let forward = lstm::read(&read, &self.forward);
        let backward = lstm::read(&read.flip([0]), &self.backward).flip([0]);
        (forward + backward).select(0, index(&place)) + embeddings
    }

    /// f(x̂, S): `query` `[n_query, features]` and g(S) `[n_support, features]` → `[n_query, features]`.
    fn read_query(&self, query: Tensor<2>, support: &Tensor<2>) -> Tensor<2> {
        let mut hidden = query.zeros_like();
        let mut cell = query.zeros_like();
        for _ in 0..self.reads {
            let attention = softmax(hidden.clone().matmul(support.clone().transpose()), 1);
            let read = attention.matmul(support.clone());
            let (output, next) = self
                .query
                .forward(Tensor::cat(vec![query.clone(), hidden, read], 1), cell);
            hidden = output + query.clone();
            cell = next;
        }
        hidden
    }
}
