//! A chain of layers as a function of its numbers: value, gradient and Hessian-vector product, of many tasks at once.

use kshot_kernels::{self as kernels, BlockShape, Saved, TangentSaved, Tangents};

use super::dense::{Affine, Dense};
use super::{Batch, Weights};
use crate::ops::conv_block::{BlockForm, EPSILON, kernel_shape};

/// One layer and the parameters that it has, in this order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Layer {
    /// Convolution → batch normalisation → activation → pool: weight, gamma, beta.
    Block {
        /// `(height, width)` of its input.
        size: (usize, usize),
        /// `[kernel, kernel, c_in, c_out]`.
        weight: [usize; 4],
        /// Padding, activation and pool.
        form: BlockForm,
    },
    /// y = x W + b: weight, bias.
    Linear {
        /// `[inputs, outputs]`.
        weight: [usize; 2],
        /// Whether max(0, ·) follows.
        relu: bool,
    },
}

/// A chain of layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    layers: Vec<Layer>,
}

/// What the backward pass needs of a forward pass.
pub struct Forward {
    /// The output of each layer.
    outputs: Vec<Vec<f32>>,
    saved: Vec<Option<Saved>>,
}

/// The statistics that a block met, `[groups, channels]`.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchStatistics {
    /// Means over images and pixels.
    pub mean: Vec<f32>,
    /// Unbiased variances.
    pub variance: Vec<f32>,
}

/// What normalises the values inside the blocks.
#[derive(Clone, Copy, Debug)]
pub enum Normalisation<'a> {
    /// The statistics of the images at hand, by equal groups of so many consecutive ones.
    Groups(usize),
    /// These statistics, one for each block.
    Given(&'a [BatchStatistics]),
}

/// Loss and gradient of each task.
pub struct Evaluation {
    /// Mean loss of each task's examples, `[tasks]`.
    pub losses: Vec<f32>,
    /// `[tasks * n, outputs]`.
    pub outputs: Vec<f32>,
    /// Of each task's loss.
    pub gradient: Weights,
    /// With respect to the inputs, where asked for.
    pub input: Option<Vec<f32>>,
    /// What each block met, one group per task.
    pub statistics: Vec<BatchStatistics>,
}

/// The second derivative of each task's loss along a direction.
pub struct Curvature {
    /// ∇L, of each task.
    pub gradient: Weights,
    /// ∇²L · v.
    pub product: Weights,
    /// ∂(∇L · v)/∂input, where asked for.
    pub input: Option<Vec<f32>>,
}

impl Layer {
    /// How many parameters it has.
    pub fn parameters(&self) -> usize {
        match self {
            Self::Block { .. } => 3,
            Self::Linear { .. } => 2,
        }
    }

    /// Numbers per example that go in.
    pub fn inputs(&self) -> usize {
        match *self {
            Self::Block { size, weight, .. } => size.0 * size.1 * weight[2],
            Self::Linear { weight, .. } => weight[0],
        }
    }

    /// Numbers per example that come out.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Block { .. } => {
                let shape = self.shape(1, 1);
                shape.output_len()
            }
            Self::Linear { weight, .. } => weight[1],
        }
    }

    fn shape(&self, images: usize, groups: usize) -> BlockShape {
        let Self::Block { size, weight, form } = *self else {
            unreachable!("only blocks have a kernel's shape");
        };
        let (height, width) = size;
        kernel_shape(
            [images, height, width, weight[2]],
            [weight[0], weight[3]],
            form,
            groups,
        )
    }

    fn dense(&self) -> Dense {
        let Self::Linear { weight, relu } = *self else {
            unreachable!("only linear layers are dense");
        };
        Dense {
            inputs: weight[0],
            outputs: weight[1],
            relu,
        }
    }
}

impl Network {
    /// A chain of `layers`, each of which takes what the one before gives.
    ///
    /// # Panics
    /// When a layer doesn't.
    pub fn new(layers: Vec<Layer>) -> Self {
        let fits = |pair: &[Layer]| pair[0].outputs() == pair[1].inputs();
        assert!(layers.windows(2).all(fits), "{layers:?}");
        Self { layers }
    }

    /// Its layers.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// How many parameters it has.
    pub fn parameters(&self) -> usize {
        self.layers.iter().map(Layer::parameters).sum()
    }

