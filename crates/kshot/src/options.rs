//! Options that a method, a dataset or an encoder declares for itself.
//!
//! The command line, the configuration file, the help and the listings all follow from these
//! declarations, so that a new method brings its options along in its own file.

use std::collections::BTreeMap;

/// What values an option takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OptionKind {
    /// `true` or `false`; on the command line the bare flag means `true`.
    Flag,
    /// A whole number within the bounds, both included.
    Integer(i64, i64),
    /// A finite number within the bounds, both included.
    Number(f64, f64),
    /// A whole number within the bounds, or two joined by `-`, the lower one first.
    Range(usize, usize),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Any text.
    Text,
}

/// One option: `--name VALUE`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptionSpec {
    /// Without dashes, words joined by `-`.
    pub name: &'static str,
    /// Allowed values.
    pub kind: OptionKind,
    /// The value when none is given, as it would be written.
    pub default: &'static str,
    /// One line for the help.
    pub help: &'static str,
}

/// A value that its option can't take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--{name}: {problem}")]
pub struct OptionError {
    /// Which option.
    pub name: String,
    /// What was found and what is allowed.
    pub problem: String,
}

/// Options by name, checked against their declarations; those not given hold their defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    values: BTreeMap<String, String>,
}

impl Options {
    /// Checks `given` against `specs` and fills in the defaults.
    ///
    /// # Errors
    /// An option that isn't declared, or a value that isn't allowed.
    pub fn resolve(specs: &[OptionSpec], given: &BTreeMap<String, String>) -> Result<Self, OptionError> {
        for name in given.keys() {
            if !specs.iter().any(|spec| spec.name == name) {
                let known: Vec<_> = specs.iter().map(|spec| spec.name).collect();
                let problem = if known.is_empty() {
                    "not an option here (there are none)".to_owned()
                } else {
                    format!("not an option here; there are {}", known.join(", "))
                };
                return Err(OptionError {
                    name: name.clone(),
                    problem,
                });
            }
        }
        let mut values = BTreeMap::new();
        for spec in specs {
            let value = given.get(spec.name).map_or(spec.default, String::as_str);
            spec.check(value)?;
            values.insert(spec.name.to_owned(), value.to_owned());
        }
        Ok(Self { values })
    }

    /// The value of a declared option as text.
    pub fn text(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    /// The value of a declared [`OptionKind::Flag`].
    pub fn flag(&self, name: &str) -> bool {
        self.text(name) == "true"
    }

    /// The value of a declared [`OptionKind::Integer`] with non-negative bounds.
    pub fn integer(&self, name: &str) -> usize {
        self.text(name).parse().unwrap_or_default()
    }

    /// The value of a declared [`OptionKind::Number`].
    pub fn number(&self, name: &str) -> f64 {
        self.text(name).parse().unwrap_or_default()
    }

    /// The value of a declared [`OptionKind::Range`].
    pub fn range(&self, name: &str) -> std::ops::RangeInclusive<usize> {
        parse_range(self.text(name)).unwrap_or(0..=0)
    }

    /// Every option with its value, in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl OptionSpec {
    /// One from its parts.
    pub const fn new(
        name: &'static str,
        kind: OptionKind,
        default: &'static str,
        help: &'static str,
    ) -> Self {
        Self {
            name,
            kind,
            default,
            help,
        }
    }

    fn check(&self, value: &str) -> Result<(), OptionError> {
        let problem = match self.kind {
            OptionKind::Flag if value == "true" || value == "false" => None,
            OptionKind::Flag => Some("expected true or false".to_owned()),
            OptionKind::Integer(low, high) => match value.parse::<i64>() {
                Ok(number) if (low..=high).contains(&number) => None,
                _ => Some(format!("expected a whole number from {low} to {high}")),
            },
            OptionKind::Number(low, high) => match value.parse::<f64>() {
                Ok(number) if (low..=high).contains(&number) => None,
                _ => Some(format!("expected a number from {low} to {high}")),
            },
            OptionKind::Range(low, high) => match parse_range(value) {
                Some(range) if *range.start() >= low && *range.end() <= high && !range.is_empty() => None,
                _ => Some(format!(
                    "expected a whole number from {low} to {high}, or LOW-HIGH"
                )),
            },
            OptionKind::Choice(words) if words.contains(&value) => None,
            OptionKind::Choice(words) => Some(format!("expected one of {}", words.join(", "))),
            OptionKind::Text => None,
        };
        match problem {
            None => Ok(()),
            Some(problem) => Err(OptionError {
                name: self.name.to_owned(),
                problem: format!("{problem}, found `{value}`"),
            }),
        }
    }
}

fn parse_range(text: &str) -> Option<std::ops::RangeInclusive<usize>> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    Some(low.parse().ok()?..=high.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECS: &[OptionSpec] = &[
        OptionSpec {
            name: "size",
            kind: OptionKind::Integer(8, 512),
            default: "28",
            help: "",
        },
        OptionSpec {
            name: "order",
            kind: OptionKind::Choice(&["1", "2"]),
            default: "2",
            help: "",
        },
    ];

    fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    }

    #[test]
    fn defaults_fill_what_is_not_given() {
        let options = Options::resolve(SPECS, &given(&[("order", "1")])).unwrap();
        assert_eq!((options.integer("size"), options.text("order")), (28, "1"));
    }

    #[test]
    fn an_undeclared_name_and_a_bad_value_are_named() {
        let error = Options::resolve(SPECS, &given(&[("colour", "red")])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--colour: not an option here; there are size, order"
        );
        let error = Options::resolve(SPECS, &given(&[("size", "7")])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--size: expected a whole number from 8 to 512, found `7`"
        );
    }
}
