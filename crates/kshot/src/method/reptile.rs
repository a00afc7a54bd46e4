//! Reptile.
//!
//! A. Nichol, J. Achiam, J. Schulman: *On First-Order Meta-Learning Algorithms*, 2018.
//!
//! A task is learned by a few steps of Adam without momentum (β₁ = 0) on mini-batches of its images; from the point φ
//! where they end, the starting point moves towards φ: θ ← θ + ε (φ − θ), averaged over the tasks of a meta-batch
//! (algorithm 2). θ − φ is given as the gradient, so that `--optimizer sgd --lr ε` is the paper's update. There is no
//! query set in training: support and query images of an episode together are the task's images, so
//! `--shot 1 --query 9` trains on the paper's 10 images per class and still validates with 1 shot.
//!
//! Mini-batches run through a shuffled order of the images again and again; the shuffle follows from the images
//! themselves. Adam's second moments (the running mean of squared gradients) are part of the model: they run on from task
//! to task as in the authors' program, and a test begins with them too. So a weight whose gradient is small beside what
//! it has been moves little; with moments that begin anew, the first steps move every weight as far as any other
//! (g / √g² = ±1), and what one task says by chance weighs as much as what all say.
//!
//! Under `--norm episode` the queries of a test are normalised together (transductive); under `--norm running`
//! each is so with the support set alone (section 6.1), as there are no running averages in the paper.
//!
//! Deviations: the tasks of a meta-batch all begin with the moments of before it, where the authors learn one after the
//! other; afterwards the moments are those that follow from all their gradients in order. The network is `conv4` with
//! pools, where theirs has strides.

use rand::seq::SliceRandom;

use super::fast::{self, Adapted, Carried, Lesson, Model, Rule, Watch};
use super::maml::{INNER_LR, INNER_STEPS, Steps, TEST_STEPS};
use super::{Family, MethodRequest, MethodSpec, Preset};
use crate::error::Error;
use crate::inner::{Batch, Evaluation, Rates, Targets, Weights};
use crate::learner::Learner;
use crate::norm::Norm;
use crate::options::{OptionKind, OptionSpec};
use crate::random;
use crate::reproduce::{ALONE, Planned, Published, Row, Setup, Test, W5S1, W5S5, W20S1, W20S5};

