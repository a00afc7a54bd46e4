//! The regression on sinusoids, how far probabilities can be believed, and output that nobody reads to its end.

mod common;

use std::process::Stdio;

use common::{fail, kshot, succeed};
use serde_json::Value;

#[test]
fn sinusoids_are_a_regression_for_maml_alone() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let mut train = kshot();
    train.args([
        "train",
        "maml",
        "--data",
        "sinusoid",
        "--episodes",
        "20",
        "--json",
        "--out",
    ]);
    let found: Value = serde_json::from_slice(&succeed(train.arg(&out)).stdout).unwrap();
    assert_eq!(
        (&found["updates"], found["errors"].as_array().unwrap().len()),
        (&20.into(), 12)
    );
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("before adaptation"));
    for (arguments, said) in [
        (["prototypical", "--shot", "5"], "only maml"),
        (["maml", "--way", "5"], "--way means nothing"),
        (["maml", "--shot", "0"], "from 1 to"),
    ] {
        let mut train = kshot();
        train
            .arg("train")
            .args(arguments)
            .args(["--data", "sinusoid", "--out"])
            .arg(folder.path().join("no"));
        let error = fail(&mut train, 1);
        assert!(error.contains(said), "{error}");
    }
    assert!(!folder.path().join("no").exists());
}

#[test]
fn the_reliability_of_a_built_in_model_is_measured() {
    let mut eval = kshot();
    eval.args([
        "eval",
        "omniglot-conv4",
        "--protocol",
        "classifier",
        "--data",
        "glyphs",
        "--json",
    ]);
    eval.args(["--way", "3", "--shot", "3", "--query", "4", "--episodes", "12"]);
    let found: Value = serde_json::from_slice(&succeed(&mut eval).stdout).unwrap();
    let number = |name: &str| found[name].as_f64().unwrap();
    assert_eq!((&found["way"], &found["episodes"]), (&3.into(), &12.into()));
    assert!(number("accuracy") > 0.6 && number("auroc") > 0.6, "{found}");
    for name in ["ece", "ece_before", "accepted", "refused"] {
        assert!((0.0..=1.0).contains(&number(name)), "{name}: {found}");
    }
}

#[test]
fn output_that_nobody_reads_to_its_end_is_no_failure() {
    let mut list = kshot();
    list.args(["reproduce", "--list"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = list.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !error.contains("panicked"), "{error}");
}
