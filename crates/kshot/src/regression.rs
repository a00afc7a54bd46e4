//! MAML on a regression: the sinusoids of Finn, Abbeel, Levine 2017 (section 5.1), the picture that everybody knows.
//!
//! A task is a sinusoid seen through K points; a network of two layers of 40 ReLU units is to predict its values anywhere
//! after a few gradient steps on those points. Beside the classification of pictures it is the check that the inner loop and its
//! meta-gradient ([`crate::inner`]) do what they should, in seconds: `kshot train maml --data sinusoid`.

mod options;
mod page;

pub use options::OPTIONS;

use burn::tensor::{Device, Tensor};
use rayon::prelude::*;
use serde::{Serialize, Serializer};

use crate::block::he_normal;
use crate::data::sinusoid::{INPUTS, Points, Sinusoid};
use crate::error::Error;
use crate::eval::Accuracy;
use crate::inner::{Batch, Descent, Layer, Network, Normalisation, Order, Rates, Targets, Weights};
use crate::learner::logits_on_host;
use crate::optimizer::Adam;
use crate::{named, random};

/// Hidden units of each of the two layers.
pub const UNITS: usize = 40;
/// Points of a test task, evenly over the inputs' range, on which its error is measured.
const TEST_POINTS: usize = 100;
/// Test tasks.
pub const TEST_TASKS: u64 = 600;
/// Test tasks are drawn below this seed and the training's own.
const TEST_SEED: u64 = 0x7369_6e75;
/// Points of a test task, and steps after which its error is measured.
const SHOTS: [usize; 3] = [5, 10, 20];
const STEPS: [usize; 4] = [0, 1, 5, 10];

/// How to train.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Training {
    /// Weight updates.
    pub updates: u64,
    /// Tasks of each.
    pub tasks: usize,
    /// Points to adapt to in training, and as many for the loss after it.
    pub shots: usize,
    /// Gradient steps in training.
    pub inner_steps: usize,
    /// Their rate.
    pub inner_lr: f32,
    /// Rate of Adam.
    pub lr: f64,
    /// Exact, or first order; `2` or `1`.
    #[serde(serialize_with = "number_of")]
    pub order: Order,
    /// Of weights and tasks.
    pub seed: u64,
}

fn number_of<S: Serializer>(order: &Order, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(match order {
        Order::First => 1,
        Order::Second => 2,
    })
}

impl Default for Training {
    /// The paper's: one step of 0.01 on 10 points, 25 tasks, Adam 1e-3.
    fn default() -> Self {
        Self {
            updates: 20_000,
            tasks: 25,
            shots: 10,
            inner_steps: 1,
            inner_lr: 0.01,
            lr: 1e-3,
            order: Order::Second,
            seed: 1,
        }
    }
}

/// Mean squared error over the test tasks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MeanSquaredError {
    /// Points that were seen.
    pub shots: usize,
    /// Gradient steps on them.
    pub steps: usize,
    /// Over all test tasks.
    pub mse: f64,
    /// Half the width of its 95 % interval.
    pub ci95: f64,
}

/// What came of a training.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// `maml`.
    pub method: &'static str,
    /// `sinusoid`.
    pub data: &'static str,
    /// How it was trained.
    #[serde(flatten)]
    pub training: Training,
    /// Its length.
    pub seconds: f64,
    /// Test tasks.
    pub test_tasks: u64,
    /// Errors by points and steps.
    pub errors: Vec<MeanSquaredError>,
}

/// A network under meta-training.
pub struct Regression {
    training: Training,
    network: Network,
    values: Vec<Tensor<1>>,
    optimizer: Adam,
    update: u64,
}

impl Regression {
    /// Fresh weights.
    pub fn new(training: Training) -> Self {
        let layer = |inputs, outputs, relu| Layer::Linear {
            weight: [inputs, outputs],
            relu,
        };
        let network = Network::new(vec![
            layer(1, UNITS, true),
            layer(UNITS, UNITS, true),
            layer(UNITS, 1, false),
        ]);
        let mut rng = random::stream(training.seed, &[]);
        let device = Device::flex();
        let mut values = Vec::new();
        for layer in network.layers() {
            let weights = he_normal(layer.inputs(), layer.inputs() * layer.outputs(), &mut rng);
            values.push(named::on_device(&weights, &device));
            values.push(named::on_device(&vec![0.0; layer.outputs()], &device));
        }
        Self {
            optimizer: Adam::new(values.len()),
            training,
            network,
            values,
            update: 0,
        }
    }

    /// Updates that are done.
    pub fn done(&self) -> u64 {
        self.update
    }

    /// One update of the weights (algorithm 1); gives the loss after adaptation.
    ///
    /// # Errors
    /// A loss that is infinite or not a number.
    pub fn step(&mut self) -> Result<f64, Error> {
        let tasks = self.training.tasks;
        let (mut support, mut query) = (Points::default(), Points::default());
        for task in 0..tasks as u64 {
            let (sinusoid, mut stream) =
                Sinusoid::draw(self.training.seed, self.update * tasks as u64 + task);
            for set in [&mut support, &mut query] {
                let points = sinusoid.points(self.training.shots, &mut stream);
                set.x.extend(points.x);
                set.y.extend(points.y);
            }
        }
        let weights = Weights::repeat(&self.start(), tasks);
        let found = self.descent(self.training.inner_steps).meta_gradient(
            weights,
            &batch(&support, tasks),
            &batch(&query, tasks),
            self.training.order,
            false,
        );
        let loss = found.losses.iter().map(|loss| f64::from(*loss)).sum::<f64>() / tasks as f64;
        self.finite(loss)?;
        let device = Device::flex();
        let gradients = found.start.sum().into_iter().map(|sum| {
            let mean: Vec<f32> = sum.into_iter().map(|value| value / tasks as f32).collect();
            Some(named::on_device(&mean, &device))
        });
        self.optimizer
            .step(self.training.lr, &mut self.values, gradients.collect());
        self.update += 1;
        Ok(loss)
    }

