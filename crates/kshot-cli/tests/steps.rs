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
