//! `kshot eval --protocol steps`: how a task is learned step by step, by the method's own rule, SGD and Adam.

mod common;

use common::{fail, kshot, succeed, tiny_training};
use serde_json::Value;

#[test]
fn a_method_that_learns_in_steps_is_set_beside_sgd_and_adam_from_the_same_start() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut command = kshot();
    command.args([
        "train",
        "maml",
        "--filters",
        "4",
        "--episodes",
        "32",
        "--test-steps",
        "3",
    ]);
    command.args(["--val-episodes", "4", "--test-episodes", "4"]);
    succeed(command.arg("--out").arg(&run));
    let mut command = kshot();
    command.arg("eval").arg(&run);
    command.args(["--protocol", "steps", "--episodes", "5", "--seed", "3", "--json"]);
    let found: Value = serde_json::from_slice(&succeed(&mut command).stdout).unwrap();
    assert_eq!(found["protocol"], "steps");
    let curves = found["curves"].as_array().unwrap();
    let rules: Vec<&Value> = curves.iter().map(|curve| &curve["rule"]).collect();
    assert_eq!(rules, ["maml", "sgd", "adam"]);
    for curve in curves {
        let points = curve["points"].as_array().unwrap();
        let steps: Vec<u64> = points
            .iter()
            .map(|point| point["step"].as_u64().unwrap())
            .collect();
        assert_eq!(steps, [0, 1, 2, 3]);
        // Before the first step all stand at the same point.
        assert_eq!(points[0], curves[0]["points"][0]);
        assert_ne!(points[0]["loss"], points[3]["loss"]);
    }
    assert_eq!(found["accuracy"], curves[0]["points"][3]["accuracy"]);
    assert!(curves[0]["rate"].is_null() && curves[1]["rate"].is_number());
}

#[test]
fn a_method_that_learns_in_no_steps_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    succeed(&mut tiny_training(&run));
    let mut command = kshot();
    command
        .arg("eval")
        .arg(&run)
        .args(["--protocol", "steps", "--episodes", "2"]);
    let error = fail(&mut command, 2);
    assert!(error.contains("doesn't learn a task in steps"), "{error}");
}

/// The episode of the best validation of a short MAML training that begins with `warm_up` tasks of ANIL's.
fn best_after_a_warm_up(warm_up: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut command = kshot();
    command.args([
        "train",
        "maml",
        "--filters",
        "4",
        "--meta-batch",
        "2",
        "--warm-up",
        warm_up,
    ]);
    command.args(["--episodes", "16", "--val-interval", "2", "--average", "0.9"]);
    command.args(["--val-episodes", "2", "--test-episodes", "2"]);
    succeed(command.arg("--out").arg(&run));
    let newest = common::checkpoints(&run).pop().unwrap();
    let state = std::fs::read(newest.join("state.json")).unwrap();
    let state: Value = serde_json::from_slice(&state).unwrap();
    state["progress"]["best"]["episode"].clone()
}

#[test]
fn no_validation_of_a_warm_up_is_the_best_one() {
    let best = best_after_a_warm_up("12").as_u64().unwrap();
    assert!(best > 12, "the best of 14 and 16, found {best}");
    assert!(best_after_a_warm_up("40").is_null());
}
