//! Memory-augmented neural network (MANN).
//!
//! A. Santoro, S. Bartunov, M. Botvinick, D. Wierstra, T. Lillicrap: *Meta-Learning with Memory-Augmented Neural
//! Networks*, ICML 2016.
//!
//! The images of a task come one after the other, each with the label of the image before it: the network sees
//! (xₜ, yₜ₋₁) and answers with yₜ (section 2). So it must keep xₜ until its label arrives, bind the two, and find them
//! again when the class comes back. An LSTM is the controller; beside its state it has a memory Mₜ of rows:
//!
//! * Each head forms a key kₜ and reads by cosine (eqs. 2 to 4): K = kₜ·Mₜ(i) / (‖kₜ‖ ‖Mₜ(i)‖),
//!   wʳₜ = softmax(K), rₜ = Σᵢ wʳₜ(i) Mₜ(i). What was read goes to the classifier and to the controller's next step.
//! * It writes to where it last read, or to a row that is least used (least recently used access, eqs. 5 to 8):
//!   wᵘₜ = γ wᵘₜ₋₁ + wʳₜ + wʷₜ, wʷₜ = σ(α) wʳₜ₋₁ + (1 − σ(α)) wˡᵘₜ₋₁, Mₜ(i) = Mₜ₋₁(i) + wʷₜ(i) kₜ, where wˡᵘ is 1
//!   at the least used rows and 0 elsewhere; those rows are set to zero first.
//!
//! Training minimises the cross-entropy of every answer of the sequence (eq. 9 and section 3.2). Labels are those of the
//! episode, whose classes are drawn in random order, so that none can be learned by heart.
//!
//! N-way K-shot: the support set is the sequence (in a fixed shuffle), and each query comes alone as the next image
//! after it. `kshot eval --protocol presentations` measures what the paper reports, accuracy by the n-th presentation.
//!
//! Deviations:
//! * Of the n least used rows each of n heads gets its own; read to the letter, eq. 6 lets all heads write their keys
//!   on top of each other in all n. σ(α) comes from the controller at each step.
//! * A softmax over 128 cosines is nearly flat; `--sharpness learned` (default) multiplies them by a factor from the
//!   controller (as in Graves et al. 2014, eq. 5), `--sharpness fixed` keeps the letter. `--stored vector` writes a
//!   vector of its own instead of the key.
//! * Sequences of 2 to 5 classes (`--way 2-5`, default) and two of them per update. With five classes from the start and 16
//!   sequences per update, tens of thousands of sequences taught nothing but to count which labels are still to come:
//!   knowing each label's number in a shuffled sequence of 50 is worth a loss of 1.459 instead of ln 5.
//! * The paper feeds pixels (`--encoder pixels`, as `--preset paper` does); any other encoder learns along.
//! * Adam instead of RMSProp. An answer is a softmax over one-hot labels; the paper's five-letter labels aren't offered.

mod memory;
mod sequence;
mod state;
#[cfg(test)]
mod tests;

use burn::module::{Module, Param};
use burn::tensor::activation::{sigmoid, softplus, tanh};
use burn::tensor::{Int, Tensor, TensorData};

use self::memory::{Emitted, access};
use self::sequence::{Order, Sequence, side_by_side};
use self::state::{Sizes, State};
use super::common::{STRICT, check_ways, negative_log_likelihood, one_hot};
use super::{Batch, Family, Method, MethodRequest, MethodSpec, Objective, Preset, Scores};
use crate::encoder::Encoder;
use crate::episode::{Support, TaskShape};
use crate::error::Error;
use crate::layers::{Linear, check_sizes, uniform};
use crate::learner::{Learner, erase};
use crate::norm::{Norm, Pass};
use crate::ops::memory::{is_on_cpu, memory_network};
use crate::options::{OptionKind, OptionSpec};
use crate::reproduce::{Planned, Published, RUNNING, Row, Setup, W5S1, W5S5};

