//! The points θ₀ … θ_{K−1} of a descent, of which only some are kept.

use super::Weights;

/// So many points are kept without a thought: a descent of as many steps is never repeated.
const KEPT: usize = 8;

/// The points of a descent, to be asked for from the last to the first.
pub struct Points {
    steps: usize,
    stride: usize,
    /// Every `stride`-th point.
    kept: Vec<Weights>,
    /// The points after the kept one at `from`, that one included.
    segment: Vec<Weights>,
    from: usize,
}

impl Points {
    /// For a descent of `steps` steps. About 2 √steps points are alive at any time, at most 8 up to 16 steps.
    pub fn new(steps: usize) -> Self {
        let stride = if steps <= KEPT {
            1
        } else {
            steps.isqrt() + usize::from(steps.isqrt().pow(2) < steps)
        };
        Self {
            steps,
            stride,
            kept: Vec::with_capacity(steps.div_ceil(stride)),
            segment: Vec::new(),
            from: steps,
        }
    }

    /// Takes note of θ_k, before step `k` of the descent.
    pub fn pass(&mut self, step: usize, point: &Weights) {
        if step.is_multiple_of(self.stride) {
            self.kept.push(point.clone());
        }
    }

    /// θ_k, for `step` from K − 1 down to 0; `descend` goes from a point to the next one, as the descent did.
    pub fn take(&mut self, step: usize, mut descend: impl FnMut(&mut Weights)) -> Option<Weights> {
        if step < self.from {
            let mut point = self.kept.pop()?;
            self.from = self.kept.len() * self.stride;
            let end = (self.from + self.stride).min(self.steps);
            for _ in self.from + 1..end {
                let mut next = point.clone();
                descend(&mut next);
                self.segment.push(std::mem::replace(&mut point, next));
            }
            self.segment.push(point);
        }
        self.segment.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_come_back_from_the_last_to_the_first_and_few_are_alive() {
        let halve = |point: &mut Weights| point.values_mut()[0][0] *= 0.5;
        for steps in [0, 1, 2, 5, 8, 9, 10, 16, 20, 25, 37] {
            let mut points = Points::new(steps);
            let mut point = Weights::repeat(&[vec![1.0]], 1);
            for step in 0..steps {
                points.pass(step, &point);
                halve(&mut point);
            }
            for step in (0..steps).rev() {
                let found = points.take(step, halve).unwrap();
                assert_eq!(
                    found.values()[0][0],
                    0.5f32.powi(step as i32),
                    "{step} of {steps}"
                );
                let alive = points.kept.len() + points.segment.len();
                assert!(alive <= KEPT.max(2 * steps.isqrt() + 1), "{alive} of {steps}");
            }
        }
    }
}
