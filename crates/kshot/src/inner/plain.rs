//! Plain optimizers on the support set of a task, beside which a learned rule can be set.

use super::{Batch, Network, Rates, Weights};

/// Decay of Adam's means of gradients and of their squares, and ε (Kingma, Ba 2015).
const BETA: [f64; 2] = [0.9, 0.999];
const EPSILON: f32 = 1e-8;

/// A plain rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Plain {
    /// θ ← θ − α ∇L.
    Sgd {
        /// α.
        rate: f32,
    },
    /// Adam with its authors' constants, its means beginning at 0.
    Adam {
        /// α.
        rate: f32,
    },
}

impl Plain {
    /// Takes `steps` steps from `start`, each on the whole support set; `watch` sees the weights before the first and
    /// after each.
    pub fn run(
        self,
        network: &Network,
        start: Weights,
        support: &Batch<'_>,
        steps: usize,
        watch: &mut dyn FnMut(&Weights),
    ) {
        let mut weights = start;
        let mut means = [Weights::zeros_like(&weights), Weights::zeros_like(&weights)];
        watch(&weights);
        for step in 1..=steps {
            let mut gradient = network.gradient(&weights, support, false).gradient;
            let rate = match self {
                Self::Sgd { rate } => rate,
                Self::Adam { rate } => {
                    direction(step, &mut means, &mut gradient);
                    rate
                }
            };
            weights.descend(Rates::One(rate), &gradient);
            watch(&weights);
        }
    }
}

/// Turns a gradient into Adam's direction at step number `step`.
fn direction(step: usize, [first, second]: &mut [Weights; 2], gradient: &mut Weights) {
    let unbiased = BETA.map(|beta| (1.0 / (1.0 - beta.powi(step.min(1 << 20) as i32))) as f32);
    let beta = BETA.map(|beta| beta as f32);
    let means = first.values_mut().iter_mut().zip(second.values_mut());
    for ((first, second), slopes) in means.zip(gradient.values_mut()) {
        for ((first, second), slope) in first.iter_mut().zip(second).zip(slopes) {
            *first = beta[0] * *first + (1.0 - beta[0]) * *slope;
            *second = beta[1] * *second + (1.0 - beta[1]) * *slope * *slope;
            *slope = unbiased[0] * *first / ((unbiased[1] * *second).sqrt() + EPSILON);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inner::{Layer, Targets};

    /// y = w x + b at x = 1 with target 0: the loss is (w + b)² and both slopes are 2 (w + b).
    fn path(rule: Plain) -> Vec<f32> {
        let network = Network::new(vec![Layer::Linear {
            weight: [1, 1],
            relu: false,
        }]);
        let support = Batch {
            tasks: 1,
            inputs: &[1.0],
            targets: Targets::Values(&[0.0]),
        };
        let start = Weights::new(vec![vec![1.0], vec![0.0]], 1);
        let mut seen = Vec::new();
        let watch = &mut |weights: &Weights| seen.push(weights.values()[0][0]);
        rule.run(&network, start, &support, 2, watch);
        seen
    }

    #[track_caller]
    fn assert_close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }

    #[test]
    fn two_steps_of_each_agree_with_a_hand_computation() {
        // Slopes 2 · 1 = 2, then 2 (0.8 − 0.2) = 1.2.
        assert_close(&path(Plain::Sgd { rate: 0.1 }), &[1.0, 0.8, 0.68]);
        // The first step is the rate; then w + b = 0.8, slope 1.6: means 0.34 / 0.19 and 0.006556 / 0.001999.
        let second = (0.34_f32 / 0.19) / (0.006_556_f32 / 0.001_999).sqrt();
        assert_close(&path(Plain::Adam { rate: 0.1 }), &[1.0, 0.9, 0.9 - 0.1 * second]);
    }
}
