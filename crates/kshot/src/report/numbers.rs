//! Numbers as a reader wants them.

/// A share in `[0, 1]` in per cent with one decimal: `87.3 %`.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// A share in `[0, 1]` in whole per cent, but never `100 %` for less than all or `0 %` for more than nothing.
pub fn whole_percent(share: f64) -> String {
    let percent = (100.0 * share).round();
    if share.is_nan() {
        "no number".to_owned()
    } else if share < 1.0 && percent >= 100.0 {
        ">99 %".to_owned()
    } else if share > 0.0 && percent < 1.0 {
        "<1 %".to_owned()
    } else {
        format!("{percent:.0} %")
    }
}

/// Mean and half-width of an interval, both in `[0, 1]`: `87.28 ± 0.33 %`.
pub fn with_interval(mean: f64, ci95: f64) -> String {
    if ci95 < 1.0 {
        format!("{:.2} ± {:.2} %", 100.0 * mean, 100.0 * ci95)
    } else {
        format!("{:.2} % (one episode has no interval)", 100.0 * mean)
    }
}

/// A count with its thousands apart: `12,345`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count and its noun: `1 episode`, `1,000 episodes`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// Seconds: `12.3 s`, `3 min 20 s`, `1 h 12 min`.
pub fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    if whole < 3600 {
        format!("{} min {} s", whole / 60, whole % 60)
    } else {
        format!("{} h {} min", whole / 3600, whole % 3600 / 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(with_interval(0.87281, 0.0033), "87.28 ± 0.33 %");
        assert_eq!(
            with_interval(0.5, f64::INFINITY),
            "50.00 % (one episode has no interval)"
        );
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(counted(1, "episode", "episodes"), "1 episode");
        assert_eq!(duration(12.34), "12.3 s");
        assert_eq!(duration(200.2), "3 min 20 s");
        assert_eq!(duration(4320.0), "1 h 12 min");
    }

    #[test]
    fn nearly_all_is_not_all() {
        assert_eq!(whole_percent(0.9999), ">99 %");
        assert_eq!(whole_percent(0.0001), "<1 %");
        assert_eq!(whole_percent(1.0), "100 %");
        assert_eq!(whole_percent(0.0), "0 %");
        assert_eq!(whole_percent(0.614), "61 %");
        assert_eq!(whole_percent(f64::NAN), "no number");
    }
}
