//! What the command says: results as JSON, errors as one clear line.

mod common;

use common::{fail, kshot, succeed, tiny_training};
use serde_json::Value;

fn json(output: &[u8]) -> Value {
    let text = String::from_utf8(output.to_vec()).unwrap();
    assert_eq!(
        text.lines().count(),
        1,
        "one JSON object and nothing else: {text}"
    );
    serde_json::from_str(&text).unwrap()
}

const KEYS: [&str; 15] = [
    "method",
    "encoder",
    "data",
    "split",
    "protocol",
    "norm",
    "way",
    "shot",
    "query",
    "episodes",
    "seed",
    "accuracy",
    "ci95",
    "seconds",
    "episodes_per_second",
];

#[test]
fn train_and_eval_print_one_json_object_with_the_promised_keys() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let trained = json(&succeed(tiny_training(&run).arg("--json")).stdout);
    let evaluated = json(
        &succeed(kshot().arg("eval").arg(&run).args([
            "--way",
            "3",
            "--shot",
            "2",
            "--query",
            "4",
            "--episodes",
            "10",
            "--seed",
            "9",
            "--json",
        ]))
        .stdout,
    );
    for key in KEYS {
        assert!(
            trained.get(key).is_some() && evaluated.get(key).is_some(),
            "{key}"
        );
    }
    assert_eq!(trained["run"], run.display().to_string());
    for (key, value) in [
        ("way", 3),
        ("shot", 2),
        ("query", 4),
        ("episodes", 10),
        ("seed", 9),
    ] {
        assert_eq!(evaluated[key], value, "{key}");
    }
    for record in [&trained, &evaluated] {
        let accuracy = record["accuracy"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&accuracy));
    }
    let again = json(
        &succeed(kshot().arg("eval").arg(&run).args([
            "--way",
            "3",
            "--shot",
            "2",
            "--query",
            "4",
            "--episodes",
            "10",
            "--seed",
            "9",
            "--json",
        ]))
        .stdout,
    );
    assert_eq!(
        again["accuracy"], evaluated["accuracy"],
        "the same seed gives the same accuracy"
    );
}

#[test]
fn the_norm_policy_changes_scores_and_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    succeed(&mut tiny_training(&run));
    let accuracy = |norm: &str| {
        let output =
            succeed(
                kshot()
                    .arg("eval")
                    .arg(&run)
                    .args(["--norm", norm, "--episodes", "20", "--json"]),
            );
        let record = json(&output.stdout);
        assert_eq!(record["norm"], norm);
        let by = if norm == "running" {
            "running-averages"
        } else {
            "episode"
        };
        assert_eq!(record["normalised_by"], by);
        record["accuracy"].as_f64().unwrap()
    };
    assert_ne!(accuracy("running"), accuracy("episode"));
}

#[test]
fn episodes_of_one_alphabet_are_a_protocol_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    succeed(&mut tiny_training(&run));
    let eval = |way: &str| {
        let mut command = kshot();
        command.arg("eval").arg(&run);
        command.args([
            "--protocol",
            "alphabet",
            "--way",
            way,
            "--episodes",
            "8",
            "--json",
        ]);
        command
    };
    let record = json(&succeed(&mut eval("5")).stdout);
    assert_eq!(
        (&record["protocol"], &record["way"]),
        (&"alphabet".into(), &5.into())
    );
    let error = fail(&mut eval("60"), 1);
    assert!(
        error.contains("within one alphabet") && error.contains("60"),
        "{error}"
    );
}

#[test]
fn the_configuration_file_gives_settings_and_flags_win() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    succeed(&mut tiny_training(&first));
    let config = first.join("config.toml");
    succeed(
        kshot()
            .args(["train", "--episodes", "10", "--config"])
            .arg(&config)
            .arg("--out")
            .arg(&second),
    );
    let text = std::fs::read_to_string(second.join("config.toml")).unwrap();
    assert!(
        text.contains("filters = 8") && text.contains("episodes = 10"),
        "{text}"
    );
}

