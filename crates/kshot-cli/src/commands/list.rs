//! `kshot methods`, `kshot encoders`, `kshot datasets`: what the registries hold.

use anyhow::Result;
use clap::{ArgMatches, Command};
use kshot::data::registry::DATASETS;
use kshot::encoder::ENCODERS;
use kshot::method::METHODS;
use kshot::options::OptionSpec;
use kshot::settings::{Layer, Settings};
use serde_json::{Value, json};

use super::common;

pub fn commands() -> [Command; 3] {
    [
        ("methods", "The methods"),
        ("encoders", "The encoders"),
        ("datasets", "The datasets"),
    ]
    .map(|(name, about)| {
        Command::new(name)
            .about(format!("{about} that kshot knows, with their options"))
            .arg(common::json_flag())
    })
}

pub fn run(name: &str, matches: &ArgMatches) -> Result<()> {
    let entries = match name {
        "methods" => methods(),
        "encoders" => encoders(),
        _ => datasets(),
    };
    if matches.get_flag("json") {
        return common::print_json(&entries);
    }
    for entry in &entries {
        print(entry);
    }
    Ok(())
}

fn methods() -> Vec<Value> {
    METHODS
        .iter()
        .map(|spec| {
            let presets: Vec<Value> = spec
                .presets
                .iter()
                .map(|preset| {
                    let settings: serde_json::Map<String, Value> =
                        preset.settings.iter().map(|(name, value)| (name.to_string(), json!(value))).collect();
                    json!({"name": preset.name, "summary": preset.summary, "settings": settings})
                })
                .collect();
            json!({
                "name": spec.name, "family": spec.family.name(), "summary": spec.summary, "source": spec.paper,
                "options": options(spec.options), "training": training(spec.name), "presets": presets,
            })
        })
        .collect()
}

/// What a training without a preset does, and a preset where it doesn't say otherwise.
fn training(method: &str) -> serde_json::Map<String, Value> {
    let layer = Layer::from([("method".to_owned(), method.to_owned())]);
    let settings = Settings::resolve(&[&layer]).map(|settings| settings.layer());
    let told = settings.unwrap_or_default().into_iter();
    told.filter(|(name, _)| TRAINING.contains(&name.as_str()))
        .map(|(name, value)| (name, Value::String(value)))
        .collect()
}

/// The settings that make a training's protocol.
const TRAINING: &[&str] = &[
    "data",
    "encoder",
    "way",
    "shot",
    "query",
    "meta-batch",
    "episodes",
    "optimizer",
    "lr",
    "schedule",
    "norm",
    "val-interval",
];

fn encoders() -> Vec<Value> {
    ENCODERS
        .iter()
        .map(|spec| {
            json!({"name": spec.name, "summary": spec.summary, "source": spec.paper, "options": options(spec.options)})
        })
        .collect()
}

fn datasets() -> Vec<Value> {
    DATASETS
        .iter()
        .map(|spec| {
            json!({
                "name": spec.name, "argument": spec.argument, "summary": spec.summary, "source": spec.source,
                "splits": spec.partitions, "options": options(spec.options),
            })
        })
        .collect()
}

fn options(specs: &[OptionSpec]) -> Vec<Value> {
    specs
        .iter()
        .map(|spec| json!({"name": spec.name, "default": spec.default, "help": spec.help}))
        .collect()
}

fn print(entry: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let family = entry
        .get("family")
        .map_or_else(String::new, |family| format!(" [{}]", text(family)));
    println!(
        "{}{family}\n    {}\n    {}",
        text(&entry["name"]),
        text(&entry["summary"]),
        text(&entry["source"])
    );
    if let Some(splits) = entry.get("splits").and_then(Value::as_array) {
        println!(
            "    --split {}",
            splits.iter().map(text).collect::<Vec<_>>().join("|")
        );
    }
    for option in entry["options"].as_array().into_iter().flatten() {
        println!(
            "    --{} [{}]: {}",
            text(&option["name"]),
            text(&option["default"]),
            text(&option["help"])
        );
    }
    if let Some(training) = entry.get("training").and_then(Value::as_object) {
        let flags = training
            .iter()
            .map(|(name, value)| format!("--{name} {}", text(value)));
        println!(
            "    without a preset, and in a preset what it doesn't say: {}",
            flags.collect::<Vec<_>>().join(" ")
        );
    }
    for preset in entry
        .get("presets")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        println!(
            "    --preset {}: {}",
            text(&preset["name"]),
            text(&preset["summary"])
        );
        for (name, value) in preset["settings"].as_object().into_iter().flatten() {
            println!("        --{name} {}", text(value));
        }
    }
}
