//! Almost no inner loop.
//!
//! A. Raghu, M. Raghu, S. Bengio, O. Vinyals: *Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness of
//! MAML*, ICLR 2020.
//!
//! As MAML, but the inner descent moves the linear classifier alone, in training and in test (section 4.1); the
//! encoder changes by the meta-gradient only. The features of a support set are so the same at every inner step: they are
//! computed once, the descent and its Hessian-vector products run on them, and what these say of the features goes
//! back through the encoder once.
//!
//! Deviations: none known; the inner rate and the number of steps are MAML's unless given.

use super::fast::{self, Adapted, Lesson, Model, QUERY_NORM, Rule, Watch};
use super::maml::{self, INNER_LR, INNER_STEPS, ORDER, Steps, TEST_STEPS, TUNED_20};
use super::{Family, MethodRequest, MethodSpec};
use crate::error::Error;
use crate::inner::{Batch, Descent, Network, Order, Rates, Weights};
use crate::learner::Learner;
use crate::options::Options;
use crate::reproduce::{ALONE, Planned, Published, Row, Setup, TRANSDUCTIVE, W20S1, W20S5};

pub static SPEC: MethodSpec = MethodSpec {
    name: "anil",
    family: Family::Optimization,
    paper: "Raghu, Raghu, Bengio, Vinyals 2020, Rapid Learning or Feature Reuse?",
    summary: "MAML whose inner steps move the classifier alone",
    options: &[ORDER, INNER_STEPS, INNER_LR, TEST_STEPS, QUERY_NORM],
    defaults: maml::SPEC.defaults,
    presets: maml::SPEC.presets,
    rows: &[Row {
        variant: "",
        published: Published {
            source: "Raghu et al. 2020, table 1",
            protocol: "as MAML's: transductive, rotated characters as further classes",
            accuracy: &[(W20S1, 96.2, 0.5), (W20S5, 98.0, 0.3)],
            presentations: &[],
        },
        paper: Setup {
            note: "One model for both columns, of 1 to 5 shots and 2 queries; 12,000 tasks, two for each update, at an inner rate \
                   of 0.4; a cosine schedule and averaged weights.",
            trainings: &[Planned::new("20-way", "paper-20way", STEPS, &[W20S1, W20S5], 5.0).with(TUNED_20)],
            tests: &[TRANSDUCTIVE],
        },
        strict: Setup {
            note: "The same training.",
            trainings: &[Planned::new("20-way", "strict", STEPS, &[W20S1, W20S5], 5.0).with(TUNED_20)],
            tests: &[ALONE],
        },
    }],
    build,
};

const STEPS: &[(&str, &str)] = &[("episodes", "12000"), ("inner-steps", "5"), ("inner-lr", "0.4")];

/// The rule; see the module.
pub struct Anil {
    steps: Steps,
    inner_lr: f32,
    order: Order,
    body: Network,
    head: Network,
}

fn build(request: MethodRequest<'_>) -> Result<Box<dyn Learner>, Error> {
    let options = request.options;
    let model = Model::new(request)?;
    let rule = Anil::new(&model, options, options.number("inner-lr") as f32);
    let joins_support = options.text("query-norm") == "support";
    Ok(fast::learner(model, rule, joins_support))
}

impl Anil {
    /// The rule for `model` with `--inner-steps`, `--test-steps` and `--order`.
    pub fn new(model: &Model, options: &Options, inner_lr: f32) -> Self {
        let (body, head) = model.network.split_last();
        Self {
            steps: Steps::of(options),
            inner_lr,
            order: maml::order(options),
            body,
            head,
        }
    }

    fn descent(&self, steps: usize) -> Descent<'_> {
        Descent {
            network: &self.head,
            rates: Rates::One(self.inner_lr),
            steps,
        }
    }
}

impl Rule for Anil {
    fn adapt(&self, model: &Model, support: &Batch<'_>, watch: &mut Watch<'_>) -> Adapted {
        let mut start = model.start();
        let head = start.split_off(self.body.parameters());
        let body = Weights::repeat(&start, 1);
        let features = self.body.forward(&body, 1, support.inputs);
        let support = Batch {
            inputs: features.outputs(),
            ..*support
        };
        let whole = |head: &Weights| Weights::new([&start[..], head.values()].concat(), 1);
        let head = self
            .descent(self.steps.test)
            .watched(Weights::repeat(&head, 1), &support, &mut |head| {
                watch(&whole(head), None)
            });
        whole(&head).into()
    }

    fn learn(&self, model: &Model, support: &Batch<'_>, query: &Batch<'_>) -> Lesson {
        let tasks = support.tasks;
        let mut start = model.start();
        let head = Weights::repeat(&start.split_off(self.body.parameters()), tasks);
        // One task's weights, shared by all groups: the body is the same for every task.
        let body = Weights::new(start, 1);
        let [support_pass, query_pass] =
            [support, query].map(|batch| self.body.forward(&body, tasks, batch.inputs));
        let statistics = self.body.statistics(&query_pass, query.inputs);
        let (support_features, query_features) =
            (support_pass.outputs().to_vec(), query_pass.outputs().to_vec());
        let found = self.descent(self.steps.train).meta_gradient(
            head,
            &Batch {
                inputs: &support_features,
                ..*support
            },
            &Batch {
                inputs: &query_features,
                ..*query
            },
            self.order,
            true,
        );
        let back = |pass, batch: &Batch<'_>, slope: Option<Vec<f32>>| {
            let (gradient, _) = self.body.backward(&body, batch.inputs, pass, slope?, false);
            Some(gradient.into_values())
        };
        let mut gradients = back(query_pass, query, found.query).unwrap_or_default();
        if let Some(more) = back(support_pass, support, found.support) {
            for (sum, more) in gradients.iter_mut().zip(more) {
                sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
            }
        }
        gradients.extend(found.start.sum());
        Lesson {
            loss: found.losses.iter().map(|loss| f64::from(*loss)).sum(),
            accuracy: fast::recognised(query, &found.outputs),
            gradients: model.weights().iter().copied().zip(gradients).collect(),
            statistics: vec![statistics],
            ..Lesson::default()
        }
    }
}
