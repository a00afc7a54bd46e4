//! Model-agnostic meta-learning.
//!
//! C. Finn, P. Abbeel, S. Levine: *Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks*, ICML 2017.
//!
//! A task is learned by a few gradient steps on its support loss from a common starting point θ (eq. 1):
//! θ′ = θ − α ∇L(θ). The starting point is trained so that the loss of the query set after these steps is small (eq. 2,
//! algorithm 2), by the exact gradient through the inner gradients (`--order 2`) or as if these did not depend on θ
//! (`--order 1`, section 5.2). The loss is the cross-entropy of a linear classifier on the encoder's features (eq. 4);
//! all weights are adapted, and every batch is normalised by its own statistics.
//!
//! The exact gradient comes from Hessian-vector products, see [`crate::inner`].
//!
//! Deviations: the paper's Omniglot network has convolutions of stride 2 in the place of pools (section 5.2); here it is
//! `conv4` with pools unless another encoder is given. Equation 4 and the authors' program sum the loss over a task's classes
//! where this is the mean over them. So the rates that the paper prints, 0.4 (5-way) and 0.1 (20-way), move the weights in
//! their program as far as 5 · 0.4 = 2 and 20 · 0.1 = 2 would here. `--preset paper` takes the printed numbers all the same,
//! for the paper's text gives them for its equation and a preset that isn't what is printed could not be checked against
//! it; `--inner-lr 2` takes the authors' steps. The paper draws as many queries as shots; `--query` sets them.
//! `--norm running` is not in the paper; see `fast.rs`. Nor is `--warm-up` (none unless given), see `warm_up.rs`.

use super::common::{AVERAGE, COSINE};
use super::fast::{self, Adapted, Lesson, Model, QUERY_NORM, Rule, Watch};
use super::warm_up::{self, WARM_UP};
use super::{Family, MethodRequest, MethodSpec, Preset};
use crate::error::Error;
use crate::inner::{Batch, Descent, MetaGradient, Order, Rates, Weights};
use crate::learner::Learner;
use crate::options::{OptionKind, OptionSpec, Options};
use crate::reproduce::{ALONE, Planned, Published, Row, Setup, TRANSDUCTIVE, W5S1, W5S5, W20S1, W20S5};

