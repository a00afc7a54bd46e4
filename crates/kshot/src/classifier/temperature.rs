//! The temperature that makes probabilities honest (C. Guo et al. 2017, *On Calibration of Modern Neural Networks*,
//! section 4.2), by leave-one-out.

/// Logits below a row's greatest that are kept one by one; the others are counted in bins.
const KEPT: usize = 127;
const BINS: usize = 128;
/// Of log T around 0.
const PRIOR_DEVIATION: f64 = 1.5;

/// The logits of an example that was left out.
#[derive(Clone, Debug)]
pub struct Row {
    /// Of its own class without it; `None` if nothing is left of that.
    pub own: Option<f64>,
    greatest_other: f64,
    /// Logits of other classes and how many have each.
    others: Vec<(f64, f64)>,
}

impl Row {
    /// `own` is −∞ where nothing is left of the example's class.
    pub fn new(own: f32, mut others: Vec<f32>) -> Self {
        others.retain(|logit| logit.is_finite());
        let greatest_other = others.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut kept: Vec<(f64, f64)> = Vec::with_capacity(KEPT + BINS);
        if others.len() > KEPT {
            let (_, cut, rest) = others.select_nth_unstable_by(KEPT, |a, b| b.total_cmp(a));
            let cut = *cut;
            kept.push((f64::from(cut), 1.0));
            let least = rest.iter().copied().fold(cut, f32::min);
            let width = (cut - least).max(f32::MIN_POSITIVE);
            let mut bins = [(0.0, 0.0); BINS];
            for &logit in &*rest {
                let bin = &mut bins[((cut - logit) / width * (BINS - 1) as f32) as usize % BINS];
                *bin = (bin.0 + f64::from(logit), bin.1 + 1.0);
            }
            kept.extend(
                bins.iter()
                    .filter(|bin| bin.1 > 0.0)
                    .map(|bin| (bin.0 / bin.1, bin.1)),
            );
            others.truncate(KEPT);
        }
        kept.extend(others.iter().map(|&logit| (f64::from(logit), 1.0)));
        Self {
            own: own.is_finite().then_some(f64::from(own)),
            greatest_other: f64::from(greatest_other),
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
        let weight = |logit: f64| ((logit - greatest) / temperature).exp();
        let others: f64 = self
            .others
            .iter()
            .map(|&(logit, count)| count * weight(logit))
            .sum();
        (others + weight(own)).ln() - (own - greatest) / temperature
    }
}

/// The temperature under which `rows` (each with its own class) are least surprising; 1 if there is none.
pub fn fit(rows: &[&Row]) -> f64 {
    if rows.is_empty() {
        return 1.0;
    }
    let loss = |log: f64| {
        let surprise: f64 = rows.iter().map(|row| row.surprise(log.exp())).sum();
        surprise + (log / PRIOR_DEVIATION).powi(2) / 2.0
    };
    minimise(-7.0, 10.0, loss).exp()
}

/// Where `f` is least between `low` and `high`: the best of a coarse grid, then golden sections around it.
pub fn minimise(low: f64, high: f64, f: impl Fn(f64) -> f64) -> f64 {
    const GRID: usize = 17;
    const SECTIONS: usize = 24;
    let step = (high - low) / GRID as f64;
    let start = (0..=GRID)
        .map(|index| low + step * index as f64)
        .map(|x| (f(x), x))
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .map_or(low, |(_, x)| x);
    let (mut low, mut high) = ((start - step).max(low), (start + step).min(high));
    let ratio = (5.0f64.sqrt() - 1.0) / 2.0;
    let (mut left, mut right) = (high - ratio * (high - low), low + ratio * (high - low));
    let (mut at_left, mut at_right) = (f(left), f(right));
    for _ in 0..SECTIONS {
        if at_left <= at_right {
            (high, right, at_right) = (right, left, at_left);
            left = high - ratio * (high - low);
            at_left = f(left);
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = low + ratio * (high - low);
            at_right = f(right);
        }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minimum_of_a_parabola_is_found() {
        assert!((minimise(-7.0, 10.0, |x| (x - 1.234).powi(2)) - 1.234).abs() < 1e-4);
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
