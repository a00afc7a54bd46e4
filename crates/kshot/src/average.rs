//! A running average of the weights: evaluations under it are steadier than under the last weights.

use burn::tensor::Tensor;

/// ā ← d·ā + (1 − d)·w after every update, d rising to its full value over the first updates so that
/// the starting point is soon forgotten (Polyak, Juditsky 1992, in its exponential form).
pub struct WeightAverage {
    decay: f64,
    values: Vec<Tensor<1>>,
}

impl WeightAverage {
    /// An average that starts at `values`.
    pub fn new(decay: f64, values: Vec<Tensor<1>>) -> Self {
        Self { decay, values }
    }

    /// Takes in the weights after update number `update`, counted from 1.
    pub fn update(&mut self, update: u64, weights: &[Tensor<1>]) {
        let update = update as f64;
        let decay = self.decay.min((1.0 + update) / (10.0 + update));
        for (average, weight) in self.values.iter_mut().zip(weights) {
            *average = average.clone().mul_scalar(decay) + weight.clone().mul_scalar(1.0 - decay);
        }
    }

    /// Takes `value` as it is for number `index`, which is no weight.
    pub fn take(&mut self, index: usize, value: Tensor<1>) {
        self.values[index] = value;
    }

    /// The average.
    pub fn values(&self) -> &[Tensor<1>] {
        &self.values
    }
}
