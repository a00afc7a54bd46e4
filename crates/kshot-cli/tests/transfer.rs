//! Encoders that go from one program or training to another, through the real binary.

mod common;

use std::path::{Path, PathBuf};

use common::{checkpoints, every_method, fail, final_bytes, kshot, succeed, tiny_training_of};
use kshot::checkpoint::Checkpoint;
use kshot::named::Named;
use serde_json::Value;

/// A training of `method` with a small encoder.
fn training(method: &str, out: &Path) -> std::process::Command {
    let mut command = kshot();
    command.args(["train", method, "--filters", "6", "--way", "4", "--query", "2"]);
    command.args([
        "--val-interval",
        "5",
        "--val-episodes",
        "2",
        "--test-episodes",
        "4",
    ]);
    command.arg("--out").arg(out);
    command
}

/// The encoder's arrays in a checkpoint folder.
fn encoder(checkpoint: &Path) -> Vec<Named> {
    let mut arrays = Checkpoint::load(checkpoint).unwrap().weights;
    arrays.retain(|array| array.name.starts_with("encoder."));
    arrays.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!arrays.is_empty());
    arrays
}

/// A Siamese twin's run, trained for ten episodes.
fn twin(folder: &Path) -> PathBuf {
    let run = folder.join("twin");
    succeed(training("siamese", &run).args(["--episodes", "10"]));
    run
}

#[test]
fn a_trained_twin_is_the_encoder_of_a_prototypical_network() {
    let folder = tempfile::tempdir().unwrap();
    let twin = twin(folder.path());
    let best = kshot::run::open(&twin).unwrap().1;
    let as_it_is = folder.path().join("as-it-is");
    succeed(
        training("prototypical", &as_it_is)
            .args(["--episodes", "0", "--init-encoder"])
            .arg(&twin),
    );
    let start = checkpoints(&as_it_is).pop().unwrap();
    assert_eq!(encoder(&start), encoder(&best));
    let config = std::fs::read_to_string(as_it_is.join("config.toml")).unwrap();
    assert!(
        config.contains(&format!("init-encoder = \"{}\"", twin.display())),
        "{config}"
    );

    // From one checkpoint's folder, and on from there.
    let trained = folder.path().join("trained");
    let mut command = training("prototypical", &trained);
    succeed(command.args(["--episodes", "5", "--init-encoder"]).arg(&best));
    assert_ne!(encoder(&checkpoints(&trained).pop().unwrap()), encoder(&best));
}

/// Methods that can't take a trained Conv4 on 28x28 images, the encoder that they take, and what they say of Conv4.
/// The README names them.
const OTHER_ENCODERS: [(&str, &str, &str); 2] = [
    (
        "relation",
        "relation",
        "take --encoder relation or a larger --image-size",
    ),
    ("meta-network", "conv5", "for --encoder conv5 alone"),
];

#[test]
fn a_trained_twin_is_the_encoder_of_every_method_by_one_flag() {
    let folder = tempfile::tempdir().unwrap();
    let twin = |of: &str| {
        let run = folder.path().join(of);
        let mut command = tiny_training_of("siamese", &run);
        succeed(command.args(["--encoder", of]));
        let best = kshot::run::open(&run).unwrap().1;
        (run, encoder(&best))
    };
    let conv4 = twin("conv4");
    every_method(|method, folder| {
        let training = |name: &str, of: &str, (twin, _): &(PathBuf, Vec<Named>)| {
            let mut command = tiny_training_of(method, &folder.join(name));
            command
                .args(["--encoder", of, "--episodes", "0", "--init-encoder"])
                .arg(twin);
            command
        };
        let start = |name: &str| encoder(&checkpoints(&folder.join(name)).pop().unwrap());
        let Some((_, own, problem)) = OTHER_ENCODERS.iter().find(|(name, ..)| *name == method) else {
            succeed(&mut training("run", "conv4", &conv4));
            assert_eq!(start("run"), conv4.1, "{method}");
            return;
        };
        let error = fail(&mut training("refused", "conv4", &conv4), 2);
        assert!(error.contains(problem), "{method}: {error}");
        let twin = twin(own);
        succeed(&mut training("run", own, &twin));
        assert_eq!(start("run"), twin.1, "{method}");
    });
}

#[test]
fn a_built_in_model_and_its_file_start_a_training_and_are_evaluated_alike() {
    let folder = tempfile::tempdir().unwrap();
    let built_in = "glyphs-conv4";
    let file = folder.path().join("exported.safetensors");
    succeed(kshot().args(["export", built_in, "--to"]).arg(&file));
    let file = file.to_str().unwrap();
    let mut records = Vec::new();
    let mut starts = Vec::new();
    for (number, model) in [built_in, file].into_iter().enumerate() {
        let mut command = kshot();
        command.args([
            "eval",
            model,
            "--way",
            "5",
            "--query",
            "3",
            "--episodes",
            "30",
            "--json",
        ]);
        let mut record: Value = serde_json::from_slice(&succeed(&mut command).stdout).unwrap();
        for measured in ["seconds", "episodes_per_second"] {
            record.as_object_mut().unwrap().remove(measured);
        }
        assert!(record["accuracy"].as_f64().unwrap() > 0.85, "{record}");
        records.push(record);

        let out = folder.path().join(number.to_string());
        let mut command = training("siamese", &out);
        succeed(command.args(["--filters", "64", "--episodes", "0", "--init-encoder", model]));
        starts.push(encoder(&checkpoints(&out).pop().unwrap()));
    }
    assert_eq!(records[0], records[1]);
    assert_eq!(starts[0], starts[1]);
    let fresh = folder.path().join("fresh");
    succeed(training("siamese", &fresh).args(["--filters", "64", "--episodes", "0"]));
    assert_ne!(starts[0], encoder(&checkpoints(&fresh).pop().unwrap()));
    let error = fail(kshot().args(["eval", "glyph-conv4"]), 1);
    assert!(
        error.contains("no run folder") && error.contains("glyphs-conv4"),
        "{error}"
    );
}

