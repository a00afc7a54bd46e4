//! Adam over a model's flat parameters, with a state that can be saved.

use burn::tensor::Tensor;
use burn_optim::{Adam as Rule, AdamConfig, AdamState, AdaptiveMomentumState, Optimizer};

/// Adam (Kingma, Ba 2015, algorithm 1): β₁ 0.9, β₂ 0.999, ε 1e-8.
pub struct Adam {
    rule: Rule,
    states: Vec<Option<AdamState<1>>>,
}

/// The moments of one parameter.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Steps taken.
    pub time: usize,
    /// Running mean of the gradients.
    pub first: Tensor<1>,
    /// Running mean of their squares.
    pub second: Tensor<1>,
}

impl Adam {
    /// A fresh state for `count` parameters.
    pub fn new(count: usize) -> Self {
        Self::restore(std::iter::repeat_with(|| None).take(count).collect())
    }

    /// The state that [`Adam::moments`] gave.
    pub fn restore(moments: Vec<Option<Moments>>) -> Self {
        let state = |m: Moments| AdamState::new(AdaptiveMomentumState::new(m.time, m.first, m.second));
        Self {
            rule: AdamConfig::new().with_epsilon(1e-8).build(),
            states: moments.into_iter().map(|moments| moments.map(state)).collect(),
        }
    }

    /// The moments of each parameter; `None` where no gradient has come yet.
    pub fn moments(&self) -> Vec<Option<Moments>> {
        let moments = |state: &AdamState<1>| Moments {
            time: state.momentum.time,
            first: state.momentum.moment_1.clone(),
            second: state.momentum.moment_2.clone(),
        };
        self.states
            .iter()
            .map(|state| state.as_ref().map(moments))
            .collect()
    }

    /// Moves each value that has a gradient.
    pub fn step(&mut self, learning_rate: f64, values: &mut [Tensor<1>], gradients: Vec<Option<Tensor<1>>>) {
        for ((value, gradient), state) in values.iter_mut().zip(gradients).zip(&mut self.states) {
            if let Some(gradient) = gradient {
                (*value, *state) = self
                    .rule
                    .step(learning_rate, value.clone(), gradient, state.take());
            }
        }
    }
}
