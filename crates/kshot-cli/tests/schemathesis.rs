//! The server against its own OpenAPI document, by the program `schemathesis`: requests made of the document, right and
//! wrong ones, one by one and in sequences. No answer may be a server error or differ from what the document says.
//!
//! It is looked for in `SCHEMATHESIS` or on the path; `bench/schemathesis.sh` installs and runs it.
#![cfg(unix)]

mod common;
mod server;

use std::path::Path;
use std::process::Command;

use common::skipped::skipped;
use serde_json::json;
use server::{Server, bar};

/// Requests for each operation in each phase, where `KSHOT_SCHEMATHESIS_EXAMPLES` doesn't say otherwise.
const EXAMPLES: &str = "5";

fn environment(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

#[test]
fn every_answer_is_one_that_the_openapi_document_describes() {
    let program = environment("SCHEMATHESIS", "schemathesis");
    if Command::new(&program).arg("--version").output().is_err() {
        skipped("schemathesis isn't installed (bench/schemathesis.sh installs and runs it)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("s"), &[]);
    // The class of the document's examples.
    server
        .json("POST", "/v1/classes", &json!({"name": "alpha"}))
        .expect(201);
    server
        .picture("/v1/classes/alpha/examples", &bar(true, 18))
        .expect(201);
    let run = Command::new(&program)
        .current_dir(folder.path())
        .arg("--config-file")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemathesis/schemathesis.toml"))
        .args(["run", &format!("http://{}/openapi.json", server.addr)])
        .args([
            "--max-examples",
            &environment("KSHOT_SCHEMATHESIS_EXAMPLES", EXAMPLES),
        ])
        .args(["--seed", &environment("KSHOT_SCHEMATHESIS_SEED", "1")])
        // Any bytes are a picture to the document, and any text a class's name; most are refused, rightly.
        .args(["--checks", "all", "--exclude-checks", "positive_data_acceptance"])
        .args(["--continue-on-failure", "--warnings", "off"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    eprintln!("{said}");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    server.get("/healthz").expect(200);
}
