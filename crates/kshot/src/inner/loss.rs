//! Losses of a network's outputs, task by task, with their first and second derivatives.

/// What a network should say of each example.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// The class of each example, `[tasks * n]`; the loss is the mean cross-entropy of a task's examples.
    Labels(&'a [usize]),
    /// The outputs themselves, `[tasks * n, outputs]`; the loss is the mean squared error over a task's outputs.
    Values(&'a [f32]),
}

impl Targets<'_> {
    /// Mean loss of each task, `[tasks]`, of outputs `[tasks * n, width]`.
    pub fn losses(&self, tasks: usize, width: usize, outputs: &[f32]) -> Vec<f32> {
        let rows = outputs.len() / width;
        let mut losses = vec![0.0f64; tasks];
        for (row, outputs) in outputs.chunks_exact(width).enumerate() {
            losses[row * tasks / rows] += match self {
                Self::Labels(labels) => -log_softmax(outputs, labels[row]),
                Self::Values(values) => {
                    let errors = outputs.iter().zip(&values[row * width..]);
                    errors.map(|(y, t)| f64::from(y - t).powi(2)).sum::<f64>() / width as f64
                }
            };
        }
        let share = tasks as f64 / rows as f64;
        losses.into_iter().map(|loss| (share * loss) as f32).collect()
    }

    /// The gradient of each task's loss with respect to its outputs, `[tasks * n, width]`.
    pub fn gradient(&self, tasks: usize, width: usize, outputs: &[f32]) -> Vec<f32> {
        let per_task = (outputs.len() / width / tasks) as f32;
        let mut gradient = outputs.to_vec();
        match self {
            Self::Labels(labels) => {
                for (row, label) in gradient.chunks_exact_mut(width).zip(*labels) {
                    softmax(row);
                    row[*label] -= 1.0;
                    row.iter_mut().for_each(|g| *g /= per_task);
                }
            }
            Self::Values(values) => {
                let scale = 2.0 / (per_task * width as f32);
                for (g, t) in gradient.iter_mut().zip(*values) {
                    *g = scale * (*g - t);
                }
            }
        }
        gradient
    }

    /// The loss's second derivative applied to a direction of the outputs, `[tasks * n, width]`.
    pub fn curvature(&self, tasks: usize, width: usize, outputs: &[f32], direction: &[f32]) -> Vec<f32> {
        let per_task = (outputs.len() / width / tasks) as f32;
        if let Self::Values(_) = self {
            let scale = 2.0 / (per_task * width as f32);
            return direction.iter().map(|d| scale * d).collect();
        }
        // (diag p − p pᵀ) d
        let mut product = outputs.to_vec();
        for (row, direction) in product.chunks_exact_mut(width).zip(direction.chunks_exact(width)) {
            softmax(row);
            let mean: f32 = row.iter().zip(direction).map(|(p, d)| p * d).sum();
            for (p, d) in row.iter_mut().zip(direction) {
                *p *= (d - mean) / per_task;
            }
        }
        product
    }
}

/// Turns logits into probabilities.
fn softmax(row: &mut [f32]) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|value| *value = (*value - largest).exp());
    let sum: f32 = row.iter().sum();
    row.iter_mut().for_each(|value| *value /= sum);
}

fn log_softmax(row: &[f32], label: usize) -> f64 {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|value| f64::from(value - largest).exp()).sum();
    f64::from(row[label] - largest) - sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cross_entropy_of_even_odds_is_the_logarithm_of_the_classes() {
        let targets = Targets::Labels(&[0, 1]);
        let losses = targets.losses(2, 4, &[0.0; 8]);
        assert!(losses.iter().all(|loss| (loss - 4f32.ln()).abs() < 1e-6));
        assert_eq!(targets.gradient(2, 4, &[0.0; 8])[..4], [-0.75, 0.25, 0.25, 0.25]);
    }

    #[test]
    fn squared_error_is_a_mean_over_a_tasks_outputs() {
        let targets = Targets::Values(&[1.0, 1.0, 0.0, 0.0]);
        assert_eq!(targets.losses(2, 1, &[0.0, 3.0, 1.0, 1.0]), [2.5, 1.0]);
        assert_eq!(
            targets.gradient(2, 1, &[0.0, 3.0, 1.0, 1.0]),
            [-1.0, 2.0, 1.0, 1.0]
        );
        assert_eq!(
            targets.curvature(2, 1, &[0.0; 4], &[1.0, 2.0, 3.0, 4.0]),
            [1.0, 2.0, 3.0, 4.0]
        );
    }
}