#[test]
fn listings_name_every_method_encoder_and_dataset() {
    for (command, name) in [
        ("methods", "prototypical"),
        ("encoders", "conv4"),
        ("datasets", "glyphs"),
    ] {
        let entries = json(&succeed(kshot().args([command, "--json"])).stdout);
        assert!(
            entries
                .as_array()
                .unwrap()
                .iter()
                .any(|entry| entry["name"] == name),
            "{command}"
        );
    }
    let methods = json(&succeed(kshot().args(["methods", "--json"])).stdout);
    for method in methods.as_array().unwrap() {
        for setting in ["way", "shot", "query", "episodes", "lr", "schedule", "norm"] {
            assert!(
                method["training"][setting].is_string(),
                "{}: {setting}",
                method["name"]
            );
        }
    }
    let text = succeed(kshot().arg("methods")).stdout;
    assert!(String::from_utf8_lossy(&text).contains("--shot 1 --val-interval"));
}

#[test]
fn wrong_usage_is_one_line_with_a_suggestion_and_exit_code_2() {
    for (arguments, expected) in [
        (&["train", "prototipical"][..], "prototypical"),
        (&["train", "prototypical", "--data", "omniglott"], "omniglot"),
        (&["train", "prototypical", "--encoder", "conf4"], "conv4"),
        (&["train", "prototypical", "--wey", "5"], "--way"),
        (&["train", "prototypical", "--way", "0"], "--way"),
        (&["train", "prototypical", "--lr", "fast"], "--lr"),
        (&["train", "prototypical", "--norm", "batch"], "running"),
        (
            &[
                "train",
                "prototypical",
                "--split",
                "oficial",
                "--data",
                "omniglot",
            ],
            "official",
        ),
        (&["train", "prototypical", "--device", "vulcan"], "device"),
        (&["train", "prototypical", "--data", "folder"], "folder:DIR"),
    ] {
        let error = fail(kshot().args(arguments), 2);
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
}

#[test]
fn a_way_above_the_number_of_classes_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let error = fail(tiny_training(&out).args(["--alphabets", "1", "--way", "200"]), 1);
    assert!(error.contains("200-way") && error.contains("--way"), "{error}");
    assert!(!out.exists(), "nothing is left behind");
}

#[test]
fn a_class_with_too_few_examples_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = fail(
        tiny_training(&folder.path().join("run")).args(["--shot", "19", "--query", "2"]),
        1,
    );
    assert!(
        error.contains("alphabet") && error.contains("20 examples"),
        "{error}"
    );
}

#[test]
fn a_checkpoint_of_another_encoder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    succeed(&mut tiny_training(&run));
    let newest = common::checkpoints(&run).pop().unwrap();
    let mut checkpoint = kshot::checkpoint::Checkpoint::load(&newest).unwrap();
    checkpoint.settings.insert("filters".to_owned(), "12".to_owned());
    let newest = checkpoint.save(&folder.path().join("other")).unwrap();
    let error = fail(kshot().arg("eval").arg(&newest), 1);
    assert!(
        error.contains("another encoder") && error.contains("shape"),
        "{error}"
    );
}

#[test]
fn a_run_that_is_not_there_or_already_there_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let error = fail(kshot().arg("eval").arg(&run), 1);
    assert!(error.contains("no run folder"), "{error}");
    let error = fail(kshot().args(["train", "--resume", "--out"]).arg(&run), 1);
    assert!(error.contains("no checkpoint here"), "{error}");
    succeed(&mut tiny_training(&run));
    let error = fail(&mut tiny_training(&run), 1);
    assert!(error.contains("--resume"), "{error}");
}

#[test]
fn resuming_under_other_settings_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    succeed(&mut tiny_training(&run));
    let error = fail(
        kshot()
            .args(["train", "--resume", "--lr", "0.5", "--out"])
            .arg(&run),
        2,
    );
    assert!(error.contains("lr") && error.contains("0.5"), "{error}");
}

