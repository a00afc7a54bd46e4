//! The project's own chores.
//!
//! `cargo xtask check` runs every check that a change must pass, cheapest first.

use std::process::{Command, ExitCode};

/// Name, arguments of cargo, environment.
type Check = (
    &'static str,
    &'static [&'static str],
    &'static [(&'static str, &'static str)],
);

const CHECKS: &[Check] = &[
    ("formatting", &["fmt", "--all", "--check"], &[]),
    (
        "lints",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ],
        &[],
    ),
    (
        "documentation",
        &["doc", "--workspace", "--no-deps", "--locked"],
        &[("RUSTDOCFLAGS", "-D warnings")],
    ),
    ("tests", &["test", "--workspace", "--locked"], &[]),
    // Builds without a GPU; whether it computes the same is for a machine that has one.
    (
        "the Vulkan device",
        &[
            "check",
            "--package",
            "kshot",
            "--tests",
            "--features",
            "vulkan",
            "--locked",
        ],
        &[],
    ),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["check"] => check(),
        _ => {
            eprintln!("usage: cargo xtask check");
            ExitCode::from(2)
        }
    }
}

fn check() -> ExitCode {
    for (name, arguments, environment) in CHECKS {
        if !cargo(name, arguments, environment) {
            return ExitCode::FAILURE;
        }
    }
    // The fuzz targets are a workspace of their own, which nothing above sees; libFuzzer is written in C++.
    let cxx = Command::new("c++").arg("--version").output();
    if !cxx.is_ok_and(|output| output.status.success()) {
        eprintln!("== fuzz targets: skipped, there is no C++ compiler");
    } else if !cargo(
        "fuzz targets",
        &["check", "--manifest-path", "fuzz/Cargo.toml", "--locked"],
        &[],
    ) {
        return ExitCode::FAILURE;
    }
    // cargo-deny is no part of a Rust installation: its absence is said, not hidden.
    let deny = Command::new("cargo").args(["deny", "--version"]).output();
    if !deny.is_ok_and(|output| output.status.success()) {
        eprintln!("== dependencies: skipped, cargo-deny is not installed (cargo install cargo-deny)");
    } else if !cargo(
        "dependencies",
        &["deny", "check", "bans", "licenses", "sources"],
        &[],
    ) {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn cargo(name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> bool {
    eprintln!("== {name}: cargo {}", arguments.join(" "));
    let status = Command::new("cargo")
        .args(arguments)
        .envs(environment.iter().copied())
        .status();
    let passed = status.is_ok_and(|status| status.success());
    if !passed {
        eprintln!("== {name}: failed");
    }
    passed
}
