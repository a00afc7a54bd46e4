//! The learning rate over a training.

/// How the learning rate changes with the episode.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Schedule {
    /// It does not.
    Constant,
    /// Halved every so many episodes (Snell et al. 2017 halve every 2,000).
    Halving {
        /// Episodes between halvings.
        every: u64,
    },
    /// From its full value to 0 along a straight line over the whole training (Nichol et al. 2018).
    Linear {
        /// Episodes of the whole training.
        episodes: u64,
    },
    /// From its full value to 0 along half a cosine over the whole training (Loshchilov, Hutter 2017).
    Cosine {
        /// Episodes of the whole training.
        episodes: u64,
    },
}

impl Schedule {
    /// The learning rate of `episode`, counted from 0.
    pub fn rate(self, full: f64, episode: u64) -> f64 {
        match self {
            Self::Constant => full,
            Self::Halving { every } => full * 0.5f64.powi((episode / every.max(1)).min(1000) as i32),
            Self::Linear { episodes } => full * (1.0 - (episode as f64 / episodes.max(1) as f64).min(1.0)),
            Self::Cosine { episodes } => {
                let progress = episode as f64 / episodes.max(1) as f64;
                full * 0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Schedule;

    #[test]
    fn halving_halves_at_each_multiple() {
        let schedule = Schedule::Halving { every: 2000 };
        assert_eq!(
            [0, 1999, 2000, 4000].map(|e| schedule.rate(1.0, e)),
            [1.0, 1.0, 0.5, 0.25]
        );
    }

    #[test]
    fn linear_falls_by_equal_parts() {
        let schedule = Schedule::Linear { episodes: 100 };
        assert_eq!(
            [0, 25, 100, 200].map(|e| schedule.rate(2.0, e)),
            [2.0, 1.5, 0.0, 0.0]
        );
    }

    #[test]
    fn cosine_goes_from_full_to_nothing() {
        let schedule = Schedule::Cosine { episodes: 100 };
        assert_eq!(schedule.rate(0.5, 0), 0.5);
        assert!((schedule.rate(0.5, 50) - 0.25).abs() < 1e-12);
        assert!(schedule.rate(0.5, 100).abs() < 1e-12);
    }
}
