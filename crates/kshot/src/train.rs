//! The meta-training loop. It names no method and no dataset.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use burn::tensor::Tensor;

use crate::augment::Augment;
use crate::average::WeightAverage;
use crate::checkpoint::{self, Best, Checkpoint, Progress};
use crate::data::{Dataset, Part};
use crate::episode::Episode;
use crate::error::Error;
use crate::eval::{self, Accuracy};
use crate::learner::{Learner, Step};
use crate::meta_batch::{InProcess, MetaBatch};
use crate::named::{self, Named};
use crate::norm::Norm;
use crate::optimizer::{Moments, Optimizer};
use crate::sampler::{Sampler, SamplerError};
use crate::settings::Settings;
use crate::trace::{Line, Trace};
use crate::{model, transfer};

/// How far a running average moves towards each new batch statistic, as everywhere in the field.
const MOMENTUM: f64 = 0.1;

/// Seeds of the three kinds of episodes below the training's own.
const VALIDATION_SEED: u64 = 0x7661_6c69;

/// Options of methods for the rate at which a task is learned: too high a one lets the training's loss grow without bound.
const INNER_RATES: [&str; 2] = ["inner-lr", "first-rate"];

/// Meta-batches that are made ahead of the step that uses them.
const PREFETCH: usize = 3;

/// Before a parameter's name: how many steps the optimizer has taken with it, where these are fewer than the updates.
const TIME: &str = "time.";

/// Why a training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All its episodes are done.
    Complete,
    /// No better validation for as long as its patience.
    Patience,
    /// [`Observer::stop`] asked for it; it can go on from its last checkpoint.
    Interrupted,
}

/// Who watches a training.
pub trait Observer {
    /// After each weight update.
    fn updated(&mut self, progress: &Progress, step: &Step);
    /// After each validation.
    fn validated(&mut self, progress: &Progress, accuracy: Accuracy);
    /// Whether to stop before the next update.
    fn stop(&self) -> bool;
}

/// A meta-training in progress.
pub struct Training {
    settings: Settings,
    learner: Box<dyn Learner>,
    batches: Box<dyn MetaBatch>,
    train: Sampler,
    validation: Sampler,
    norm: Norm,
    /// The weights that the optimizer moves; the learner holds the average's where there is one.
    values: Vec<Tensor<1>>,
    average: Option<WeightAverage>,
    optimizer: Optimizer,
    progress: Progress,
    folder: PathBuf,
}

impl Training {
    /// A training from the start, with its checkpoints and trace in `folder`.
    ///
    /// # Errors
    /// Settings that the dataset, the encoder or the method can't fulfil.
    pub fn new(settings: &Settings, dataset: Arc<dyn Dataset>, folder: &Path) -> Result<Self, Error> {
        let mut learner = model::fresh(settings, dataset.shape())?;
        transfer::init_encoder(settings, learner.as_mut())?;
        Self::of(settings, dataset, folder, learner)
    }

    /// A training of `learner`.
    fn of(
        settings: &Settings,
        dataset: Arc<dyn Dataset>,
        folder: &Path,
        learner: Box<dyn Learner>,
    ) -> Result<Self, Error> {
        check_ways(settings, learner.n_way())?;
        check_tasks(settings, learner.as_ref())?;
        check_trainable(settings, learner.as_ref())?;
        let values = learner.read();
        let decay = settings.core.number("average");
        let average = (decay > 0.0).then(|| WeightAverage::new(decay, values.clone()));
        Ok(Self {
            train: train_sampler(settings, dataset.clone())?,
            validation: validation_sampler(settings, dataset)?,
            norm: settings.norm(),
            optimizer: Optimizer::new(settings.core.text("optimizer"), values.len()),
            progress: Progress::default(),
            folder: folder.to_owned(),
            settings: settings.clone(),
            batches: Box::new(InProcess),
            learner,
            values,
            average,
        })
    }

