//! The temperature that makes probabilities honest (C. Guo et al. 2017, *On Calibration of Modern Neural Networks*,
//! section 4.2), by leave-one-out.

use rayon::prelude::*;

/// Greatest logits of a row that are kept one by one; the others are counted in bins.
const KEPT: usize = 128;
const BINS: usize = 128;
/// Of log T around 0.
const PRIOR_DEVIATION: f64 = 1.5;
/// A logit so far below the greatest adds nothing that a sum over all classes could show: e⁻⁶⁰ is 10⁻²⁶.
const NOTHING: f64 = -60.0;

/// The logits of an example that was left out.
#[derive(Clone, Debug)]
pub struct Row {
    /// Of its own class without it; `None` if nothing is left of that.
    pub own: Option<f64>,
    greatest_other: f64,
    /// Logits of other classes and how many have each, falling.
    others: Vec<(f64, f64)>,
}

impl Row {
    /// `own` is −∞ where nothing is left of the example's class.
    pub fn new(own: f32, mut others: Vec<f32>) -> Self {
        others.retain(|logit| logit.is_finite());
        let mut kept = match greatest(&others, KEPT) {
            Some(greatest) => in_bins(&others, &greatest),
            None => others.iter().map(|&logit| (f64::from(logit), 1.0)).collect(),
        };
        kept.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        Self {
            own: own.is_finite().then_some(f64::from(own)),
            greatest_other: kept.first().map_or(f64::NEG_INFINITY, |first| first.0),
            others: kept,
        }
    }

    /// Whether it is recognised.
    pub fn is_right(&self) -> bool {
        self.own.is_some_and(|own| own >= self.greatest_other)
    }

    /// Over all classes, its own among them; `None` if nothing is left of that.
    pub fn greatest(&self) -> Option<f64> {
        self.own.map(|own| own.max(self.greatest_other))
    }

    /// Over the other classes; −∞ if there is none.
    pub fn greatest_other(&self) -> f64 {
        self.greatest_other
    }

    /// −log P(own class) at a temperature.
    fn surprise(&self, temperature: f64) -> f64 {
        let Some(own) = self.own else { return 0.0 };
        let greatest = own.max(self.greatest_other);
        let least = greatest + NOTHING * temperature;
        let weight = |logit: f64| ((logit - greatest) / temperature).exp();
        let others: f64 = self
            .others
            .iter()
            .take_while(|(logit, _)| *logit > least)
            .map(|&(logit, count)| count * weight(logit))
            .sum();
        (others + weight(own)).ln() - (own - greatest) / temperature
    }
}

/// The `count` greatest values in any order, the least of them last; `None` if there are no more than that.
fn greatest(values: &[f32], count: usize) -> Option<Vec<f32>> {
    if values.len() <= count {
        return None;
    }
    // What a part of the values says of all of them: most lie below the limit, and need not be sorted.
    let mut part: Vec<f32> = values.iter().copied().step_by(8).collect();
    let falling = |a: &f32, b: &f32| b.total_cmp(a);
    let rank = count / 4;
    let limit = match part.len() > rank {
        true => *part.select_nth_unstable_by(rank, falling).1,
        false => f32::NEG_INFINITY,
    };
    let mut found: Vec<f32> = values.iter().copied().filter(|&value| value >= limit).collect();
    if found.len() < count {
        found = values.to_vec();
    }
    found.select_nth_unstable_by(count - 1, falling);
    found.truncate(count);
    Some(found)
}

/// The greatest logits one by one, and the others by how many lie in each of [`BINS`] bins, at their mean.
fn in_bins(logits: &[f32], greatest: &[f32]) -> Vec<(f64, f64)> {
    let mut kept: Vec<(f64, f64)> = greatest.iter().map(|&logit| (f64::from(logit), 1.0)).collect();
    let cut = greatest.last().copied().unwrap_or(f32::INFINITY);
    let least = logits.iter().copied().fold(cut, f32::min);
    let scale = (BINS - 1) as f32 / (cut - least).max(f32::MIN_POSITIVE);
    let (mut sums, mut counts) = ([0.0f64; BINS], [0.0f64; BINS]);
    for &logit in logits.iter().filter(|&&logit| logit < cut) {
        let bin = (((cut - logit) * scale) as usize).min(BINS - 1);
        sums[bin] += f64::from(logit);
        counts[bin] += 1.0;
    }
    // As many of those that equal the least of the greatest as are not among these.
    let at_least = logits.iter().filter(|&&logit| logit >= cut).count();
    let equal = (at_least - greatest.len()) as f64;
    sums[0] += equal * f64::from(cut);
    counts[0] += equal;
    let bins = sums.iter().zip(&counts).filter(|(_, count)| **count > 0.0);
    kept.extend(bins.map(|(sum, count)| (sum / count, *count)));
    kept
}

/// The temperature under which `rows` (each with its own class) are least surprising; 1 if there is none.
pub fn fit(rows: &[&Row]) -> f64 {
    if rows.is_empty() {
        return 1.0;
    }
    let loss = |log: f64| {
        let temperature = log.exp();
        let each: Vec<f64> = rows
            .par_iter()
            .with_min_len(16)
            .map(|row| row.surprise(temperature))
            .collect();
        each.iter().sum::<f64>() + (log / PRIOR_DEVIATION).powi(2) / 2.0
    };
    minimise(-7.0, 10.0, loss).exp()
}

