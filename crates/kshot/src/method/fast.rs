//! What the methods share that adapt a copy of their weights to each task: the network as plain numbers, the batching
//! of tasks, and the learner around them.
//!
//! Such a method is a [`Rule`]: how weights are adapted to a support set, and what a meta-batch teaches. The classifier
//! is a linear layer on the encoder's features, so a model has a fixed number of classes.
//!
//! In the inner loop a support set is normalised by its own statistics, in training and in evaluation. A query set is so
//! too under `--norm episode`, as the papers do it (transductive). Under `--norm running` a query sees no other query:
//! `--query-norm averages` takes the running averages that training met among the queries after its inner steps,
//! `--query-norm support` normalises each query together with the support set (Nichol et al. 2018, section 6.1).
//!
//! Deviation: there is one set of running averages, of the queries after the last inner step. Running statistics for each
//! inner step, as MAML++ keeps them (Antoniou, Edwards, Storkey 2019, section 4), are not offered. Their purpose, that a
//! query is scored as it would be alone, `--query-norm support` serves as well: a query is normalised by pictures that are
//! there anyway, those of its own task. In our measurements that is 3 to 21 points better than running averages, which mix
//! the statistics of all tasks, and no set of averages for each step would have those of the task at hand.

mod model;

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

pub use self::model::Model;
use super::Scores;
pub use super::lesson::{Carried, Lesson};
use crate::episode::{Episode, Support, TaskShape};
use crate::error::Error;
use crate::inner::{Batch, BatchStatistics, Layer, Normalisation, Plain, Targets, Weights};
use crate::learner::{self, Learner, Step, Task};
use crate::named;
use crate::norm::{Norm, NormalisedBy};
use crate::options::{OptionKind, OptionSpec};
use crate::parameters::Parameter;

/// So many tasks go through the kernels in one call.
const TASKS_PER_CALL: usize = 4;

/// So many images at the most go through one call that joins queries with the support set.
const JOINED_IMAGES: usize = 256;

/// `--query-norm`.
pub const QUERY_NORM: OptionSpec = OptionSpec {
    name: "query-norm",
    kind: OptionKind::Choice(&["averages", "support"]),
    default: "averages",
    help: "what normalises a query under --norm running: one set of running averages, or the support set together with it \
           (measured 3 to 21 points better)",
};

/// Sees the weights before the first step of an adaptation and after each, with what normalises queries there under
/// `--norm running` where the method has that.
pub type Watch<'a> = dyn FnMut(&Weights, Option<&[BatchStatistics]>) + 'a;

/// How a method adapts and learns.
pub trait Rule: Send + Sync + 'static {
    /// What the support set of one task makes of the model.
    fn adapt(&self, model: &Model, support: &Batch<'_>, watch: &mut Watch<'_>) -> Adapted;

    /// What several tasks teach.
    fn learn(&self, model: &Model, support: &Batch<'_>, query: &Batch<'_>) -> Lesson;

    /// See [`Learner::provisional`].
    fn provisional(&self, _model: &Model) -> bool {
        false
    }

    /// See [`Learner::check_task`].
    ///
    /// # Errors
    /// The first array that is too large.
    fn check_task(&self, _model: &Model) -> Result<(), Error> {
        Ok(())
    }

    /// What normalises its queries under `--norm running` where they aren't joined with the support set.
    fn normalised_by(&self) -> NormalisedBy {
        NormalisedBy::QueryAverages
    }
}

/// A model adapted to a task.
pub struct Adapted {
    /// The adapted weights.
    pub weights: Weights,
    /// What normalises its queries under `--norm running`, where the method doesn't leave it to running averages.
    pub statistics: Option<Vec<BatchStatistics>>,
}

impl From<Weights> for Adapted {
    fn from(weights: Weights) -> Self {
        Self {
            weights,
            statistics: None,
        }
    }
}

/// A model that learns by a rule.
pub struct Fast<R> {
    model: Model,
    rule: R,
    joins_support: bool,
}

/// An adapted task.
struct FastTask {
    adapted: Adapted,
    /// Its images where queries are normalised together with them, else empty.
    support: Vec<f32>,
}

/// The learner of a model and a rule; `joins_support` is `--query-norm support`.
pub fn learner<R: Rule>(model: Model, rule: R, joins_support: bool) -> Box<dyn Learner> {
    Box::new(Fast {
        model,
        rule,
        joins_support,
    })
}

