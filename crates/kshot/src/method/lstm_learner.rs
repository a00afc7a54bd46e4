//! The LSTM meta-learner.
//!
//! S. Ravi, H. Larochelle: *Optimization as a Model for Few-Shot Learning*, ICLR 2017.
//!
//! A task is learned by a recurrent rule in the place of gradient descent. The state of a long short-term memory *is* the
//! learner's weights θ, its candidate the negative gradient (eq. 2): θₜ = fₜ ∘ θₜ₋₁ − iₜ ∘ ∇Lₜ, where forget and input gates see
//! the gradient, the loss, θₜ₋₁ and their own former values (section 3.2). All coordinates share the rule but have states of
//! their own (section 3.3); loss and gradient are preprocessed and go through a first, ordinary memory. The rule and the
//! starting point θ₀ are trained on the query loss after the last step (algorithm 1). Losses and gradients along the way
//! count as constants in that (section 3.4), so it is an approximation by definition.
//!
//! Batches are normalised by their own statistics in training. In a test, the support set is so too, and the queries
//! under `--norm running` by running averages over the support set's passes in this task, which are forgotten after it
//! (section 3.5); under `--norm episode` by their own statistics. The rule's gradient is clipped to a length of
//! `--clip` per episode; the gates start such that the rule is nearly gradient descent (section 3.2).
//!
//! Deviations: none known beyond the sizes of `conv4` (the paper has 32 filters: `--filters 32`).

use kshot_kernels::{RuleInputs, UpdateRule};
use rand::RngExt;
use rayon::prelude::*;

use super::fast::{self, Adapted, Lesson, Model, Rule, Watch};
use super::maml::{INNER_STEPS, Steps, TEST_STEPS};
use super::{Family, MethodRequest, MethodSpec, Preset};
use crate::error::Error;
use crate::inner::{Batch, BatchStatistics, Weights};
use crate::layers::check_array;
use crate::learner::Learner;
use crate::norm::NormalisedBy;
use crate::options::{OptionKind, OptionSpec};
use crate::reproduce::{Planned, Published, RUNNING, Row, Setup, W5S1, W5S5};

pub static SPEC: MethodSpec = MethodSpec {
    name: "lstm-learner",
    family: Family::Optimization,
    paper: "Ravi, Larochelle 2017, Optimization as a Model for Few-Shot Learning",
    summary: "a recurrent network that takes the place of gradient descent",
    options: &[
        OptionSpec {
            default: "12",
            ..INNER_STEPS
        },
        TEST_STEPS,
        OptionSpec {
            name: "lstm-units",
            kind: OptionKind::Integer(1, 256),
            default: "20",
            help: "units of the memory that all coordinates share",
        },
        OptionSpec {
            name: "clip",
            kind: OptionKind::Number(0.0, 1e9),
            default: "0.25",
            help: "greatest length of an episode's gradient, 0 for any",
        },
    ],
    defaults: &[
        ("way", "5"),
        ("query", "5"),
        ("episodes", "4000"),
        ("norm", "episode"),
        ("val-interval", "1000"),
        ("val-query", "5"),
    ],
    presets: &[
        Preset {
            name: "paper",
            summary: "the paper's 5-way 1-shot training on Omniglot: 12 steps, 32 filters, 15 queries, Adam 1e-3 (5 shots: \
                      --shot 5 --inner-steps 5)",
            settings: &[
                ("data", "omniglot"),
                ("split", "vinyals"),
                ("rotations", "all"),
                ("train-on", "trainval"),
                ("way", "5"),
                ("query", "15"),
                ("filters", "32"),
                ("inner-steps", "12"),
                ("episodes", "50000"),
                ("schedule", "constant"),
                ("norm", "running"),
            ],
        },
        Preset {
            name: "strict",
            summary: "5-way under the strict protocol: official 30/20 alphabet split, no rotated test classes, no query \
                      sees another one",
            settings: &[
                ("data", "omniglot"),
                ("split", "official"),
                ("rotations", "train"),
                ("norm", "running"),
                ("filters", "32"),
                ("episodes", "20000"),
            ],
        },
    ],
    rows: &[Row {
        variant: "",
        published: Published {
            source: "Ravi & Larochelle 2017, who have no number on Omniglot",
            protocol: "separate statistics of training and test batches",
            accuracy: &[],
            presentations: &[],
        },
        paper: Setup {
            note: "Fewer episodes, 5 queries in training.",
            trainings: &[
                Planned::new(
                    "5w1s",
                    "paper",
                    &[("query", "5"), ("episodes", "4000")],
                    &[W5S1],
                    26.0,
                ),
                Planned::new(
                    "5w5s",
                    "paper",
                    &[
                        ("shot", "5"),
                        ("query", "5"),
                        ("inner-steps", "5"),
                        ("episodes", "4000"),
                    ],
                    &[W5S5],
                    25.0,
                ),
            ],
            tests: &[RUNNING],
        },
        strict: Setup {
            note: "The same lengths.",
            trainings: &[
                Planned::new("5w1s", "strict", &[("episodes", "4000")], &[W5S1], 26.0),
                Planned::new(
                    "5w5s",
                    "strict",
                    &[("shot", "5"), ("inner-steps", "5"), ("episodes", "4000")],
                    &[W5S5],
                    25.0,
                ),
            ],
            tests: &[RUNNING],
        },
    }],
    build,
};

