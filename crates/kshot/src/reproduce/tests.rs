//! What the plan and the table promise, without training anything.

mod earlier;

use std::path::Path;

use super::tested::{Model, Tested, keep};
use super::*;
use crate::checkpoint::{Best, Checkpoint, Progress};
use crate::method::METHODS;
use crate::norm::{Norm, NormalisedBy};
use crate::presentations::Presentation;
use crate::record::Record;
use crate::report::escape;
use crate::report::tests::well_formed;
use crate::run;
use crate::settings::Settings;
use crate::train::Ended;

fn plan(folder: &Path, methods: &[&str], scale: f64) -> Plan {
    let methods: Vec<String> = methods.iter().map(|name| name.to_string()).collect();
    Plan::of(&Request {
        methods: &methods,
        scale,
        data_dir: None,
        folder,
    })
    .unwrap()
}

/// Makes `run` look as if it had been trained for `episode` episodes.
fn train(run: &Run, episode: u64) {
    let checkpoint = Checkpoint {
        settings: run.settings.layer(),
        progress: Progress {
            episode,
            updates: episode,
            seconds: 0.1 * episode as f64,
            val_accuracy: Some(0.9),
            best: Some(Best {
                episode,
                accuracy: 0.9,
            }),
            since_best: 0,
        },
        weights: vec![crate::named::Named {
            name: "w".to_owned(),
            shape: vec![1],
            values: vec![episode as f32],
        }],
        training: Vec::new(),
    };
    checkpoint.save(&run.folder.join(run::CHECKPOINTS)).unwrap();
    let line = |episode: u64| {
        format!("{{\"episode\":{episode},\"val_accuracy\":0.9,\"val_ci95\":0.01,\"seconds\":1.0}}\n")
    };
    let trace = line(episode / 2) + &line(episode);
    run::write_file(&run.folder, "trace.jsonl", trace.as_bytes()).unwrap();
}

/// Makes `trial` on `run` look as if it had been made with `accuracy`.
fn test(run: &Run, trial: &Trial, accuracy: f64) {
    let model = Model::of(&run.folder).unwrap();
    let column = match trial.measure {
        Measure::Task(column) => column,
        Measure::Lake => W20S1,
        Measure::Presentations => W5S1,
    };
    let record = Record {
        method: run.method.name.to_owned(),
        encoder: "conv4".to_owned(),
        data: "omniglot".to_owned(),
        split: "test".to_owned(),
        partition: "vinyals".to_owned(),
        protocol: match trial.measure {
            Measure::Task(_) => "episodes",
            Measure::Lake => "lake",
            Measure::Presentations => "presentations",
        }
        .to_owned(),
        norm: trial.norm,
        normalised_by: None,
        way: column.way,
        shot: column.shot,
        query: trial.query,
        episodes: trial.episodes as usize,
        seed: SEED,
        accuracy,
        ci95: 0.0015,
        seconds: 1.0,
        episodes_per_second: 1000.0,
    };
    let tested = Tested {
        trained: model.checkpoint.progress.episode,
        checkpoint: model.checkpoint.progress.episode,
        weights: model.weights,
        record,
        presentations: match trial.measure {
            Measure::Presentations => vec![Presentation {
                presentation: 1,
                accuracy: accuracy / 3.0,
                ci95: 0.01,
            }],
            _ => Vec::new(),
        },
    };
    keep(&run.folder, trial, tested).unwrap();
}

fn run_of<'a>(plan: &'a Plan, name: &str) -> &'a Run {
    plan.runs.iter().find(|run| run.name == name).unwrap()
}