    /// Numbers per example that it gives.
    pub fn outputs(&self) -> usize {
        self.layers.last().map_or(0, Layer::outputs)
    }

    /// All layers but the last, and the last.
    pub fn split_last(&self) -> (Self, Self) {
        let (body, head) = self.layers.split_at(self.layers.len().saturating_sub(1));
        (Self::new(body.to_vec()), Self::new(head.to_vec()))
    }

    /// The outputs `[n, outputs]` for `inputs` `[n, ...]`, with one set of weights per group of inputs or one for all.
    pub fn infer(&self, weights: &Weights, inputs: &[f32], normalisation: Normalisation<'_>) -> Vec<f32> {
        let given = match normalisation {
            Normalisation::Groups(groups) => {
                let mut forward = self.forward(weights, groups, inputs);
                return forward.outputs.pop().unwrap_or_else(|| inputs.to_vec());
            }
            Normalisation::Given(statistics) => statistics,
        };
        let mut statistics = given.iter();
        let mut values = None;
        for (layer, numbers) in self.layers.iter().zip(self.numbers(weights)) {
            let x = values.as_deref().unwrap_or(inputs);
            values = Some(match layer {
                Layer::Block { .. } => {
                    let shape = layer.shape(x.len() / layer.inputs(), weights.tasks());
                    let (scale, shift) = statistics
                        .next()
                        .map(|statistics| affine(statistics, &numbers[1], &numbers[2]))
                        .unwrap_or_default();
                    kernels::infer_new(&shape, x, &numbers[0], &scale, &shift)
                }
                Layer::Linear { .. } => layer.dense().forward(weights.tasks(), x, dense_numbers(numbers)),
            });
        }
        values.unwrap_or_else(|| inputs.to_vec())
    }

    /// A forward pass of `groups` groups of inputs, each normalised by its own statistics.
    pub fn forward(&self, weights: &Weights, groups: usize, inputs: &[f32]) -> Forward {
        let mut forward = Forward {
            outputs: Vec::with_capacity(self.layers.len()),
            saved: Vec::with_capacity(self.layers.len()),
        };
        for (layer, numbers) in self.layers.iter().zip(self.numbers(weights)) {
            let x = forward.outputs.last().map_or(inputs, Vec::as_slice);
            let (output, saved) = match layer {
                Layer::Block { .. } => {
                    let shape = layer.shape(x.len() / layer.inputs(), groups);
                    let (w, gamma, beta) = (&numbers[0], &numbers[1], &numbers[2]);
                    let (output, saved) = kernels::forward_new(&shape, x, w, gamma, beta, EPSILON);
                    (output, Some(saved))
                }
                Layer::Linear { .. } => {
                    let output = layer.dense().forward(weights.tasks(), x, dense_numbers(numbers));
                    (output, None)
                }
            };
            forward.outputs.push(output);
            forward.saved.push(saved);
        }
        forward
    }