    /// Goes on from `checkpoint`, which came from `path`.
    ///
    /// # Errors
    /// As [`Training::new`], and a checkpoint that doesn't fit the settings.
    pub fn resume(
        settings: &Settings,
        dataset: Arc<dyn Dataset>,
        folder: &Path,
        checkpoint: &Checkpoint,
        path: &Path,
    ) -> Result<Self, Error> {
        let learner = model::fresh(settings, dataset.shape())?;
        let mut training = Self::of(settings, dataset, folder, learner)?;
        let (parameters, device) = (training.learner.parameters(), training.learner.device());
        let array = |arrays, prefix: &str| named::to_parameters(parameters, arrays, prefix, path, device);
        training.values = array(&checkpoint.training, "raw.")?;
        if let Some(average) = &mut training.average {
            *average = WeightAverage::new(settings.core.number("average"), array(&checkpoint.weights, "")?);
        }
        let moments = restore_moments(parameters, checkpoint, path, device)?;
        training.optimizer = Optimizer::restore(settings.core.text("optimizer"), moments);
        training.progress = checkpoint.progress.clone();
        training.learner.write(&training.values);
        Ok(training)
    }

    /// How far it has come.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Images that go through the model in one weight update, at the most.
    pub fn images_per_update(&self) -> u64 {
        let tasks = self.train.tasks();
        let per_class = tasks.n_shot.end() + tasks.n_query;
        (self.settings.core.integer("meta-batch") * tasks.n_way.end() * per_class) as u64
    }

