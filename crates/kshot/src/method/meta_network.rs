//! Meta networks (MetaNet).
//!
//! T. Munkhdalai, H. Yu: *Meta Networks*, ICML 2017.
//!
//! Every weight has a slow part, which training changes, and a fast part, which is generated for the task from the
//! gradients of losses on its support set. Two networks of the same form work together: the base learner b(W, W*), which
//! answers, and the embedding u(Q, Q*), by which a query finds the support images that concern it (algorithm 1):
//!
//! 1. The gradients of the representation loss, cross-entropy of u under slow weights alone, ∇ₜ = ∇_Q L(u(Q, x'), y'),
//!    over T parts of the support set, give the fast weights of the embedding: Q* = d(G, {∇ₜ}) (eqs. 3 to 5). d is an
//!    LSTM of 20 units that reads the T gradients of one weight and has the same parameters G for every weight.
//! 2. The gradient of the base learner's loss on each support image, ∇ᵢ = ∇_W L(b(W, x'ᵢ), y'ᵢ), gives the fast weights
//!    that belong to it: W*ᵢ = m(Z, ∇ᵢ) (eq. 2). m is a perceptron with two layers of 20 units, the same for every
//!    weight. They form a memory, whose keys are r'ᵢ = u(Q, Q*, x'ᵢ) (eq. 6).
//! 3. A query reads the memory by soft attention: aᵢ = cos(r'ᵢ, r), W* = softmax(a)ᵀ M (eqs. 8 and 9), and is answered
//!    by b(W, W*, x), trained by cross-entropy (eq. 10).
//!
//! Layer augmentation (section 3.3): a layer's input goes through slow and fast weights apart, each followed by ReLU, and
//! the two are summed; before the softmax they are summed without it. A gradient g enters d and m as
//! (max(−1, log|g| / p), g eᵖ cut at ±1) with p = 7. Convolutions and dense layers have a d and an m each.
//!
//! As in the authors' program, inner gradients are inputs: nothing is differentiated twice, so slow weights feel the inner
//! losses only through the answers. The embedding's own classifier is used in step 1 alone and so keeps its first, random
//! weights.
//!
//! Deviations: d and m start with outputs near 0, as fast weights of the size of slow ones let the five layers without
//! norm explode at first. The order of d's gradients is a fixed shuffle of the support set, in as many equal parts
//! as divide it, at most `--gradient-parts`. Several images of a class keep the cross-entropy; the paper would then
//! use a contrastive loss in step 1. Gradients of training are not clipped. Pools drop an odd last row and column.

mod weights;

use burn::module::{Module, Param};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::{Device, Int, Tensor};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use self::weights::{Weights, dense};
use super::common::{AVERAGE, COSINE, STRICT, check_ways, negative_log_likelihood, unit};
use super::{Batch, Family, Method, MethodRequest, MethodSpec, Objective, Preset, Scores};
use crate::encoder::Encoder;
use crate::encoder::conv5::{Conv5, pools};
use crate::episode::{Support, TaskShape};
use crate::error::Error;
use crate::layers::{Linear, LstmCell, check_array, uniform};
use crate::learner::{Learner, erase};
use crate::norm::{Norm, Pass};
use crate::ops::coordinates::{self, HIDDEN};
use crate::ops::layered;
use crate::options::{OptionKind, OptionSpec};
use crate::random;
use crate::reproduce::{Planned, Published, RUNNING, Row, Setup, W5S1, W20S1};

