//! The regression on sinusoids, how far probabilities can be believed, and output that nobody reads to its end.

mod common;

use std::path::Path;
use std::process::Stdio;

use common::{fail, kshot, succeed, tiny_training};
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
    assert_eq!(found["order"], 2);
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("before adaptation") && page.contains("exact meta-gradient (order 2)"));
    let no = folder.path().join("no");
    for (arguments, said) in [
        (&["prototypical", "--shot", "5"][..], "only maml"),
        (&["maml", "--way", "5"], "--way means nothing"),
        (&["maml", "--shot", "0"], "from 1 to"),
        (
            &["maml", "--episodes", "1.5"],
            "--episodes: expected a whole number",
        ),
        (&["maml", "--lr", "nan"], "--lr: expected a number from 0 to 10"),
        (
            &["maml", "--inner-lr", "-1"],
            "--inner-lr: expected a number from 0",
        ),
        (
            &["maml", "--inner-lr", "1e30"],
            "--inner-lr: expected a number from 0",
        ),
        (
            &["maml", "--meta-batch", "1000", "--shot", "10000"],
            "lower --meta-batch or --shot",
        ),
        (&["maml", "--meta-batch", "100000"], "--meta-batch"),
        (&["maml", "--encoder", "conv4"], "expected one of mlp"),
        (&["maml", "--preset", "paper"], "preset: "),
        (&["maml", "--resume"], "resume: "),
    ] {
        let mut train = kshot();
        train
            .arg("train")
            .args(arguments)
            .args(["--data", "sinusoid", "--out"]);
        let error = fail(train.arg(&no), 2);
        assert!(error.contains(said), "{error}");
    }
    assert!(!no.exists());
}

#[test]
fn a_regression_replaces_no_report_and_ends_where_its_loss_is_not_finite() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let regression = |out: &Path, more: &[&str]| {
        let mut train = kshot();
        train.args([
            "train",
            "maml",
            "--data",
            "sinusoid",
            "--encoder",
            "mlp",
            "--episodes",
            "3",
        ]);
        train.args(more).arg("--out").arg(out);
        train
    };
    succeed(&mut tiny_training(&run));
    let before = std::fs::read(run.join("report.json")).unwrap();
    let error = fail(&mut regression(&run, &[]), 1);
    assert!(error.contains("already holds a run"), "{error}");
    assert_eq!(std::fs::read(run.join("report.json")).unwrap(), before);

    let other = folder.path().join("other");
    let order = &["--order", "1"];
    succeed(&mut regression(&other, order));
    let page = std::fs::read_to_string(other.join("report.html")).unwrap();
    assert!(page.contains("first-order meta-gradient (order 1)"));
    for again in [&mut regression(&other, order), &mut tiny_training(&other)] {
        let error = fail(again, 1);
        assert!(error.contains("already holds a run"), "{error}");
    }

    let lost = folder.path().join("lost");
    let error = fail(
        &mut regression(&lost, &["--inner-lr", "100", "--inner-steps", "20"]),
        1,
    );
    assert!(
        error.contains("the loss of update 0 is") && error.contains("lower --lr or --inner-lr"),
        "{error}"
    );
    assert!(!lost.join("report.json").exists());
}

#[test]
fn the_dataset_of_the_regression_says_what_it_is() {
    let text = succeed(kshot().args(["data", "info", "sinusoid"])).stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.contains("regression without classes") && text.contains("train maml"),
        "{text}"
    );
    let found = succeed(kshot().args(["data", "info", "sinusoid", "--json"])).stdout;
    let found: Value = serde_json::from_slice(&found).unwrap();
    assert_eq!(found["kind"], "regression");
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
