//! Axes: ranges with round ends, ticks, and their labels.

/// How numbers become places on an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Evenly, from zero where all numbers are positive.
    FromZero,
    /// Evenly, as close as round ends allow.
    Close,
    /// By powers of ten where positive numbers span more than a factor of 30, else as [`Scale::FromZero`].
    Powers,
}

/// An axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// Its ends.
    pub ends: [f64; 2],
    /// Where its ticks are.
    pub ticks: Vec<f64>,
    /// Whether places go by the logarithm.
    pub logarithmic: bool,
}

impl Axis {
    /// For numbers between `low` and `high` (finite, `low <= high`), with about `ticks` ticks.
    pub fn new(low: f64, high: f64, scale: Scale, ticks: usize) -> Self {
        if scale == Scale::Powers && low > 0.0 && high / low > 30.0 {
            return Self::powers(low, high);
        }
        let low = if scale == Scale::Close || low < 0.0 {
            low
        } else {
            0.0
        };
        let (low, high) = match high - low {
            span if span > 1e-12 * high.abs() && span > 0.0 => (low, high),
            _ if low == 0.0 => (0.0, 1.0),
            _ => (low - low.abs() * 0.05, high + high.abs() * 0.05),
        };
        let step = round_step((high - low) / ticks.max(1) as f64);
        let first = (low / step + 1e-9).floor();
        let last = (high / step - 1e-9).ceil().max(first + 1.0);
        let ends = [first * step, last * step];
        let count = (last - first).round() as usize;
        Self {
            ends,
            ticks: (0..=count).map(|tick| (first + tick as f64) * step).collect(),
            logarithmic: false,
        }
    }

    fn powers(low: f64, high: f64) -> Self {
        let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        let within = |value: f64| value >= low / 1.6 && value <= high * 1.6;
        let wide = last - first > 4;
        let every = if wide {
            ((last - first) as usize).div_ceil(5)
        } else {
            1
        };
        let factors: &[f64] = if last - first > 2 { &[1.0] } else { &[1.0, 3.0] };
        let ticks: Vec<f64> = (first..=last)
            .step_by(every)
            .flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)))
            .filter(|&tick| wide || within(tick))
            .collect();
        let least = ticks.first().map_or(low, |tick| tick.min(low));
        let most = ticks.last().map_or(high, |tick| tick.max(high));
        Self {
            ends: [least, most],
            ticks,
            logarithmic: true,
        }
    }

    /// Where `value` lies, 0 at the low end and 1 at the high end.
    pub fn place(&self, value: f64) -> f64 {
        let [low, high] = self.ends;
        let place = if self.logarithmic {
            (value.max(f64::MIN_POSITIVE) / low).ln() / (high / low).ln()
        } else {
            (value - low) / (high - low)
        };
        place.clamp(0.0, 1.0)
    }

    /// The label of a tick.
    pub fn label(&self, tick: f64) -> String {
        if self.logarithmic {
            return power_label(tick);
        }
        let step = (self.ends[1] - self.ends[0]) / (self.ticks.len().max(2) - 1) as f64;
        let decimals = (-step.log10() + 1e-9).ceil().max(0.0) as usize;
        if tick.abs() < step / 2.0 {
            "0".to_owned()
        } else if decimals > 4 || tick.abs() >= 1e9 {
            format!("{tick:.1e}").replace(".0e", "e")
        } else if step >= 1e6 {
            format!("{:.0}M", tick / 1e6)
        } else if step >= 1e3 {
            format!("{:.0}k", tick / 1e3)
        } else if tick >= 1e3 {
            super::numbers::count(tick.round() as u64)
        } else {
            format!("{tick:.decimals$}")
        }
    }
}

/// 1, 2 or 5 times a power of ten, at least `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powi(step.log10().floor() as i32);
    let factor = step / power;
    power
        * [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .find(|&round| factor <= round * (1.0 + 1e-9))
            .unwrap_or(10.0)
}

fn power_label(tick: f64) -> String {
    let power = tick.log10().floor() as i32;
    if (-3..=4).contains(&power) {
        format!("{:.*}", (-power).max(0) as usize, tick)
    } else {
        format!("{tick:.0e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, high: f64, scale: Scale) -> Vec<String> {
        let axis = Axis::new(low, high, scale, 4);
        axis.ticks.iter().map(|tick| axis.label(*tick)).collect()
    }

    #[test]
    fn ends_and_ticks_are_round() {
        assert_eq!(labels(0.0, 60.0, Scale::FromZero), ["0", "20", "40", "60"]);
        assert_eq!(labels(43.2, 97.9, Scale::Close), ["40", "60", "80", "100"]);
        assert_eq!(
            labels(0.1, 1.7, Scale::FromZero),
            ["0", "0.5", "1.0", "1.5", "2.0"]
        );
        assert_eq!(
            labels(0.0, 40_000.0, Scale::FromZero),
            ["0", "10k", "20k", "30k", "40k"]
        );
        assert_eq!(
            labels(0.0, 2_000.0, Scale::FromZero),
            ["0", "500", "1,000", "1,500", "2,000"]
        );
    }

    #[test]
    fn large_and_small_numbers_stay_short() {
        assert_eq!(labels(0.0, 0.001, Scale::FromZero), ["0", "0.0005", "0.0010"]);
        assert_eq!(labels(0.0, 3e-5, Scale::FromZero), ["0", "1e-5", "2e-5", "3e-5"]);
        assert_eq!(labels(0.0, 6e6, Scale::FromZero), ["0", "2M", "4M", "6M"]);
        assert_eq!(labels(0.0, 1e12, Scale::FromZero)[1], "5e11");
    }

    #[test]
    fn a_wide_range_goes_by_powers() {
        let axis = Axis::new(0.012, 2.9, Scale::Powers, 4);
        assert!(axis.logarithmic);
        let labels: Vec<String> = axis.ticks.iter().map(|tick| axis.label(*tick)).collect();
        assert_eq!(labels, ["0.01", "0.1", "1"]);
        assert!(axis.place(0.012) >= 0.0 && axis.place(2.9) <= 1.0);
        assert!(!Axis::new(0.5, 2.9, Scale::Powers, 4).logarithmic);
    }

    #[test]
    fn one_number_has_an_axis_too() {
        for value in [0.0, 1.0, -3.0, 1e-9, 1e9] {
            for scale in [Scale::FromZero, Scale::Close, Scale::Powers] {
                let axis = Axis::new(value, value, scale, 4);
                assert!(axis.ends[1] > axis.ends[0], "{value} {axis:?}");
                assert!(axis.ticks.len() >= 2 && axis.ticks.len() < 20, "{value} {axis:?}");
                assert!((0.0..=1.0).contains(&axis.place(value)));
            }
        }
    }
}
