//! Meta-SGD.
//!
//! Z. Li, F. Zhou, F. Chen, H. Li: *Meta-SGD: Learning to Learn Quickly for Few-Shot Learning*, 2017.
//!
//! As MAML, but with a rate for each weight, its sign included, learned together with the starting point (eq. 2):
//! θ′ = θ − α ∘ ∇L(θ). Both are trained on the query loss after the step (eq. 4, algorithm 1): by the exact gradient
//! with respect to θ, and ∂L_q/∂α = −Σₖ ∇Lₛ(θₖ) ∘ vₖ₊₁ with vₖ₊₁ the query loss's gradient with respect to θₖ₊₁. All rates start at
//! one number from a narrow range (the paper's experiments draw it from [0.005, 0.1]).
//!
//! Deviations: several inner steps with the same rates are possible (`--inner-steps`, the paper takes one). The paper
//! leaves the number of tasks per update on Omniglot open; the presets take MAML's. `--warm-up` (none unless given) is as
//! MAML's, at the first rate.

use super::fast::{Adapted, Lesson, Model, QUERY_NORM, Rule, Watch};
use super::maml::{self, INNER_STEPS, ORDER, Steps, TEST_STEPS, TUNED, TUNED_5, TUNED_20, WARM_UP_5};
use super::warm_up::{self, WARM_UP};
use super::{Family, MethodRequest, MethodSpec, Preset};
use crate::error::Error;
use crate::inner::{Batch, Descent, Order, Rates, Weights};
use crate::learner::Learner;
use crate::options::{OptionKind, OptionSpec};
use crate::reproduce::{ALONE, Planned, Published, Row, Setup, TRANSDUCTIVE, W5S1, W5S5, W20S1, W20S5};

pub static SPEC: MethodSpec = MethodSpec {
    name: "meta-sgd",
    family: Family::Optimization,
    paper: "Li, Zhou, Chen, Li 2017, Meta-SGD: Learning to Learn Quickly for Few-Shot Learning",
    summary: "MAML with a learned rate for each weight",
    options: &[
        ORDER,
        INNER_STEPS,
        TEST_STEPS,
        OptionSpec {
            name: "first-rate",
            kind: OptionKind::Number(-100.0, 100.0),
            default: "0.1",
            help: "the rate of every weight before training",
        },
        WARM_UP,
        QUERY_NORM,
    ],
    defaults: maml::SPEC.defaults,
    presets: &[
        Preset {
            name: "paper",
            summary: "5-way Omniglot: one inner step, 60,000 updates by Adam 1e-3, batch statistics everywhere (give --shot)",
            settings: &[
                ("data", "omniglot"),
                ("split", "vinyals"),
                ("rotations", "all"),
                ("train-on", "trainval"),
                ("way", "5"),
                ("query", "15"),
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
            summary: "20-way Omniglot: as 5-way, with 16 tasks per update (give --shot)",
            settings: &[
                ("data", "omniglot"),
                ("split", "vinyals"),
                ("rotations", "all"),
                ("train-on", "trainval"),
                ("way", "20"),
                ("query", "15"),
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
                ("meta-batch", "16"),
                ("episodes", "160000"),
                ("val-interval", "16000"),
                ("report-interval", "1600"),
            ],
        },
    ],
    rows: &[Row {
        variant: "",
        published: Published {
            source: "Li et al. 2017, table 2",
            protocol: "as MAML's: transductive, rotated characters as further classes",
            accuracy: &[
                (W5S1, 99.53, 0.26),
                (W5S5, 99.93, 0.09),
                (W20S1, 95.93, 0.38),
                (W20S5, 98.97, 0.19),
            ],
            presentations: &[],
        },
        paper: Setup {
            note: TUNED,
            trainings: &[
                Planned::new("5-way", "paper", STEPS_5, &[W5S1, W5S5], 5.0).with(TUNED_5),
                Planned::new("20-way", "paper-20way", STEPS_20, &[W20S1, W20S5], 6.0).with(TUNED_20),
            ],
            tests: &[TRANSDUCTIVE],
        },
        strict: Setup {
            note: "The same trainings.",
            trainings: &[
                Planned::new("5-way", "strict", STEPS_5, &[W5S1, W5S5], 5.0).with(TUNED_5),
                Planned::new("20-way", "strict", STEPS_20, &[W20S1, W20S5], 6.0).with(TUNED_20),
            ],
            tests: &[ALONE],
        },
    }],
    build,
};

const STEPS_5: &[(&str, &str)] = &[WARM_UP_5, ("first-rate", "0.4")];
const STEPS_20: &[(&str, &str)] = &[("episodes", "12000"), ("warm-up", "10000"), ("first-rate", "0.4")];

/// The rule; see the module.
struct MetaSgd {
    steps: Steps,
    order: Order,
    /// Which parameters the rates are, in the order of the network's weights.
    rates: Vec<usize>,
}

fn build(request: MethodRequest<'_>) -> Result<Box<dyn Learner>, Error> {
    let options = request.options;
    let mut model = Model::new(request)?;
    let first = options.number("first-rate") as f32;
    let rates = model
        .weights()
        .to_vec()
        .into_iter()
        .map(|index| {
            let (name, shape) = (&model.parameter(index).name, &model.parameter(index).shape);
            let (name, shape) = (format!("rates.{name}"), shape.clone());
            let values = vec![first; model.value(index).len()];
            model.add(name, shape, values, true)
        })
        .collect();
    let rule = MetaSgd {
        steps: Steps::of(options),
        order: maml::order(options),
        rates,
    };
    Ok(warm_up::learner(model, rule, options, first))
}

impl MetaSgd {
    fn rates(&self, model: &Model) -> Vec<Vec<f32>> {
        let rates = self.rates.iter();
        rates.map(|&index| model.value(index).to_vec()).collect()
    }
}

impl Rule for MetaSgd {
    fn adapt(&self, model: &Model, support: &Batch<'_>, watch: &mut Watch<'_>) -> Adapted {
        let watch = &mut |weights: &Weights| watch(weights, None);
        Descent {
            network: &model.network,
            rates: Rates::Each(&self.rates(model)),
            steps: self.steps.test,
        }
        .watched(Weights::repeat(&model.start(), 1), support, watch)
        .into()
    }

    fn learn(&self, model: &Model, support: &Batch<'_>, query: &Batch<'_>) -> Lesson {
        let start = Weights::repeat(&model.start(), support.tasks);
        let rates = self.rates(model);
        let descent = Descent {
            network: &model.network,
            rates: Rates::Each(&rates),
            steps: self.steps.train,
        };
        let mut found = descent.meta_gradient(start, support, query, self.order, false);
        let rates = found.rates.take().map(|rates| rates.sum()).unwrap_or_default();
        let mut lesson = maml::lesson(model, query, found);
        lesson.gradients.extend(self.rates.iter().copied().zip(rates));
        lesson
    }
}
