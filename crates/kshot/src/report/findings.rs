//! What one pass over the test episodes tells: accuracy per episode, and which classes were taken for which.

use std::collections::HashMap;

use crate::eval::Answered;

/// Pairs of classes that a report shows.
const PAIRS: usize = 12;

/// What is kept of one answered episode; a few bytes per class and per mistake.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Share of the queries that were recognised, in `[0, 1]`.
    pub accuracy: f64,
    /// The dataset's class index behind each label.
    classes: Vec<u32>,
    /// Queries per class.
    n_query: u32,
    /// For each query that was not recognised: its label, and the label that it was given.
    mistakes: Vec<(u32, u32)>,
}

impl Kept {
    /// Of one answered episode.
    pub fn of(answered: &Answered) -> Self {
        let episode = &answered.episode;
        let labels = episode.query_labels();
        Self {
            accuracy: answered.accuracy(),
            classes: episode.classes.iter().map(|&class| class as u32).collect(),
            n_query: episode.task.n_query as u32,
            mistakes: labels
                .into_iter()
                .zip(answered.predictions())
                .filter(|(label, predicted)| label != predicted)
                .map(|(label, predicted)| (label as u32, predicted as u32))
                .collect(),
        }
    }
}

/// Two classes of a dataset and how often one was taken for the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// The classes, by index; the first is the one that was more often taken for the second.
    pub classes: [usize; 2],
    /// Queries of each class that were taken for the other one.
    pub taken: [u64; 2],
    /// Queries of each class in the episodes in which both occurred.
    pub queries: u64,
    /// Episodes in which both occurred.
    pub episodes: u64,
}

impl Pair {
    /// Share of the two classes' queries that were taken for the other class, in `[0, 1]`.
    pub fn rate(&self) -> f64 {
        self.taken.iter().sum::<u64>() as f64 / (2 * self.queries).max(1) as f64
    }

    /// Lower end of the rate's 95 % interval (Wilson 1927), in `[0, 1]`. Pairs are ranked by it: two classes that met
    /// once, by chance badly, rank below two that are mixed up again and again.
    pub fn at_least(&self) -> f64 {
        const Z: f64 = 1.959_964;
        let n = (2 * self.queries).max(1) as f64;
        let rate = self.rate();
        let centre = rate + Z * Z / (2.0 * n);
        let spread = Z * (rate * (1.0 - rate) / n + Z * Z / (4.0 * n * n)).sqrt();
        ((centre - spread) / (1.0 + Z * Z / n)).max(0.0)
    }
}

/// What one pass over the test episodes tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// Accuracy of each episode, in their order.
    pub accuracies: Vec<f64>,
    /// The pairs of classes that were mixed up most, the hardest first; at most twelve.
    pub pairs: Vec<Pair>,
    /// How many pairs of classes were mixed up at all.
    pub mixed_up: usize,
}

impl Findings {
    /// Of the episodes that were kept, in their order.
    pub fn of(kept: &[Kept]) -> Self {
        let mut counts: HashMap<(u32, u32), Pair> = HashMap::new();
        for episode in kept {
            for &(label, predicted) in &episode.mistakes {
                let (true_class, given) = (episode.class(label), episode.class(predicted));
                let pair = counts.entry(sorted(true_class, given)).or_insert(Pair {
                    classes: [true_class.min(given) as usize, true_class.max(given) as usize],
                    taken: [0; 2],
                    queries: 0,
                    episodes: 0,
                });
                pair.taken[usize::from(true_class > given)] += 1;
            }
        }
        for episode in kept {
            for (place, &one) in episode.classes.iter().enumerate() {
                for &other in &episode.classes[place + 1..] {
                    if let Some(pair) = counts.get_mut(&sorted(one, other)) {
                        pair.queries += u64::from(episode.n_query);
                        pair.episodes += 1;
                    }
                }
            }
        }
        let mixed_up = counts.len();
        let mut pairs: Vec<Pair> = counts.into_values().collect();
        // The classes break ties, so that the order doesn't depend on that of the map.
        pairs.sort_by(|a, b| {
            let by_rate = b.at_least().total_cmp(&a.at_least());
            by_rate.then_with(|| a.classes.cmp(&b.classes))
        });
        pairs.truncate(PAIRS);
        for pair in &mut pairs {
            if pair.taken[1] > pair.taken[0] {
                pair.taken.reverse();
                pair.classes.reverse();
            }
        }
        Self {
            accuracies: kept.iter().map(|episode| episode.accuracy).collect(),
            pairs,
            mixed_up,
        }
    }

