//! Random draws out of additions, multiplications and square roots alone.
//!
//! The sine and the exponential of the C library differ in the last bit between machines, and a drawing must
//! not; so this file brings its own.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use crate::random;

/// π.
pub const PI: f32 = std::f32::consts::PI;

/// A seeded source of draws.
pub struct Chance(ChaCha8Rng);

impl Chance {
    /// The source at `path` under `seed`, as in [`random::stream`].
    pub fn new(seed: u64, path: &[u64]) -> Self {
        Self(random::stream(seed, path))
    }

    /// Uniform in `[0, 1)`.
    pub fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform between `low` and `high`.
    pub fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Nearly normal with mean 0 and standard deviation 1: the sum of four uniform draws, so it never leaves ±3.5.
    pub fn normal(&mut self) -> f32 {
        let bits = self.0.next_u64();
        let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
        // Each part has mean 32767.5 and variance (65536² - 1) / 12.
        (sum as f32 - 131_070.0) * (1.732_050_8 / 65_536.0)
    }

    /// A positive factor around 1 whose logarithm has about the standard deviation `sigma`, at most 0.8.
    pub fn factor(&mut self, sigma: f32) -> f32 {
        exp(sigma * self.normal())
    }

    /// True with probability `p`.
    pub fn happens(&mut self, p: f32) -> bool {
        self.unit() < p
    }

    /// -1 or 1.
    pub fn sign(&mut self) -> f32 {
        if self.happens(0.5) { 1.0 } else { -1.0 }
    }

    /// A whole number below `n`; 0 when `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.0.next_u32()) * n as u64) >> 32) as usize
    }

    /// An index with probability in proportion to its weight.
    pub fn weighted(&mut self, weights: &[f32]) -> usize {
        let mut left = self.unit() * weights.iter().sum::<f32>();
        for (index, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return index;
            }
        }
        weights.len().saturating_sub(1)
    }
}

/// Cosine and sine of an angle in radians, to within 4e-6.
pub fn direction(angle: f32) -> [f32; 2] {
    [sin(angle + PI / 2.0), sin(angle)]
}

/// The angle of a vector in radians, to within 0.005.
pub fn angle([x, y]: [f32; 2]) -> f32 {
    let (low, high) = (x.abs().min(y.abs()), x.abs().max(y.abs()).max(1e-12));
    let ratio = low / high;
    let octant = ratio * (PI / 4.0 + 0.273 * (1.0 - ratio));
    let quadrant = if y.abs() > x.abs() {
        PI / 2.0 - octant
    } else {
        octant
    };
    let half = if x < 0.0 { PI - quadrant } else { quadrant };
    if y < 0.0 { -half } else { half }
}

fn sin(angle: f32) -> f32 {
    let x = angle - 2.0 * PI * (angle * (0.5 / PI)).round();
    let x = if x > PI / 2.0 {
        PI - x
    } else if x < -PI / 2.0 {
        -PI - x
    } else {
        x
    };
    let y = x * x;
    x * (1.0 + y * (-1.0 / 6.0 + y * (1.0 / 120.0 + y * (-1.0 / 5040.0 + y * (1.0 / 362_880.0)))))
}

/// `(1 + x/32)^32`: within 2 % of the exponential for |x| below 1.
fn exp(x: f32) -> f32 {
    let mut y = (1.0 + x / 32.0).max(0.0);
    for _ in 0..5 {
        y *= y;
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_lie_on_the_unit_circle_where_they_should() {
        for step in -400..400 {
            let angle = step as f32 * 0.05;
            let [x, y] = direction(angle);
            assert!(
                (x - angle.cos()).abs() < 2e-5 && (y - angle.sin()).abs() < 2e-5,
                "{angle}: {x} {y}"
            );
        }
    }

    #[test]
    fn a_direction_has_the_angle_that_it_was_made_of() {
        for step in -30..=30 {
            let wanted = step as f32 * 0.1;
            let found = angle(direction(wanted));
            assert!((found - wanted).abs() < 5e-3, "{wanted} {found}");
        }
    }

    #[test]
    fn normal_draws_have_mean_0_and_deviation_1() {
        let mut chance = Chance::new(1, &[]);
        let draws: Vec<f32> = (0..100_000).map(|_| chance.normal()).collect();
        let mean = draws.iter().sum::<f32>() / draws.len() as f32;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / draws.len() as f32;
        assert!(
            mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02,
            "{mean} {variance}"
        );
        assert!(draws.iter().all(|x| x.abs() <= 3.5));
    }

    #[test]
    fn weights_set_how_often_an_index_comes() {
        let mut chance = Chance::new(2, &[]);
        let mut counts = [0; 3];
        for _ in 0..10_000 {
            counts[chance.weighted(&[1.0, 0.0, 3.0])] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!((2_300..2_700).contains(&counts[0]), "{counts:?}");
    }
}
