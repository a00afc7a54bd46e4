//! Sinusoids of random amplitude and phase: the regression tasks of Finn, Abbeel, Levine 2017 (section 5.1).
//!
//! A task is one function; a learner sees K of its points. There are no classes, so this is no dataset of the registry:
//! `examples/sinusoid.rs` meta-trains on it through [`crate::inner`].

use rand::{Rng, RngExt};

use crate::random;

/// Where points are drawn from, and amplitudes and phases.
pub const INPUTS: std::ops::RangeInclusive<f32> = -5.0..=5.0;
const AMPLITUDES: std::ops::RangeInclusive<f32> = 0.1..=5.0;
const PHASES: std::ops::RangeInclusive<f32> = 0.0..=std::f32::consts::PI;

/// A function x ↦ amplitude · sin(x − phase).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sinusoid {
    /// From 0.1 to 5.
    pub amplitude: f32,
    /// From 0 to π.
    pub phase: f32,
}

/// Points of a function.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Points {
    /// Places.
    pub x: Vec<f32>,
    /// Values there.
    pub y: Vec<f32>,
}

impl Sinusoid {
    /// Number `index` under `seed`, and the stream from which its points come: a pure function.
    pub fn draw(seed: u64, index: u64) -> (Self, impl Rng) {
        let mut rng = random::stream(seed, &[index]);
        let sinusoid = Self {
            amplitude: rng.random_range(AMPLITUDES),
            phase: rng.random_range(PHASES),
        };
        (sinusoid, rng)
    }

    /// Its value at `x`.
    pub fn at(&self, x: f32) -> f32 {
        self.amplitude * (x - self.phase).sin()
    }

    /// `count` points, uniform in [`INPUTS`].
    pub fn points(&self, count: usize, rng: &mut impl Rng) -> Points {
        let x: Vec<f32> = (0..count).map(|_| rng.random_range(INPUTS)).collect();
        let y = x.iter().map(|x| self.at(*x)).collect();
        Points { x, y }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_a_pure_function_of_seed_and_index_within_the_papers_ranges() {
        for index in 0..200 {
            let (one, mut stream) = Sinusoid::draw(1, index);
            assert!(AMPLITUDES.contains(&one.amplitude) && PHASES.contains(&one.phase));
            let points = one.points(10, &mut stream);
            let (again, mut stream) = Sinusoid::draw(1, index);
            assert_eq!(points, again.points(10, &mut stream));
            assert!(points.x.iter().all(|x| INPUTS.contains(x)));
        }
        assert_ne!(Sinusoid::draw(1, 0).0, Sinusoid::draw(1, 1).0);
    }
}