    /// Trains to the end, or until the observer or patience stops it.
    ///
    /// # Errors
    /// An episode that can't be made or learned, a loss that is not finite, or a disk that can't be
    /// written; the checkpoints made before are intact then.
    pub fn run(&mut self, observer: &mut dyn Observer) -> Result<Ended, Error> {
        if self.progress.episode == 0 {
            self.save(None)?;
        }
        let mut trace = Trace::open(&self.folder.join("trace.jsonl"), self.progress.episode)?;
        let sampler = self.train.clone();
        let meta_batch = self.settings.core.integer("meta-batch") as u64;
        let (from, to) = (
            self.progress.episode,
            self.settings.core.integer("episodes") as u64,
        );
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(PREFETCH);
            scope.spawn(move || {
                let mut start = from;
                while start < to {
                    let end = (start + meta_batch).min(to);
                    let batch: Result<Vec<Episode>, SamplerError> =
                        (start..end).map(|index| sampler.episode(index)).collect();
                    if sender.send(batch).is_err() {
                        return;
                    }
                    start = end;
                }
            });
            self.train_on(&receiver, to, &mut trace, observer)
        })
    }

    fn train_on(
        &mut self,
        batches: &Receiver<Result<Vec<Episode>, SamplerError>>,
        to: u64,
        trace: &mut Trace,
        observer: &mut dyn Observer,
    ) -> Result<Ended, Error> {
        let schedule = self.settings.schedule();
        let full_rate = self.settings.core.number("lr");
        let report_interval = self.settings.core.integer("report-interval") as u64;
        let val_interval = self.settings.core.integer("val-interval") as u64;
        let patience = self.settings.core.integer("patience") as u64;
        let mut interval = Interval::new(&self.progress);
        while self.progress.episode < to {
            if observer.stop() {
                self.save(None)?;
                return Ok(Ended::Interrupted);
            }
            let started = Instant::now();
            let batch = batches.recv().map_err(|_| Error::Setting {
                name: "episodes",
                problem: "the thread that draws episodes ended early".to_owned(),
            })??;
            let before = self.progress.episode;
            let rate = schedule.rate(full_rate, before);
            let step = self.batches.step(self.learner.as_ref(), &batch)?;
            if !step.loss.is_finite() {
                return Err(self.not_finite(step.loss));
            }
            self.update(rate, &step);
            self.progress.episode += batch.len() as u64;
            self.progress.updates += 1;
            self.progress.seconds += started.elapsed().as_secs_f64();
            interval.add(&step, &batch);
            observer.updated(&self.progress, &step);
            let now = self.progress.episode;
            if now / report_interval > before / report_interval || now == to {
                trace.push(&interval.line(&self.progress, rate))?;
                interval = Interval::new(&self.progress);
            }
            if now / val_interval > before / val_interval || now == to {
                self.validate(trace, observer)?;
                if patience > 0 && self.progress.since_best >= patience {
                    return Ok(Ended::Patience);
                }
            }
        }
        if self.progress.val_accuracy.is_none() {
            self.validate(trace, observer)?;
        }
        Ok(Ended::Complete)
    }

    /// One optimizer step, the running averages of batch statistics, what the method carries, and the average of the
    /// weights.
    fn update(&mut self, rate: f64, step: &Step) {
        self.optimizer
            .step(rate, &mut self.values, step.gradients.clone());
        for (index, observed) in &step.statistics {
            let average = &mut self.values[*index];
            *average = average.clone().mul_scalar(1.0 - MOMENTUM) + observed.clone().mul_scalar(MOMENTUM);
        }
        for (index, value) in &step.carried {
            self.values[*index] = value.clone();
        }
        if let Some(average) = &mut self.average {
            average.update(self.progress.updates + 1, &self.values);
            for (index, value) in &step.carried {
                average.take(*index, value.clone());
            }
        }
        self.learner.write(&self.values);
    }

    fn validate(&mut self, trace: &mut Trace, observer: &mut dyn Observer) -> Result<(), Error> {
        if let Some(average) = &self.average {
            self.learner.write(average.values());
        }
        let episodes = self.settings.core.integer("val-episodes") as u64;
        let accuracy = eval::accuracy(self.learner.as_ref(), &self.validation, episodes, self.norm);
        let provisional = self.learner.provisional();
        self.learner.write(&self.values);
        let accuracy = accuracy?;
        let best = !provisional
            && self
                .progress
                .best
                .is_none_or(|best| accuracy.mean > best.accuracy);
        if best {
            self.progress.best = Some(Best {
                episode: self.progress.episode,
                accuracy: accuracy.mean,
            });
            self.progress.since_best = 0;
        } else if !provisional {
            self.progress.since_best += 1;
        }
        trace.push(&Line::Validation {
            episode: self.progress.episode,
            val_accuracy: accuracy.mean,
            val_ci95: accuracy.ci95,
            seconds: self.progress.seconds,
        })?;
        self.save(Some(accuracy.mean))?;
        observer.validated(&self.progress, accuracy);
        Ok(())
    }

    fn save(&mut self, val_accuracy: Option<f64>) -> Result<(), Error> {
        self.progress.val_accuracy = val_accuracy;
        let parameters = self.learner.parameters();
        let weights = self
            .average
            .as_ref()
            .map_or(&self.values[..], |average| average.values());
        let weights = named::from_parameters(parameters, weights, "");
        if weights
            .iter()
            .any(|array| array.values.iter().any(|value| !value.is_finite()))
        {
            return Err(self.not_finite(f32::NAN));
        }
        let mut training = named::from_parameters(parameters, &self.values, "raw.");
        for (parameter, moments) in parameters.iter().zip(self.optimizer.moments()) {
            if let Some(Moments { time, first, second }) = moments {
                let one = std::slice::from_ref(parameter);
                training.extend(named::from_parameters(one, &[first], "first."));
                training.extend(named::from_parameters(one, &[second], "second."));
                // Only some updates had a gradient for it.
                if time as u64 != self.progress.updates {
                    training.push(Named {
                        name: format!("{TIME}{}", parameter.name),
                        shape: vec![1],
                        values: vec![time as f32],
                    });
                }
            }
        }
        let checkpoint = Checkpoint {
            settings: self.settings.layer(),
            progress: self.progress.clone(),
            weights,
            training,
        };
        let folder = self.folder.join("checkpoint");
        checkpoint.save(&folder)?;
        checkpoint::prune(&folder, self.progress.best.map(|best| best.episode))
    }

    fn not_finite(&self, loss: f32) -> Error {
        let last = checkpoint::list(&self.folder.join("checkpoint"))
            .last()
            .map(|(episode, _)| *episode);
        let kept = last.map_or_else(String::new, |episode| {
            format!(
                "; the last good checkpoint is kept (episode {episode}), but going on from it would end in the same way"
            )
        });
        let own = self.settings.method.options.iter().map(|spec| spec.name);
        let rates = std::iter::once("lr").chain(own.filter(|name| INNER_RATES.contains(name)));
        let rates: Vec<String> = rates.map(|name| format!("--{name}")).collect();
        Error::NotFinite {
            place: format!("episode {}", self.progress.episode),
            loss,
            kept,
            lower: rates.join(" or "),
        }
    }
}

/// A model of fixed features has nothing to train, and says so before the training.
fn check_trainable(settings: &Settings, learner: &dyn Learner) -> Result<(), Error> {
    let something = learner.parameters().iter().any(|parameter| parameter.trainable);
    if something || settings.core.integer("episodes") == 0 {
        return Ok(());
    }
    Err(Error::Setting {
        name: "episodes",
        problem: "the model has nothing to train; give --episodes 0, or an encoder with weights".to_owned(),
    })
}

