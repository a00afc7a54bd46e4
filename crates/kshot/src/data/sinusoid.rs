//! Sinusoids of random amplitude and phase: the regression tasks of Finn, Abbeel, Levine 2017 (section 5.1).
//!
//! A task is one function; a learner sees K of its points. There are no classes and no pictures, so it can't be opened as a
//! [`Dataset`]: `kshot train maml --data sinusoid` trains on it by [`crate::regression`].

use rand::{Rng, RngExt};

use super::registry::DatasetSpec;
use super::{DataError, Dataset};
use crate::random;

/// See the module.
pub static SPEC: DatasetSpec = DatasetSpec {
    name: "sinusoid",
    argument: "",
    summary: "a regression that maml alone learns: sinusoids of random amplitude and phase (kshot train maml --data sinusoid)",
    source: "generated; the tasks of Finn, Abbeel, Levine 2017, section 5.1",
    line_drawings: false,
    partitions: &["seeded"],
    options: &[],
    open: |_| -> Result<Box<dyn Dataset>, DataError> {
        Err(DataError::Option {
            dataset: "sinusoid".to_owned(),
            problem:
                "it holds functions and no pictures; only `kshot train maml --data sinusoid` learns them"
                    .to_owned(),
        })
    },
    fetch: None,
};

/// Where points are drawn from, and amplitudes and phases.
pub const INPUTS: std::ops::RangeInclusive<f32> = -5.0..=5.0;
const AMPLITUDES: std::ops::RangeInclusive<f32> = 0.1..=5.0;
const PHASES: std::ops::RangeInclusive<f32> = 0.0..=std::f32::consts::PI;

/// What it is, for who asks for its classes.
pub fn description() -> String {
    format!(
        "sinusoid: functions x -> a sin(x - b) with amplitudes a from {} to {} and phases b from {} to pi, each seen through \
         points with x from {} to {}. It is a regression without classes and pictures; kshot train maml --data sinusoid \
         learns it, and no other method does.",
        AMPLITUDES.start(),
        AMPLITUDES.end(),
        PHASES.start(),
        INPUTS.start(),
        INPUTS.end()
    )
}

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
