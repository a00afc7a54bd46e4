//! The papers' table: complete, interrupted and gone on with, within a budget, and never made twice.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use common::{checkpoints, fail, final_bytes, kshot, omniglot, succeed};
use serde_json::Value;
use tempfile::TempDir;

/// Few enough episodes for a test: 6 of a training's 12,000.
const SCALE: &str = "0.0005";

/// A small Omniglot and a table made from it, both made once.
struct Made {
    folder: TempDir,
    json: Value,
}

impl Made {
    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }
}

fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        omniglot::write(&data);
        omniglot::write_lake(&data);
        let output = succeed(reproduce(&data, &folder.path().join("out"), SCALE).arg("--json"));
        let json = serde_json::from_slice(&output.stdout).unwrap();
        Made { folder, json }
    })
}

fn reproduce(data: &Path, out: &Path, scale: &str) -> Command {
    let mut command = kshot();
    command
        .env("KSHOT_CACHE", data.join("cache"))
        .args(["reproduce", "--method", "siamese", "--scale", scale, "--data-dir"])
        .arg(data)
        .arg("--out")
        .arg(out);
    command
}

fn table(out: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(out.join("table.json")).unwrap()).unwrap()
}

/// The numbers of a table, without what differs from time to time.
fn numbers(table: &Value) -> Vec<String> {
    let rows = table["rows"].as_array().unwrap();
    rows.iter()
        .map(|row| {
            let shown = [
                "protocol",
                "column",
                "status",
                "accuracy",
                "ci95",
                "trained_episodes",
                "checkpoint",
            ];
            shown.map(|key| row[key].to_string()).join(" ")
        })
        .collect()
}

#[test]
fn the_table_has_the_published_numbers_and_ours_under_both_protocols() {
    let Made { json, .. } = made();
    assert_eq!(json["finished"], true);
    assert_eq!(json["scale"], 0.0005);
    let rows = json["rows"].as_array().unwrap();
    assert_eq!(
        rows.len(),
        9,
        "four columns under two protocols, and Lake's benchmark"
    );
    for row in rows {
        for key in [
            "method",
            "variant",
            "column",
            "protocol",
            "norm",
            "query",
            "status",
            "accuracy",
            "ci95",
            "episodes",
            "seed",
            "training",
            "trained_episodes",
            "checkpoint",
            "planned_episodes",
            "training_seconds",
            "commands",
        ] {
            assert!(row.get(key).is_some(), "{key} in {row}");
        }
        assert_eq!(row["status"], "finished");
        assert!((0.0..=1.0).contains(&row["accuracy"].as_f64().unwrap()));
    }
    assert_eq!(rows[0]["published"], 0.967);
    let lake = rows.iter().find(|row| row["column"] == "lake").unwrap();
    let sum = lake["error"].as_f64().unwrap() + lake["accuracy"].as_f64().unwrap();
    assert!((sum - 1.0).abs() < 1e-9);
    for training in json["trainings"].as_array().unwrap() {
        assert_eq!(training["ended"], "all episodes");
        assert_eq!(training["episodes"], 6);
    }
    let page = std::fs::read_to_string(made().out().join("table.html")).unwrap();
    assert!(page.contains("</html>") && page.contains("scaled down"));
    let text = std::fs::read_to_string(made().out().join("table.md")).unwrap();
    assert!(
        text.contains("| **siamese** | published | 96.7 |")
            && text.contains("kshot train siamese --preset tuned")
    );
}

#[test]
fn without_training_only_what_is_trained_is_tested() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let mut command = reproduce(&made().data(), &out, SCALE);
    let output = succeed(command.args(["--no-training", "--json"]));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["finished"], false);
    let rows = json["rows"].as_array().unwrap();
    assert!(rows.iter().all(|row| row["status"] == "untrained"), "{rows:?}");
    let notes = json["notes"].to_string();
    assert!(
        notes.contains("Train them with: kshot reproduce --method siamese"),
        "{notes}"
    );
    assert!(!notes.contains("no-training"), "{notes}");
    let files: Vec<_> = std::fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(files.len(), 3, "the table in its three forms: {files:?}");
}

#[test]
fn each_number_is_what_its_command_gives() {
    let rows = made().json["rows"].as_array().unwrap();
    let strict = |column: &str| {
        rows.iter()
            .find(|row| row["protocol"] == "strict" && row["column"] == column)
    };
    for column in ["20w5s", "lake"] {
        let row = strict(column).unwrap();
        let command = row["commands"][1].as_str().unwrap();
        let words = command.strip_prefix("kshot ").unwrap().split_whitespace();
        let output = succeed(
            kshot()
                .env("KSHOT_CACHE", made().data().join("cache"))
                .args(words)
                .arg("--json"),
        );
        let record: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(record["accuracy"], row["accuracy"], "{command}");
        assert_eq!(record["ci95"], row["ci95"], "{command}");
    }
}

