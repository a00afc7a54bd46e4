//! Fast weights: the numbers of a network for each of several tasks.

use rayon::prelude::*;

/// One vector for each parameter of a network, `[tasks, length]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    tasks: usize,
    values: Vec<Vec<f32>>,
}

/// How far a step of the inner descent goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rates<'a> {
    /// As far for every weight.
    One(f32),
    /// A rate for each weight, the same for every task: as [`Weights`] of one task.
    Each(&'a [Vec<f32>]),
}

impl Weights {
    /// `values` (one vector per parameter) once for each of `tasks` tasks.
    pub fn repeat(values: &[Vec<f32>], tasks: usize) -> Self {
        Self {
            tasks,
            values: values.iter().map(|value| value.repeat(tasks)).collect(),
        }
    }

    /// Of vectors `[tasks, length]`.
    ///
    /// # Panics
    /// When a vector doesn't divide into the tasks.
    pub fn new(values: Vec<Vec<f32>>, tasks: usize) -> Self {
        assert!(values.iter().all(|value| value.len().is_multiple_of(tasks)));
        Self { tasks, values }
    }

    /// As many as `other`'s, all 0.
    pub fn zeros_like(other: &Self) -> Self {
        Self {
            tasks: other.tasks,
            values: other.values.iter().map(|value| vec![0.0; value.len()]).collect(),
        }
    }

    /// How many tasks they are for.
    pub fn tasks(&self) -> usize {
        self.tasks
    }

    /// One vector `[tasks, length]` per parameter.
    pub fn values(&self) -> &[Vec<f32>] {
        &self.values
    }

    /// As [`Weights::values`].
    pub fn values_mut(&mut self) -> &mut [Vec<f32>] {
        &mut self.values
    }

    /// One vector per parameter.
    pub fn into_values(self) -> Vec<Vec<f32>> {
        self.values
    }

    /// self ← self − rates ∘ gradient.
    pub fn descend(&mut self, rates: Rates<'_>, gradient: &Self) {
        self.update(rates, gradient, |weight, rate, slope| *weight -= rate * slope);
    }

    /// rates ∘ self.
    pub fn scaled(&self, rates: Rates<'_>) -> Self {
        let mut scaled = self.clone();
        scaled.update(rates, self, |to, rate, from| *to = rate * from);
        scaled
    }

    /// self ← self − other.
    pub fn subtract(&mut self, other: &Self) {
        self.update(Rates::One(1.0), other, |to, _, from| *to -= from);
    }

    /// self ← self − a ∘ b.
    pub fn subtract_product(&mut self, a: &Self, b: &Self) {
        for ((to, a), b) in self.values.iter_mut().zip(&a.values).zip(&b.values) {
            for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
                *to -= a * b;
            }
        }
    }

    /// Sum over the tasks: one vector per parameter.
    pub fn sum(&self) -> Vec<Vec<f32>> {
        self.values
            .iter()
            .map(|value| {
                let mut tasks = value.chunks_exact((value.len() / self.tasks).max(1));
                let mut sum = tasks.next().map(<[f32]>::to_vec).unwrap_or_default();
                for task in tasks {
                    sum.iter_mut().zip(task).for_each(|(sum, value)| *sum += value);
                }
                sum
            })
            .collect()
    }

    fn update(
        &mut self,
        rates: Rates<'_>,
        other: &Self,
        each: impl Fn(&mut f32, f32, f32) + Sync + Send + Copy,
    ) {
        let tasks = self.tasks;
        self.values
            .par_iter_mut()
            .zip(&other.values)
            .enumerate()
            .for_each(|(parameter, (to, from))| match rates {
                Rates::One(rate) => {
                    for (to, from) in to.iter_mut().zip(from) {
                        each(to, rate, *from);
                    }
                }
                Rates::Each(rates) => {
                    let len = (to.len() / tasks).max(1);
                    for (to, from) in to.chunks_exact_mut(len).zip(from.chunks_exact(len)) {
                        for ((to, rate), from) in to.iter_mut().zip(&rates[parameter]).zip(from) {
                            each(to, *rate, *from);
                        }
                    }
                }
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_task_descends_by_its_own_gradient_and_the_rate_of_each_weight() {
        let mut weights = Weights::repeat(&[vec![1.0, 2.0], vec![3.0]], 2);
        let gradient = Weights::new(vec![vec![1.0, 1.0, 2.0, 2.0], vec![10.0, 20.0]], 2);
        weights.descend(Rates::Each(&[vec![0.5, 0.25], vec![0.1]]), &gradient);
        assert_eq!(weights.values(), [vec![0.5, 1.75, 0.0, 1.5], vec![2.0, 1.0]]);
        assert_eq!(weights.sum(), [vec![0.5, 3.25], vec![3.0]]);
        weights.descend(Rates::One(0.5), &gradient);
        assert_eq!(weights.values()[1], [-3.0, -9.0]);
    }
}
