//! A method without its type: what the training loop, the evaluation and applications hold.

use std::any::Any;

use burn::module::ParamId;
use burn::tensor::{Device, Tensor};
use kshot_kernels::on_awake_threads;

use crate::episode::{Episode, Support, TaskShape};
use crate::error::Error;
use crate::inner::Plain;
use crate::method::{Batch, Kernel, Method, Objective, Scores, one_hot};
use crate::norm::{Norm, NormalisedBy, Pass};
use crate::parameters::{self, Parameter};

/// The result of one episode of meta-training.
#[derive(Clone, Debug)]
pub struct Step {
    /// The training loss.
    pub loss: f32,
    /// Share of the queries that were recognised, in `[0, 1]`.
    pub accuracy: f32,
    /// Of each parameter in order, flat; `None` where the episode gives none.
    pub gradients: Vec<Option<Tensor<1>>>,
    /// Batch statistics: parameter index and what its running average should move towards.
    pub statistics: Vec<(usize, Tensor<1>)>,
    /// What the method itself carries from update to update: parameter index and what it becomes.
    pub carried: Vec<(usize, Tensor<1>)>,
}

impl Step {
    /// Means over `steps`, and all their statistics in order; what they carry is the last one's.
    pub fn mean(steps: Vec<Self>) -> Self {
        Self::weighted(steps.into_iter().map(|step| (1, step)).collect())
    }

    /// Means over all episodes of steps that stand for so many of them each, and all their statistics in order.
    pub fn weighted(steps: Vec<(usize, Self)>) -> Self {
        let episodes: usize = steps.iter().map(|(count, _)| count).sum();
        let mut total = Self {
            loss: 0.0,
            accuracy: 0.0,
            gradients: Vec::new(),
            statistics: Vec::new(),
            carried: Vec::new(),
        };
        for (count, step) in steps {
            let share = count as f32 / episodes.max(1) as f32;
            total.loss += share * step.loss;
            total.accuracy += share * step.accuracy;
            total.statistics.extend(step.statistics);
            total.carried = step.carried;
            let gradients = step
                .gradients
                .into_iter()
                .map(|gradient| gradient.map(|gradient| gradient.mul_scalar(share)));
            if total.gradients.is_empty() {
                total.gradients = gradients.collect();
            } else {
                for (sum, gradient) in total.gradients.iter_mut().zip(gradients) {
                    *sum = add(sum.take(), gradient);
                }
            }
        }
        total
    }
}

fn add(left: Option<Tensor<1>>, right: Option<Tensor<1>>) -> Option<Tensor<1>> {
    match (left, right) {
        (Some(left), Some(right)) => Some(left + right),
        (left, right) => left.or(right),
    }
}

/// Episodes that a method which takes several at once is given together: enough to be worth it, few enough for the memory
/// of their graph.
const JOINT: usize = 8;

/// A task that a learner has adapted to: [`Method::Task`] without its type.
pub type Task = Box<dyn Any + Send + Sync>;

/// A model that learns from a few examples, whatever its method.
pub trait Learner: Send + Sync {
    /// Its numbers by name, in a fixed order.
    fn parameters(&self) -> &[Parameter];

    /// The values of its parameters, flat.
    fn read(&self) -> Vec<Tensor<1>>;

    /// Replaces the values of its parameters.
    fn write(&mut self, values: &[Tensor<1>]);

    /// Loss and gradients of one training episode; the model is left as it is.
    ///
    /// # Errors
    /// An episode that the method can't use.
    fn meta_step(&self, episode: &Episode) -> Result<Step, Error>;

    /// Mean loss, accuracy and gradients over the `episodes` of one weight update, and all their statistics in order.
    /// Sums are formed in the order of the episodes, so that their bits don't depend on how many threads there are.
    ///
    /// # Errors
    /// The first episode that the method can't use.
    fn meta_batch(&self, episodes: &[Episode]) -> Result<Step, Error> {
        if let [episode] = episodes {
            return self.meta_step(episode);
        }
        let steps: Result<Vec<Step>, Error> =
            episodes.iter().map(|episode| self.meta_step(episode)).collect();
        Ok(Step::mean(steps?))
    }

    /// Whether it is not yet what its training is for, so that no validation of it counts as the best.
    fn provisional(&self) -> bool {
        false
    }

    /// Whose statistics normalise an evaluation under `norm`: what every report says of it.
    fn normalised_by(&self, norm: Norm) -> NormalisedBy {
        let has_statistics = self.parameters().iter().any(Parameter::is_running_average);
        match norm {
            _ if !has_statistics => NormalisedBy::Nothing,
            Norm::Episode => NormalisedBy::Episode,
            Norm::Running => NormalisedBy::RunningAverages,
        }
    }

    /// Checks that tasks of this shape, `together` of them in one weight update (0 in an evaluation), have no more classes
    /// than it can answer and ask for no array that memory can't hold, before anything is made for them.
    ///
    /// # Errors
    /// Too many classes, or the first array that is too large.
    fn check_task(&self, _task: TaskShape, _together: usize) -> Result<(), Error> {
        Ok(())
    }

