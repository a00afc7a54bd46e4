//! A run that is killed and resumed ends with the same bytes as one that was not, for any number of threads and for every
//! method of the registry.

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{checkpoints, every_method, fail, final_bytes, kshot, succeed, tiny_training, tiny_training_of};

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
            resume(&killed)
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

/// A command that goes on with a run.
fn resume(run: &Path) -> Command {
    let mut command = kshot();
    command.args(["train", "--resume", "--out"]).arg(run);
    command
}

/// Kills a training as soon as `run` has a checkpoint after `seen`; false where it comes to its end before that.
fn killed_after_a_checkpoint(child: &mut Child, run: &Path, seen: Option<&Path>) -> bool {
    let deadline = Instant::now() + Duration::from_secs(120);
    while Instant::now() < deadline {
        if checkpoints(run).last().map(|path| path.as_path()) > seen {
            child.kill().unwrap();
            return !child.wait().unwrap().success();
        }
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{}", run.display());
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("{}: no checkpoint comes", run.display());
}

#[test]
fn every_method_ends_with_the_same_bytes_on_one_thread_on_two_and_killed_in_between() {
    every_method(|method, folder| {
        let run = |threads: &str| {
            let out = folder.join(threads);
            succeed(tiny_training_of(method, &out).args(["--threads", threads]));
            final_bytes(&out)
        };
        let whole = run("2");
        assert!(whole == run("1"), "{method}: one thread makes a difference");

        let killed = folder.join("killed");
        let mut kills = 0;
        for threads in ["2", "1", "2"] {
            let seen = checkpoints(&killed).pop();
            let mut command = match seen {
                None => tiny_training_of(method, &killed),
                Some(_) => resume(&killed),
            };
            command.args(["--threads", threads]);
            let mut child = command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            kills += usize::from(killed_after_a_checkpoint(&mut child, &killed, seen.as_deref()));
        }
        assert!(kills > 0, "{method}: no kill hit the run");
        succeed(resume(&killed).args(["--threads", "1"]));
        assert!(whole == final_bytes(&killed), "{method}: kills make a difference");
    });
}

/// What can happen to a checkpoint's file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip,
    Cut,
    Loss,
}

fn damage(file: &Path, how: Damage) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    match how {
        Damage::Flip => bytes[middle] ^= 1,
        Damage::Cut => bytes.truncate(middle),
        Damage::Loss => return std::fs::remove_file(file).unwrap(),
    }
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn every_method_goes_on_from_the_checkpoint_before_a_damaged_one() {
    const FILES: [&str; 3] = ["weights.safetensors", "training.safetensors", "state.json"];
    every_method(|method, folder| {
        let run = folder.join("run");
        succeed(&mut tiny_training_of(method, &run));
        let whole = final_bytes(&run);
        let newest = checkpoints(&run).pop().unwrap();
        // Every kind of damage meets some method in every file.
        let turn = method.len();
        for (place, how) in [Damage::Flip, Damage::Cut, Damage::Loss].into_iter().enumerate() {
            let file = newest.join(FILES[(turn + place) % FILES.len()]);
            damage(&file, how);
            let output = succeed(&mut resume(&run));
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            let what = format!("{method}, {how:?} of {}:\n{text}", file.display());
            assert!(
                text.contains("warning:") && text.contains("episode-000000020"),
                "{what}"
            );
            assert!(
                text.contains("going on with") && text.contains("episode 16"),
                "{what}"
            );
            assert!(whole == final_bytes(&run), "{what}");
        }
        for checkpoint in checkpoints(&run) {
            damage(&checkpoint.join(FILES[turn % FILES.len()]), Damage::Cut);
        }
        let error = fail(&mut resume(&run), 1);
        assert!(
            error.contains("no checkpoint here can be read"),
            "{method}: {error}"
        );
    });
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