pub static SPEC: MethodSpec = MethodSpec {
    name: "mann",
    family: Family::Model,
    paper: "Santoro et al. 2016, Meta-Learning with Memory-Augmented Neural Networks",
    summary: "an LSTM with an external memory, which reads images and labels one after the other",
    options: &[
        OptionSpec::new(
            "controller",
            OptionKind::Integer(1, 4096),
            "200",
            "hidden units of the LSTM",
        ),
        OptionSpec::new(
            "memory-rows",
            OptionKind::Integer(1, 65_536),
            "128",
            "rows of the memory, at least one per head",
        ),
        OptionSpec::new(
            "memory-width",
            OptionKind::Integer(1, 4096),
            "40",
            "numbers in a row of the memory",
        ),
        OptionSpec::new(
            "heads",
            OptionKind::Integer(1, 64),
            "4",
            "heads that read and write",
        ),
        OptionSpec::new(
            "usage-decay",
            OptionKind::Number(0.0, 1.0),
            "0.99",
            "how slowly the use of a row is forgotten, per step",
        ),
        OptionSpec::new(
            "sharpness",
            OptionKind::Choice(&["learned", "fixed"]),
            "learned",
            "factor of the cosines: from the controller, or 1 as in the paper",
        ),
        OptionSpec::new(
            "stored",
            OptionKind::Choice(&["key", "vector"]),
            "key",
            "what a head writes: its key as in the paper, or a vector of its own",
        ),
        OptionSpec::new(
            "sequence",
            OptionKind::Choice(&["mixed", "support-first", "sampled"]),
            "mixed",
            "order in training: all images of an episode at random, the support set before the queries, or class by class",
        ),
    ],
    defaults: &[
        ("way", "2-5"),
        ("shot", "1"),
        ("query", "9"),
        ("meta-batch", "2"),
        ("episodes", "40000"),
        ("val-interval", "4000"),
        ("report-interval", "400"),
    ],
    presets: &[
        Preset {
            name: "paper",
            summary: "the paper's 5-way protocol: pixels at 20x20, 10 presentations of each class, 16 sequences per update, \
                      rotated classes, small rotations and shifts (measure with eval --protocol presentations)",
            settings: &[
                ("data", "omniglot"),
                ("split", "vinyals"),
                ("rotations", "all"),
                ("encoder", "pixels"),
                ("sharpness", "fixed"),
                ("way", "5"),
                ("shot", "1"),
                ("query", "9"),
                ("meta-batch", "16"),
                ("rotate", "10"),
                ("shift", "2"),
                ("episodes", "320000"),
                ("val-interval", "16000"),
            ],
        },
        STRICT,
    ],
    rows: &[Row {
        variant: "",
        published: Published {
            source: "Santoro et al. 2016, table 1 (one-hot labels, five classes)",
            protocol: "accuracy by the n-th presentation of a class in a sequence, not K-shot; 1,200 training characters \
                       with their rotations, the others for the test",
            accuracy: &[],
            presentations: &[(1, 36.4), (2, 82.8), (3, 91.0), (4, 92.6), (5, 94.9), (10, 98.1)],
        },
        paper: Setup {
            note: "Sequences of 2 to 5 classes, a learned factor of the cosines, two sequences per update, a cosine schedule and \
                   averaged weights. K-shot: the support set as the sequence, a query after it.",
            trainings: &[Planned::new("", "paper", &[], &[W5S1, W5S5], 68.0).with(TUNED)],
            tests: &[RUNNING],
        },
        strict: Setup {
            note: "The same training.",
            trainings: &[Planned::new("", "strict", AS_IN_THE_PAPER, &[W5S1, W5S5], 68.0).with(TUNED)],
            tests: &[RUNNING],
        },
    }],
    build,
};

