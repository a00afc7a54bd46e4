//! The real binary, and tiny trainings for it.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

pub mod omniglot;
#[path = "../../../kshot/tests/common/skipped.rs"]
pub mod skipped;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

use kshot::method::METHODS;
use kshot::settings::Settings;

/// The binary with nothing of the caller's environment that it listens to.
pub fn kshot() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kshot"));
    command
        .env_remove("KSHOT_DATA")
        .env_remove("KSHOT_SIMD")
        .env_remove("KSHOT_TOKEN");
    command
}

/// How often a test kills: `default` times unless the caller's `KSHOT_KILLS` says otherwise.
pub fn kills(default: u64) -> u64 {
    std::env::var("KSHOT_KILLS").map_or(default, |count| count.parse().expect("KSHOT_KILLS is a number"))
}

/// A training of a second or two: every feature that a checkpoint must carry is on.
pub fn tiny_training(out: &Path) -> Command {
    let mut command = kshot();
    command.args([
        "train",
        "prototypical",
        "--filters",
        "8",
        "--way",
        "5",
        "--query",
        "2",
        "--episodes",
        "120",
    ]);
    command.args([
        "--val-interval",
        "5",
        "--val-episodes",
        "4",
        "--test-episodes",
        "8",
        "--report-interval",
        "7",
    ]);
    command
        .args(["--average", "0.9", "--meta-batch", "1", "--rotate", "5"])
        .arg("--out")
        .arg(out);
    command
}

/// Small, for each method that has the option, its encoder's among them.
const TINY: [(&str, &str); 14] = [
    ("filters", "6"),
    ("relation-filters", "6"),
    ("finetune-steps", "2"),
    ("inner-steps", "2"),
    ("test-steps", "2"),
    // Ends in the middle of the training.
    ("warm-up", "7"),
    ("lstm-units", "4"),
    ("controller", "8"),
    ("memory-rows", "8"),
    ("memory-width", "4"),
    ("heads", "2"),
    ("way", "5"),
    ("shot", "1"),
    ("query", "2"),
];

/// A training of any method of the registry, of a second or less: 20 episodes, a checkpoint about every 5. As in
/// [`tiny_training`], every feature that a checkpoint must carry is on.
pub fn tiny_training_of(method: &str, out: &Path) -> Command {
    let mut layer = BTreeMap::from([("method".to_owned(), method.to_owned())]);
    let own = Settings::resolve(&[&layer]).unwrap();
    let mut command = kshot();
    command.args(["train", method]);
    if own.encoder.name == "identity" {
        // Pixels have nothing to train.
        command.args(["--encoder", "conv4"]);
        layer.insert("encoder".to_owned(), "conv4".to_owned());
    }
    let known = Settings::resolve(&[&layer]).unwrap().layer();
    for (name, value) in TINY.iter().filter(|(name, _)| known.contains_key(*name)) {
        command.arg(format!("--{name}")).arg(value);
    }
    command.args(["--episodes", "20", "--val-interval", "5", "--val-episodes", "2"]);
    command.args(["--test-episodes", "2", "--report-interval", "7"]);
    command.args(["--average", "0.9", "--meta-batch", "2", "--rotate", "5"]);
    command.arg("--out").arg(out);
    command
}

/// Calls `check` with the name of every method of the registry and a folder for it, a few at a time.
pub fn every_method(check: impl Fn(&str, &Path) + Sync) {
    let folder = tempfile::tempdir().unwrap();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let worker = || {
            while let Some(method) = METHODS.get(next.fetch_add(1, Ordering::Relaxed)) {
                check(method.name, &folder.path().join(method.name));
            }
        };
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
}

/// The bytes of the weights and of the training state of the newest checkpoint of a run.
pub fn final_bytes(run: &Path) -> (PathBuf, Vec<u8>, Vec<u8>) {
    let newest = checkpoints(run).pop().expect("a checkpoint");
    let read = |name: &str| std::fs::read(newest.join(name)).expect("a checkpoint's file");
    (
        PathBuf::from(newest.file_name().unwrap()),
        read("weights.safetensors"),
        read("training.safetensors"),
    )
}

/// The checkpoint folders of a run, oldest first.
pub fn checkpoints(run: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(run.join("checkpoint"))
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    found.retain(|path| path.extension().is_none());
    found.sort();
    found
}

/// Runs to the end and expects success.
#[track_caller]
pub fn succeed(command: &mut Command) -> Output {
    let output = command.output().expect("the binary starts");
    assert!(
        output.status.success(),
        "{command:?}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Runs to the end and expects exactly one clear error line, the given exit code and no panic.
#[track_caller]
pub fn fail(command: &mut Command, code: i32) -> String {
    let output = command.output().expect("the binary starts");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{command:?}\n{error}");
    assert!(!error.contains("panicked"), "{error}");
    let lines = error.lines().filter(|line| line.starts_with("error:")).count();
    assert_eq!(lines, 1, "{error}");
    error
}