/// How much of the running averages each step of a test replaces.
const MOMENTUM: f32 = 0.1;

/// The rule's parameters in the model.
struct LstmLearner {
    steps: Steps,
    units: usize,
    clip: f32,
    weight: usize,
    bias: usize,
    /// Weight and bias of a gate.
    forget: [usize; 2],
    input: [usize; 2],
}

/// What a descent met at one step.
struct Met {
    loss: f32,
    gradient: Vec<f32>,
    /// The gradient preprocessed, `[2, coordinates]`.
    inputs: Vec<f32>,
}

impl Met {
    fn new(loss: f32, gradient: Vec<f32>) -> Self {
        let n = gradient.len();
        let mut inputs = vec![0.0; 2 * n];
        let (logs, signs) = inputs.split_at_mut(n);
        (logs, signs, gradient.as_slice())
            .into_par_iter()
            .with_min_len(1024)
            .for_each(|(log, sign, gradient)| (*log, *sign) = preprocess(*gradient));
        Self {
            loss,
            gradient,
            inputs,
        }
    }

    fn told(&self) -> RuleInputs<'_> {
        RuleInputs {
            shared: preprocess(self.loss).into(),
            inputs: &self.inputs,
            gradient: &self.gradient,
        }
    }
}

/// Where a descent ends, and the averages of what normalised on its way.
struct Descended {
    end: Weights,
    statistics: Vec<BatchStatistics>,
}

fn build(request: MethodRequest<'_>) -> Result<Box<dyn Learner>, Error> {
    let options = request.options;
    let units = options.integer("lstm-units");
    let mut fresh: Vec<f32> = Vec::new();
    fresh.resize_with((4 + units) * 4 * units + 4 * units + 2 * (units + 2), || {
        request.rng.random_range(-0.01..0.01)
    });
    // Remember nearly all, and let in about a hundredth: gradient descent with a small rate.
    let (remember, let_in) = (
        request.rng.random_range(4.0..6.0),
        request.rng.random_range(-5.0..-4.0),
    );
    let mut model = Model::new(request)?;
    let mut add = |name: &str, shape: &[usize]| {
        let values = fresh.split_off(fresh.len() - shape.iter().product::<usize>());
        model.add(format!("rule.{name}"), shape.to_vec(), values, true)
    };
    let weight = add("memory.weight", &[4 + units, 4 * units]);
    let bias = add("memory.bias", &[4 * units]);
    let (forget, input) = (
        add("forget.weight", &[units + 2]),
        add("input.weight", &[units + 2]),
    );
    let mut gate =
        |name: &str, value: f32| model.add(format!("rule.{name}.bias"), vec![1], vec![value], true);
    let rule = LstmLearner {
        steps: Steps::of(options),
        units,
        clip: options.number("clip") as f32,
        weight,
        bias,
        forget: [forget, gate("forget", remember)],
        input: [input, gate("input", let_in)],
    };
    Ok(fast::learner(model, rule, false))
}

impl Rule for LstmLearner {
    fn adapt(&self, model: &Model, support: &Batch<'_>, watch: &mut Watch<'_>) -> Adapted {
        let found = self.descend(model, support, self.steps.test, &mut |_| (), watch);
        Adapted {
            weights: found.end,
            statistics: Some(found.statistics),
        }
    }

    fn learn(&self, model: &Model, support: &Batch<'_>, query: &Batch<'_>) -> Lesson {
        let mut lesson = Lesson::default();
        for task in 0..support.tasks {
            let (support, query) = (support.task(task), query.task(task));
            let mut met = Vec::with_capacity(self.steps.train);
            let keep = &mut |step| met.push(step);
            let found = self.descend(model, &support, self.steps.train, keep, &mut |_, _| ());
            let last = model.network.gradient(&found.end, &query, false);
            let mut gradients = self.gradients(model, &met, &last.gradient);
            clip(&mut gradients, self.clip);
            lesson.loss += f64::from(last.losses[0]);
            lesson.accuracy += fast::recognised(&query, &last.outputs);
            lesson.add_gradients(gradients);
            lesson.statistics.push(last.statistics);
        }
        lesson
    }