/// How the rows' models are trained.
const TUNED: &[(&str, &str)] = &[
    ("sharpness", "learned"),
    ("way", "2-5"),
    ("val-way", "5"),
    ("meta-batch", "2"),
    ("episodes", "480000"),
    ("val-interval", "16000"),
    ("report-interval", "1600"),
    ("schedule", "cosine"),
    ("average", "0.998"),
];

/// What the strict row has of the paper's preset.
const AS_IN_THE_PAPER: &[(&str, &str)] = &[("encoder", "pixels"), ("rotate", "10"), ("shift", "2")];

/// Where the learned factor of the cosines starts.
const SHARP: f32 = 10.0;

/// The network; see the module.
#[derive(Module, Debug)]
pub struct Mann {
    encoder: Encoder,
    /// From (xₜ, yₜ₋₁) to the controller's gates (input, forget, output, candidate): `[features + outputs, 4 * hidden]`.
    input: Linear,
    /// From (hₜ₋₁, rₜ₋₁) to the gates: `[hidden + heads * width, 4 * hidden]`.
    recurrent: Param<Tensor<2>>,
    /// From hₜ to keys, α and, where they are learned, vectors to write and factors of the cosines.
    heads: Linear,
    /// From (hₜ, rₜ) to the answer: `[hidden + heads * width, outputs]`.
    output: Linear,
    #[module(skip)]
    sizes: Sizes,
}

/// An adapted task: the state after the support set, and the label that the next step hears of.
pub struct Remembered {
    state: State,
    last_label: usize,
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
        most_weights,
        ..
    } = request;
    let n_way = *n_way.end();
    let sizes = Sizes {
        hidden: options.integer("controller"),
        rows: options.integer("memory-rows"),
        width: options.integer("memory-width"),
        heads: options.integer("heads"),
        usage_decay: options.number("usage-decay") as f32,
        sharpness_learned: options.text("sharpness") == "learned",
        vector_stored: options.text("stored") == "vector",
        order: match options.text("sequence") {
            "support-first" => Order::SupportFirst,
            "sampled" => Order::Sampled,
            _ => Order::Mixed,
        },
    };
    let Sizes {
        hidden,
        rows,
        width,
        heads,
        ..
    } = sizes;
    if rows < heads {
        return Err(Error::Setting {
            name: "memory-rows",
            problem: format!("{heads} heads need at least {heads} rows to write to, found {rows}"),
        });
    }
    let fed_back = hidden + heads * width;
    let matrices = [
        (maps.len() + n_way, 4 * hidden),
        (fed_back, 4 * hidden),
        (hidden, sizes.emitted()),
    ];
    check_sizes(most_weights, &matrices)?;
    let mut input = Linear::new(maps.len() + n_way, 4 * hidden, rng, device);
    let mut bias = vec![0.0; 4 * hidden];
    // The forget gate is open at first.
    bias[hidden..2 * hidden].fill(1.0);
    input.bias = Param::from_data(TensorData::new(bias, [4 * hidden]), device);
    let recurrent = uniform(fed_back, 4 * hidden, fed_back, rng, device);
    let mut emitted = Linear::new(hidden, sizes.emitted(), rng, device);
    if sizes.sharpness_learned {
        let mut bias = vec![0.0; sizes.emitted()];
        bias[sizes.emitted() - heads..].fill(SHARP);
        emitted.bias = Param::from_data(TensorData::new(bias, [sizes.emitted()]), device);
    }
    let output = Linear::new(fed_back, n_way, rng, device);
    Ok(erase(
        Mann {
            encoder,
            input,
            recurrent,
            heads: emitted,
            output,
            sizes,
        },
        device,
    ))
}

impl Method for Mann {
    type Task = Remembered;

    fn adapt(&self, support: &Support, norm: Norm) -> Result<Remembered, Error> {
        self.check(support.n_way)?;
        let order = self.sizes.order.places(0, support.labels.len(), 0);
        let last_label = order.last().map_or(0, |&place| support.labels[place]);
        let features = self.embed(support.images.clone(), norm);
        let sequence = Sequence {
            features,
            labels: &support.labels,
            order,
        };
        let start = || State::new(1, &self.sizes, &support.images.device());
        let state = self.after(sequence).unwrap_or_else(start);
        Ok(Remembered {
            state,
            last_label,
            n_way: support.n_way,
        })
    }

