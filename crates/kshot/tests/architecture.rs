//! The structure that ARCHITECTURE.md promises, read off the source.

#[path = "common/skipped.rs"]
mod skipped;

use std::path::Path;
use std::process::Command;

use kshot::data::registry::DATASETS;
use kshot::encoder::ENCODERS;
use kshot::method::METHODS;

fn source(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file)).unwrap()
}

#[test]
fn the_loop_the_evaluation_and_the_checkpoints_name_no_method_dataset_or_encoder() {
    for file in [
        "train.rs",
        "eval.rs",
        "record.rs",
        "checkpoint.rs",
        "meta_batch.rs",
        "learner.rs",
        "sampler.rs",
        "presentations.rs",
    ] {
        let source = source(file).to_lowercase();
        let methods = METHODS.iter().map(|spec| spec.name);
        let names = methods
            .chain(DATASETS.iter().map(|spec| spec.name))
            .chain(ENCODERS.iter().map(|spec| spec.name));
        // "folder" is also what a run lies in, "features" what an encoder gives, "pixels" what a picture is made of.
        for name in names.filter(|name| !["folder", "features", "pixels"].contains(name)) {
            assert!(!source.contains(name), "{file} names {name}");
        }
    }
}

#[test]
fn the_papers_table_names_no_method() {
    for file in [
        "row", "plan", "state", "tested", "earlier", "kept", "outcome", "table", "json", "markdown", "html",
        "dots",
    ] {
        let source = source(&format!("reproduce/{file}.rs"));
        let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
        let code = code.collect::<Vec<_>>().join("\n").to_lowercase();
        for method in METHODS {
            assert!(
                !code.contains(method.name),
                "reproduce/{file}.rs names {}",
                method.name
            );
        }
    }
}

#[test]
fn every_registered_thing_has_a_file_of_its_name() {
    for spec in METHODS {
        let file = spec.name.replace('-', "_").replace("++", "_plus_plus");
        assert!(source(&format!("method/{file}.rs")).contains("pub static SPEC"));
    }
    for spec in ENCODERS {
        assert!(source(&format!("encoder/{}.rs", spec.name.replace('-', "_"))).contains("pub static SPEC"));
    }
    for spec in DATASETS {
        let here = ["", "/mod", "/spec"].iter().any(|place| {
            let path = format!("src/data/{}{place}.rs", spec.name);
            Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists()
        });
        assert!(here, "{}", spec.name);
    }
}

#[test]
#[ignore = "only for the test below"]
fn skips() {
    skipped::skipped("nothing is there");
    eprintln!("kept by the harness");
}

#[test]
fn a_test_that_is_skipped_is_seen_in_an_ordinary_run() {
    let program = std::env::current_exe().unwrap();
    let run = Command::new(program)
        .args(["--exact", "skips", "--ignored"])
        .output();
    let said = run.map(|output| [output.stdout, output.stderr].concat()).unwrap();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("skips: nothing is there"), "{said}");
    assert!(said.contains("1 passed") && !said.contains("kept by"), "{said}");
}

/// The documentation calls them by their path.
#[test]
#[cfg(unix)]
fn programs_of_the_repository_can_be_run() {
    use std::os::unix::fs::PermissionsExt as _;

    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut programs = 0;
    for folder in [".ci", "bench", "bench/peers", "bench/reference", "fuzz"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() && std::fs::read(&path).unwrap().starts_with(b"#!") {
                let mode = path.metadata().unwrap().permissions().mode();
                assert_eq!(mode & 0o111, 0o111, "{} has mode {mode:o}", path.display());
                programs += 1;
            }
        }
    }
    assert!(programs > 5);
}
