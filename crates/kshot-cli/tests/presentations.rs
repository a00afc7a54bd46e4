//! `kshot eval --protocol presentations`: accuracy by the n-th presentation, for a method with a memory and one without.

mod common;

use std::path::Path;

use common::{fail, kshot, succeed, tiny_training};
use serde_json::Value;

fn presentations(run: &Path) -> Value {
    let mut command = kshot();
    command
        .arg("eval")
        .arg(run)
        .args(["--protocol", "presentations", "--way", "4"]);
    command.args(["--episodes", "6", "--seed", "3", "--json"]);
    serde_json::from_slice(&succeed(&mut command).stdout).unwrap()
}

#[track_caller]
fn assert_ten_presentations(found: &Value) {
    assert_eq!(found["protocol"], "presentations");
    assert_eq!((&found["way"], &found["episodes"]), (&4.into(), &6.into()));
    let rows = found["presentations"].as_array().unwrap();
    assert_eq!(rows.len(), 10);
    let mut sum = 0.0;
    for (index, row) in rows.iter().enumerate() {
        assert_eq!(row["presentation"], index + 1);
        let accuracy = row["accuracy"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&accuracy), "{row}");
        assert!(row["ci95"].is_number(), "{row}");
        sum += accuracy;
    }
    let accuracy = found["accuracy"].as_f64().unwrap();
    assert!((accuracy - sum / 10.0).abs() < 1e-9, "{found}");
}

#[test]
fn a_memory_is_measured_by_the_presentation_and_says_how_many_classes_it_knows() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut command = kshot();
    command.args([
        "train",
        "mann",
        "--filters",
        "4",
        "--controller",
        "8",
        "--memory-rows",
        "16",
    ]);
    command.args(["--episodes", "32", "--val-episodes", "4", "--test-episodes", "4"]);
    succeed(command.arg("--out").arg(&run));
    assert_ten_presentations(&presentations(&run));
    let error = fail(
        kshot()
            .arg("eval")
            .arg(&run)
            .args(["--way", "6", "--episodes", "2"]),
        2,
    );
    assert!(
        error.contains("trained with 5") && error.contains("--way 6"),
        "{error}"
    );
}

#[test]
fn a_method_without_a_sequence_adapts_before_each_image() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    succeed(&mut tiny_training(&run));
    let found = presentations(&run);
    assert_ten_presentations(&found);
    // Nothing can be known of a class at its first presentation; at its tenth it has been seen nine times.
    let at = |n: usize| found["presentations"][n]["accuracy"].as_f64().unwrap();
    assert!(at(9) > at(0), "{found}");
}