    /// How many classes its tasks must have, where that is fixed when it is made.
    fn n_way(&self) -> Option<usize> {
        None
    }

    /// Learns a task from its labelled images.
    ///
    /// # Errors
    /// A support set that the method can't use.
    fn adapt(&self, support: &Support, norm: Norm) -> Result<Task, Error>;

    /// Answers to images shown one after the other, each before its label: row t of the logits `[n, n_way]` is about image
    /// t, after images and labels 0 to t - 1. A learner that knows support sets alone adapts anew before each image.
    ///
    /// # Errors
    /// A sequence that the method can't use.
    fn present(&self, sequence: &Support, norm: Norm) -> Result<Tensor<2>, Error> {
        present_by_adapting(self, sequence, norm)
    }

    /// Logits `[n, n_way]` of images before the first step of learning a task and after each, where this learner learns
    /// in steps; with `plain`, by that rule and so many steps from the same starting point, in the place of its own.
    ///
    /// # Errors
    /// A support set or images that the method can't use.
    fn step_by_step(
        &self,
        _support: &Support,
        _query: Tensor<4>,
        _norm: Norm,
        _plain: Option<(Plain, usize)>,
    ) -> Result<Option<Vec<Vec<f32>>>, Error> {
        Ok(None)
    }

    /// Scores images `[n, height, width, channels]` against the classes of a task that this learner adapted to.
    ///
    /// # Errors
    /// Images that the method can't use, or a task of another method.
    fn score(&self, task: &Task, query: Tensor<4>, norm: Norm) -> Result<Scores, Error>;

    /// Feature vectors `[n, features]`.
    fn embed(&self, images: Tensor<4>, norm: Norm) -> Tensor<2>;

    /// See [`Method::kernel`].
    fn kernel(&self) -> Option<Kernel> {
        None
    }

    /// Where images for [`Learner::adapt`], [`Learner::score`] and [`Learner::embed`] must lie.
    fn device(&self) -> &Device;
}

/// Takes the type off a method whose weights lie on `device`, which tracks gradients.
pub fn erase<M: Method>(model: M, device: &Device) -> Box<dyn Learner> {
    let parameters = parameters::list(&model);
    let plain = model.valid();
    let plain_device = device.clone().without_autodiff();
    Box::new(Erased {
        model,
        plain,
        parameters,
        training_device: device.clone(),
        device: plain_device,
    })
}

/// A method twice: with gradient tracking for training, without for everything else. Both hold the
/// same numbers.
struct Erased<M> {
    model: M,
    plain: M,
    parameters: Vec<Parameter>,
    training_device: Device,
    device: Device,
}

impl<M: Method> Erased<M> {
    fn parameter_index(&self, id: ParamId) -> Option<usize> {
        self.parameters.iter().position(|parameter| parameter.id == id)
    }

    /// The mean step of several episodes in one computation; `None` where the method takes them one by one.
    fn joint_step(&self, episodes: &[Episode]) -> Option<Result<Step, Error>> {
        let n_way = episodes.first()?.task.n_way;
        if episodes.iter().any(|episode| episode.task.n_way != n_way) {
            return None;
        }
        let batches: Vec<Batch> = episodes.iter().map(|episode| self.batch(episode)).collect();
        let labels: Vec<usize> = batches
            .iter()
            .flat_map(|batch| batch.query_labels.clone())
            .collect();
        let mut pass = Pass::train();
        let objective = self.model.joint_loss(&batches, &mut pass)?;
        Some(objective.map(|objective| self.step(objective, pass, n_way, &labels)))
    }

    /// The steps of a few episodes: one that stands for all of them where the method takes them together.
    fn steps(&self, episodes: &[Episode]) -> Result<Vec<(usize, Step)>, Error> {
        match self.joint_step(episodes) {
            Some(step) => Ok(vec![(episodes.len(), step?)]),
            None => episodes
                .iter()
                .map(|episode| Ok((1, self.meta_step(episode)?)))
                .collect(),
        }
    }

    /// An episode where the weights that are trained lie.
    fn batch(&self, episode: &Episode) -> Batch {
        Batch {
            support: episode.support_on(&self.training_device),
            query: episode.query_on(&self.training_device),
            query_labels: episode.query_labels(),
            classes: episode.classes.clone(),
            seed: episode.fingerprint(),
        }
    }