    fn check_task(&self, model: &Model) -> Result<(), Error> {
        let weights: usize = model
            .weights()
            .iter()
            .map(|&index| model.value(index).len())
            .sum();
        // Each weight has θ, the gates and the memory's cell, inputs and outputs; in training each step's gradient and
        // inputs are kept.
        check_array(
            "lstm-units",
            "the rule's state of every weight",
            &[(weights, "weights"), (2 * self.units + 7, "numbers")],
        )?;
        check_array(
            "inner-steps",
            "what the rule is told of every weight",
            &[(self.steps.train, "steps"), (weights, "weights"), (3, "numbers")],
        )
    }

    fn normalised_by(&self) -> NormalisedBy {
        NormalisedBy::SupportSteps
    }
}

impl LstmLearner {
    fn rule<'a>(&self, model: &'a Model) -> UpdateRule<'a> {
        let gate = |[weight, bias]: [usize; 2]| (model.value(weight), model.value(bias)[0]);
        UpdateRule {
            units: self.units,
            weight: model.value(self.weight),
            bias: model.value(self.bias),
            forget: gate(self.forget),
            input: gate(self.input),
        }
    }

    /// The rule's steps on the support set of one task; `keep` gets what each met.
    fn descend(
        &self,
        model: &Model,
        support: &Batch<'_>,
        steps: usize,
        keep: &mut dyn FnMut(Met),
        watch: &mut Watch<'_>,
    ) -> Descended {
        let rule = self.rule(model);
        let start = model.start();
        let mut state = rule.start(&start.concat());
        let mut found = Descended {
            end: Weights::new(start, 1),
            statistics: Vec::new(),
        };
        watch(&found.end, None);
        for _ in 0..steps {
            let here = model.network.gradient(&found.end, support, false);
            fold(&mut found.statistics, here.statistics);
            let met = Met::new(here.losses[0], here.gradient.into_values().concat());
            rule.step(&mut state, met.told());
            let values = found.end.values_mut().iter_mut().flatten();
            values
                .zip(state.theta())
                .for_each(|(value, moved)| *value = moved);
            watch(&found.end, Some(&found.statistics));
            keep(met);
        }
        found
    }

    /// Gradients of rule and starting point, for the gradient `slope` of the query loss where the descent ended.
    fn gradients(&self, model: &Model, met: &[Met], slope: &Weights) -> Vec<(usize, Vec<f32>)> {
        let told: Vec<RuleInputs<'_>> = met.iter().map(Met::told).collect();
        let theta = model.start().concat();
        let found = self
            .rule(model)
            .gradients(&theta, &told, &slope.values().concat());
        let mut gradients = Vec::new();
        let mut rest = found.theta.as_slice();
        for &index in model.weights() {
            let (here, after) = rest.split_at(model.value(index).len());
            gradients.push((index, here.to_vec()));
            rest = after;
        }
        gradients.extend([
            (self.weight, found.weight),
            (self.bias, found.bias),
            (self.forget[0], found.forget.0),
            (self.forget[1], vec![found.forget.1]),
            (self.input[0], found.input.0),
            (self.input[1], vec![found.input.1]),
        ]);
        gradients
    }
}

/// (log|x| / 10, sign x) where |x| ≥ e⁻¹⁰, (−1, e¹⁰ x) elsewhere (Andrychowicz et al. 2016, appendix A).
fn preprocess(x: f32) -> (f32, f32) {
    const P: f32 = 10.0;
    if x.abs() >= (-P).exp() {
        (x.abs().ln() / P, x.signum())
    } else {
        (-1.0, P.exp() * x)
    }
}

/// Moves running averages towards what one more step met.
fn fold(averages: &mut Vec<BatchStatistics>, met: Vec<BatchStatistics>) {
    if averages.is_empty() {
        *averages = met;
        return;
    }
    for (average, met) in averages.iter_mut().zip(met) {
        for (to, from) in [
            (&mut average.mean, met.mean),
            (&mut average.variance, met.variance),
        ] {
            to.iter_mut()
                .zip(from)
                .for_each(|(to, from)| *to += MOMENTUM * (from - *to));
        }
    }
}

/// Shortens the gradients, taken together, to at most `length`.
fn clip(gradients: &mut [(usize, Vec<f32>)], length: f32) {
    let squares = gradients
        .iter()
        .flat_map(|(_, values)| values)
        .map(|v| f64::from(*v).powi(2));
    let found = squares.sum::<f64>().sqrt() as f32;
    if length > 0.0 && found > length {
        let values = gradients.iter_mut().flat_map(|(_, values)| values);
        values.for_each(|value| *value *= length / found);
    }
}

#[cfg(test)]
mod tests {
    use super::preprocess;

    #[test]
    fn small_numbers_are_stretched_and_large_ones_compressed() {
        assert_eq!(preprocess(0.0), (-1.0, 0.0));
        assert_eq!(preprocess(-1.0), (0.0, -1.0));
        let (log, sign) = preprocess(std::f32::consts::E);
        assert!((log - 0.1).abs() < 1e-7 && sign == 1.0);
    }
}