#[test]
fn a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    succeed(tiny_training(&run).args(["--episodes", "10", "--schedule", "constant"]));
    overflow(&run);
    let error = fail(
        kshot()
            .args(["train", "--resume", "--episodes", "20", "--out"])
            .arg(&run),
        1,
    );
    assert!(
        error.contains("episode 10 is") && error.contains("is kept (episode 10)"),
        "{error}"
    );
    assert_eq!(
        common::checkpoints(&run).last().unwrap().file_name().unwrap(),
        "episode-000000010"
    );
}

#[test]
fn a_loss_that_is_not_finite_names_every_rate_that_the_method_has() {
    let folder = tempfile::tempdir().unwrap();
    for (method, rate, said) in [
        ("maml", "--inner-lr", "a lower --lr or --inner-lr,"),
        ("meta-sgd", "--first-rate", "a lower --lr or --first-rate,"),
    ] {
        let mut train = kshot();
        train.args([
            "train",
            method,
            "--filters",
            "4",
            rate,
            "100",
            "--inner-steps",
            "10",
        ]);
        train.args(["--episodes", "64", "--val-episodes", "2", "--out"]);
        let error = fail(train.arg(folder.path().join(method)), 1);
        assert!(
            error.contains(said) && error.contains("end in the same way"),
            "{error}"
        );
    }
}

#[test]
fn flags_that_mean_nothing_under_a_protocol_are_refused() {
    for (arguments, said) in [
        (
            &["lake", "--way", "5", "--shot", "5", "--query", "3", "--seed", "9"][..],
            "--way, --shot, --query, --seed mean nothing",
        ),
        (&["lake", "--data", "glyphs"], "--data means nothing"),
        (&["lake", "--split", "vinyals:val"], "--split means nothing"),
        (&["lake", "--rotations", "all"], "--rotations means nothing"),
        (&["presentations", "--shot", "5"], "--shot means nothing"),
        (&["classifier", "--norm", "episode"], "--norm means nothing"),
        (&["classifier", "--views", "4"], "--views means nothing"),
    ] {
        let mut eval = kshot();
        eval.args(["eval", "omniglot-conv4", "--protocol"]);
        let error = fail(eval.args(arguments), 2);
        assert!(error.contains(said) && error.contains(arguments[0]), "{error}");
    }
    let two = [
        "eval",
        "omniglot-conv4",
        "glyphs-conv4",
        "--protocol",
        "classifier",
    ];
    let error = fail(kshot().args(two), 2);
    assert!(error.contains("give one model, found 2"), "{error}");
}

#[test]
fn a_bad_value_names_the_flag_that_was_given() {
    for (flag, value) in [
        ("--episodes", "0"),
        ("--query", "0"),
        ("--way", "few"),
        ("--shot", "0"),
    ] {
        let error = fail(kshot().args(["eval", "omniglot-conv4", flag, value]), 2);
        assert!(
            error.contains(&format!("{}: expected", &flag[2..])) && !error.contains("test-"),
            "{error}"
        );
    }
}

#[test]
fn a_file_in_the_place_of_a_folder_and_one_that_is_missing_are_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    for out in [file.clone(), file.join("below")] {
        let error = fail(
            kshot()
                .args([
                    "reproduce",
                    "--method",
                    "prototypical",
                    "--scale",
                    "0.001",
                    "--out",
                ])
                .arg(&out),
            2,
        );
        assert!(error.contains("is a file, not a folder"), "{error}");
        let error = fail(&mut tiny_training(&out), 2);
        assert!(error.contains("is a file, not a folder"), "{error}");
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
    let error = fail(
        kshot()
            .args(["reproduce", "--list", "--results"])
            .arg(folder.path().join("none.json")),
        1,
    );
    assert_eq!(error.matches("os error 2").count(), 1, "{error}");
}

/// Makes the newest checkpoint's last block scale so large that squared distances overflow.
fn overflow(run: &std::path::Path) {
    let folder = run.join("checkpoint");
    let (mut checkpoint, _) = kshot::checkpoint::latest(&folder).unwrap();
    let name = "raw.encoder.blocks.3.gamma";
    let gamma = checkpoint
        .training
        .iter_mut()
        .find(|array| array.name == name)
        .unwrap();
    gamma.values.fill(1e30);
    checkpoint.save(&folder).unwrap();
}
