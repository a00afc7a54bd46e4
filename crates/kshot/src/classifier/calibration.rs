//! What leaving examples out teaches: how sure to be, and when a picture is none of the classes.
//!
//! Each of a sample of examples is scored as a query against the classes as they are without it. Where its class has
//! other examples it stands for a picture of a known class; its scores against all *other* classes stand for a picture of
//! none. The sample is drawn by the pictures' hashes, so that the same examples give the same calibration whatever the
//! order in which they came.
//!
//! - The temperature T divides the logits, and minimises the negative log-probability of the true classes under a broad
//!   prior at 1 (see `temperature.rs`), so that a handful of examples that are all recognised doesn't make it certain.
//! - The boundary on the greatest logit separates both kinds best (Youden's index), but refuses at most a twentieth of
//!   the known. How fast the probability of being known rises around it is a logistic regression's slope.

use super::adapted::Adapted;
use super::left_out::{LeftOut, SAMPLE};
use super::temperature::{self, Row, minimise};
use super::{Class, FewShotClassifier};
use crate::error::Error;

/// Share of the left-out examples of known classes that the boundary may refuse.
const REFUSED: f64 = 0.05;
/// Fewest left-out examples of either kind for a boundary.
const FEWEST: usize = 4;
/// Times that a model which adapts to all examples together is adapted for the calibration.
const FOLDS: usize = 4;

/// What leaving examples out has taught.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    /// Divides the logits.
    pub temperature: f64,
    /// Where known ends; `None` while there are too few examples to tell (fewer than four left out, or one class).
    pub boundary: Option<Boundary>,
    /// Examples that were left out of a class with others.
    pub left_out: usize,
    /// Share of these that were recognised: what to expect of new pictures, or a little less than that.
    pub accuracy: Option<f64>,
}

/// Where known ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Boundary {
    /// On the greatest logit of a picture.
    pub at: f64,
    /// Of the log-odds of being known, per unit of the logit.
    pub slope: f64,
    /// Share of the left-out examples of known classes beyond it: accepted rightly.
    pub accepted: f64,
    /// Share of the left-out examples against other classes below it: refused rightly.
    pub refused: f64,
}

/// When a picture is called none of the classes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Unknown {
    /// Below the boundary that leaving examples out gives: when it is more probably none of them, both kinds being alike
    /// frequent.
    #[default]
    Auto,
    /// When the probability of being known is below this, in `[0, 1]`; [`Unknown::Auto`] is 0.5.
    Below(f64),
    /// Never: every picture is one of the classes.
    Never,
}

impl Unknown {
    /// `auto`, `never` or a probability.
    ///
    /// # Errors
    /// Any other text.
    pub fn from_text(text: &str) -> Result<Self, Error> {
        match text {
            "auto" => Ok(Self::Auto),
            "never" => Ok(Self::Never),
            _ => match text.parse() {
                Ok(least) => Self::Below(least).checked(),
                Err(_) => Self::Below(f64::NAN).checked(),
            },
        }
    }

    pub(super) fn checked(self) -> Result<Self, Error> {
        match self {
            Self::Below(least) if !(0.0..=1.0).contains(&least) => Err(Error::Setting {
                name: "unknown",
                problem: "expected `auto`, `never` or a probability from 0 to 1".to_owned(),
            }),
            checked => Ok(checked),
        }
    }

    pub(super) fn accepts(self, probability_known: f64) -> bool {
        match self {
            Self::Auto => probability_known >= 0.5,
            Self::Below(least) => probability_known >= least,
            Self::Never => true,
        }
    }
}

impl Calibration {
    /// That a picture is of one of the classes, if both kinds are alike frequent; 1 without a boundary.
    pub fn probability_known(&self, greatest_logit: f64) -> f64 {
        let odds = |boundary: Boundary| boundary.slope * (greatest_logit - boundary.at);
        self.boundary
            .map_or(1.0, |boundary| 1.0 / (1.0 + (-odds(boundary)).exp()))
    }
}