pub static SPEC: MethodSpec = MethodSpec {
    name: "reptile",
    family: Family::Optimization,
    paper: "Nichol, Achiam, Schulman 2018, On First-Order Meta-Learning Algorithms",
    summary: "a starting point that moves towards where each task's training ends",
    options: &[
        OptionSpec {
            default: "5",
            ..INNER_STEPS
        },
        OptionSpec {
            default: "0.001",
            ..INNER_LR
        },
        OptionSpec {
            default: "50",
            ..TEST_STEPS
        },
        OptionSpec {
            name: "inner-batch",
            kind: OptionKind::Integer(1, 100_000),
            default: "10",
            help: "images of each step in training, no more than a task has",
        },
        OptionSpec {
            name: "test-batch",
            kind: OptionKind::Integer(1, 100_000),
            default: "5",
            help: "images of each step in validation and test, no more than a task has",
        },
    ],
    defaults: &[
        ("way", "5"),
        ("query", "9"),
        ("val-shot", "1"),
        ("meta-batch", "5"),
        ("episodes", "25000"),
        ("optimizer", "sgd"),
        ("lr", "1"),
        ("schedule", "linear"),
        ("norm", "episode"),
        ("val-interval", "2500"),
        ("report-interval", "250"),
    ],
    presets: &[
        Preset {
            name: "paper",
            summary: "the authors' 5-way Omniglot training: 5 inner steps of 10 images by Adam 1e-3, 5 tasks per update, \
                      outer step 1 falling linearly to 0 over 100,000 updates; the test's 50 steps of 5 images; \
                      transductive (1-shot; for 5 shots --shot 5 --query 5; --norm running for the other numbers)",
            settings: &[
                ("data", "omniglot"),
                ("split", "random"),
                ("rotations", "train"),
                ("train-on", "trainval"),
                ("way", "5"),
                ("shot", "1"),
                ("query", "9"),
                ("inner-steps", "5"),
                ("inner-batch", "10"),
                ("inner-lr", "0.001"),
                ("test-steps", "50"),
                ("test-batch", "5"),
                ("meta-batch", "5"),
                ("episodes", "500000"),
                ("optimizer", "sgd"),
                ("lr", "1"),
                ("schedule", "linear"),
                ("norm", "episode"),
                ("val-interval", "25000"),
                ("report-interval", "2500"),
            ],
        },
        Preset {
            name: "paper-20way",
            summary: "the authors' 20-way Omniglot training: 10 inner steps of 20 images by Adam 5e-4, 200,000 updates; \
                      the test's 50 steps of 10 images (1-shot; for 5 shots --shot 5 --query 5)",
            settings: &[
                ("data", "omniglot"),
                ("split", "random"),
                ("rotations", "train"),
                ("train-on", "trainval"),
                ("way", "20"),
                ("shot", "1"),
                ("query", "9"),
                ("inner-steps", "10"),
                ("inner-batch", "20"),
                ("inner-lr", "0.0005"),
                ("test-steps", "50"),
                ("test-batch", "10"),
                ("meta-batch", "5"),
                ("episodes", "1000000"),
                ("optimizer", "sgd"),
                ("lr", "1"),
                ("schedule", "linear"),
                ("norm", "episode"),
                ("val-interval", "50000"),
                ("report-interval", "5000"),
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
                ("episodes", "250000"),
                ("val-interval", "25000"),
                ("report-interval", "2500"),
            ],
        },
    ],
    rows: &[Row {
        variant: "",
        published: Published {
            source: "Nichol et al. 2018, table 2, transductive (not transductive: 95.39, 98.90, 88.14, 96.65)",
            protocol: "1,200 random training characters with their rotations, the other characters as they are for the \
                       test; one query per class, all normalised together",
            accuracy: &[
                (W5S1, 97.68, 0.04),
                (W5S5, 99.48, 0.06),
                (W20S1, 89.43, 0.14),
                (W20S5, 97.12, 0.32),
            ],
            presentations: &[],
        },
        paper: Setup {
            note: "A fifth of the authors' updates 5-way, a twentieth 20-way; as theirs, one model for 1 and 5 shots.",
            trainings: &[
                Planned::new("5-way", "paper", &[("episodes", "100000")], &[W5S1, W5S5], 17.0),
                Planned::new(
                    "20-way",
                    "paper-20way",
                    &[("episodes", "50000")],
                    &[W20S1, W20S5],
                    30.0,
                ),
            ],
            tests: &[TRANSDUCTIVE, ALONE],
        },
        strict: Setup {
            note: "As long as the others.",
            trainings: &[
                Planned::new("5-way", "strict", &[("episodes", "100000")], &[W5S1, W5S5], 17.0),
                Planned::new("20-way", "strict", STRICT_20_WAY, &[W20S1, W20S5], 30.0),
            ],
            tests: &[ALONE],
        },
    }],
    build,
};

/// The authors' test: one query of each class.
const TRANSDUCTIVE: Test = Test {
    norm: Norm::Episode,
    query: [1; 4],
};

const STRICT_20_WAY: &[(&str, &str)] = &[
    ("way", "20"),
    ("inner-steps", "10"),
    ("inner-batch", "20"),
    ("inner-lr", "0.0005"),
    ("test-batch", "10"),
    ("episodes", "50000"),
];

/// β₂ and ε of the inner Adam (Kingma, Ba 2015).
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;

/// The rule; see the module.
struct Reptile {
    steps: Steps,
    inner_lr: f32,
    train_batch: usize,
    test_batch: usize,
    /// The parameters that hold the second moments, in the order of the network's weights.
    moments: Vec<usize>,
    /// The parameter that holds how many gradients they have seen.
    seen: usize,
}

fn build(request: MethodRequest<'_>) -> Result<Box<dyn Learner>, Error> {
    let options = request.options;
    let mut model = Model::new(request)?;
    let weights = model.weights().to_vec();
    let moments = weights
        .into_iter()
        .map(|index| {
            let (name, shape) = (&model.parameter(index).name, &model.parameter(index).shape);
            let (name, shape) = (format!("moments.{name}"), shape.clone());
            let values = vec![0.0; model.value(index).len()];
            model.add(name, shape, values, false)
        })
        .collect();
    let rule = Reptile {
        moments,
        seen: model.add("moments.seen".to_owned(), vec![1], vec![0.0], false),
        steps: Steps::of(options),
        inner_lr: options.number("inner-lr") as f32,
        train_batch: options.integer("inner-batch"),
        test_batch: options.integer("test-batch"),
    };
    Ok(fast::learner(model, rule, true))
}

impl Rule for Reptile {
    fn adapt(&self, model: &Model, support: &Batch<'_>, watch: &mut Watch<'_>) -> Adapted {
        let start = Weights::repeat(&model.start(), 1);
        let examples = Examples::of(support, None);
        let (steps, batch) = (self.steps.test, self.test_batch);
        let (end, _) = self.train(model, start, &examples, steps, batch, |weights, _, _| {
            watch(weights, None);
        });
        watch(&end, None);
        end.into()
    }