    /// Gradients with respect to the weights, and to the inputs where wanted, for the gradient `slope` of the outputs.
    pub fn backward(
        &self,
        weights: &Weights,
        inputs: &[f32],
        mut forward: Forward,
        mut slope: Vec<f32>,
        want_input: bool,
    ) -> (Weights, Option<Vec<f32>>) {
        let numbers: Vec<_> = self.numbers(weights).collect();
        let mut found: Vec<Vec<f32>> = Vec::with_capacity(self.parameters());
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let output = forward.outputs.pop().unwrap_or_default();
            let saved = forward.saved.pop().flatten();
            let x = forward.outputs.last().map_or(inputs, Vec::as_slice);
            let want = index > 0 || want_input;
            // In reverse, as the layers are.
            let input = match saved {
                Some(saved) => {
                    let shape = layer.shape(x.len() / layer.inputs(), saved.mean().len() / channels(layer));
                    let (w, gamma) = (&numbers[index][0], &numbers[index][1]);
                    let gradients = kernels::backward(&shape, x, w, gamma, &saved, &slope, want);
                    found.extend([gradients.beta, gradients.gamma, gradients.weight]);
                    gradients.input
                }
                None => {
                    let dense = layer.dense();
                    dense.gate(&output, &mut slope);
                    let gradients = dense.backward(weights.tasks(), x, &numbers[index][0], &slope, want);
                    found.extend([gradients.bias, gradients.weight]);
                    gradients.input
                }
            };
            match input {
                Some(input) => slope = input,
                None => {
                    found.reverse();
                    return (Weights::new(found, weights.tasks()), None);
                }
            }
        }
        found.reverse();
        (Weights::new(found, weights.tasks()), want_input.then_some(slope))
    }

    /// Loss and gradient of each task.
    pub fn gradient(&self, weights: &Weights, batch: &Batch<'_>, want_input: bool) -> Evaluation {
        let (tasks, width) = (batch.tasks, self.outputs());
        let forward = self.forward(weights, tasks, batch.inputs);
        let statistics = self.statistics(&forward, batch.inputs);
        let outputs = forward.outputs.last().cloned().unwrap_or_default();
        let slope = batch.targets.gradient(tasks, width, &outputs);
        let (gradient, input) = self.backward(weights, batch.inputs, forward, slope, want_input);
        Evaluation {
            losses: batch.targets.losses(tasks, width, &outputs),
            outputs,
            gradient,
            input,
            statistics,
        }
    }

    /// Each task's gradient and the product of its Hessian with `direction`.
    pub fn curvature(
        &self,
        weights: &Weights,
        batch: &Batch<'_>,
        direction: &Weights,
        want_input: bool,
    ) -> Curvature {
        let mut pass = self.tangent_forward(weights, batch, direction);
        let (tasks, width) = (batch.tasks, self.outputs());
        let (outputs, tangents) = pass
            .last()
            .map_or((&[][..], &[][..]), |step| (&step.output, &step.tangent));
        // The tangent of the loss is slope · tangents; its gradients with respect to values and to tangents follow.
        let mut slope_of_tangent = batch.targets.gradient(tasks, width, outputs);
        let mut slope = batch.targets.curvature(tasks, width, outputs, tangents);
        let numbers: Vec<_> = self.numbers(weights).collect();
        let directions: Vec<_> = self.numbers(direction).collect();
        let (mut gradient, mut product) = (Vec::new(), Vec::new());
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let Some(step) = pass.pop() else { break };
            let before = pass.last();
            let x = before.map_or(batch.inputs, |step| &step.output);
            let dx = before.map(|step| step.tangent.as_slice());
            let want = index > 0 || want_input;
            let (w, dw) = (&numbers[index], &directions[index]);
            let input = match step.saved {
                Some(saved) => {
                    let shape = layer.shape(x.len() / layer.inputs(), tasks);
                    let found = kernels::tangent_backward(
                        &shape,
                        x,
                        &w[0],
                        &w[1],
                        &block_tangents(dx, dw),
                        &saved,
                        &slope,
                        &slope_of_tangent,
                        want,
                    );
                    product.extend([found.primal.beta, found.primal.gamma, found.primal.weight]);
                    gradient.extend([found.tangent.beta, found.tangent.gamma, found.tangent.weight]);
                    found.primal.input.zip(found.tangent.input)
                }
                None => {
                    let dense = layer.dense();
                    dense.gate(&step.output, &mut slope);
                    dense.gate(&step.output, &mut slope_of_tangent);
                    let of_tangent = dense.backward(tasks, x, &w[0], &slope_of_tangent, want);
                    let mut of_value = dense.backward(tasks, x, &w[0], &slope, want);
                    if let Some(dx) = dx {
                        dense.add_outer(tasks, dx, &slope_of_tangent, &mut of_value.weight);
                    }
                    if let Some(input) = &mut of_value.input {
                        dense.add_transposed(tasks, &slope_of_tangent, &dw[0], input);
                    }
                    product.extend([of_value.bias, of_value.weight]);
                    gradient.extend([of_tangent.bias, of_tangent.weight]);
                    of_value.input.zip(of_tangent.input)
                }
            };
            if let Some(inputs) = input {
                (slope, slope_of_tangent) = inputs;
            }
        }
        gradient.reverse();
        product.reverse();
        Curvature {
            gradient: Weights::new(gradient, tasks),
            product: Weights::new(product, tasks),
            input: want_input.then_some(slope),
        }
    }

    fn tangent_forward(&self, weights: &Weights, batch: &Batch<'_>, direction: &Weights) -> Vec<TangentStep> {
        let tasks = batch.tasks;
        let mut steps: Vec<TangentStep> = Vec::with_capacity(self.layers.len());
        let numbers = self.numbers(weights).zip(self.numbers(direction));
        for (layer, (w, dw)) in self.layers.iter().zip(numbers) {
            let before = steps.last();
            let x = before.map_or(batch.inputs, |step| &step.output);
            let dx = before.map(|step| step.tangent.as_slice());
            steps.push(match layer {
                Layer::Block { .. } => {
                    let shape = layer.shape(x.len() / layer.inputs(), tasks);
                    let [mut output, mut tangent] = [(); 2].map(|()| vec![0.0; shape.output_len()]);
                    let saved = kernels::tangent_forward(
                        &shape,
                        x,
                        &w[0],
                        &w[1],
                        &w[2],
                        &block_tangents(dx, dw),
                        EPSILON,
                        &mut output,
                        &mut tangent,
                    );
                    TangentStep {
                        output,
                        tangent,
                        saved: Some(saved),
                    }
                }
                Layer::Linear { .. } => {
                    let (dense, affine) = (layer.dense(), dense_numbers(w));
                    let output = dense.forward(tasks, x, affine);
                    let tangent = dense.tangent(tasks, (x, dx), affine, dense_numbers(dw), &output);
                    TangentStep {
                        output,
                        tangent,
                        saved: None,
                    }
                }
            });
        }
        steps
    }

    /// What each block met in a forward pass.
    pub fn statistics(&self, forward: &Forward, inputs: &[f32]) -> Vec<BatchStatistics> {
        let found = |(index, saved): (usize, &Option<Saved>)| {
            let saved = saved.as_ref()?;
            let layer = &self.layers[index];
            let x = index
                .checked_sub(1)
                .map_or(inputs, |before| &forward.outputs[before]);
            let groups = saved.mean().len() / channels(layer);
            let shape = layer.shape(x.len() / layer.inputs(), groups);
            let values = shape.images / groups * shape.conv_height() * shape.conv_width();
            let unbiased = values as f32 / (values.max(2) - 1) as f32;
            Some(BatchStatistics {
                mean: saved.mean().to_vec(),
                variance: saved.variance().iter().map(|v| unbiased * v).collect(),
            })
        };
        forward.saved.iter().enumerate().filter_map(found).collect()
    }

    /// The parameters of each layer.
    fn numbers<'a>(&self, weights: &'a Weights) -> impl Iterator<Item = &'a [Vec<f32>]> {
        let mut rest = weights.values();
        let counts: Vec<usize> = self.layers.iter().map(Layer::parameters).collect();
        counts.into_iter().map(move |count| {
            let (here, after) = rest.split_at(count);
            rest = after;
            here
        })
    }
}