/// Leaves examples out; see the module. Where a kernel scores, `left_out` has their scores.
pub fn calibrate(classifier: &FewShotClassifier, left_out: Option<&LeftOut>) -> Result<Calibration, Error> {
    let rows = match left_out {
        Some(left_out) => left_out.rows(),
        None => adapted_rows(classifier)?,
    };
    let known: Vec<&Row> = rows.iter().filter(|row| row.own.is_some()).collect();
    let right = known.iter().filter(|row| row.is_right()).count();
    Ok(Calibration {
        temperature: temperature::fit(&known),
        boundary: boundary(&rows),
        left_out: known.len(),
        accuracy: (!known.is_empty()).then(|| right as f64 / known.len() as f64),
    })
}

fn adapted_rows(classifier: &FewShotClassifier) -> Result<Vec<Row>, Error> {
    let classes: Vec<&Class> = classifier.classes().collect();
    let longest = classes
        .iter()
        .map(|class| class.examples().len())
        .max()
        .unwrap_or(0);
    let mut rows = Vec::new();
    for fold in 0..longest.min(FOLDS) {
        let left_out = |class: &Class, example: usize| {
            let count = class.examples().len();
            count >= 2 && fold < count && example == fold
        };
        let taken: Vec<(usize, usize)> = classes
            .iter()
            .enumerate()
            .filter(|(_, class)| left_out(class, fold))
            .map(|(index, _)| (index, fold))
            .take(SAMPLE.1)
            .collect();
        if taken.is_empty() {
            continue;
        }
        let adapted = Adapted::to(classifier, |class, example| !left_out(class, example))?;
        let examples: Vec<_> = taken
            .iter()
            .map(|&(class, example)| &classes[class].examples()[example])
            .collect();
        for ((own, _), (logits, _)) in taken.iter().zip(adapted.score_examples(classifier, &examples)?) {
            let others = logits.iter().enumerate().filter(|(index, _)| index != own);
            rows.push(Row::new(logits[*own], others.map(|(_, &logit)| logit).collect()));
        }
    }
    Ok(rows)
}

fn boundary(rows: &[Row]) -> Option<Boundary> {
    let finite = |value: &f64| value.is_finite();
    let known: Vec<f64> = rows.iter().filter_map(Row::greatest).filter(finite).collect();
    let unknown: Vec<f64> = rows.iter().map(Row::greatest_other).filter(finite).collect();
    if known.len() < FEWEST || unknown.len() < FEWEST {
        return None;
    }
    let share = |values: &[f64], least: f64| {
        values.iter().filter(|&&value| value >= least).count() as f64 / values.len() as f64
    };
    let mut all = [&known[..], &unknown[..]].concat();
    all.sort_by(f64::total_cmp);
    let spread = (all[all.len() - 1] - all[0]).max(f64::MIN_POSITIVE);
    let mut best = (f64::NEG_INFINITY, all[0] - spread);
    for pair in all.windows(2) {
        let at = 0.5 * (pair[0] + pair[1]);
        let accepted = share(&known, at);
        let index = accepted - share(&unknown, at);
        if 1.0 - accepted <= REFUSED && index > best.0 {
            best = (index, at);
        }
    }
    let at = best.1;
    let loss = |log_slope: f64| {
        let slope = log_slope.exp() / spread;
        let cost = |values: &[f64], sign: f64| {
            let each = values
                .iter()
                .map(|value| (-sign * slope * (value - at)).exp().ln_1p());
            each.sum::<f64>() / values.len() as f64
        };
        // The prior: the odds change by a factor of e⁸ over the whole range, give or take.
        let prior = (log_slope - 8.0f64.ln()).powi(2) / (2.0 * all.len() as f64);
        cost(&known, 1.0) + cost(&unknown, -1.0) + prior
    };
    Some(Boundary {
        at,
        slope: minimise(0.0, 6.0, loss).exp() / spread,
        accepted: share(&known, at),
        refused: 1.0 - share(&unknown, at),
    })
}
