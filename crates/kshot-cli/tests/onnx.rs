//! ONNX models as encoders, through the real binary.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{fail, kshot, succeed};
use serde_json::Value;

/// Twelve pictures of each of six patterns: `pictures/<class>/*.png`.
fn pictures(folder: &Path) -> PathBuf {
    let root = folder.join("pictures");
    for class in 0..6u32 {
        let name = root.join(format!("stripes-{class}"));
        fs::create_dir_all(&name).unwrap();
        for example in 0..12u32 {
            let picture = image::GrayImage::from_fn(40, 40, |x, y| {
                let across = if class % 2 == 0 { x } else { y } + example;
                let on = across % (4 + 3 * (class / 2)) < 2 + class / 2;
                image::Luma([if on { 20 } else { 230 }])
            });
            picture.save(name.join(format!("{example}.png"))).unwrap();
        }
    }
    root
}

/// The encoder of a built-in model as an ONNX file.
fn exported(folder: &Path) -> PathBuf {
    let path = folder.join("encoder.onnx");
    succeed(kshot().args(["export", "omniglot-conv4", "--to"]).arg(&path));
    path
}

fn enroll(store: &Path, pictures: &Path, model: &Path) -> Command {
    let mut command = kshot();
    command
        .arg("enroll")
        .args([store, pictures])
        .arg("--model")
        .arg(model);
    command
}

/// What `classify` says of a picture, without the probabilities' last digits.
fn answer(store: &Path, picture: &Path) -> Vec<(String, i64)> {
    let output = succeed(kshot().arg("classify").args([store, picture]).arg("--json"));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let ranked = answer["ranked"].as_array().unwrap();
    let mut ranked: Vec<_> = ranked
        .iter()
        .map(|class| {
            let probability = class["probability"].as_f64().unwrap();
            (
                class["label"].as_str().unwrap().to_owned(),
                (probability * 200.0).round() as i64,
            )
        })
        .collect();
    ranked.sort();
    ranked
}

/// `kshot eval` of `model` on episodes of all the pictures.
fn eval(model: &Path, pictures: &Path) -> Command {
    let mut eval = kshot();
    eval.arg("eval").arg(model).arg("--data");
    eval.arg(format!("folder:{}", pictures.display()));
    eval.args([
        "--train-fraction",
        "0",
        "--val-fraction",
        "0",
        "--way",
        "3",
        "--json",
    ]);
    eval
}

/// Of its episodes.
fn accuracy(model: &Path, pictures: &Path) -> f64 {
    let output = succeed(eval(model, pictures).args(["--query", "4", "--episodes", "10"]));
    let record: Value = serde_json::from_slice(&output.stdout).unwrap();
    record["accuracy"].as_f64().unwrap()
}

#[test]
fn an_exported_encoder_recognises_as_the_model_that_it_came_from() {
    let folder = tempfile::tempdir().unwrap();
    let (root, model) = (pictures(folder.path()), exported(folder.path()));
    let store = |name: &str| folder.path().join(name);
    succeed(&mut enroll(&store("onnx.kshot"), &root, &model));
    succeed(&mut enroll(
        &store("own.kshot"),
        &root,
        Path::new("omniglot-conv4"),
    ));
    let [theirs, own] = [model.as_path(), Path::new("omniglot-conv4")].map(|model| accuracy(model, &root));
    assert!(own > 0.5 && (theirs - own).abs() < 0.02, "{theirs} {own}");
    // The store holds all of it.
    fs::remove_file(&model).unwrap();
    for class in ["stripes-0", "stripes-3"] {
        let picture = root.join(class).join("5.png");
        let found = answer(&store("onnx.kshot"), &picture);
        for (found, expected) in found.iter().zip(answer(&store("own.kshot"), &picture)) {
            assert_eq!(found.0, expected.0);
            assert!((found.1 - expected.1).abs() <= 1, "{found:?} {expected:?}");
        }
    }
    // Out of the store again, as a model file and as ONNX.
    for name in ["again.safetensors", "again.onnx"] {
        let again = folder.path().join(name);
        succeed(
            kshot()
                .arg("export")
                .arg(store("onnx.kshot"))
                .arg("--to")
                .arg(&again),
        );
        succeed(&mut enroll(&store(&format!("{name}.kshot")), &root, &again));
    }
}

