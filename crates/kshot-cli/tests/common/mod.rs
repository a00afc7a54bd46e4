//! The real binary, and tiny trainings for it.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

pub mod omniglot;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The binary with nothing of the caller's environment that it listens to.
pub fn kshot() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kshot"));
    command
        .env_remove("KSHOT_DATA")
        .env_remove("KSHOT_SIMD")
        .env_remove("KSHOT_TOKEN");
    command
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