pub static SPEC: MethodSpec = MethodSpec {
    name: "meta-network",
    family: Family::Model,
    paper: "Munkhdalai & Yu 2017, Meta Networks",
    summary: "fast weights from loss gradients, beside slow ones",
    options: &[
        OptionSpec {
            name: "gradient-parts",
            kind: OptionKind::Integer(1, 64),
            default: "5",
            help: "parts of the support set whose gradients make the embedding's fast weights, at most",
        },
        OptionSpec {
            name: "support-order",
            kind: OptionKind::Choice(&["shuffled", "sampled"]),
            default: "shuffled",
            help: "how the parts follow each other: in a fixed shuffle of the support set, or class by class",
        },
    ],
    defaults: &[
        ("encoder", "conv5"),
        ("way", "5"),
        ("shot", "1"),
        ("query", "10"),
        ("episodes", "8000"),
        ("val-interval", "1000"),
        ("report-interval", "50"),
    ],
    presets: &[
        Preset {
            name: "paper",
            summary: "the paper's Omniglot protocol: rotated classes, 64 filters, 10 queries per class, Adam 1e-3 (give --way \
                      as the test's)",
            settings: &[
                ("data", "omniglot"),
                ("split", "vinyals"),
                ("rotations", "all"),
                ("shot", "1"),
                ("query", "10"),
                ("schedule", "constant"),
                ("episodes", "30000"),
            ],
        },
        STRICT,
    ],
    rows: &[Row {
        variant: "",
        published: Published {
            source: "Munkhdalai & Yu 2017, table 1",
            protocol: "1,200 training characters with their rotations, the other characters with theirs for the test",
            accuracy: &[(W5S1, 99.0, 0.0), (W20S1, 97.0, 0.0)],
            presentations: &[],
        },
        paper: Setup {
            note: "Fewer episodes, with a cosine schedule and averaged weights.",
            trainings: &[
                Planned::new(
                    "5w1s",
                    "paper",
                    &[("train-on", "trainval"), EPISODES, COSINE, AVERAGE],
                    &[W5S1],
                    55.0,
                ),
                Planned::new(
                    "20w1s",
                    "paper",
                    &[
                        ("way", "20"),
                        ("query", "5"),
                        ("train-on", "trainval"),
                        EPISODES,
                        COSINE,
                        AVERAGE,
                    ],
                    &[W20S1],
                    70.0,
                ),
            ],
            tests: &[RUNNING],
        },
        strict: Setup {
            note: "The same trainings.",
            trainings: &[
                Planned::new("5w1s", "strict", &[EPISODES, AVERAGE], &[W5S1], 55.0),
                Planned::new(
                    "20w1s",
                    "strict",
                    &[("way", "20"), ("query", "5"), EPISODES, AVERAGE],
                    &[W20S1],
                    70.0,
                ),
            ],
            tests: &[RUNNING],
        },
    }],
    build,
};

/// What two cores can train in an hour: each query has weights of its own.
const EPISODES: (&str, &str) = ("episodes", "3000");

/// p of the gradients' form.
const P: f32 = 7.0;

/// How much smaller than usual the outputs of d and m start.
const START: f32 = 0.01;

/// Queries that are answered together: each has weights of its own.
const TOGETHER: usize = 50;

/// The networks; see the module.
#[derive(Module, Debug)]
pub struct MetaNetwork {
    /// The slow weights Q.
    encoder: Encoder,
    /// The embedding's classifier in the representation loss, `[filters, outputs]`.
    representation: Param<Tensor<2>>,
    /// The slow weights W but for the last layer.
    base: Conv5,
    /// The last layer, `[filters, outputs]`.
    output: Param<Tensor<2>>,
    /// d for convolutions and for dense layers.
    task_level: [TaskLevel; 2],
    /// m for convolutions and for dense layers.
    example_level: [ExampleLevel; 2],
    #[module(skip)]
    parts: usize,
    #[module(skip)]
    shuffled: bool,
}

/// d: from the gradients of a weight over the parts of the support set to its fast weight.
#[derive(Module, Debug)]
struct TaskLevel {
    cell: LstmCell,
    output: Linear,
}

/// m: from the gradient of a weight for one support image to its fast weight for that image.
#[derive(Module, Debug)]
struct ExampleLevel {
    first: Linear,
    second: Linear,
    output: Linear,
}

/// An adapted task: the memory.
pub struct Memory {
    /// Q*.
    embedding: Weights,
    /// r' of the support images, `[n_support, filters]`.
    keys: Tensor<2>,
    /// W* of the support images: convolutions and dense layers, `[n_support, weights]` each.
    fast: [Tensor<2>; 2],
    n_way: usize,
}

fn build(request: MethodRequest<'_>) -> Result<Box<dyn Learner>, Error> {
    let MethodRequest {
        encoder,
        maps,
        n_way,
        options,
        device,
        rng,
        ..
    } = request;
    let n_way = *n_way.end();
    let Encoder::Conv5(embedding) = &encoder else {
        return Err(Error::Setting {
            name: "encoder",
            problem: format!("method {} generates weights for --encoder conv5 alone", SPEC.name),
        });
    };
    let filters = maps.channels;
    let base = embedding.like(rng, device);
    let task_level = [(); 2].map(|()| TaskLevel {
        cell: LstmCell::new(2 + HIDDEN, HIDDEN, rng, device),
        output: small(rng, device),
    });
    let example_level = [(); 2].map(|()| ExampleLevel {
        first: Linear::new(2, HIDDEN, rng, device),
        second: Linear::new(HIDDEN, HIDDEN, rng, device),
        output: small(rng, device),
    });
    Ok(erase(
        MetaNetwork {
            representation: uniform(filters, n_way, filters, rng, device).set_require_grad(false),
            base,
            output: uniform(filters, n_way, filters, rng, device),
            task_level,
            example_level,
            encoder,
            parts: options.integer("gradient-parts"),
            shuffled: options.text("support-order") == "shuffled",
        },
        device,
    ))
}