    fn finite(&self, loss: f64) -> Result<(), Error> {
        if loss.is_finite() {
            return Ok(());
        }
        Err(Error::NotFinite {
            place: format!("update {}", self.update),
            loss: loss as f32,
            kept: String::new(),
            lower: "--lr or --inner-lr".to_owned(),
        })
    }

    /// Errors on tasks that it has not seen.
    ///
    /// # Errors
    /// One that is infinite or not a number.
    pub fn errors(&self) -> Result<Vec<MeanSquaredError>, Error> {
        let start = self.start();
        let cases = SHOTS
            .into_iter()
            .flat_map(|shots| STEPS.map(|steps| (shots, steps)));
        cases
            .map(|(shots, steps)| {
                let all: Vec<f64> = (0..TEST_TASKS)
                    .into_par_iter()
                    .map(|task| self.error(&start, task, shots, steps))
                    .collect();
                let error = Accuracy::of(&all);
                self.finite(error.mean)?;
                Ok(MeanSquaredError {
                    shots,
                    steps,
                    mse: error.mean,
                    ci95: error.ci95,
                })
            })
            .collect()
    }

    fn error(&self, start: &[Vec<f32>], task: u64, shots: usize, steps: usize) -> f64 {
        let (sinusoid, support) = self.test_task(task, shots);
        let x = grid(TEST_POINTS);
        let found = self.predict(start, &support, steps, &x);
        let errors = x.iter().zip(found);
        let errors = errors.map(|(x, y)| f64::from(y - sinusoid.at(*x)).powi(2));
        errors.sum::<f64>() / TEST_POINTS as f64
    }

    /// A test task and its first points.
    fn test_task(&self, task: u64, shots: usize) -> (Sinusoid, Points) {
        let (sinusoid, mut stream) = Sinusoid::draw(self.training.seed ^ TEST_SEED, task);
        let support = sinusoid.points(shots, &mut stream);
        (sinusoid, support)
    }

    /// Values at `x` after `steps` on `support`.
    fn predict(&self, start: &[Vec<f32>], support: &Points, steps: usize, x: &[f32]) -> Vec<f32> {
        let weights = Weights::repeat(start, 1);
        let weights = self.descent(steps).run(weights, &batch(support, 1));
        self.network.infer(&weights, x, Normalisation::Groups(1))
    }

    fn descent(&self, steps: usize) -> Descent<'_> {
        Descent {
            network: &self.network,
            rates: Rates::One(self.training.inner_lr),
            steps,
        }
    }

    fn start(&self) -> Vec<Vec<f32>> {
        self.values
            .iter()
            .map(|value| logits_on_host(value.clone()))
            .collect()
    }
}

fn batch(points: &Points, tasks: usize) -> Batch<'_> {
    Batch {
        tasks,
        inputs: &points.x,
        targets: Targets::Values(&points.y),
    }
}

/// Places evenly over the inputs' range.
fn grid(count: usize) -> Vec<f32> {
    let (from, to) = (*INPUTS.start(), *INPUTS.end());
    (0..count)
        .map(|index| from + (to - from) * index as f32 / (count - 1) as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_hundred_updates_learn_to_adapt_and_the_page_shows_it() {
        let training = Training {
            updates: 1500,
            ..Training::default()
        };
        let mut regression = Regression::new(training.clone());
        let first = regression.step().unwrap();
        for _ in 1..training.updates {
            regression.step().unwrap();
        }
        let errors = regression.errors().unwrap();
        let of = |shots, steps| {
            let found = errors
                .iter()
                .find(|error| (error.shots, error.steps) == (shots, steps));
            found.unwrap().mse
        };
        assert!(of(10, 1) < 0.75 * of(10, 0), "one step helps: {errors:?}");
        assert!(
            of(10, 5) < of(10, 1) && of(20, 5) < of(5, 5),
            "more steps, more points: {errors:?}"
        );
        assert!(first > of(10, 5), "{first} {errors:?}");
        let outcome = Outcome {
            method: "maml",
            data: "sinusoid",
            training,
            seconds: 1.0,
            test_tasks: TEST_TASKS,
            errors,
        };
        let page = regression.page(&outcome);
        crate::report::tests::well_formed::check(&page).unwrap();
        assert!(
            page.contains("after 10 steps") && page.contains("exact meta-gradient") && page.contains("<svg")
        );
    }

    #[test]
    fn the_same_seed_gives_the_same_weights() {
        let run = || {
            let mut regression = Regression::new(Training {
                updates: 3,
                ..Training::default()
            });
            (0..3).for_each(|_| {
                regression.step().unwrap();
            });
            regression.start()
        };
        assert_eq!(run(), run());
    }
}
