//! The model of the methods that adapt a copy of their weights: an encoder and a linear classifier as plain numbers.

use burn::module::ParamId;
use burn::tensor::Device;

use super::super::MethodRequest;
use super::{Carried, Lesson};
use crate::error::Error;
use crate::inner::{BatchStatistics, Layer, Network};
use crate::layers::{Linear, check_sizes};
use crate::learner::{self, Step};
use crate::named;
use crate::parameters::{self, Parameter};

/// A network with a classifier, as plain numbers.
pub struct Model {
    /// The encoder's layers and the classifier.
    pub network: Network,
    pub(super) parameters: Vec<Parameter>,
    pub(super) values: Vec<Vec<f32>>,
    /// Which parameters are the network's, in its order.
    weights: Vec<usize>,
    /// Running mean and variance of each block.
    averages: Vec<[usize; 2]>,
    pub(super) n_way: usize,
    pub(super) device: Device,
}

impl Model {
    /// The encoder of `request` with a fresh linear classifier.
    ///
    /// # Errors
    /// An encoder that isn't a chain, a number of classes that isn't fixed, or a device other than the CPU.
    pub fn new(request: MethodRequest<'_>) -> Result<Self, Error> {
        let n_way = *request.n_way.end();
        if *request.n_way.start() != n_way {
            return Err(Error::Setting {
                name: "way",
                problem: format!(
                    "this method has a classifier of a fixed number of classes; give one number, found {}-{n_way}",
                    request.n_way.start()
                ),
            });
        }
        let device = request.device.clone().without_autodiff();
        if device != Device::flex() {
            return Err(Error::Setting {
                name: "device",
                problem: "this method computes on the CPU; take --device flex".to_owned(),
            });
        }
        let mut layers = request.encoder.layers(request.image)?;
        let features = request.maps.len();
        check_sizes(request.most_weights, &[(features, n_way)])?;
        let head = Linear::new(features, n_way, request.rng, request.device);
        layers.push(Layer::Linear {
            weight: [features, n_way],
            relu: false,
        });
        let mut model = Self {
            network: Network::new(layers),
            parameters: Vec::new(),
            values: Vec::new(),
            weights: Vec::new(),
            averages: Vec::new(),
            n_way,
            device,
        };
        let encoder = parameters::list(&request.encoder).into_iter();
        let encoder = encoder.zip(parameters::read(&request.encoder));
        let head = parameters::list(&head).into_iter().zip(parameters::read(&head));
        for (prefix, parameter, value) in encoder
            .map(|(parameter, value)| ("encoder", parameter, value))
            .chain(head.map(|(parameter, value)| ("head", parameter, value)))
        {
            let index = model.parameters.len();
            match parameter.name.rsplit('.').next() {
                Some("running_mean") => model.averages.push([index; 2]),
                Some("running_variance") => {
                    if let Some(averages) = model.averages.last_mut() {
                        averages[1] = index;
                    }
                }
                _ => model.weights.push(index),
            }
            let name = format!("{prefix}.{}", parameter.name);
            model.parameters.push(Parameter { name, ..parameter });
            model.values.push(learner::logits_on_host(value));
        }
        Ok(model)
    }

    /// Adds a parameter that is no weight of the network; gives its index. One that isn't `trainable` has no gradient:
    /// the method carries it along ([`Lesson::carried`]).
    pub fn add(&mut self, name: String, shape: Vec<usize>, values: Vec<f32>, trainable: bool) -> usize {
        self.parameters.push(Parameter {
            name,
            shape,
            id: ParamId::new(),
            trainable,
        });
        self.values.push(values);
        self.values.len() - 1
    }

    /// The network's weights, one vector per parameter.
    pub fn start(&self) -> Vec<Vec<f32>> {
        self.weights
            .iter()
            .map(|&index| self.values[index].clone())
            .collect()
    }

    /// Which parameters the network's weights are, in its order.
    pub fn weights(&self) -> &[usize] {
        &self.weights
    }

    /// A parameter by its index.
    pub fn parameter(&self, index: usize) -> &Parameter {
        &self.parameters[index]
    }