#[test]
fn methods_train_on_its_embeddings_and_their_runs_are_models() {
    let folder = tempfile::tempdir().unwrap();
    let (root, model) = (pictures(folder.path()), exported(folder.path()));
    for (method, episodes) in [
        ("prototypical", "0"),
        ("nearest-neighbour", "0"),
        ("matching", "0"),
        ("baseline++", "5"),
        ("siamese", "5"),
    ] {
        let run = folder.path().join(method);
        let mut train = kshot();
        train
            .args(["train", method, "--encoder", "onnx", "--onnx-file"])
            .arg(&model);
        train.arg("--data").arg(format!("folder:{}", root.display()));
        train.args([
            "--train-fraction",
            "0.34",
            "--val-fraction",
            "0.33",
            "--way",
            "2",
            "--query",
            "2",
        ]);
        train.args([
            "--episodes",
            episodes,
            "--val-query",
            "2",
            "--val-episodes",
            "2",
            "--test-query",
            "2",
            "--test-episodes",
            "4",
            "--json",
            "--out",
        ]);
        succeed(train.arg(&run));
        let config = fs::read_to_string(run.join("config.toml")).unwrap();
        assert!(
            config.contains("image-size = 28") && config.contains("channels = 1"),
            "{config}"
        );
    }
    let store = folder.path().join("s.kshot");
    succeed(&mut enroll(&store, &root, &folder.path().join("prototypical")));
    fs::remove_file(&model).unwrap();
    assert_eq!(answer(&store, &root.join("stripes-1/3.png")).len(), 5);
    // A run is of a model that lies elsewhere.
    let run = folder.path().join("prototypical");
    let error = fail(kshot().arg("eval").arg(run), 1);
    assert!(error.contains("encoder.onnx"), "{error}");
}

#[test]
fn what_is_no_usable_model_is_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let (root, model) = (pictures(folder.path()), exported(folder.path()));
    let store = folder.path().join("s.kshot");
    let bytes = fs::read(&model).unwrap();
    for (length, expected) in [(0, "without a model"), (bytes.len() / 2, "ONNX")] {
        fs::write(&model, &bytes[..length]).unwrap();
        let error = fail(&mut enroll(&store, &root, &model), 1);
        assert!(
            error.contains(expected) && error.contains("encoder.onnx"),
            "{error}"
        );
    }
    fs::write(&model, &bytes).unwrap();
    let sidecar = folder.path().join("encoder.toml");
    for (text, expected) in [
        ("mean = 0.5\nstd = [1.0]", "line 1"),
        ("mean = [0.5]\nstd = [0.0]", "above 0"),
        ("mean = [0.5]\nstd = [1.0]\nsize = 64", "size = 64"),
        ("mean = [0.5]\nstd = [1.0]\noutput = \"x\"", "embeddings"),
        ("mean = [0.5]\nstd = [1.0]\nscale = 2", "scale"),
    ] {
        fs::write(&sidecar, text).unwrap();
        let error = fail(&mut enroll(&store, &root, &model), 1);
        assert!(error.contains(expected), "{error}");
    }
    assert!(!store.exists(), "no empty store is left behind");
    let error = fail(kshot().args(["train", "prototypical", "--encoder", "onnx"]), 2);
    assert!(error.contains("--onnx-file"), "{error}");
}

#[test]
fn how_far_its_probabilities_can_be_believed_is_measured_without_a_training() {
    let folder = tempfile::tempdir().unwrap();
    let (root, model) = (pictures(folder.path()), exported(folder.path()));
    let mut eval = eval(&model, &root);
    eval.args(["--protocol", "classifier", "--shot", "3", "--query", "2"]);
    let output = succeed(eval.args(["--episodes", "2"]));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["model"], "encoder");
    assert!(found["accuracy"].as_f64().unwrap() > 0.5, "{found}");
}