    /// The gradients and figures of a loss.
    fn step(&self, objective: Objective, pass: Pass, n_way: usize, query_labels: &[usize]) -> Step {
        let Objective { loss, logits } = objective;
        // A tracked zero beside it gives a loss a graph that depends on no weight, as a baseline's that learns nothing.
        let zero = Tensor::<1>::zeros([1], &self.training_device).require_grad();
        let mut gradients = (loss.clone() + zero).backward();
        let statistics = pass
            .into_statistics()
            .into_iter()
            .filter_map(|(id, observed)| Some((self.parameter_index(id)?, observed.inner())))
            .collect();
        Step {
            loss: loss.into_scalar(),
            accuracy: accuracy(&logits_on_host(logits.inner()), n_way, query_labels) as f32,
            gradients: parameters::gradients(&self.model, &mut gradients),
            statistics,
            carried: Vec::new(),
        }
    }
}

impl<M: Method> Learner for Erased<M> {
    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn read(&self) -> Vec<Tensor<1>> {
        parameters::read(&self.plain)
    }

    fn write(&mut self, values: &[Tensor<1>]) {
        self.model = parameters::write(self.model.clone(), values);
        self.plain = parameters::write(self.plain.clone(), values);
    }

    fn meta_step(&self, episode: &Episode) -> Result<Step, Error> {
        on_awake_threads(|| {
            let batch = self.batch(episode);
            let mut pass = Pass::train();
            let objective = self.model.loss(&batch, &mut pass)?;
            Ok(self.step(objective, pass, episode.task.n_way, &batch.query_labels))
        })
    }

    fn meta_batch(&self, episodes: &[Episode]) -> Result<Step, Error> {
        if let [episode] = episodes {
            return self.meta_step(episode);
        }
        // One after the other: the tensor engine's graphs of several episodes, which share the weights, can lock each
        // other out for good. The kernels of each use all threads.
        on_awake_threads(|| {
            let steps: Result<Vec<_>, Error> =
                episodes.chunks(JOINT).map(|chunk| self.steps(chunk)).collect();
            Ok(Step::weighted(steps?.into_iter().flatten().collect()))
        })
    }

    fn check_task(&self, task: TaskShape, together: usize) -> Result<(), Error> {
        self.plain.check_task(task, together.min(JOINT))
    }

    fn adapt(&self, support: &Support, norm: Norm) -> Result<Task, Error> {
        Ok(Box::new(self.plain.adapt(support, norm)?))
    }

    fn score(&self, task: &Task, query: Tensor<4>, norm: Norm) -> Result<Scores, Error> {
        let task = task.downcast_ref::<M::Task>().ok_or_else(|| Error::Setting {
            name: "task",
            problem: "it was adapted by another method".to_owned(),
        })?;
        self.plain.score(task, query, norm)
    }

    fn present(&self, sequence: &Support, norm: Norm) -> Result<Tensor<2>, Error> {
        self.plain
            .present(sequence, norm)
            .unwrap_or_else(|| present_by_adapting(self, sequence, norm))
    }

    fn embed(&self, images: Tensor<4>, norm: Norm) -> Tensor<2> {
        self.plain.embed(images, norm)
    }

    fn kernel(&self) -> Option<Kernel> {
        self.plain.kernel()
    }

    fn device(&self) -> &Device {
        &self.device
    }
}

/// [`Learner::present`] of a learner that knows support sets alone: each image against all before it. A class that has not
/// been seen yet is never its answer.
fn present_by_adapting<L: Learner + ?Sized>(
    learner: &L,
    sequence: &Support,
    norm: Norm,
) -> Result<Tensor<2>, Error> {
    let (n_way, device) = (sequence.n_way, sequence.images.device());
    let mut rows = vec![Tensor::zeros([1, n_way], &device)];
    for t in 1..sequence.labels.len() {
        let before = Support {
            images: sequence.images.clone().narrow(0, 0, t),
            labels: sequence.labels[..t].to_vec(),
            n_way,
        };
        let task = learner.adapt(&before, norm)?;
        let logits = learner
            .score(&task, sequence.images.clone().narrow(0, t, 1), norm)?
            .logits;
        let seen = one_hot(&before.labels, n_way, &device).max_dim(0);
        let below_all = logits.clone().min_dim(1).sub_scalar(1.0);
        rows.push(logits * seen.clone() + (seen.ones_like() - seen) * below_all);
    }
    Ok(Tensor::cat(rows, 0))
}

/// The numbers of a tensor, row-major.
pub fn logits_on_host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.into_data().convert::<f32>();
    // Taken over where nobody else holds it.
    data.try_into_vec()
        .unwrap_or_else(|_| unreachable!("they are f32 now"))
}

/// Share of the rows of `logits` `[n_query, n_way]` whose greatest entry is at its label.
pub fn accuracy(logits: &[f32], n_way: usize, labels: &[usize]) -> f64 {
    let right = logits
        .chunks_exact(n_way)
        .zip(labels)
        .filter(|(row, label)| argmax(row) == **label)
        .count();
    right as f64 / labels.len().max(1) as f64
}

/// Index of the greatest entry, the first among equals; not-a-number never wins.
pub fn argmax(row: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in row.iter().enumerate() {
        if *value > row[best] || (row[best].is_nan() && !value.is_nan()) {
            best = index;
        }
    }
    best
}