    /// Values of parameter `index`.
    pub fn value(&self, index: usize) -> &[f32] {
        &self.values[index]
    }

    /// Whether any of its blocks normalises.
    pub(super) fn has_statistics(&self) -> bool {
        !self.averages.is_empty()
    }

    /// The running statistics of each block.
    pub(super) fn averages(&self) -> Vec<BatchStatistics> {
        self.averages
            .iter()
            .map(|&[mean, variance]| BatchStatistics {
                mean: self.values[mean].clone(),
                variance: self.values[variance].clone(),
            })
            .collect()
    }

    /// Checks that a task of `n_way` classes with images of `image_len` values fits.
    ///
    /// # Errors
    /// Another number of classes, or images of another size.
    pub(super) fn check(&self, n_way: usize, image_len: usize) -> Result<(), Error> {
        if n_way != self.n_way {
            return Err(Error::Setting {
                name: "way",
                problem: format!(
                    "the model has a classifier of {} classes, the task has {n_way}; take {}-way tasks or train it \
                     with --way {n_way}",
                    self.n_way, self.n_way
                ),
            });
        }
        let expected = self.network.layers().first().map_or(0, Layer::inputs);
        if image_len != expected {
            return Err(Error::Setting {
                name: "image-size",
                problem: format!("the model takes images of {expected} values, found {image_len}"),
            });
        }
        Ok(())
    }

    /// The lessons of `episodes` episodes in their order as one step.
    pub(super) fn step(&self, lessons: Vec<Lesson>, episodes: usize) -> Step {
        let share = 1.0 / episodes.max(1) as f32;
        let (mut loss, mut accuracy) = (0.0, 0.0);
        let mut gradients: Vec<Option<Vec<f32>>> = vec![None; self.parameters.len()];
        let mut statistics: Vec<[Vec<f32>; 2]> = Vec::new();
        let mut carried: Vec<Carried> = Vec::new();
        for lesson in lessons {
            carried = if carried.is_empty() {
                lesson.carried
            } else {
                let pairs = carried.into_iter().zip(&lesson.carried);
                pairs.map(|(before, later)| before.then(later)).collect()
            };
            loss += lesson.loss;
            accuracy += lesson.accuracy;
            for (index, gradient) in lesson.gradients {
                match &mut gradients[index] {
                    Some(sum) => sum
                        .iter_mut()
                        .zip(gradient)
                        .for_each(|(sum, value)| *sum += value),
                    empty => *empty = Some(gradient),
                }
            }
            let blocks = |met: Vec<BatchStatistics>| met.into_iter().enumerate();
            for (block, met) in lesson.statistics.into_iter().flat_map(blocks) {
                if statistics.len() == block {
                    let channels = self
                        .averages
                        .get(block)
                        .map_or(0, |[mean, _]| self.values[*mean].len());
                    statistics.push([vec![0.0; channels], vec![0.0; channels]]);
                }
                for (sum, values) in statistics[block].iter_mut().zip([met.mean, met.variance]) {
                    for task in values.chunks_exact(sum.len()) {
                        sum.iter_mut()
                            .zip(task)
                            .for_each(|(sum, value)| *sum += share * value);
                    }
                }
            }
        }
        let tensor = |values: &[f32]| named::on_device(values, &self.device);
        let gradient = |values: Vec<f32>| tensor(&values).mul_scalar(share);
        let carry = |carried: Carried| {
            let before = self.values[carried.index].iter().zip(&carried.gain);
            let after: Vec<f32> = before.map(|(value, gain)| carried.keep * value + gain).collect();
            (carried.index, tensor(&after))
        };
        Step {
            loss: (loss / episodes.max(1) as f64) as f32,
            accuracy: (accuracy / episodes.max(1) as f64) as f32,
            gradients: gradients.into_iter().map(|values| values.map(gradient)).collect(),
            statistics: std::iter::zip(&self.averages, &statistics)
                .flat_map(|(indices, met)| std::iter::zip(*indices, met.each_ref().map(|met| tensor(met))))
                .collect(),
            carried: carried.into_iter().map(carry).collect(),
        }
    }
}