    fn score(&self, task: &Remembered, query: Tensor<4>, norm: Norm) -> Result<Scores, Error> {
        let features = self.embed(query, norm);
        let n_query = features.dims()[0];
        let label = one_hot(
            &vec![task.last_label; n_query],
            self.outputs(),
            &features.device(),
        );
        let gates = self.input.forward(Tensor::cat(vec![features, label], 1));
        let state = self.step(gates, task.state.repeated(n_query));
        Ok(Scores {
            logits: self.output.forward(state.output).narrow(1, 0, task.n_way),
            attention: None,
        })
    }

    fn loss(&self, batch: &Batch, pass: &mut Pass) -> Result<Objective, Error> {
        self.loss_together(std::slice::from_ref(batch), pass)
    }

    fn joint_loss(&self, batches: &[Batch], pass: &mut Pass) -> Option<Result<Objective, Error>> {
        let length = |batch: &Batch| (batch.support.labels.len(), batch.query_labels.len());
        let first = length(batches.first()?);
        let alike = batches.iter().all(|batch| length(batch) == first);
        alike.then(|| self.loss_together(batches, pass))
    }

    fn check_task(&self, task: TaskShape, together: usize) -> Result<(), Error> {
        self.check(task.n_way)?;
        self.sizes.check(task, together)
    }

    fn present(&self, sequence: &Support, norm: Norm) -> Option<Result<Tensor<2>, Error>> {
        Some(self.answer_in_order(sequence, norm))
    }

    fn embed(&self, images: Tensor<4>, norm: Norm) -> Tensor<2> {
        self.encoder.embed(images, &mut Pass::evaluate(norm))
    }
}

impl Mann {
    fn outputs(&self) -> usize {
        self.output.bias.dims()[0]
    }

    /// See [`Method::present`].
    fn answer_in_order(&self, sequence: &Support, norm: Norm) -> Result<Tensor<2>, Error> {
        self.check(sequence.n_way)?;
        let features = self.embed(sequence.images.clone(), norm);
        let order = (0..sequence.labels.len()).collect();
        let outputs = self.outputs_of(&[Sequence {
            features,
            labels: &sequence.labels,
            order,
        }]);
        Ok(self.output.forward(outputs).narrow(1, 0, sequence.n_way))
    }

    fn check(&self, n_way: usize) -> Result<(), Error> {
        check_ways(n_way, self.outputs())
    }

    /// Sequences of one length side by side: the mean of their losses, and the logits of their queries.
    fn loss_together(&self, batches: &[Batch], pass: &mut Pass) -> Result<Objective, Error> {
        let mut sequences = Vec::with_capacity(batches.len());
        let labels: Vec<Vec<usize>> = batches
            .iter()
            .map(|batch| [&batch.support.labels[..], &batch.query_labels].concat())
            .collect();
        for (batch, labels) in batches.iter().zip(&labels) {
            self.check(batch.support.n_way)?;
            let images = Tensor::cat(vec![batch.support.images.clone(), batch.query.clone()], 0);
            let n_support = batch.support.labels.len();
            let order = self
                .sizes
                .order
                .places(batch.seed, n_support, labels.len() - n_support);
            let features = self.encoder.embed(images, pass);
            sequences.push(Sequence {
                features,
                labels,
                order,
            });
        }
        let outputs = self.outputs_of(&sequences);
        let n_way = batches.first().map_or(1, |batch| batch.support.n_way);
        let logits = self.output.forward(outputs).narrow(1, 0, n_way);
        let (b, length) = (sequences.len(), labels.first().map_or(0, Vec::len));
        // Row t * b + s is the t-th answer of sequence s.
        let mut truth = vec![0; b * length];
        let mut query_rows = Vec::new();
        for (s, (sequence, batch)) in sequences.iter().zip(batches).enumerate() {
            let mut row_of = vec![0i32; length];
            for (t, &place) in sequence.order.iter().enumerate() {
                truth[t * b + s] = sequence.labels[place];
                row_of[place] = (t * b + s) as i32;
            }
            query_rows.extend_from_slice(&row_of[batch.support.labels.len()..]);
        }
        let query_rows = Tensor::<1, Int>::from_data(query_rows.as_slice(), &logits.device());
        Ok(Objective {
            loss: negative_log_likelihood(logits.clone(), &truth),
            logits: logits.select(0, query_rows),
        })
    }