pub static SPEC: MethodSpec = MethodSpec {
    name: "maml",
    family: Family::Optimization,
    paper: "Finn, Abbeel, Levine 2017, Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks",
    summary: "a starting point from which a few gradient steps learn a task",
    options: &[ORDER, INNER_STEPS, INNER_LR, TEST_STEPS, WARM_UP, QUERY_NORM],
    defaults: &[
        ("way", "5"),
        ("query", "5"),
        ("meta-batch", "8"),
        ("episodes", "16000"),
        ("norm", "episode"),
        ("val-interval", "2000"),
        ("report-interval", "200"),
    ],
    presets: &[
        Preset {
            name: "paper",
            summary: "the paper's 5-way Omniglot training: 1 inner step of 0.4 as printed (on the mean loss; the authors' program \
                      sums over the classes: --inner-lr 2 here), 32 tasks per update, Adam 1e-3, 60,000 updates, 3 steps in the \
                      test, batch statistics everywhere (give --shot, and --query as many)",
            settings: &[
                ("data", "omniglot"),
                ("split", "vinyals"),
                ("rotations", "all"),
                ("train-on", "trainval"),
                ("way", "5"),
                ("query", "1"),
                ("inner-steps", "1"),
                ("inner-lr", "0.4"),
                ("test-steps", "3"),
                ("meta-batch", "32"),
                ("episodes", "1920000"),
                ("schedule", "constant"),
                ("norm", "episode"),
                ("val-interval", "32000"),
                ("report-interval", "3200"),
            ],
        },
        Preset {
            name: "paper-20way",
            summary: "the paper's 20-way Omniglot training: 5 inner steps of 0.1 as printed (the authors' program: --inner-lr 2 \
                      here) in training and test, 16 tasks per update (give --shot, and --query as many)",
            settings: &[
                ("data", "omniglot"),
                ("split", "vinyals"),
                ("rotations", "all"),
                ("train-on", "trainval"),
                ("way", "20"),
                ("query", "1"),
                ("inner-steps", "5"),
                ("inner-lr", "0.1"),
                ("meta-batch", "16"),
                ("episodes", "960000"),
                ("schedule", "constant"),
                ("norm", "episode"),
                ("val-interval", "16000"),
                ("report-interval", "1600"),
            ],
        },
        Preset {
            name: "strict",
            summary: "5-way under the strict protocol: official 30/20 alphabet split, no rotated test classes, no query \
                      sees another one: each is normalised together with the support set",
            settings: &[
                ("data", "omniglot"),
                ("split", "official"),
                ("rotations", "train"),
                ("norm", "running"),
                ("query-norm", "support"),
                ("way", "5"),
                ("inner-steps", "1"),
                ("inner-lr", "0.4"),
                ("meta-batch", "16"),
                ("episodes", "160000"),
                ("val-interval", "16000"),
                ("report-interval", "1600"),
            ],
        },
    ],
    rows: &[
        Row {
            variant: "",
            published: Published {
                source: "Finn et al. 2017, table 1",
                protocol: "transductive (each set's own statistics), rotated characters as further classes",
                accuracy: &[
                    (W5S1, 98.7, 0.4),
                    (W5S5, 99.9, 0.1),
                    (W20S1, 95.8, 0.3),
                    (W20S5, 98.9, 0.2),
                ],
                presentations: &[],
            },
            paper: Setup {
                note: SHORTER,
                trainings: &[
                    Planned::new(
                        "5w1s",
                        "paper",
                        &[("episodes", "192000"), COSINE, AVERAGE],
                        &[W5S1],
                        15.0,
                    ),
                    Planned::new("5-way", "paper", STEPS_5, &[W5S5], 8.0).with(TUNED_5),
                    Planned::new("20-way", "paper-20way", STEPS_20, &[W20S1, W20S5], 10.0).with(TUNED_20),
                ],
                tests: &[TRANSDUCTIVE],
            },
            strict: Setup {
                note: TUNED,
                trainings: &[
                    Planned::new("5-way", "strict", STEPS_5, &[W5S1, W5S5], 8.0).with(TUNED_5),
                    Planned::new("20-way", "strict", STEPS_20, &[W20S1, W20S5], 10.0).with(TUNED_20),
                ],
                tests: &[ALONE],
            },
        },
        Row {
            variant: "first-order",
            published: Published {
                source: "Nichol et al. 2018, table 2",
                protocol: "transductive",
                accuracy: &[
                    (W5S1, 98.3, 0.5),
                    (W5S5, 99.2, 0.2),
                    (W20S1, 89.4, 0.5),
                    (W20S5, 97.9, 0.1),
                ],
                presentations: &[],
            },
            paper: Setup {
                note: FIRST_SHORTER,
                trainings: &[
                    Planned::new("5-way", "paper", FIRST_5, &[W5S1, W5S5], 9.0).with(TUNED_5),
                    Planned::new("20-way", "paper-20way", FIRST_20, &[W20S1, W20S5], 6.0).with(TUNED_20),
                ],
                tests: &[TRANSDUCTIVE],
            },
            strict: Setup {
                note: "One model for 1 and 5 shots, without a warm-up, after which the 20-way training was lost.",
                trainings: &[
                    Planned::new("5-way", "strict", FIRST_5, &[W5S1, W5S5], 5.0).with(TUNED_5),
                    Planned::new("20-way", "strict", FIRST_20_COLD, &[W20S1, W20S5], 10.0).with(TUNED_20),
                ],
                tests: &[ALONE],
            },
        },
    ],
    build,
};

/// What these trainings have that the paper's don't.
const SHORTER: &str = "5-way 1-shot: a tenth of the paper's updates, with a cosine schedule and averaged weights in their place. 5-way \
                       5-shot and 20-way: trained on 1 to 5 shots and 2 queries; 30,000 and 8,000 tasks of warm-up by ANIL's \
                       steps and 10,000 and 2,000 by the method's, four and two for each update.";
/// The same of the first order.
const FIRST_SHORTER: &str = "One model for 1 and 5 shots, of 1 to 5 shots and 2 queries, with a cosine schedule and averaged weights. 5-way: \
                             10,000 updates of 4 tasks, 3 inner steps of 0.2. 20-way: 8,000 tasks of warm-up by ANIL's steps and 2,000 \
                             by the method's, two for each update.";
/// What the strict ones have, and Meta-SGD's.
pub const TUNED: &str = "One model for 1 and 5 shots, of 1 to 5 shots and 2 queries; a warm-up by ANIL's steps, then a fifth to a \
                         third as many tasks by the method's own; 2 or 4 tasks for each update, a cosine schedule and \
                         averaged weights.";
const FIRST_ORDER: (&str, &str) = ("order", "1");
/// Tasks of a 5-way warm-up.
pub const WARM_UP_5: (&str, &str) = ("warm-up", "30000");
/// A tuned 5-way training of MAML.
const STEPS_5: &[(&str, &str)] = &[WARM_UP_5, ("inner-steps", "3"), ("inner-lr", "0.2")];
/// A tuned 20-way training of MAML.
const STEPS_20: &[(&str, &str)] = &[
    ("episodes", "10000"),
    ("warm-up", "8000"),
    ("inner-steps", "5"),
    ("inner-lr", "0.1"),
];
const FIRST_5: &[(&str, &str)] = &[FIRST_ORDER, ("inner-steps", "3"), ("inner-lr", "0.2")];
const FIRST_20: &[(&str, &str)] = &[
    FIRST_ORDER,
    ("episodes", "10000"),
    ("warm-up", "8000"),
    ("inner-steps", "5"),
    ("inner-lr", "0.1"),
];
/// Without a warm-up.
const FIRST_20_COLD: &[(&str, &str)] = &[
    FIRST_ORDER,
    ("episodes", "10000"),
    ("inner-steps", "5"),
    ("inner-lr", "0.1"),
];