#[test]
fn what_is_there_is_not_made_again() {
    let out = tempfile::tempdir().unwrap();
    // A copy, since other tests read the table.
    let out = out.path().join("out");
    copy(&made().out(), &out);
    let before = ["siamese-paper", "siamese-strict"].map(|run| modified(&out.join(run)));
    let output = succeed(reproduce(&made().data(), &out, SCALE).arg("--json"));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !text.contains("training ") && !text.contains("kshot eval"),
        "{text}"
    );
    let after = ["siamese-paper", "siamese-strict"].map(|run| modified(&out.join(run)));
    assert_eq!(before, after, "no file of a finished run is written again");
    assert_eq!(
        numbers(&serde_json::from_slice(&output.stdout).unwrap()),
        numbers(&made().json)
    );
}

#[test]
fn a_run_made_by_the_command_in_the_plan_is_taken_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let output = succeed(reproduce(&made().data(), &out, SCALE).args(["--list", "--json"]));
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    let training = &plan["trainings"][1];
    assert_eq!(
        (training["name"].as_str(), training["episodes"].as_u64()),
        (Some("siamese-strict"), Some(0))
    );
    assert!(training["planned_minutes"].as_f64().unwrap() > 0.0);
    assert!(!out.exists(), "--list makes nothing");
    let command = training["command"].as_str().unwrap();
    let words = command.strip_prefix("kshot ").unwrap().split_whitespace();
    succeed(
        kshot()
            .env("KSHOT_CACHE", made().data().join("cache"))
            .args(words),
    );
    let run = out.join("siamese-strict");
    let bytes = final_bytes(&run);
    assert_eq!(
        bytes,
        final_bytes(&made().out().join("siamese-strict")),
        "the same training, bit for bit"
    );
    succeed(&mut reproduce(&made().data(), &out, SCALE));
    assert_eq!(bytes, final_bytes(&run));
    assert_eq!(numbers(&table(&out)), numbers(&made().json));
}

#[test]
fn killed_at_any_moment_the_same_command_goes_on_to_the_same_table() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let started = Instant::now();
    made();
    let length = started.elapsed().max(Duration::from_secs(3));
    let mut kills = 0;
    for attempt in 1.. {
        assert!(attempt < 40, "it does not come to its end");
        let moment = if attempt > 6 {
            Duration::from_secs(600)
        } else {
            length.mul_f64(0.1 + 0.4 * (f64::from(attempt) * 0.618_034).fract())
        };
        let mut child = reproduce(&made().data(), &out, SCALE)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        let ended = loop {
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success());
                break true;
            }
            if started.elapsed() >= moment {
                child.kill().unwrap();
                child.wait().unwrap();
                break false;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        if ended {
            break;
        }
        kills += 1;
    }
    assert!(kills >= 1, "no kill hit it");
    assert_eq!(numbers(&table(&out)), numbers(&made().json));
    for run in ["siamese-paper", "siamese-strict"] {
        assert_eq!(
            final_bytes(&out.join(run)),
            final_bytes(&made().out().join(run)),
            "{run}"
        );
    }
}

#[test]
fn a_budget_advances_all_trainings_and_the_table_says_how_far() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let data = made().data();
    let started = Instant::now();
    let output = succeed(reproduce(&data, &out, "0.5").args(["--budget", "0.4", "--json"]));
    let seconds = started.elapsed().as_secs_f64();
    // One step, one validation or one test episode may be under way when it ends.
    assert!(seconds < 90.0, "{seconds:.0} s for a budget of 24");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["finished"], false);
    let note = json["notes"].to_string();
    assert!(
        note.contains("budget of 0.4 minutes") && note.contains("kshot reproduce"),
        "{note}"
    );
    for training in json["trainings"].as_array().unwrap() {
        let done = training["episodes"].as_u64().unwrap();
        assert!(done > 0 && done < 6000, "{training}");
        assert_eq!(training["ended"], Value::Null);
        assert!(!checkpoints(&out.join(training["name"].as_str().unwrap())).is_empty());
    }
    for row in json["rows"].as_array().unwrap() {
        assert!(row["status"] == "partial" || row["status"] == "untested", "{row}");
    }
    let text = std::fs::read_to_string(out.join("table.md")).unwrap();
    assert!(text.contains("of 6,000 episodes"), "{text}");
}