/// A linear output that starts near 0.
fn small(rng: &mut ChaCha8Rng, device: &Device) -> Linear {
    let mut output = Linear::new(HIDDEN, 1, rng, device);
    output.weight = output
        .weight
        .map(|weight| weight.mul_scalar(START).detach().require_grad());
    output
}

impl Method for MetaNetwork {
    type Task = Memory;

    fn adapt(&self, support: &Support, _norm: Norm) -> Result<Memory, Error> {
        check_ways(support.n_way, self.output.dims()[1])?;
        let Encoder::Conv5(embedding) = &self.encoder else {
            return Err(Error::Setting {
                name: "encoder",
                problem: "expected conv5".to_owned(),
            });
        };
        let (n, device) = (support.labels.len(), support.images.device());

        let mut order: Vec<usize> = (0..n).collect();
        if self.shuffled {
            order.shuffle(&mut random::stream(0, &[n as u64]));
        }
        let parts = (1..=self.parts.min(n))
            .rev()
            .find(|parts| n.is_multiple_of(*parts))
            .unwrap_or(1);
        let places: Vec<i32> = order.iter().map(|&place| place as i32).collect();
        let shuffled = support
            .images
            .clone()
            .select(0, Tensor::<1, Int>::from_data(places.as_slice(), &device));
        let labels: Vec<usize> = order.iter().map(|&place| support.labels[place]).collect();
        let slow = Weights::slow(embedding, &[&self.representation]);
        let [blocks, dense] = slow.gradients(&shuffled, &labels, support.n_way, parts);
        // The last dense layer is the classifier, which the embedding has no use for.
        let used: usize = embedding.dense.dims().iter().product();
        let fast = [
            self.task_level[0].generate(blocks),
            self.task_level[1].generate(dense.narrow(1, 0, used)),
        ];
        let q = Weights::slow(embedding, &[]);
        let q_fast = q.like(1, fast);
        let keys = embed(support.images.clone(), &q, &q_fast);

        let slow = Weights::slow(&self.base, &[&self.output]);
        let [blocks, dense] = slow.gradients(&support.images, &support.labels, support.n_way, n);
        let fast = [
            self.example_level[0].generate(blocks),
            self.example_level[1].generate(dense),
        ];
        Ok(Memory {
            embedding: q_fast,
            keys,
            fast,
            n_way: support.n_way,
        })
    }

    fn score(&self, task: &Memory, query: Tensor<4>, _norm: Norm) -> Result<Scores, Error> {
        let n = query.dims()[0];
        let (mut logits, mut attention) = (Vec::new(), Vec::new());
        for start in (0..n).step_by(TOGETHER) {
            let images = query.clone().narrow(0, start, TOGETHER.min(n - start));
            let (some_logits, some_attention) = self.answer(task, images)?;
            logits.push(some_logits);
            attention.push(some_attention);
        }
        Ok(Scores {
            logits: Tensor::cat(logits, 0),
            attention: Some(Tensor::cat(attention, 0)),
        })
    }

    fn loss(&self, batch: &Batch, _pass: &mut Pass) -> Result<Objective, Error> {
        let task = self.adapt(&batch.support, Norm::Running)?;
        let logits = self.score(&task, batch.query.clone(), Norm::Running)?.logits;
        Ok(Objective {
            loss: negative_log_likelihood(logits.clone(), &batch.query_labels),
            logits,
        })
    }

    fn check_task(&self, task: TaskShape, together: usize) -> Result<(), Error> {
        check_ways(task.n_way, self.output.dims()[1])?;
        let product = |dims: &[usize]| dims.iter().product::<usize>();
        let blocks = self.base.blocks.iter().map(|block| product(&block.dims()));
        let weights = blocks.sum::<usize>() + product(&self.base.dense.dims()) + product(&self.output.dims());
        check_array(
            "shot",
            "the fast weights of a task",
            &[
                (task.n_support(), "labelled images"),
                (2, "numbers"),
                (weights, "weights"),
            ],
        )?;
        // In training the weights of all queries are kept for the way back.
        let queries = match together {
            0 => task.n_queries().min(TOGETHER),
            _ => task.n_queries(),
        };
        check_array(
            "query",
            "the fast weights of its queries",
            &[(queries, "queries"), (weights, "weights")],
        )
    }