    fn learn(&self, model: &Model, support: &Batch<'_>, query: &Batch<'_>) -> Lesson {
        let examples = Examples::of(support, Some(query));
        let mut gradient = Weights::repeat(&model.start(), support.tasks);
        let (mut loss, mut accuracy) = (0.0, 0.0);
        let count = |_: &Weights, batch: &Batch<'_>, met: &Evaluation| {
            loss += met.losses.iter().map(|loss| f64::from(*loss)).sum::<f64>() / self.steps.train as f64;
            accuracy = fast::recognised(batch, &met.outputs);
        };
        let (steps, batch) = (self.steps.train, self.train_batch);
        let (end, moments) = self.train(model, gradient.clone(), &examples, steps, batch, count);
        gradient.subtract(&end);
        Lesson {
            loss,
            accuracy,
            gradients: model.weights().iter().copied().zip(gradient.sum()).collect(),
            statistics: Vec::new(),
            carried: self.carried(model, &moments),
        }
    }
}

impl Reptile {
    /// Where the training of each task ends, weights and moments; `watch` sees the weights before each step and
    /// what they make of its mini-batch.
    fn train(
        &self,
        model: &Model,
        mut weights: Weights,
        examples: &Examples,
        steps: usize,
        batch: usize,
        mut watch: impl FnMut(&Weights, &Batch<'_>, &Evaluation),
    ) -> (Weights, Weights) {
        let mut moments = Weights::repeat(&self.moments(model), weights.tasks());
        let seen = f64::from(model.value(self.seen)[0]);
        let mut order = Order::new(examples);
        for step in 1..=steps {
            let (inputs, labels) = order.next(examples, batch);
            let batch = Batch {
                tasks: examples.tasks.len(),
                inputs: &inputs,
                targets: Targets::Labels(&labels),
            };
            let met = model.network.gradient(&weights, &batch, false);
            watch(&weights, &batch, &met);
            self.adam(seen + step as f64, &mut weights, &mut moments, met.gradient);
        }
        (weights, moments)
    }

    /// The second moments before a task.
    fn moments(&self, model: &Model) -> Vec<Vec<f32>> {
        let moments = self.moments.iter();
        moments.map(|&index| model.value(index).to_vec()).collect()
    }

    /// What becomes of the moments when the tasks that ended with `moments` follow each other: those of n steps are
    /// βⁿ v + c with a task's own c, so that all of them make β^(nT) v + Σₜ β^(n(T − t)) cₜ.
    fn carried(&self, model: &Model, moments: &Weights) -> Vec<Carried> {
        let (steps, tasks) = (self.steps.train, moments.tasks());
        let keep = BETA2.powi(steps as i32);
        let mut carried: Vec<Carried> = std::iter::zip(&self.moments, moments.values())
            .map(|(&index, ends)| {
                let before = model.value(index);
                let mut gain = vec![0.0; before.len()];
                for end in ends.chunks_exact(before.len().max(1)) {
                    for ((gain, end), before) in gain.iter_mut().zip(end).zip(before) {
                        // Rounding can't make a sum of squares negative.
                        *gain = keep * *gain + (end - keep * before).max(0.0);
                    }
                }
                Carried {
                    index,
                    keep: keep.powi(tasks as i32),
                    gain,
                }
            })
            .collect();
        carried.push(Carried {
            index: self.seen,
            keep: 1.0,
            gain: vec![(steps * tasks) as f32],
        });
        carried
    }

    /// A step of Adam with β₁ = 0, after which the moments have `seen` so many gradients.
    fn adam(&self, seen: f64, weights: &mut Weights, moments: &mut Weights, mut gradient: Weights) {
        let unbiased = (1.0 / (1.0 - f64::from(BETA2).powf(seen))) as f32;
        for (moments, gradient) in moments.values_mut().iter_mut().zip(gradient.values_mut()) {
            for (moment, slope) in moments.iter_mut().zip(gradient) {
                *moment = BETA2 * *moment + (1.0 - BETA2) * *slope * *slope;
                *slope /= (unbiased * *moment).sqrt() + EPSILON;
            }
        }
        weights.descend(Rates::One(self.inner_lr), &gradient);
    }
}

/// The labelled images of each task.
struct Examples {
    /// Values of one image.
    len: usize,
    /// Images and labels.
    tasks: Vec<(Vec<f32>, Vec<usize>)>,
}

impl Examples {
    /// The examples of `support`, and of `query` where there is one.
    fn of(support: &Batch<'_>, query: Option<&Batch<'_>>) -> Self {
        let mut tasks = vec![(Vec::new(), Vec::new()); support.tasks];
        for batch in [Some(support), query].into_iter().flatten() {
            let Targets::Labels(labels) = batch.targets else {
                continue;
            };
            let inputs = batch.inputs.chunks_exact(batch.inputs.len() / batch.tasks);
            let labels = labels.chunks_exact(labels.len() / batch.tasks);
            for (task, (inputs, labels)) in tasks.iter_mut().zip(inputs.zip(labels)) {
                task.0.extend_from_slice(inputs);
                task.1.extend_from_slice(labels);
            }
        }
        let len = tasks
            .first()
            .map_or(1, |(inputs, labels)| inputs.len() / labels.len());
        Self { len, tasks }
    }
}

/// The order in which each task's images come, and how far it has come.
struct Order {
    shuffles: Vec<Vec<usize>>,
    streams: Vec<rand_chacha::ChaCha8Rng>,
}

impl Order {
    fn new(examples: &Examples) -> Self {
        let fold = |seed: u64, value: &f32| seed.wrapping_mul(0x0100_0000_01b3) ^ u64::from(value.to_bits());
        let stream = |(inputs, _): &(Vec<f32>, Vec<usize>)| random::stream(inputs.iter().fold(0, fold), &[]);
        Self {
            shuffles: vec![Vec::new(); examples.tasks.len()],
            streams: examples.tasks.iter().map(stream).collect(),
        }
    }