#[test]
fn every_row_is_a_plan_whose_columns_are_served_once_under_each_protocol() {
    let plan = plan(Path::new("out"), &[], 1.0);
    let mut names: Vec<&str> = plan.runs.iter().map(|run| run.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(
        names.len(),
        plan.runs.len(),
        "each training has a folder of its own"
    );
    let plain = |name: &str| {
        name.bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    assert!(names.iter().all(|name| plain(name)), "{names:?}");
    for method in METHODS {
        for row in method.rows {
            assert!(!row.published.protocol.is_empty() && !row.published.source.is_empty());
            for protocol in Protocol::ALL {
                for column in COLUMNS {
                    let setup = protocol.setup(row);
                    let serving = setup
                        .trainings
                        .iter()
                        .filter(|planned| planned.columns.contains(&column));
                    let count = serving.count();
                    assert!(count <= 1, "{} {column} {protocol}", method.name);
                    let printed = row.published.of(column).is_some() && !setup.trainings.is_empty();
                    assert!(
                        !printed || count == 1,
                        "{} {column} {protocol} has no training",
                        method.name
                    );
                }
            }
        }
    }
}

#[test]
fn strict_means_the_same_for_every_method() {
    for run in plan(Path::new("out"), &[], 1.0).runs {
        let settings = &run.settings;
        assert_eq!(settings.dataset.name, "omniglot", "{}", run.name);
        assert!(run.minutes > 0.0 && run.episodes() > 0, "{}", run.name);
        if run.protocol == Protocol::Strict {
            assert_eq!(settings.partition(), "official", "{}", run.name);
            assert_eq!(
                settings.dataset_options.text("rotations"),
                "train",
                "{}",
                run.name
            );
            assert_eq!(settings.dataset_options.text("train-on"), "train", "{}", run.name);
            assert!(
                run.trials.iter().all(|trial| trial.norm == Norm::Running),
                "{}",
                run.name
            );
        } else {
            let expected = if run.method.name == "reptile" {
                "random"
            } else {
                "vinyals"
            };
            assert_eq!(settings.partition(), expected, "{}", run.name);
        }
    }
}

#[test]
fn every_line_says_what_normalises_where_that_is_not_running_averages() {
    let plan = plan(Path::new("out"), &[], 1.0);
    for run in &plan.runs {
        let by = run.normalised_by(Norm::Running).unwrap();
        let expected = match run.method.name {
            "maml" | "anil" | "meta-sgd" | "reptile" => match run.protocol {
                // The paper's protocol of these is transductive.
                Protocol::Paper => continue,
                Protocol::Strict => NormalisedBy::SupportAndQuery,
            },
            "lstm-learner" => NormalisedBy::SupportSteps,
            "meta-network" | "mann" => NormalisedBy::Nothing,
            _ => NormalisedBy::RunningAverages,
        };
        assert_eq!(by, expected, "{}", run.name);
    }
    let table = Table::gather(&plan, Vec::new()).unwrap();
    let text = table.to_markdown();
    assert!(
        !text.contains("running statistics")
            && table
                .in_words()
                .contains("no query sees another one: running averages"),
        "{}",
        table.in_words()
    );
    let html = table.to_html();
    for form in &table.forms {
        for line in form
            .ours
            .iter()
            .filter(|line| line.normalised_by != NormalisedBy::RunningAverages)
        {
            let words = match line.normalised_by {
                NormalisedBy::Episode => "transductive",
                by => by.short(),
            };
            assert!(line.name().contains(words), "{}", line.name());
            assert!(text.contains(&line.name()) && html.contains(&escape::html(&line.name())));
        }
    }
    let json = table.to_json();
    let rows = json["rows"].as_array().unwrap();
    let strict = |method: &str| {
        let of = |row: &&serde_json::Value| row["method"] == method && row["protocol"] == "strict";
        rows.iter().find(of).unwrap()["normalised_by"].clone()
    };
    assert_eq!(strict("maml"), "support-and-query");
    assert_eq!(strict("lstm-learner"), "support-steps");
    assert_eq!(strict("prototypical"), "running-averages");
}

#[test]
fn the_commands_say_what_is_done() {
    let plan = plan(Path::new("my out"), &["matching"], 0.01);
    let run = run_of(&plan, "matching-fce-strict");
    assert_eq!(
        run.command,
        "kshot train matching --preset strict --fce --way 20 --episodes 120 --val-interval 10 --halve-every 20 \
         --report-interval 1 --val-episodes 2 --test-episodes 10 --out 'my out/matching-fce-strict'"
    );
    assert_eq!(
        run.test_command(&run.trials[0]),
        "kshot eval 'my out/matching-fce-strict' --way 5 --shot 1 --query 15 --episodes 10 --seed 1 --norm running"
    );
    assert!(
        run.test_command(run.trials.last().unwrap())
            .contains("--protocol lake")
    );
}

#[test]
fn a_table_of_nothing_says_so_and_gives_the_published_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let table = Table::gather(&plan(folder.path(), &["relation"], 1.0), Vec::new()).unwrap();
    let text = table.to_markdown();
    assert!(
        text.contains("| **relation** | published | 99.6 ± 0.2 |"),
        "{text}"
    );
    assert!(
        text.contains("transductive, 1/5/1/5 queries | not trained |"),
        "{text}"
    );
    assert!(!table.is_finished());
    assert!(
        !text.contains("prototypical"),
        "only what was asked for or begun is shown"
    );
    well_formed::check(&table.to_html()).unwrap();
    let json = table.to_json();
    assert_eq!(json["rows"][0]["published"], 0.996);
    assert_eq!(json["rows"][0]["status"], "untrained");
}

#[test]
fn a_number_of_a_training_that_has_not_ended_says_after_how_many_episodes() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), &["prototypical"], 1.0);
    let run = run_of(&plan, "prototypical-paper");
    train(run, 3000);
    test(run, &run.trials[0], 0.9712);
    train(run, 5000);
    let table = Table::gather(&plan, Vec::new()).unwrap();
    let text = table.to_markdown();
    assert!(
        text.contains("97.12 ± 0.15 (after 3,000 of 12,000 episodes)"),
        "{text}"
    );
    assert!(text.contains("not tested (5,000 of 12,000 episodes)"), "{text}");
    assert!(
        text.contains("not finished: 5,000 of 12,000 episodes, 8 min 20 s"),
        "{text}"
    );
    let html = table.to_html();
    well_formed::check(&html).unwrap();
    assert!(
        html.contains("hollow") && html.contains("<small class=\"quiet\">(after 3,000 of 12,000 episodes)")
    );
}