impl<R: Rule> Fast<R> {
    /// Lessons of episodes of one shape.
    fn learn(&self, task: TaskShape, episodes: &[Episode]) -> Lesson {
        let tasks = episodes.len();
        let join = |pixels: fn(&Episode) -> &Vec<f32>| -> Vec<f32> {
            episodes
                .iter()
                .flat_map(|episode| pixels(episode).iter().copied())
                .collect()
        };
        let labels = |per_class: usize| -> Vec<usize> {
            let of_one = (0..task.n_way).flat_map(|label| std::iter::repeat_n(label, per_class));
            of_one.collect::<Vec<_>>().repeat(tasks)
        };
        let (support, query) = (join(|episode| &episode.support), join(|episode| &episode.query));
        let (support_labels, query_labels) = (labels(task.n_shot), labels(task.n_query));
        let batch = |inputs, labels| Batch {
            tasks,
            inputs,
            targets: Targets::Labels(labels),
        };
        self.rule.learn(
            &self.model,
            &batch(&support, &support_labels),
            &batch(&query, &query_labels),
        )
    }
}

impl<R: Rule> Learner for Fast<R> {
    fn parameters(&self) -> &[Parameter] {
        &self.model.parameters
    }

    fn read(&self) -> Vec<Tensor<1>> {
        let values = self.model.values.iter();
        values
            .map(|value| named::on_device(value, &self.model.device))
            .collect()
    }

    fn write(&mut self, values: &[Tensor<1>]) {
        for (to, value) in self.model.values.iter_mut().zip(values) {
            *to = learner::logits_on_host(value.clone());
        }
    }

    fn meta_step(&self, episode: &Episode) -> Result<Step, Error> {
        self.meta_batch(std::slice::from_ref(episode))
    }

    fn meta_batch(&self, episodes: &[Episode]) -> Result<Step, Error> {
        for episode in episodes {
            self.model.check(episode.task.n_way, episode.image.len())?;
        }
        let calls: Vec<&[Episode]> = episodes
            .chunk_by(|a, b| a.task == b.task)
            .flat_map(|alike| alike.chunks(TASKS_PER_CALL))
            .collect();
        let lessons: Vec<Lesson> = calls
            .into_par_iter()
            .map(|call| self.learn(call[0].task, call))
            .collect();
        Ok(self.model.step(lessons, episodes.len()))
    }

    fn provisional(&self) -> bool {
        self.rule.provisional(&self.model)
    }

    fn check_task(&self, _task: TaskShape, _together: usize) -> Result<(), Error> {
        self.rule.check_task(&self.model)
    }

    fn normalised_by(&self, norm: Norm) -> NormalisedBy {
        match norm {
            _ if !self.model.has_statistics() => NormalisedBy::Nothing,
            Norm::Episode => NormalisedBy::Episode,
            Norm::Running if self.joins_support => NormalisedBy::SupportAndQuery,
            Norm::Running => self.rule.normalised_by(),
        }
    }

    fn n_way(&self) -> Option<usize> {
        Some(self.model.n_way)
    }

    fn adapt(&self, support: &Support, norm: Norm) -> Result<Task, Error> {
        let n_support = support.labels.len();
        let inputs = learner::logits_on_host(support.images.clone());
        if n_support == 0 {
            return Err(Error::Setting {
                name: "shot",
                problem: "a task needs at least one labelled image".to_owned(),
            });
        }
        self.model.check(support.n_way, inputs.len() / n_support)?;
        let batch = Batch {
            tasks: 1,
            inputs: &inputs,
            targets: Targets::Labels(&support.labels),
        };
        let adapted = self.rule.adapt(&self.model, &batch, &mut |_, _| ());
        let joins = self.joins_support && norm == Norm::Running;
        Ok(Box::new(FastTask {
            adapted,
            support: if joins { inputs } else { Vec::new() },
        }))
    }

    fn score(&self, task: &Task, query: Tensor<4>, norm: Norm) -> Result<Scores, Error> {
        let task = task.downcast_ref::<FastTask>().ok_or_else(|| Error::Setting {
            name: "task",
            problem: "it was adapted by another method".to_owned(),
        })?;
        let [n_query, height, width, channels] = query.dims();
        self.model.check(self.model.n_way, height * width * channels)?;
        let query = learner::logits_on_host(query);
        let statistics = task.adapted.statistics.as_deref();
        let logits = self.logits(&task.adapted.weights, statistics, &task.support, &query, norm);
        let logits = TensorData::new(logits, [n_query, self.model.n_way]);
        Ok(Scores {
            logits: Tensor::from_data(logits, &self.model.device),
            attention: None,
        })
    }

