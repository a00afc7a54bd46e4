//! Baseline++: ordinary training of a cosine classifier, whose features then serve a new one for each task.
//!
//! W.-Y. Chen, Y.-C. Liu, Z. Kira, Y.-C. Wang, J.-B. Huang: *A Closer Look at Few-shot Classification*,
//! ICLR 2019, sections 3.1 and 3.2.
//!
//! Training: a classifier over *all* training classes at once (4,112 on Omniglot, say) gives image x the
//! class scores t · cos(f(x), w_j), with one weight vector w_j per class, and minimises the cross-entropy of
//! their softmax. A new task keeps the encoder as it is and throws that classifier away: a new one, with a
//! vector for each of its N classes, is fine-tuned on the support set by the same loss. Its cosines are the
//! scores of the queries.
//!
//! Deviations: a mini-batch is an episode (`--way` classes with `--shot` + `--query` images each) instead of
//! images drawn one by one, so that the loop is that of every method; every image of it counts in the loss,
//! and the training accuracy that is shown is that among the episode's classes. Fine-tuning starts from the
//! class means of the support's unit features instead of random vectors, and takes `--finetune-steps` steps
//! of gradient descent on the whole support set instead of mini-batches of 4: so the result is a pure
//! function of the support set, whatever its order. t is fixed (`--temperature`; the authors' code has 10
//! on Omniglot).

use burn::module::{Module, Param};
use burn::tensor::activation::softmax;
use burn::tensor::{Int, Tensor, TensorData};

use super::common::{STRICT, class_means, negative_log_likelihood, one_hot, unit};
use super::{Batch, Family, Method, MethodRequest, MethodSpec, Objective, Preset, Scores};
use crate::block::he_normal;
use crate::encoder::Encoder;
use crate::episode::Support;
use crate::error::Error;
use crate::layers::check_sizes;
use crate::learner::{Learner, erase};
use crate::norm::{Norm, Pass};
use crate::options::{OptionKind, OptionSpec};

pub static SPEC: MethodSpec = MethodSpec {
    name: "baseline++",
    family: Family::Metric,
    paper: "Chen et al. 2019, A Closer Look at Few-shot Classification",
    summary: "a cosine classifier over all training classes; a new one is fine-tuned on each task",
    options: &[
        OptionSpec {
            name: "temperature",
            kind: OptionKind::Number(1e-3, 1e3),
            default: "10",
            help: "factor of the cosine similarity",
        },
        OptionSpec {
            name: "finetune-steps",
            kind: OptionKind::Integer(0, 10_000),
            default: "100",
            help: "gradient steps of a task's classifier on its support set",
        },
        OptionSpec {
            name: "finetune-lr",
            kind: OptionKind::Number(0.0, 10.0),
            default: "0.01",
            help: "learning rate of these steps",
        },
        OptionSpec {
            name: "base-classes",
            kind: OptionKind::Text,
            default: "auto",
            help: "classes of the training classifier; auto: all that the dataset trains on",
        },
    ],
    defaults: &[("way", "30"), ("shot", "1"), ("query", "5")],
    presets: &[
        Preset {
            name: "paper",
            summary: "Omniglot's rotated classes under Vinyals' split, 5-way tests (give --test-shot)",
            settings: &[
                ("data", "omniglot"),
                ("split", "vinyals"),
                ("rotations", "all"),
                ("test-way", "5"),
            ],
        },
        STRICT,
    ],
    rows: &[],
    build,
};

/// The network; see the module.
#[derive(Module, Debug)]
pub struct BaselinePlusPlus {
    encoder: Encoder,
    /// w_j of every training class, `[base_classes, features]`.
    classifier: Param<Tensor<2>>,
    #[module(skip)]
    tuning: FineTuning,
}

/// How a task's classifier is fitted to its support set.
#[derive(Clone, Copy, Debug, PartialEq)]
struct FineTuning {
    temperature: f32,
    steps: usize,
    rate: f32,
}

