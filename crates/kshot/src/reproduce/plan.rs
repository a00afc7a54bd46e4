//! The plan: every row's trainings as run folders, commands and tests.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::kept::Kept;
use super::row::{COLUMNS, Column, Measure, Planned, Row, Setup, Test, W5S1, W20S1};
use crate::data::ImageShape;
use crate::error::Error;
use crate::method::{self, METHODS, MethodSpec};
use crate::model;
use crate::norm::{Norm, NormalisedBy};
use crate::presentations::PRESENTATIONS;
use crate::report::escape::shell;
use crate::settings::{Layer, Settings};

/// Test episodes of each number in the table.
pub const TEST_EPISODES: u64 = 1000;
/// Seed of the test episodes.
pub const SEED: u64 = 1;

/// Side of the drawings where neither settings nor encoder say another.
const SIDE: usize = 28;

/// Settings that count training episodes, and what follows them, so that a scaled plan scales them.
const SCALED: [&str; 4] = ["episodes", "val-interval", "halve-every", "report-interval"];
/// Settings that count episodes of validations and tests, of which an interval needs two.
const SCALED_TESTS: [&str; 2] = ["val-episodes", "test-episodes"];

/// Under which protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// The paper's own.
    Paper,
    /// The one that is the same for all methods.
    Strict,
}

impl Protocol {
    /// Both, in the order of the table.
    pub const ALL: [Self; 2] = [Self::Paper, Self::Strict];

    /// `paper` or `strict`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Paper => "paper",
            Self::Strict => "strict",
        }
    }

    /// What `row` plans under it.
    pub fn setup(self, row: &Row) -> &Setup {
        match self {
            Self::Paper => &row.paper,
            Self::Strict => &row.strict,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is asked for.
pub struct Request<'a> {
    /// Names of methods; none for all that have rows.
    pub methods: &'a [String],
    /// Share of the planned episodes, in `(0, 1]`.
    pub scale: f64,
    /// Where Omniglot lies, when the caller said so.
    pub data_dir: Option<&'a str>,
    /// Where the run folders and the table lie.
    pub folder: &'a Path,
}

/// Every training of every row.
pub struct Plan {
    /// Where the run folders and the table lie.
    pub folder: PathBuf,
    /// Share of the planned episodes.
    pub scale: f64,
    /// The trainings in the order of the table.
    pub runs: Vec<Run>,
}

/// A training of the plan with its run folder.
pub struct Run {
    /// The method.
    pub method: &'static MethodSpec,
    /// The row that it serves.
    pub row: &'static Row,
    /// Under which protocol.
    pub protocol: Protocol,
    /// The training as the method's file has it.
    pub planned: &'static Planned,
    /// `matching-fce-paper`.
    pub name: String,
    /// Its run folder.
    pub folder: PathBuf,
    /// Its settings.
    pub settings: Settings,
    /// The command that trains it.
    pub command: String,
    /// Minutes of training that it should take, in all.
    pub minutes: f64,
    /// Its tests.
    pub trials: Vec<Trial>,
    /// Whether it was asked for.
    pub selected: bool,
    /// An earlier table's result of it, see [`Plan::keep`].
    pub kept: Option<Kept>,
}

/// A test of a trained model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// What it measures.
    pub measure: Measure,
    /// The policy of batch normalisation.
    pub norm: Norm,
    /// Queries per class.
    pub query: usize,
    /// Test episodes.
    pub episodes: u64,
}

impl Plan {
    /// The plan of all methods; those not asked for are not selected.
    ///
    /// # Errors
    /// An unknown method, one without rows, or a scale that is none.
    pub fn of(request: &Request<'_>) -> Result<Self, Error> {
        if !(request.scale > 0.0 && request.scale <= 1.0) {
            return Err(Error::Setting {
                name: "scale",
                problem: format!("expected a number above 0 and at most 1, found {}", request.scale),
            });
        }
        for name in request.methods {
            if method::find(name)?.rows.is_empty() {
                let with_rows: Vec<&str> = METHODS
                    .iter()
                    .filter(|spec| !spec.rows.is_empty())
                    .map(|spec| spec.name)
                    .collect();
                return Err(Error::Setting {
                    name: "method",
                    problem: format!(
                        "{name} has no row in the papers' table; choose from {}",
                        with_rows.join(", ")
                    ),
                });
            }
        }
        let mut runs = Vec::new();
        for &method in METHODS {
            let selected =
                request.methods.is_empty() || request.methods.iter().any(|name| name == method.name);
            for row in method.rows {
                for protocol in Protocol::ALL {
                    for planned in protocol.setup(row).trainings {
                        runs.push(Run::of(method, row, protocol, planned, selected, request)?);
                    }
                }
            }
        }
        Ok(Self {
            folder: request.folder.to_owned(),
            scale: request.scale,
            runs,
        })
    }

    /// Whether the training of that name was asked for.
    pub fn is_selected(&self, name: &str) -> bool {
        self.selected().any(|run| run.name == name)
    }

    /// The trainings that were asked for.
    pub fn selected(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(|run| run.selected)
    }
}

