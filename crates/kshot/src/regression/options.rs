//! What may be set of a regression, under the names of a classification's settings.

use super::Training;
use crate::error::Error;
use crate::inner::Order;
use crate::options::{OptionKind, OptionSpec, Options};
use crate::settings::Layer;

/// Most points of all tasks of an update together: their activations take a few hundred MiB.
const MOST_POINTS: usize = 200_000;

/// What may be set.
pub static OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        "episodes",
        OptionKind::Integer(1, 1_000_000_000),
        "20000",
        "weight updates",
    ),
    OptionSpec::new(
        "meta-batch",
        OptionKind::Integer(1, 1000),
        "25",
        "tasks per weight update",
    ),
    OptionSpec::new(
        "shot",
        OptionKind::Integer(1, 10_000),
        "10",
        "points of a task in training, and as many for the loss after its steps",
    ),
    OptionSpec::new(
        "inner-steps",
        OptionKind::Integer(1, 1000),
        "1",
        "gradient steps on the points in training",
    ),
    OptionSpec::new("inner-lr", OptionKind::Number(0.0, 100.0), "0.01", "their rate"),
    OptionSpec::new("lr", OptionKind::Number(0.0, 10.0), "0.001", "rate of Adam"),
    OptionSpec::new(
        "order",
        OptionKind::Choice(&["2", "1"]),
        "2",
        "exact meta-gradient (2), or without the inner gradients' own derivatives (1)",
    ),
    OptionSpec::new(
        "seed",
        OptionKind::Integer(0, i64::MAX),
        "1",
        "seed of weights and tasks",
    ),
    OptionSpec::new(
        "encoder",
        OptionKind::Choice(&["mlp"]),
        "mlp",
        "two layers of 40 ReLU units",
    ),
];

impl Training {
    /// The training that `given` describes; `method` and `data` may be named in it too.
    ///
    /// # Errors
    /// A method other than `maml`, a setting that means nothing here, a value out of its range, or more points than
    /// memory should hold.
    pub fn resolve(given: &Layer) -> Result<Self, Error> {
        if let Some(method) = given.get("method").filter(|method| *method != "maml") {
            return Err(Error::Setting {
                name: "method",
                problem: format!(
                    "sinusoids are a regression, which only maml learns (--order 2 or 1), found {method}"
                ),
            });
        }
        let mut given = given.clone();
        given.remove("method");
        given.remove("data");
        let known = |name: &String| OPTIONS.iter().any(|option| option.name == name);
        if let Some(name) = given.keys().find(|name| !known(name)) {
            let names: Vec<String> = OPTIONS
                .iter()
                .map(|option| format!("--{}", option.name))
                .collect();
            return Err(Error::Setting {
                name: "data",
                problem: format!(
                    "--{name} means nothing to the regression on sinusoids; it takes {}",
                    names.join(", ")
                ),
            });
        }
        let options = Options::resolve(OPTIONS, &given)?;
        let (tasks, shots) = (options.integer("meta-batch"), options.integer("shot"));
        if tasks * shots > MOST_POINTS {
            return Err(Error::Setting {
                name: "meta-batch",
                problem: format!(
                    "{tasks} tasks of {shots} points are more than the {MOST_POINTS} points that an update may have; lower \
                     --meta-batch or --shot"
                ),
            });
        }
        Ok(Self {
            updates: options.integer("episodes") as u64,
            tasks,
            shots,
            inner_steps: options.integer("inner-steps"),
            inner_lr: options.number("inner-lr") as f32,
            lr: options.number("lr"),
            order: match options.text("order") {
                "1" => Order::First,
                _ => Order::Second,
            },
            seed: options.integer("seed") as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_given_is_the_papers_training() {
        assert_eq!(Training::resolve(&Layer::new()).unwrap(), Training::default());
    }
}