fn build(request: MethodRequest<'_>) -> Result<Box<dyn Learner>, Error> {
    let (options, features) = (request.options, request.maps.len());
    let text = options.text("base-classes");
    let classes = text
        .parse::<usize>()
        .ok()
        .filter(|n| (1..=1_000_000).contains(n))
        .ok_or_else(|| Error::Setting {
            name: "base-classes",
            problem: format!("expected the number of training classes, 1 to 1000000, found `{text}`"),
        })?;
    check_sizes(request.most_weights, &[(features, classes)])?;
    let weights = he_normal(features, classes * features, request.rng);
    Ok(erase(
        BaselinePlusPlus {
            encoder: request.encoder,
            classifier: Param::from_data(TensorData::new(weights, [classes, features]), request.device),
            tuning: FineTuning {
                temperature: options.number("temperature") as f32,
                steps: options.integer("finetune-steps"),
                rate: options.number("finetune-lr") as f32,
            },
        },
        request.device,
    ))
}

impl Method for BaselinePlusPlus {
    /// w_j of the task's classes, `[n_way, features]`.
    type Task = Tensor<2>;

    fn adapt(&self, support: &Support, norm: Norm) -> Result<Tensor<2>, Error> {
        let features = unit(self.embed(support.images.clone(), norm));
        Ok(self.tuning.fit(features, &support.labels, support.n_way))
    }

    fn score(&self, task: &Tensor<2>, query: Tensor<4>, norm: Norm) -> Result<Scores, Error> {
        let features = unit(self.embed(query, norm));
        Ok(Scores {
            logits: self.tuning.logits(features, task.clone()),
            attention: None,
        })
    }

    fn loss(&self, batch: &Batch, pass: &mut Pass) -> Result<Objective, Error> {
        let weights = self.classifier.val();
        let known = weights.dims()[0];
        if let Some(class) = batch.classes.iter().find(|class| **class >= known) {
            return Err(Error::Setting {
                name: "base-classes",
                problem: format!("{known}, but an episode has training class {class}; leave it at auto"),
            });
        }
        let images = Tensor::cat(vec![batch.support.images.clone(), batch.query.clone()], 0);
        let logits = self
            .tuning
            .logits(unit(self.encoder.embed(images, pass)), weights);
        let labels = batch.support.labels.iter().chain(&batch.query_labels);
        let classes: Vec<usize> = labels.map(|&label| batch.classes[label]).collect();
        let columns: Vec<i32> = batch.classes.iter().map(|&class| class as i32).collect();
        let columns = Tensor::<1, Int>::from_data(columns.as_slice(), &logits.device());
        let n_support = batch.support.labels.len();
        Ok(Objective {
            loss: negative_log_likelihood(logits.clone(), &classes),
            logits: logits
                .narrow(0, n_support, batch.query_labels.len())
                .select(1, columns),
        })
    }

    fn embed(&self, images: Tensor<4>, norm: Norm) -> Tensor<2> {
        self.encoder.embed(images, &mut Pass::evaluate(norm))
    }
}

impl FineTuning {
    /// t · cos(f(x), w_j): unit `features` `[n, features]`, `weights` `[classes, features]` → `[n, classes]`.
    fn logits(self, features: Tensor<2>, weights: Tensor<2>) -> Tensor<2> {
        features
            .matmul(unit(weights).transpose())
            .mul_scalar(self.temperature)
    }

    /// The classifier `[n_way, features]` after gradient descent on the cross-entropy of unit `features`.
    fn fit(self, features: Tensor<2>, labels: &[usize], n_way: usize) -> Tensor<2> {
        let truth = one_hot(labels, n_way, &features.device());
        let mut weights = class_means(features.clone(), labels, n_way);
        for _ in 0..self.steps {
            let gradient = self.gradient(&features, &truth, weights.clone());
            weights = weights - gradient.mul_scalar(self.rate);
        }
        weights
    }