    /// The next `batch` images of each task (at most as many as it has) and their labels.
    fn next(&mut self, examples: &Examples, batch: usize) -> (Vec<f32>, Vec<usize>) {
        let (mut inputs, mut labels) = (Vec::new(), Vec::new());
        let shuffles = self.shuffles.iter_mut().zip(&mut self.streams);
        for ((all_inputs, all_labels), (shuffle, stream)) in examples.tasks.iter().zip(shuffles) {
            for _ in 0..batch.min(all_labels.len()) {
                if shuffle.is_empty() {
                    shuffle.extend(0..all_labels.len());
                    shuffle.shuffle(stream);
                }
                let Some(index) = shuffle.pop() else { continue };
                inputs.extend_from_slice(&all_inputs[index * examples.len..][..examples.len]);
                labels.push(all_labels[index]);
            }
        }
        (inputs, labels)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use safetensors::SafeTensors;

    use super::*;

    #[test]
    fn mini_batches_visit_every_image_once_before_any_twice() {
        let inputs: Vec<f32> = (0..14).map(|value| value as f32).collect();
        let labels = [0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5, 6];
        let batch = Batch {
            tasks: 2,
            inputs: &inputs,
            targets: Targets::Labels(&labels),
        };
        let examples = Examples::of(&batch, None);
        let mut order = Order::new(&examples);
        let mut seen = [Vec::new(), Vec::new()];
        for _ in 0..7 {
            let (inputs, labels) = order.next(&examples, 3);
            for (place, (input, label)) in inputs.iter().zip(labels).enumerate() {
                assert_eq!(*input as usize % 7, label);
                seen[place / 3].push(label);
            }
        }
        for seen in &mut seen {
            for epoch in seen.chunks_mut(7) {
                epoch.sort_unstable();
                assert_eq!(epoch, [0, 1, 2, 3, 4, 5, 6]);
            }
        }
        assert_ne!(order.streams[0], order.streams[1]);
    }

    /// `bench/reference/reptile.py` can't draw the shuffles, so it is told them.
    #[test]
    fn mini_batches_of_the_golden_file_s_images_are_those_that_pytorch_was_given() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/reptile.safetensors");
        let bytes = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let array = |name: &str| {
            let array = file.tensor(name).unwrap();
            let numbers = array.data().chunks_exact(4);
            let numbers = numbers.map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
            (numbers.collect::<Vec<f32>>(), array.shape().to_vec())
        };
        let (images, shape) = array("images");
        let len = images.len() / shape[0];
        let drawn = |count: usize, shape: &[usize]| -> Vec<f32> {
            let labels: Vec<usize> = (0..count).collect();
            let batch = Batch {
                tasks: 1,
                inputs: &images[..count * len],
                targets: Targets::Labels(&labels),
            };
            let examples = Examples::of(&batch, None);
            let mut order = Order::new(&examples);
            let batches = (0..shape[0]).flat_map(|_| order.next(&examples, shape[1]).1);
            batches.map(|place| place as f32).collect()
        };
        let found =
            [("order.train", shape[0]), ("order.test", 10)].map(|(name, count)| drawn(count, &array(name).1));
        let given = ["order.train", "order.test"].map(|name| array(name).0);
        assert_eq!(found, given);
    }
}