    /// Shows sequences of one length side by side: (hₜ, rₜ) of every step, `[length * b, hidden + heads * width]`.
    fn outputs_of(&self, sequences: &[Sequence<'_>]) -> Tensor<2> {
        let gates = self.gates(sequences);
        if is_on_cpu(&gates.device()) {
            let recurrent = self.recurrent.val();
            return memory_network(self.sizes.form(), sequences.len(), gates, recurrent, &self.heads);
        }
        let states = self.states(gates, sequences.len());
        Tensor::cat(states.map(|state| state.output).collect(), 0)
    }

    /// The state after one sequence.
    fn after(&self, sequence: Sequence<'_>) -> Option<State> {
        self.states(self.gates(&[sequence]), 1).last()
    }

    /// What the steps of sequences of one length add to the controller's gates: `[length * b, 4 * hidden]`.
    fn gates(&self, sequences: &[Sequence<'_>]) -> Tensor<2> {
        self.input.forward(side_by_side(sequences, self.outputs()))
    }

    /// The states of `b` sequences side by side, step by step.
    fn states(&self, gates: Tensor<2>, b: usize) -> impl Iterator<Item = State> {
        let mut state = State::new(b, &self.sizes, &gates.device());
        (0..gates.dims()[0] / b).map(move |t| {
            state = self.step(gates.clone().narrow(0, t * b, b), state.clone());
            state.clone()
        })
    }

    /// One image of each sequence; `gates` `[b, 4 * hidden]` is what the input adds to the controller's gates.
    fn step(&self, gates: Tensor<2>, before: State) -> State {
        let Sizes {
            hidden, width, heads, ..
        } = self.sizes;
        let b = gates.dims()[0];
        let gates = gates + before.output.matmul(self.recurrent.val());
        let opened = sigmoid(gates.clone().narrow(1, 0, 3 * hidden));
        let candidate = tanh(gates.narrow(1, 3 * hidden, hidden));
        let gate = |index: usize| opened.clone().narrow(1, index * hidden, hidden);
        let cell = gate(1) * before.cell + gate(0) * candidate;
        let h = gate(2) * tanh(cell.clone());

        let emitted = self.heads.forward(h.clone());
        let keys = |from| tanh(emitted.clone().narrow(1, from, heads * width)).reshape([b, heads, width]);
        let per_head = |from| emitted.clone().narrow(1, from, heads).reshape([b, heads, 1]);
        let key = keys(0);
        let stored = if self.sizes.vector_stored {
            keys(heads * width)
        } else {
            key.clone()
        };
        let alpha = sigmoid(per_head(self.sizes.emitted_keys()));

        let factor = self
            .sizes
            .sharpness_learned
            .then(|| softplus(per_head(self.sizes.emitted_keys() + heads), 1.0));
        let (read, memory, usage) = access(
            (before.read, before.memory, before.usage),
            Emitted {
                key,
                stored,
                alpha,
                factor,
            },
            self.sizes.usage_decay,
        );
        let found = read.clone().matmul(memory.clone()).reshape([b, heads * width]);
        State {
            output: Tensor::cat(vec![h, found], 1),
            cell,
            read,
            memory,
            usage,
        }
    }
}