impl Run {
    fn of(
        method: &'static MethodSpec,
        row: &'static Row,
        protocol: Protocol,
        planned: &'static Planned,
        selected: bool,
        request: &Request<'_>,
    ) -> Result<Self, Error> {
        let words = [method.name, row.variant, planned.name, protocol.name()];
        let name = words
            .into_iter()
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join("-");
        let folder = request.folder.join(&name);
        let preset = method.preset(planned.preset)?;
        let mut flags: Vec<(String, String)> = [planned.common, planned.settings]
            .concat()
            .into_iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        let resolve = |flags: &[(String, String)]| {
            let mut layer: Layer = flags.iter().cloned().collect();
            layer.insert("method".to_owned(), method.name.to_owned());
            Settings::resolve(&[&preset, &layer])
        };
        if request.scale < 1.0 {
            for (name, value) in scaled(&resolve(&flags)?, request.scale) {
                flags.retain(|(given, _)| *given != name);
                flags.push((name, value));
            }
        }
        if let Some(data_dir) = request.data_dir {
            flags.push(("data-dir".to_owned(), data_dir.to_owned()));
        }
        let settings = resolve(&flags)?;
        let options: String = flags.iter().map(|(name, value)| flag(name, value)).collect();
        let command = format!(
            "kshot train {} --preset {}{options} --out {}",
            method.name,
            planned.preset,
            shell(&folder.display().to_string())
        );
        let episodes = scaled_count(TEST_EPISODES, request.scale, 2);
        let setup = protocol.setup(row);
        let mut trials: Vec<Trial> = setup
            .tests
            .iter()
            .flat_map(|test| trials(test, planned.columns, episodes))
            .collect();
        let mut further = |measure, query, episodes| {
            trials.extend(setup.tests.iter().map(|test| Trial {
                measure,
                norm: test.norm,
                query,
                episodes,
            }));
        };
        if protocol == Protocol::Strict && planned.columns.contains(&W20S1) {
            further(Measure::Lake, 1, 20);
        }
        if !row.published.presentations.is_empty() && planned.columns.contains(&W5S1) {
            further(Measure::Presentations, PRESENTATIONS, episodes);
        }
        Ok(Self {
            minutes: planned.minutes * request.scale,
            method,
            row,
            protocol,
            planned,
            name,
            folder,
            settings,
            command,
            trials,
            selected,
            kept: None,
        })
    }

    /// Planned training episodes.
    pub fn episodes(&self) -> u64 {
        self.settings.core.integer("episodes") as u64
    }

    /// Whose statistics normalise its models under `norm`.
    ///
    /// # Errors
    /// Settings of which no model can be made.
    pub fn normalised_by(&self, norm: Norm) -> Result<NormalisedBy, Error> {
        let side = self.settings.core.text("image-size").parse().ok();
        let side = side.or(self.settings.encoder.image_size).unwrap_or(SIDE);
        let learner = model::fresh(&self.settings, ImageShape::square(side, 1))?;
        Ok(learner.normalised_by(norm))
    }

    /// The command that makes `trial` on this run.
    pub fn test_command(&self, trial: &Trial) -> String {
        trial.command(&self.folder)
    }
}

impl Trial {
    /// The command that makes it on the run in `folder`.
    pub fn command(&self, folder: &Path) -> String {
        let folder = shell(&folder.display().to_string());
        match self.measure {
            Measure::Task(Column { way, shot }) => format!(
                "kshot eval {folder} --way {way} --shot {shot} --query {} --episodes {} --seed {SEED} --norm {}",
                self.query, self.episodes, self.norm
            ),
            Measure::Lake => format!("kshot eval {folder} --protocol lake --norm {}", self.norm),
            Measure::Presentations => format!(
                "kshot eval {folder} --protocol presentations --way {} --episodes {} --seed {SEED} --norm {}",
                W5S1.way, self.episodes, self.norm
            ),
        }
    }

    /// The settings of an evaluation that make it this one.
    pub fn layer(&self) -> Layer {
        let mut layer: Layer = [("norm", self.norm.name().to_owned()), ("seed", SEED.to_string())]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let numbers = match self.measure {
            Measure::Lake => Vec::new(),
            Measure::Presentations => vec![
                ("test-way", W5S1.way as u64),
                ("test-shot", 1),
                ("test-query", self.query as u64 - 1),
                ("test-episodes", self.episodes),
            ],
            Measure::Task(column) => vec![
                ("test-way", column.way as u64),
                ("test-shot", column.shot as u64),
                ("test-query", self.query as u64),
                ("test-episodes", self.episodes),
            ],
        };
        for (name, value) in numbers {
            layer.insert(name.to_owned(), value.to_string());
        }
        layer
    }
}

/// A setting as it stands on the command line.
fn flag(name: &str, value: &str) -> String {
    match value {
        "true" => format!(" --{name}"),
        "false" => format!(" --{name}=false"),
        _ => format!(" --{name} {}", shell(value)),
    }
}

fn trials(test: &Test, columns: &[Column], episodes: u64) -> Vec<Trial> {
    COLUMNS
        .into_iter()
        .zip(test.query)
        .filter(|(column, _)| columns.contains(column))
        .map(|(column, query)| Trial {
            measure: Measure::Task(column),
            norm: test.norm,
            query,
            episodes,
        })
        .collect()
}

/// The settings that a scaled plan changes.
fn scaled(settings: &Settings, scale: f64) -> Vec<(String, String)> {
    let at_least = SCALED
        .map(|name| (name, 1))
        .into_iter()
        .chain(SCALED_TESTS.map(|name| (name, 2)));
    at_least
        .map(|(name, least)| {
            let count = scaled_count(settings.core.integer(name) as u64, scale, least);
            (name.to_owned(), count.to_string())
        })
        .collect()
}

fn scaled_count(count: u64, scale: f64, least: u64) -> u64 {
    ((count as f64 * scale).round() as u64).max(least)
}