    fn step_by_step(
        &self,
        support: &Support,
        query: Tensor<4>,
        norm: Norm,
        plain: Option<(Plain, usize)>,
    ) -> Result<Option<Vec<Vec<f32>>>, Error> {
        let inputs = learner::logits_on_host(support.images.clone());
        self.model
            .check(support.n_way, inputs.len() / support.labels.len().max(1))?;
        let query = learner::logits_on_host(query);
        let batch = Batch {
            tasks: 1,
            inputs: &inputs,
            targets: Targets::Labels(&support.labels),
        };
        let mut answers = Vec::new();
        let watch: &mut Watch<'_> = &mut |weights, statistics| {
            answers.push(self.logits(weights, statistics, &inputs, &query, norm));
        };
        match plain {
            Some((plain, steps)) => {
                let start = Weights::repeat(&self.model.start(), 1);
                let watch = &mut |weights: &Weights| watch(weights, None);
                plain.run(&self.model.network, start, &batch, steps, watch);
            }
            None => {
                self.rule.adapt(&self.model, &batch, watch);
            }
        }
        Ok(Some(answers))
    }

    fn embed(&self, images: Tensor<4>, norm: Norm) -> Tensor<2> {
        let n = images.dims()[0];
        let (body, _) = self.model.network.split_last();
        let weights = Weights::repeat(&self.model.start()[..body.parameters()], 1);
        let averages = self.model.averages();
        let normalisation = match norm {
            Norm::Episode => Normalisation::Groups(1),
            Norm::Running => Normalisation::Given(&averages),
        };
        let features = body.infer(&weights, &learner::logits_on_host(images), normalisation);
        let width = features.len() / n.max(1);
        Tensor::from_data(TensorData::new(features, [n, width]), &self.model.device)
    }

    fn device(&self) -> &Device {
        &self.model.device
    }
}

impl<R: Rule> Fast<R> {
    /// Logits of queries by adapted weights; `statistics` and `support` normalise under `--norm running`, each where the
    /// method has it so.
    fn logits(
        &self,
        weights: &Weights,
        statistics: Option<&[BatchStatistics]>,
        support: &[f32],
        query: &[f32],
        norm: Norm,
    ) -> Vec<f32> {
        let network = &self.model.network;
        match norm {
            Norm::Episode => network.infer(weights, query, Normalisation::Groups(1)),
            Norm::Running if self.joins_support => self.joined(weights, support, query),
            Norm::Running => match statistics {
                Some(statistics) => network.infer(weights, query, Normalisation::Given(statistics)),
                None => network.infer(weights, query, Normalisation::Given(&self.model.averages())),
            },
        }
    }

    /// Logits of each query, normalised together with the support set and without the other queries.
    fn joined(&self, weights: &Weights, support: &[f32], query: &[f32]) -> Vec<f32> {
        let network = &self.model.network;
        let len = network.layers().first().map_or(1, Layer::inputs);
        let together = support.len() / len + 1;
        let at_once = (JOINED_IMAGES / together).max(1);
        let queries: Vec<&[f32]> = query.chunks(len * at_once).collect();
        let logits: Vec<Vec<f32>> = queries
            .into_par_iter()
            .map(|queries| {
                let inputs: Vec<f32> = queries
                    .chunks_exact(len)
                    .flat_map(|query| support.iter().chain(query).copied())
                    .collect();
                let groups = Normalisation::Groups(queries.len() / len);
                let outputs = network.infer(weights, &inputs, groups);
                let rows = outputs.chunks_exact(self.model.n_way);
                rows.skip(together - 1)
                    .step_by(together)
                    .flatten()
                    .copied()
                    .collect()
            })
            .collect();
        logits.concat()
    }
}

/// Shares of examples whose greatest output is at its label, summed over the tasks; 0 for targets that aren't labels.
pub fn recognised(batch: &Batch<'_>, outputs: &[f32]) -> f64 {
    let Targets::Labels(labels) = batch.targets else {
        return 0.0;
    };
    let width = outputs.len() / labels.len().max(1);
    learner::accuracy(outputs, width.max(1), labels) * batch.tasks as f64
}