    fn embed(&self, images: Tensor<4>, norm: Norm) -> Tensor<2> {
        self.encoder.embed(images, &mut Pass::evaluate(norm))
    }
}

impl MetaNetwork {
    /// Logits `[n, n_way]` and attention `[n, n_support]` of images.
    fn answer(&self, task: &Memory, images: Tensor<4>) -> Result<(Tensor<2>, Tensor<2>), Error> {
        let Encoder::Conv5(embedding) = &self.encoder else {
            return Err(Error::Setting {
                name: "encoder",
                problem: "expected conv5".to_owned(),
            });
        };
        let n = images.dims()[0];
        let keys = embed(images.clone(), &Weights::slow(embedding, &[]), &task.embedding);
        let attention = softmax(unit(keys).matmul(unit(task.keys.clone()).transpose()), 1);
        let slow = Weights::slow(&self.base, &[&self.output]);
        let fast = slow.like(n, task.fast.clone().map(|fast| attention.clone().matmul(fast)));
        let maps = augmented_maps(images, &slow, &fast);
        let hidden = relu(dense(maps.clone(), &slow.dense[0])) + relu(dense(maps, &fast.dense[0]));
        let logits = dense(hidden.clone(), &slow.dense[1]) + dense(hidden, &fast.dense[1]);
        Ok((logits.narrow(1, 0, task.n_way), attention))
    }
}

/// r = u(Q, Q*, x): `[n, filters]`.
fn embed(images: Tensor<4>, slow: &Weights, fast: &Weights) -> Tensor<2> {
    let maps = augmented_maps(images, slow, fast);
    dense(maps.clone(), &slow.dense[0]) + dense(maps, &fast.dense[0])
}

/// The blocks with slow and fast weights: `[n, features]`.
fn augmented_maps(images: Tensor<4>, slow: &Weights, fast: &Weights) -> Tensor<2> {
    let pairs = slow.blocks.iter().zip(&fast.blocks);
    let maps = pairs.fold(images, |maps, (slow, fast)| {
        let [_, height, width, _] = maps.dims();
        let sum = layered::convolution(maps.clone(), slow.clone(), false)
            + layered::convolution(maps, fast.clone(), false);
        if pools(height, width) {
            layered::max_pool(sum)
        } else {
            sum
        }
    });
    maps.flatten(1, 3)
}

/// The form in which gradients `[n, weights]` enter d and m: `[n, 2, weights]`.
fn log_and_sign(gradients: Tensor<2>) -> Tensor<3> {
    let log = gradients
        .clone()
        .abs()
        .add_scalar(f32::EPSILON)
        .log()
        .div_scalar(P)
        .clamp_min(-1.0);
    let sign = gradients.mul_scalar(P.exp()).clamp(-1.0, 1.0);
    Tensor::cat(vec![log.unsqueeze_dim(1), sign.unsqueeze_dim(1)], 1)
}

impl TaskLevel {
    /// Gradients of the parts `[parts, weights]` → fast weights `[1, weights]`.
    fn generate(&self, gradients: Tensor<2>) -> Tensor<2> {
        coordinates::lstm(log_and_sign(gradients), &self.cell, &self.output).unsqueeze()
    }
}

impl ExampleLevel {
    /// Gradients of the images `[n, weights]` → fast weights `[n, weights]`.
    fn generate(&self, gradients: Tensor<2>) -> Tensor<2> {
        let [n, weights] = gradients.dims();
        let x = log_and_sign(gradients).swap_dims(0, 1).reshape([2, n * weights]);
        coordinates::mlp(x, [&self.first, &self.second, &self.output]).reshape([n, weights])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;

    #[test]
    fn gradients_enter_as_logarithm_and_sign() {
        // log(e^-3.5) / 7 = -0.5; from e^-7 down the logarithm is cut and the second number grows with the gradient.
        let values = vec![(-3.5f32).exp(), -(-8.0f32).exp(), 0.0, -1.0];
        let gradients = Tensor::from_data(TensorData::new(values, [1, 4]), &Device::flex());
        let found: Vec<f32> = log_and_sign(gradients).into_data().iter().collect();
        let expected = [-0.5, -1.0, -1.0, 0.0, 1.0, -(-1.0f32).exp(), 0.0, -1.0];
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-4, "{found:?} instead of {expected:?}");
        }
    }
}