    /// Of the mean cross-entropy over the rows of unit `features` in `weights`, `[n_way, features]`.
    ///
    /// With ŵ = w / |w|: ∂L/∂ŵ_j = t/n Σᵢ (p_ij − y_ij) f(xᵢ), and through the normalisation
    /// ∂L/∂w_j = (∂L/∂ŵ_j − ŵ_j (ŵ_j · ∂L/∂ŵ_j)) / |w_j|.
    fn gradient(self, features: &Tensor<2>, truth: &Tensor<2>, weights: Tensor<2>) -> Tensor<2> {
        let error = softmax(self.logits(features.clone(), weights.clone()), 1) - truth.clone();
        let share = self.temperature / truth.dims()[0] as f32;
        let along = error.transpose().matmul(features.clone()).mul_scalar(share);
        let length = weights.clone().square().sum_dim(1).add_scalar(1e-16).sqrt();
        let direction = weights / length.clone();
        let radial = (along.clone() * direction.clone()).sum_dim(1);
        (along - direction * radial) / length
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::FineTuning;
    use crate::learner::logits_on_host;
    use crate::method::common::{negative_log_likelihood, one_hot, unit};

    fn tuning(temperature: f32, steps: usize, rate: f32) -> FineTuning {
        FineTuning {
            temperature,
            steps,
            rate,
        }
    }

    #[test]
    fn the_gradient_is_that_of_the_cross_entropy() {
        let device = Device::flex();
        let features = unit(Tensor::<2>::from_data(
            [[1.0, 0.2, -0.3], [0.1, 0.9, 0.4], [-0.5, 0.3, 0.8]],
            &device,
        ));
        let labels = [0, 1, 1];
        let truth = one_hot(&labels, 2, &device);
        let start = [0.7, -0.4, 0.2, 0.3, 0.5, -0.6];
        let tuning = tuning(5.0, 0, 0.0);
        let weights = |values: &[f32]| Tensor::<1>::from_data(values, &device).reshape([2, 3]);
        let found = logits_on_host(tuning.gradient(&features, &truth, weights(&start)));
        let loss = |values: &[f32]| {
            let logits = tuning.logits(features.clone(), weights(values));
            f64::from(negative_log_likelihood(logits, &labels).into_scalar::<f32>())
        };
        for index in 0..start.len() {
            let moved = |by: f32| {
                let mut values = start;
                values[index] += by;
                loss(&values)
            };
            let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            assert!(
                (slope - f64::from(found[index])).abs() < 2e-3,
                "{index}: {slope} {found:?}"
            );
        }
    }

    #[test]
    fn one_step_of_a_task_computed_by_hand() {
        // Features e₁ and e₂ of classes 0 and 1, t = ln 3: the classifier starts at [e₁, e₂] with
        // p = (3/4, 1/4). ∂L/∂ŵ₀ = t/2 (−1/4 e₁ + 1/4 e₂), of which only the part along e₂ is left.
        let device = Device::flex();
        let features = Tensor::<2>::from_data([[1.0, 0.0], [0.0, 1.0]], &device);
        let t = 3.0f32.ln();
        let fitted = logits_on_host(tuning(t, 1, 1.0).fit(features, &[0, 1], 2));
        let off = -t / 8.0;
        for (found, expected) in fitted.iter().zip([1.0, off, off, 1.0]) {
            assert!((found - expected).abs() < 1e-6, "{fitted:?}");
        }
    }

    #[test]
    fn without_a_step_the_classifier_is_the_class_means() {
        let device = Device::flex();
        let features = Tensor::<2>::from_data([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], &device);
        let fitted = logits_on_host(tuning(10.0, 0, 0.1).fit(features, &[1, 1, 0], 2));
        assert_eq!(fitted, [0.6, 0.8, 0.5, 0.5]);
    }
}