/// What every tuned 5-way training has.
pub const TUNED_5: &[(&str, &str)] = &[
    ("way", "5"),
    ("shot", "1-5"),
    ("val-shot", "1"),
    ("query", "2"),
    ("val-query", "2"),
    ("meta-batch", "4"),
    ("episodes", "40000"),
    ("val-interval", "4000"),
    COSINE,
    AVERAGE,
];
/// What every tuned 20-way training has.
pub const TUNED_20: &[(&str, &str)] = &[
    ("way", "20"),
    ("shot", "1-5"),
    ("val-shot", "1"),
    ("query", "2"),
    ("val-query", "2"),
    ("meta-batch", "2"),
    ("val-interval", "2000"),
    ("report-interval", "400"),
    COSINE,
    AVERAGE,
];

/// `--order`.
pub const ORDER: OptionSpec = OptionSpec {
    name: "order",
    kind: OptionKind::Choice(&["2", "1"]),
    default: "2",
    help: "exact meta-gradient (2), or without the inner gradients' own derivatives (1)",
};

/// `--inner-steps`.
pub const INNER_STEPS: OptionSpec = OptionSpec {
    name: "inner-steps",
    kind: OptionKind::Integer(1, 1000),
    default: "1",
    help: "gradient steps on a support set in training",
};

/// `--inner-lr`.
pub const INNER_LR: OptionSpec = OptionSpec {
    name: "inner-lr",
    kind: OptionKind::Number(0.0, 100.0),
    default: "0.4",
    help: "learning rate of the steps on a support set",
};

/// `--test-steps`.
pub const TEST_STEPS: OptionSpec = OptionSpec {
    name: "test-steps",
    kind: OptionKind::Integer(0, 10_000),
    default: "0",
    help: "steps on a support set in validation and test, 0 for as many as in training",
};

/// The settings of an inner descent.
pub struct Steps {
    /// Steps in training.
    pub train: usize,
    /// Steps in validation and test.
    pub test: usize,
}

impl Steps {
    /// `--inner-steps` and `--test-steps`.
    pub fn of(options: &Options) -> Self {
        let train = options.integer("inner-steps");
        let test = match options.integer("test-steps") {
            0 => train,
            test => test,
        };
        Self { train, test }
    }
}

/// `--order`.
pub fn order(options: &Options) -> Order {
    if options.text("order") == "1" {
        Order::First
    } else {
        Order::Second
    }
}

/// The rule; see the module.
struct Maml {
    steps: Steps,
    inner_lr: f32,
    order: Order,
}

fn build(request: MethodRequest<'_>) -> Result<Box<dyn Learner>, Error> {
    let options = request.options;
    let rule = Maml {
        steps: Steps::of(options),
        inner_lr: options.number("inner-lr") as f32,
        order: order(options),
    };
    let rate = rule.inner_lr;
    Ok(warm_up::learner(Model::new(request)?, rule, options, rate))
}

impl Maml {
    fn descent<'a>(&self, model: &'a Model, steps: usize) -> Descent<'a> {
        Descent {
            network: &model.network,
            rates: Rates::One(self.inner_lr),
            steps,
        }
    }
}

impl Rule for Maml {
    fn adapt(&self, model: &Model, support: &Batch<'_>, watch: &mut Watch<'_>) -> Adapted {
        let watch = &mut |weights: &Weights| watch(weights, None);
        self.descent(model, self.steps.test)
            .watched(Weights::repeat(&model.start(), 1), support, watch)
            .into()
    }

    fn learn(&self, model: &Model, support: &Batch<'_>, query: &Batch<'_>) -> Lesson {
        let start = Weights::repeat(&model.start(), support.tasks);
        let descent = self.descent(model, self.steps.train);
        let found = descent.meta_gradient(start, support, query, self.order, false);
        lesson(model, query, found)
    }
}

/// The lesson of a meta-gradient with respect to all of the network's weights.
pub fn lesson(model: &Model, query: &Batch<'_>, found: MetaGradient) -> Lesson {
    Lesson {
        loss: found.losses.iter().map(|loss| f64::from(*loss)).sum(),
        accuracy: fast::recognised(query, &found.outputs),
        gradients: model.weights().iter().copied().zip(found.start.sum()).collect(),
        statistics: vec![found.statistics],
        ..Lesson::default()
    }
}