impl Forward {
    /// The outputs of the last layer, `[n, outputs]`; empty for a network without layers.
    pub fn outputs(&self) -> &[f32] {
        self.outputs.last().map_or(&[], Vec::as_slice)
    }
}

/// A layer's part of a forward pass of (value, tangent) pairs.
struct TangentStep {
    output: Vec<f32>,
    tangent: Vec<f32>,
    saved: Option<TangentSaved>,
}

fn channels(layer: &Layer) -> usize {
    match layer {
        Layer::Block { weight, .. } => weight[3],
        Layer::Linear { weight, .. } => weight[1],
    }
}

fn dense_numbers(numbers: &[Vec<f32>]) -> Affine<'_> {
    Affine {
        weight: &numbers[0],
        bias: &numbers[1],
    }
}

fn block_tangents<'a>(input: Option<&'a [f32]>, direction: &'a [Vec<f32>]) -> Tangents<'a> {
    Tangents {
        input,
        weight: &direction[0],
        gamma: &direction[1],
        beta: &direction[2],
    }
}

/// Scale γ / √(σ² + ε) and shift β − μ · scale, of every task.
fn affine(statistics: &BatchStatistics, gamma: &[f32], beta: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (mean, variance) = (&statistics.mean, &statistics.variance);
    let scale: Vec<f32> = gamma
        .iter()
        .zip(variance.iter().cycle())
        .map(|(gamma, variance)| gamma / (variance + EPSILON).sqrt())
        .collect();
    let shift = beta
        .iter()
        .zip(mean.iter().cycle())
        .zip(&scale)
        .map(|((beta, mean), scale)| beta - mean * scale)
        .collect();
    (scale, shift)
}
