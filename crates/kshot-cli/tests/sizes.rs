//! Tasks that ask for more than memory has are refused before a training begins, in one line.

mod common;

use common::{fail, kshot};

#[test]
fn what_memory_can_not_hold_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    for (arguments, said) in [
        (
            &[
                "mann",
                "--filters",
                "4",
                "--controller",
                "4",
                "--memory-rows",
                "65536",
                "--memory-width",
                "4096",
            ][..],
            "memory-rows: the memories of sequences side by side would take",
        ),
        (
            &["lstm-learner", "--filters", "1024", "--lstm-units", "256"],
            "lstm-units: the rule's state of every weight would take",
        ),
        (
            &["lstm-learner", "--filters", "256", "--inner-steps", "1000"],
            "inner-steps: what the rule is told of every weight would take",
        ),
        (
            &["meta-network", "--filters", "256", "--query", "2000"],
            "query: the fast weights of its queries would take",
        ),
        (
            &[
                "relation",
                "--encoder",
                "relation",
                "--way",
                "200",
                "--query",
                "10000",
            ],
            "query: the pairs of a task's queries and classes would take",
        ),
        (
            &[
                "matching", "--fce", "--way", "1000", "--query", "10000", "--reads", "64",
            ],
            "reads: the readings of a task's queries would take",
        ),
    ] {
        let mut train = kshot();
        let error = fail(train.arg("train").args(arguments).arg("--out").arg(&out), 2);
        assert!(
            error.contains(said) && error.contains("lower one of these"),
            "{arguments:?}: {error}"
        );
        assert!(!out.exists(), "nothing is left behind");
    }
}

#[test]
fn more_classes_than_a_model_can_answer_are_refused_before_the_training_and_follow_its_own_by_default() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let train = |more: &[&str]| {
        let mut train = kshot();
        train.args([
            "train",
            "mann",
            "--filters",
            "4",
            "--controller",
            "8",
            "--memory-rows",
            "8",
        ]);
        train.args([
            "--way",
            "4",
            "--query",
            "2",
            "--episodes",
            "2",
            "--val-episodes",
            "2",
        ]);
        train
            .args(["--test-episodes", "2", "--test-query", "2"])
            .args(more);
        train.arg("--out").arg(&out);
        train
    };
    for way in ["--val-way", "--test-way"] {
        let error = fail(&mut train(&[way, "5"]), 2);
        let said = format!("or give {way} 4");
        assert!(error.contains(&way[2..]) && error.contains(&said), "{error}");
        assert!(!out.exists());
    }
    common::succeed(&mut train(&[]));
}
