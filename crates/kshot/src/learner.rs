//! A method without its type: what the training loop, the evaluation and applications hold.

use std::any::Any;

use burn::module::ParamId;
use burn::tensor::{Device, Tensor};

use crate::episode::{Episode, Support};
use crate::error::Error;
use crate::method::{Batch, Kernel, Method, Objective, Scores};
use crate::norm::{Norm, Pass};
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
}

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

    /// Learns a task from its labelled images.
    ///
    /// # Errors
    /// A support set that the method can't use.
    fn adapt(&self, support: &Support, norm: Norm) -> Result<Task, Error>;

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
        let batch = Batch {
            support: episode.support_on(&self.training_device),
            query: episode.query_on(&self.training_device),
            query_labels: episode.query_labels(),
        };
        if !self.parameters.iter().any(|parameter| parameter.trainable) {
            return Err(Error::Setting {
                name: "episodes",
                problem: "the model has nothing to train; give --episodes 0, or an encoder with weights"
                    .to_owned(),
            });
        }
        let mut pass = Pass::train();
        let Objective { loss, logits } = self.model.loss(&batch, &mut pass)?;
        let mut gradients = loss.backward();
        let statistics = pass
            .into_statistics()
            .into_iter()
            .filter_map(|(id, observed)| Some((self.parameter_index(id)?, observed.inner())))
            .collect();
        Ok(Step {
            loss: loss.into_scalar(),
            accuracy: accuracy(
                &logits_on_host(logits.inner()),
                episode.task.n_way,
                &batch.query_labels,
            ) as f32,
            gradients: parameters::gradients(&self.model, &mut gradients),
            statistics,
        })
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

/// The numbers of a tensor, row-major.
pub fn logits_on_host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
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