/// Where `f` is least between `low` and `high`: the best of a coarse grid, then R. P. Brent's search around it (*Algorithms
/// for Minimization without Derivatives*, 1973, chapter 5): the vertex of a parabola through the best three places where
/// that leads on, else a golden section.
pub fn minimise(low: f64, high: f64, f: impl Fn(f64) -> f64) -> f64 {
    const GRID: usize = 17;
    const STEPS: usize = 40;
    const CLOSE: f64 = 1e-5;
    let step = (high - low) / GRID as f64;
    let (at_best, start) = (0..=GRID)
        .map(|index| low + step * index as f64)
        .map(|x| (f(x), x))
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .unwrap_or((f64::INFINITY, low));
    let golden = (3.0 - 5.0f64.sqrt()) / 2.0;
    let (mut low, mut high) = ((start - step).max(low), (start + step).min(high));
    // The best place, the second best and the one before it, each with its value.
    let (mut best, mut second, mut third) = ((start, at_best), (start, at_best), (start, at_best));
    let (mut moved, mut moved_before) = (0.0f64, 0.0f64);
    for _ in 0..STEPS {
        let middle = 0.5 * (low + high);
        if (best.0 - middle).abs() <= 2.0 * CLOSE - 0.5 * (high - low) {
            break;
        }
        let r = (best.0 - second.0) * (best.1 - third.1);
        let q = (best.0 - third.0) * (best.1 - second.1);
        let (mut p, mut q) = ((best.0 - third.0) * q - (best.0 - second.0) * r, 2.0 * (q - r));
        if q > 0.0 {
            p = -p;
        }
        q = q.abs();
        let within = p > q * (low - best.0) && p < q * (high - best.0);
        let shorter = p.abs() < (0.5 * q * moved_before).abs();
        moved_before = moved;
        moved = if within && shorter && q > 0.0 {
            p / q
        } else {
            moved_before = if best.0 < middle {
                high - best.0
            } else {
                low - best.0
            };
            golden * moved_before
        };
        let x = best.0
            + if moved.abs() >= CLOSE {
                moved
            } else {
                CLOSE.copysign(moved)
            };
        let tried = (x, f(x));
        if tried.1 <= best.1 {
            *(if x >= best.0 { &mut low } else { &mut high }) = best.0;
            (third, second, best) = (second, best, tried);
        } else {
            *(if x < best.0 { &mut low } else { &mut high }) = x;
            if tried.1 <= second.1 || second.0 == best.0 {
                (third, second) = (second, tried);
            } else if tried.1 <= third.1 || third.0 == best.0 || third.0 == second.0 {
                third = tried;
            }
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minimum_of_a_parabola_is_found() {
        assert!((minimise(-7.0, 10.0, |x| (x - 1.234).powi(2)) - 1.234).abs() < 1e-4);
    }

    #[test]
    fn the_minimum_is_found_where_no_parabola_fits_and_at_either_end() {
        let corner = |x: f64| (x - 2.345).abs() + 0.1 * (x - 2.345).max(0.0);
        assert!((minimise(-7.0, 10.0, corner) - 2.345).abs() < 1e-4);
        let flat = |x: f64| (x.abs() - 3.0).max(0.0);
        assert!(minimise(-7.0, 10.0, flat).abs() <= 3.0);
        assert!((minimise(-7.0, 10.0, |x| x) + 7.0).abs() < 1e-4);
        assert!((minimise(-7.0, 10.0, |x| -x) - 10.0).abs() < 1e-4);
        assert!(minimise(-7.0, 10.0, |_| f64::NAN).is_finite());
    }

    #[test]
    fn as_many_are_counted_as_there_are_however_many_are_alike() {
        for count in [1, 127, 128, 129, 1000, 5000] {
            for kinds in [1, 2, 7, 5000] {
                let logits: Vec<f32> = (0..count).map(|index| (index * 7919 % kinds) as f32).collect();
                let row = Row::new(0.0, logits.clone());
                assert_eq!(row.others.iter().map(|other| other.1).sum::<f64>(), count as f64);
                let mean = |sum: f64| sum / count as f64;
                let binned = row.others.iter().map(|(logit, count)| logit * count).sum();
                let exact = logits.iter().map(|&logit| f64::from(logit)).sum();
                assert!((mean(binned) - mean(exact)).abs() < 1e-6, "{count} {kinds}");
            }
        }
    }

    /// Two classes; the own logit is 4 ahead three times of four, 4 behind else: P(own) = 3/4 at 4 / T = ln 3.
    #[test]
    fn the_temperature_makes_the_probability_the_share_of_the_right() {
        let rows: Vec<Row> = (0..4000)
            .map(|index| Row::new(if index % 4 == 0 { -4.0 } else { 4.0 }, vec![0.0]))
            .collect();
        let fitted = fit(&rows.iter().collect::<Vec<_>>());
        assert!((fitted - 4.0 / 3.0f64.ln()).abs() < 0.01, "{fitted}");
    }

    #[test]
    fn a_few_examples_that_are_all_right_do_not_make_it_certain() {
        let rows: Vec<Row> = (0..4).map(|_| Row::new(-1.0, vec![-3.0, -4.0])).collect();
        let fitted = fit(&rows.iter().collect::<Vec<_>>());
        assert!(fitted > 0.2, "{fitted}");
    }

    #[test]
    fn many_classes_counted_in_bins_surprise_as_they_do_one_by_one() {
        let logits: Vec<f32> = (0..5000)
            .map(|index| -((index * 7919) % 5000) as f32 / 100.0)
            .collect();
        let row = Row::new(-0.5, logits.clone());
        for temperature in [0.3, 1.0, 5.0, 30.0] {
            let sum: f64 = logits.iter().map(|&l| (f64::from(l) / temperature).exp()).sum();
            let exact = (sum + (-0.5 / temperature).exp()).ln() + 0.5 / temperature;
            assert!((row.surprise(temperature) - exact).abs() < 0.02, "{temperature}");
        }
    }
}
