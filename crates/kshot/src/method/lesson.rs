//! What the tasks of a meta-batch teach a model that adapts its weights to each ([`super::fast`]).

use crate::inner::BatchStatistics;

/// What several tasks teach; losses, accuracies and gradients are sums over them.
#[derive(Default)]
pub struct Lesson {
    /// Training losses.
    pub loss: f64,
    /// Shares of the queries that were recognised.
    pub accuracy: f64,
    /// Parameter index and gradient.
    pub gradients: Vec<(usize, Vec<f32>)>,
    /// What each block met, one group per task; several such where the tasks were learned one after the other.
    pub statistics: Vec<Vec<BatchStatistics>>,
    /// What becomes of the numbers that the method carries from task to task.
    pub carried: Vec<Carried>,
}

/// What becomes of a carried parameter v when tasks have been learned: keep · v + gain. Lessons follow each other in
/// the order of their tasks, though all of them were learned from the v of before the meta-batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Carried {
    /// Index of the parameter.
    pub index: usize,
    /// The share of v that stays.
    pub keep: f32,
    /// What is added.
    pub gain: Vec<f32>,
}

impl Carried {
    /// The same with `later` after it.
    pub fn then(mut self, later: &Self) -> Self {
        for (gain, more) in self.gain.iter_mut().zip(&later.gain) {
            *gain = later.keep * *gain + more;
        }
        self.keep *= later.keep;
        self
    }
}

impl Lesson {
    /// Adds gradients of one more task.
    pub fn add_gradients(&mut self, gradients: Vec<(usize, Vec<f32>)>) {
        if self.gradients.is_empty() {
            self.gradients = gradients;
            return;
        }
        for ((_, sum), (_, more)) in self.gradients.iter_mut().zip(gradients) {
            sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        }
    }
}