#[test]
fn a_resumed_training_does_not_read_the_first_encoder_again() {
    let folder = tempfile::tempdir().unwrap();
    let twin = twin(folder.path());
    let start = |name: &str, episodes: &str| {
        let run = folder.path().join(name);
        let mut command = training("prototypical", &run);
        command.args(["--schedule", "constant", "--episodes", episodes, "--init-encoder"]);
        succeed(command.arg(&twin));
        run
    };
    let whole = start("whole", "10");
    let halves = start("halves", "5");
    std::fs::remove_dir_all(&twin).unwrap();
    succeed(
        kshot()
            .args(["train", "--resume", "--episodes", "10", "--out"])
            .arg(&halves),
    );
    assert_eq!(final_bytes(&whole).1, final_bytes(&halves).1);
}

#[test]
fn another_encoder_or_none_is_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let twin = twin(folder.path());
    let out = folder.path().join("out");
    let mut command = training("prototypical", &out);
    let error = fail(command.args(["--filters", "8", "--init-encoder"]).arg(&twin), 2);
    assert!(
        error.contains("`--encoder conv4 --filters 6`") && error.contains("`--encoder conv4 --filters 8`"),
        "{error}"
    );
    let mut command = training("prototypical", &out);
    let error = fail(
        command
            .args(["--encoder", "relation", "--init-encoder"])
            .arg(&twin),
        2,
    );
    assert!(error.contains("--encoder relation --filters 6"), "{error}");
    let mut command = training("prototypical", &out);
    let error = fail(command.args(["--channels", "3", "--init-encoder"]).arg(&twin), 1);
    assert!(
        error.contains("encoder.blocks.0.weight") && error.contains("shape"),
        "{error}"
    );
    let mut command = training("prototypical", &out);
    let error = fail(
        command.arg("--init-encoder").arg(folder.path().join("nowhere")),
        1,
    );
    assert!(
        error.contains("nowhere") && error.contains("no run folder") && error.contains("glyphs-conv4"),
        "{error}"
    );
    assert!(!out.exists(), "nothing is left behind");
}

#[test]
fn nearest_neighbour_on_pixels_needs_no_training() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut command = kshot();
    command.args([
        "train",
        "nearest-neighbour",
        "--val-episodes",
        "2",
        "--test-episodes",
        "20",
        "--json",
    ]);
    let record: Value = serde_json::from_slice(&succeed(command.arg("--out").arg(&run)).stdout).unwrap();
    assert_eq!(record["encoder"], "identity");
    let evaluated = succeed(
        kshot()
            .arg("eval")
            .arg(&run)
            .args(["--way", "5", "--episodes", "40", "--json"]),
    );
    let record: Value = serde_json::from_slice(&evaluated.stdout).unwrap();
    // Better than chance, 0.2, by more than its interval.
    let (accuracy, ci95) = (
        record["accuracy"].as_f64().unwrap(),
        record["ci95"].as_f64().unwrap(),
    );
    assert!(accuracy - ci95 > 0.2 && accuracy < 1.0, "{accuracy} ± {ci95}");
}

#[test]
fn the_classifier_of_baseline_plus_plus_has_all_training_classes() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    succeed(training("baseline++", &run).args(["--episodes", "3"]));
    let checkpoint = Checkpoint::load(&checkpoints(&run).pop().unwrap()).unwrap();
    let classes: usize = checkpoint.settings["base-classes"].parse().unwrap();
    let classifier = checkpoint
        .weights
        .iter()
        .find(|array| array.name == "classifier")
        .unwrap();
    assert_eq!(classifier.shape[0], classes);
    assert!(classes > 4, "{classes}");
    succeed(kshot().arg("eval").arg(&run).args(["--episodes", "3"]));
}

#[test]
fn an_imported_pair_can_be_evaluated_and_transferred_from() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kshot/tests/golden/import");
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("published");
    let mut command = kshot();
    command
        .arg("import")
        .args([golden.join("encoder.pkl"), golden.join("module.pkl")]);
    let output = succeed(
        command
            .args(["--method", "relation", "--json", "--out"])
            .arg(&run),
    );
    let record: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(record["run"], run.display().to_string());
    let output =
        succeed(
            kshot()
                .arg("eval")
                .arg(&run)
                .args(["--data", "glyphs", "--episodes", "3", "--json"]),
        );
    let record: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&record["method"], &record["norm"]),
        (&"relation".into(), &"episode".into())
    );
    let out = folder.path().join("on");
    let mut command = training("prototypical", &out);
    command.args(["--encoder", "relation", "--episodes", "0", "--init-encoder"]);
    succeed(command.arg(&run));

    let error = fail(
        kshot()
            .arg("import")
            .arg(golden.join("encoder.pkl"))
            .args(["--method", "relation", "--out"])
            .arg(folder.path().join("half")),
        2,
    );
    assert!(error.contains("two files"), "{error}");
    let error = fail(
        kshot()
            .arg("import")
            .args([golden.join("expanded.pt"), golden.join("module.pt")])
            .args(["--method", "relation", "--out"])
            .arg(folder.path().join("half")),
        1,
    );
    assert!(error.contains("expanded.pt"), "{error}");
    assert!(!folder.path().join("half").exists(), "nothing is left behind");
}
