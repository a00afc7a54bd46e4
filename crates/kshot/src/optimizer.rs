//! Optimizers over a model's flat parameters, with a state that can be saved.

use burn::tensor::Tensor;
use burn_optim::{Adam as Rule, AdamConfig, AdamState, AdaptiveMomentumState, Optimizer as _};

/// Adam (Kingma, Ba 2015, algorithm 1): β₁ 0.9, β₂ 0.999, ε 1e-8.
pub struct Adam {
    rule: Rule,
    states: Vec<Option<AdamState<1>>>,
}

/// Adam, or plain gradient descent.
pub enum Optimizer {
    /// Adam.
    Adam(Adam),
    /// w ← w − rate · g; without a state.
    Sgd,
}

impl Optimizer {
    /// `adam` or `sgd` for `count` parameters.
    pub fn new(name: &str, count: usize) -> Self {
        Self::restore(name, std::iter::repeat_with(|| None).take(count).collect())
    }

    /// `adam` with the state that [`Optimizer::moments`] gave, or `sgd`.
    pub fn restore(name: &str, moments: Vec<Option<Moments>>) -> Self {
        if name == "sgd" {
            Self::Sgd
        } else {
            Self::Adam(Adam::restore(moments))
        }
    }

    /// The moments of each parameter; none where there is no state.
    pub fn moments(&self) -> Vec<Option<Moments>> {
        match self {
            Self::Adam(adam) => adam.moments(),
            Self::Sgd => Vec::new(),
        }
    }

    /// Moves each value that has a gradient.
    pub fn step(&mut self, learning_rate: f64, values: &mut [Tensor<1>], gradients: Vec<Option<Tensor<1>>>) {
        match self {
            Self::Adam(adam) => adam.step(learning_rate, values, gradients),
            Self::Sgd => {
                for (value, gradient) in values.iter_mut().zip(gradients) {
                    if let Some(gradient) = gradient {
                        *value = value.clone() - gradient.mul_scalar(learning_rate);
                    }
                }
            }
        }
    }
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