#[test]
fn a_finished_table_has_every_number_and_lakes_error() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), &["prototypical"], 1.0);
    for run in plan.selected() {
        train(run, 12_000);
        for trial in &run.trials {
            test(
                run,
                trial,
                if trial.measure == Measure::Lake {
                    0.94
                } else {
                    0.9884
                },
            );
        }
    }
    let table = Table::gather(&plan, vec!["A note with <b>markup</b>.".to_owned()]).unwrap();
    assert!(table.is_finished());
    let text = table.to_markdown();
    assert!(
        text.contains("| ours, strict | 98.84 ± 0.15 | 98.84 ± 0.15 | 98.84 ± 0.15 | 98.84 ± 0.15 | 6.00 | all 12,000 episodes, 20 min 0 s |"),
        "{text}"
    );
    let html = table.to_html();
    well_formed::check(&html).unwrap();
    assert!(html.contains("A note with &lt;b&gt;markup"));
    assert_eq!(html.matches("<figure class=\"dots\">").count(), 4);
    assert_eq!(html.matches("tested: 12,000</text>").count(), 2);
    let json = table.to_json();
    let rows = json["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 9);
    assert!(rows.iter().all(|row| row["status"] == "finished"));
    let error = rows.iter().find(|row| row["column"] == "lake").unwrap()["error"]
        .as_f64()
        .unwrap();
    assert!((error - 0.06).abs() < 1e-12);
}

#[test]
fn a_training_ended_by_its_patience_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = plan(folder.path(), &["siamese"], 1.0);
    let run = &mut plan
        .runs
        .iter_mut()
        .find(|run| run.name == "siamese-paper")
        .unwrap();
    let mut layer = run.settings.layer();
    layer.insert("patience".to_owned(), "3".to_owned());
    run.settings = Settings::resolve(&[&layer]).unwrap();
    train(run, 4000);
    assert_eq!(run.state().unwrap().ended, None);
    let checkpoints = run.folder.join(run::CHECKPOINTS);
    let (mut checkpoint, _) = crate::checkpoint::latest(&checkpoints).unwrap();
    checkpoint.progress.since_best = 3;
    checkpoint.save(&checkpoints).unwrap();
    assert_eq!(run.state().unwrap().ended, Some(Ended::Patience));
    let text = Table::gather(&plan, Vec::new()).unwrap().to_markdown();
    assert!(
        text.contains(
            "validation flat after 4,000 of at most 12,000 episodes (3 validations without a better one)"
        ),
        "{text}"
    );
}

#[test]
fn a_run_with_other_settings_is_named_and_not_taken_for_the_planned_one() {
    let folder = tempfile::tempdir().unwrap();
    train(run_of(&plan(folder.path(), &[], 0.5), "matching-paper"), 6000);
    let error = Table::gather(&plan(folder.path(), &["matching"], 1.0), Vec::new())
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("matching-paper") && error.contains("episodes is 6000, planned is 12000"),
        "{error}"
    );
    // A method that was not asked for doesn't stand in the way.
    Table::gather(&plan(folder.path(), &["siamese"], 1.0), Vec::new()).unwrap();
}

#[test]
fn a_method_without_rows_and_a_scale_that_is_none_are_refused() {
    let error = |methods: &[String], scale| {
        let folder = Path::new("out");
        let data_dir = None;
        Plan::of(&Request {
            methods,
            scale,
            data_dir,
            folder,
        })
        .err()
        .unwrap()
        .to_string()
    };
    assert!(error(&["prototipical".to_owned()], 1.0).contains("prototypical"));
    assert!(error(&[], 0.0).contains("scale") && error(&[], 1.5).contains("1.5"));
}
