//! Settings, the machine, and the command that repeats an evaluation.

use std::path::Path;

use kshot_kernels::SimdLevel;
use serde::{Deserialize, Serialize};

use super::escape::shell;
use super::numbers::counted;
use crate::options::{OptionSpec, Options};
use crate::record::Record;
use crate::settings::{SETTINGS, Settings};

/// Settings that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What they are settings of.
    pub title: String,
    /// In the order of their declaration.
    pub rows: Vec<Setting>,
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// As on the command line, without dashes.
    pub name: &'static str,
    /// What it was.
    pub value: String,
    /// What it would have been.
    pub default: &'static str,
    /// What it is.
    pub help: &'static str,
}

/// Every setting.
pub fn settings(settings: &Settings) -> Vec<Group> {
    let group = |title: String, specs: &'static [OptionSpec], options: &Options| Group {
        title,
        rows: specs
            .iter()
            .map(|spec| Setting {
                name: spec.name,
                value: options.text(spec.name).to_owned(),
                default: spec.default,
                help: spec.help,
            })
            .collect(),
    };
    let mut groups = vec![
        group("Training and test".to_owned(), SETTINGS, &settings.core),
        group(
            format!("Method {}", settings.method.name),
            settings.method.options,
            &settings.method_options,
        ),
        group(
            format!("Dataset {}", settings.dataset.name),
            settings.dataset.options,
            &settings.dataset_options,
        ),
        group(
            format!("Encoder {}", settings.encoder.name),
            settings.encoder.options,
            &settings.encoder_options,
        ),
    ];
    groups.retain(|group| !group.rows.is_empty());
    groups
}

/// Where a report was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// kshot's version.
    pub version: String,
    /// Operating system and architecture: `linux x86_64`.
    pub system: String,
    /// Vector instructions that the convolution kernels use.
    pub simd: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Worker threads.
    pub threads: usize,
    /// Where the tensors were.
    pub device: String,
}

impl Machine {
    /// This one, with the tensors on `device`.
    pub fn here(device: &str) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            simd: SimdLevel::current().name().to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            threads: rayon::current_num_threads(),
            device: device.to_owned(),
        }
    }

    /// `kshot 0.1.0, linux x86_64, 2 cores, 1 thread, avx512`.
    pub fn in_words(&self) -> String {
        format!(
            "kshot {}, {}, {}, {}, {}",
            self.version,
            self.system,
            counted(self.cores as u64, "core", "cores"),
            counted(self.threads as u64, "thread", "threads"),
            self.simd
        )
    }

    /// Its facts, each with its name.
    pub fn facts(&self) -> [(&'static str, String); 6] {
        [
            ("kshot", self.version.clone()),
            ("system", self.system.clone()),
            ("cores", self.cores.to_string()),
            ("worker threads", self.threads.to_string()),
            ("vector instructions", self.simd.clone()),
            ("device", self.device.clone()),
        ]
    }
}

/// The command that repeats the evaluation of the run in `folder`.
pub fn command(record: &Record, folder: &Path) -> String {
    let folder = shell(&folder.display().to_string());
    let split = shell(&format!("{}:{}", record.partition, record.split));
    format!(
        "kshot eval {folder} --split {split} --way {} --shot {} --query {} --episodes {} --seed {} --norm {}",
        record.way, record.shot, record.query, record.episodes, record.seed, record.norm
    )
}