    /// Lowest, median and highest accuracy of an episode; `None` without episodes.
    pub fn range(&self) -> Option<[f64; 3]> {
        let mut sorted = self.accuracies.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            0 if middle > 0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
            _ => *sorted.get(middle)?,
        };
        Some([*sorted.first()?, median, *sorted.last()?])
    }
}

impl Kept {
    fn class(&self, label: u32) -> u32 {
        self.classes[label as usize]
    }
}

fn sorted(a: u32, b: u32) -> (u32, u32) {
    (a.min(b), a.max(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(accuracy: f64, classes: &[u32], mistakes: &[(u32, u32)]) -> Kept {
        Kept {
            accuracy,
            classes: classes.to_vec(),
            n_query: 5,
            mistakes: mistakes.to_vec(),
        }
    }

    #[test]
    fn a_pair_counts_only_where_both_classes_occur() {
        let episodes = [
            // Labels 0, 1, 2 are classes 7, 3, 9 here: three queries of 7 taken for 3, one of 3 for 7.
            kept(0.7, &[7, 3, 9], &[(0, 1), (0, 1), (0, 1), (1, 0)]),
            kept(1.0, &[3, 7], &[]),
            kept(1.0, &[7, 9, 4], &[]),
        ];
        let findings = Findings::of(&episodes);
        let expected = Pair {
            classes: [7, 3],
            taken: [3, 1],
            queries: 10,
            episodes: 2,
        };
        assert_eq!(findings.pairs, [expected]);
        assert!((findings.pairs[0].rate() - 0.2).abs() < 1e-12);
        assert_eq!((findings.accuracies.len(), findings.mixed_up), (3, 1));
    }

    #[test]
    fn the_lower_end_is_wilsons() {
        // Computed by hand: 8 of 20 gives centre 0.4 + 3.841459/40, spread 1.959964 √(0.24/20 + 3.841459/1600).
        let pair = Pair {
            classes: [0, 1],
            taken: [8, 0],
            queries: 10,
            episodes: 2,
        };
        assert!((pair.at_least() - 0.218_805).abs() < 1e-5, "{}", pair.at_least());
    }

    #[test]
    fn often_beats_once_by_chance() {
        let mut episodes = vec![kept(0.6, &[0, 1], &[(0, 1), (0, 1), (1, 0), (1, 0)])];
        for _ in 0..20 {
            episodes.push(kept(0.65, &[2, 3], &[(0, 1), (0, 1), (1, 0), (0, 1)]));
        }
        let findings = Findings::of(&episodes);
        assert_eq!(findings.pairs[0].classes, [2, 3]);
        assert_eq!(findings.pairs[0].rate(), findings.pairs[1].rate());
    }

    #[test]
    fn no_more_pairs_than_a_report_shows() {
        let classes: Vec<u32> = (0..40).collect();
        let mistakes: Vec<(u32, u32)> = (0..39).map(|label| (label, label + 1)).collect();
        let findings = Findings::of(&[kept(0.8, &classes, &mistakes)]);
        assert_eq!((findings.pairs.len(), findings.mixed_up), (PAIRS, 39));
        assert_eq!(findings.pairs[0].classes, [0, 1]);
    }

    #[test]
    fn range_is_lowest_median_highest() {
        let of = |values: &[f64]| {
            let kept: Vec<Kept> = values.iter().map(|&value| kept(value, &[0, 1], &[])).collect();
            Findings::of(&kept).range()
        };
        assert_eq!(of(&[0.9, 0.5, 0.7]), Some([0.5, 0.7, 0.9]));
        assert_eq!(of(&[1.0, 0.5]), Some([0.5, 0.75, 1.0]));
        assert_eq!(of(&[]), None);
    }
}