/// Tasks that the learner can't answer or memory can't hold are refused before the training, not in its course.
fn check_tasks(settings: &Settings, learner: &dyn Learner) -> Result<(), Error> {
    let together = settings.core.integer("meta-batch");
    let trained = settings.train_tasks().largest();
    learner.check_task(trained, together)?;
    for (way, tasks) in [
        ("val-way", settings.val_tasks()?),
        ("test-way", settings.test_tasks()?),
    ] {
        learner
            .check_task(tasks.largest(), 0)
            .map_err(|error| match error {
                Error::Setting { name: "way", problem } => Error::Setting {
                    name: way,
                    problem: format!("{problem}, or give --{way} {}", trained.n_way),
                },
                other => other,
            })?;
    }
    Ok(())
}

/// Validation and test must have as many classes as a learner is bound to; said before the training, not after it.
fn check_ways(settings: &Settings, n_way: Option<usize>) -> Result<(), Error> {
    let Some(n_way) = n_way else { return Ok(()) };
    for (name, tasks) in [
        ("val-way", settings.val_tasks()?),
        ("test-way", settings.test_tasks()?),
    ] {
        if tasks.n_way != (n_way..=n_way) {
            return Err(Error::Setting {
                name,
                problem: format!(
                    "method {} has a classifier of as many classes as --way says, {n_way}; give the same, found {}",
                    settings.method.name,
                    tasks.n_way.end()
                ),
            });
        }
    }
    Ok(())
}

fn train_sampler(settings: &Settings, dataset: Arc<dyn Dataset>) -> Result<Sampler, SamplerError> {
    let within = settings.core.flag("within-alphabet");
    let sampler = Sampler::new(
        dataset,
        Part::Train,
        settings.train_tasks(),
        settings.seed(),
        within,
        settings.augment(),
    )?;
    Ok(sampler.with_few_groups(settings.core.number("few-alphabets")))
}

fn validation_sampler(settings: &Settings, dataset: Arc<dyn Dataset>) -> Result<Sampler, Error> {
    let seed = settings.seed() ^ VALIDATION_SEED;
    Ok(Sampler::new(
        dataset,
        Part::Val,
        settings.val_tasks()?,
        seed,
        false,
        Augment::default(),
    )?)
}

fn restore_moments(
    parameters: &[crate::parameters::Parameter],
    checkpoint: &Checkpoint,
    path: &Path,
    device: &burn::tensor::Device,
) -> Result<Vec<Option<Moments>>, Error> {
    let has = |name: &str| checkpoint.training.iter().any(|array| array.name == name);
    let restore = |parameter: &crate::parameters::Parameter| {
        if !has(&format!("first.{}", parameter.name)) {
            return Ok(None);
        }
        let one = std::slice::from_ref(parameter);
        let array = |prefix| named::to_parameters(one, &checkpoint.training, prefix, path, device);
        let (mut first, mut second) = (array("first.")?, array("second.")?);
        let own = format!("{TIME}{}", parameter.name);
        let own = checkpoint.training.iter().find(|array| array.name == own);
        let time = own.and_then(|array| array.values.first());
        let time = time.map_or(checkpoint.progress.updates as usize, |time| *time as usize);
        let moments = first
            .pop()
            .zip(second.pop())
            .map(|(first, second)| Moments { time, first, second });
        Ok(moments)
    };
    parameters.iter().map(restore).collect()
}

/// What happened since the last line of the trace.
struct Interval {
    loss: f64,
    accuracy: f64,
    updates: f64,
    images: usize,
    seconds_before: f64,
}

impl Interval {
    fn new(progress: &Progress) -> Self {
        Self {
            loss: 0.0,
            accuracy: 0.0,
            updates: 0.0,
            images: 0,
            seconds_before: progress.seconds,
        }
    }

    fn add(&mut self, step: &Step, batch: &[Episode]) {
        self.loss += f64::from(step.loss);
        self.accuracy += f64::from(step.accuracy);
        self.updates += 1.0;
        self.images += batch
            .iter()
            .map(|episode| episode.task.n_support() + episode.task.n_queries())
            .sum::<usize>();
    }

    fn line(&self, progress: &Progress, lr: f64) -> Line {
        Line::Training {
            episode: progress.episode,
            loss: self.loss / self.updates,
            accuracy: self.accuracy / self.updates,
            lr,
            images_per_second: self.images as f64 / (progress.seconds - self.seconds_before).max(1e-9),
            seconds: progress.seconds,
        }
    }
}