#[cfg(unix)]
#[test]
fn an_interrupt_saves_writes_the_table_and_says_how_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let child = reproduce(&made().data(), &out, "0.5")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    while checkpoints(&out.join("siamese-paper")).is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("go on with: kshot reproduce --method siamese --scale 0.5"),
        "{text}"
    );
    let table = table(&out);
    assert_eq!(table["finished"], false);
    assert!(table["notes"].to_string().contains("Stopped before its end"));
}

#[test]
fn a_folder_with_another_plans_run_is_refused_before_anything_is_trained() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    copy(&made().out().join("siamese-strict"), &out.join("siamese-strict"));
    let error = fail(&mut reproduce(&made().data(), &out, "0.5"), 1);
    assert!(
        error.contains("siamese-strict")
            && error.contains("episodes is 6, planned is 6000")
            && error.contains("--out"),
        "{error}"
    );
    assert!(!out.join("siamese-paper").exists());
}

#[test]
fn wrong_usage_and_missing_data_are_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    fail(kshot().args(["reproduce", "--method", "siameze"]), 2);
    fail(kshot().args(["reproduce", "--budget", "-1"]), 2);
    fail(kshot().args(["reproduce", "--scale", "2", "--list"]), 2);
    let error = fail(&mut reproduce(&folder.path().join("nothing"), &out, SCALE), 1);
    assert!(
        error.contains("omniglot") && error.contains("--data-dir"),
        "{error}"
    );
    assert!(!out.exists(), "nothing is left behind");
}

#[test]
fn a_table_stands_in_for_run_folders_that_are_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (made().out().join("table.json"), folder.path().join("out"));
    let mut command = kshot();
    command.args([
        "reproduce",
        "--no-training",
        "--json",
        "--scale",
        SCALE,
        "--results",
    ]);
    // Neither the data nor a training is needed.
    let output = succeed(
        command
            .arg(&file)
            .arg("--out")
            .arg(&out)
            .env("KSHOT_DATA", "nowhere"),
    );
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["rows"], made().json["rows"]);
    assert_eq!(json["trainings"], made().json["trainings"]);
    assert_eq!(
        (&json["finished"], &json["notes"]),
        (&true.into(), &serde_json::json!([]))
    );
    let markdown = |out: &Path| std::fs::read_to_string(out.join("table.md")).unwrap();
    assert_eq!(markdown(&out), markdown(&made().out()));
    let files = std::fs::read_dir(&out).unwrap().count();
    assert_eq!(files, 3, "the table in its three forms");
    // Nor are they trained where trainings are asked for: with a budget, without one, and from the new table.
    for budget in [None, Some("1")] {
        let mut command = reproduce(&made().data(), &out, SCALE);
        command.arg("--results").arg(out.join("table.json"));
        let output = succeed(command.args(budget.into_iter().flat_map(|minutes| ["--budget", minutes])));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.is_empty(), "{text}");
        assert_eq!(table(&out)["rows"], made().json["rows"]);
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), 3);
    }
}

#[test]
fn results_that_do_not_fit_are_named_and_a_wrong_file_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (made().out().join("table.json"), folder.path().join("out"));
    let with = |results: &Path, out: &Path, scale: &str| {
        let mut command = reproduce(&made().data(), out, scale);
        command.arg("--results").arg(results).arg("--no-training");
        command
    };
    let output = succeed(&mut with(&file, &out, "0.5"));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains("siamese-strict (its plan has 6 episodes, this one 6,000)"),
        "{text}"
    );
    let shown = table(&out);
    assert!(
        shown["notes"].to_string().contains("this one 6,000"),
        "{}",
        shown["notes"]
    );
    assert!(
        shown["rows"]
            .as_array()
            .unwrap()
            .iter()
            .all(|row| row["status"] == "untrained")
    );
    // A table whose results would be lost is not written over.
    let copied = folder.path().join("table.json");
    std::fs::copy(&file, &copied).unwrap();
    let error = fail(&mut with(&copied, folder.path(), "0.5"), 1);
    assert!(error.contains("copy it to another place"), "{error}");
    assert_eq!(std::fs::read(&copied).unwrap(), std::fs::read(&file).unwrap());
    std::fs::write(&copied, "{\"rows\": 1}").unwrap();
    let error = fail(&mut with(&copied, &out, SCALE), 1);
    assert!(
        error.contains("table.json: ") && error.contains("line 1"),
        "{error}"
    );
    let error = fail(&mut with(&folder.path().join("none.json"), &out, SCALE), 1);
    assert!(error.contains("none.json"), "{error}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Every file below `folder` with the moment of its last change.
fn modified(folder: &Path) -> Vec<(PathBuf, std::time::SystemTime)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(modified(&path));
        } else {
            found.push((path.clone(), path.metadata().unwrap().modified().unwrap()));
        }
    }
    found.sort();
    found
}
