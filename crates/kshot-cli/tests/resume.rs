//! A run that is killed and resumed ends with the same bytes as one that was not, for any number of threads.

mod common;

use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{checkpoints, final_bytes, kshot, succeed, tiny_training};

#[test]
fn a_run_killed_at_any_moment_and_resumed_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let started = Instant::now();
    succeed(tiny_training(&whole).args(["--threads", "2"]));
    let length = started.elapsed();

    let killed = folder.path().join("killed");
    let mut kills = 0;
    // Moments spread over the run by the golden ratio, so that no two kills hit the same place.
    for attempt in 1.. {
        assert!(attempt < 60, "the run does not come to its end");
        let mut command = if killed.exists() {
            let mut command = kshot();
            command.args(["train", "--resume", "--out"]).arg(&killed);
            command
        } else {
            tiny_training(&killed)
        };
        let moment = length.mul_f64(0.1 + 0.3 * (f64::from(attempt) * 0.618_034).fract());
        let moment = if attempt > 14 {
            Duration::from_secs(600)
        } else {
            moment
        };
        let threads = if attempt % 2 == 0 { "1" } else { "2" };
        let mut child = command
            .args(["--threads", threads])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if started.elapsed() >= moment {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        match status {
            None => kills += 1,
            Some(status) => {
                assert!(status.success());
                break;
            }
        }
    }
    assert!(kills >= 3, "only {kills} kills hit the run");
    assert_eq!(final_bytes(&whole), final_bytes(&killed));
    let report = |run: &std::path::Path| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(run.join("report.json")).unwrap()).unwrap()
    };
    assert_eq!(report(&whole)["accuracy"], report(&killed)["accuracy"]);
}

#[test]
fn the_bytes_do_not_depend_on_the_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let run = |threads: &str, meta_batch: &str| {
        let out = folder.path().join(format!("{threads}-{meta_batch}"));
        succeed(tiny_training(&out).args(["--threads", threads, "--meta-batch", meta_batch]));
        final_bytes(&out)
    };
    assert_eq!(run("1", "1"), run("2", "1"));
    assert_eq!(run("1", "3"), run("2", "3"));
}

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_it_used() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    succeed(&mut tiny_training(&whole));

    for (name, damage) in [
        ("weights.safetensors", "flip"),
        ("training.safetensors", "cut"),
        ("state.json", "cut"),
    ] {
        let run = folder.path().join(format!("{name}-{damage}"));
        succeed(
            tiny_training(&run)
                .args(["--episodes", "25"])
                .args(["--schedule", "constant"]),
        );
        let newest = checkpoints(&run).pop().unwrap();
        let path = newest.join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        match damage {
            "flip" => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
            _ => bytes.truncate(bytes.len() / 2),
        }
        std::fs::write(&path, bytes).unwrap();
        let output = succeed(kshot().args(["train", "--resume", "--out"]).arg(&run));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            text.contains("warning:") && text.contains("episode-000000025"),
            "{text}"
        );
        assert!(
            text.contains("going on with") && text.contains("episode 20"),
            "{text}"
        );
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_saves_and_says_how_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let child = tiny_training(&run)
        .args(["--episodes", "100000", "--schedule", "constant"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while checkpoints(&run).len() < 2 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = child.id().to_string();
    assert!(
        std::process::Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("go on with: kshot train --resume --out"), "{text}");
    let episode: u64 = text
        .split("stopped after episode ")
        .nth(1)
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let newest = checkpoints(&run).pop().unwrap();
    assert!(newest.ends_with(format!("episode-{episode:09}")), "{newest:?}");
}
