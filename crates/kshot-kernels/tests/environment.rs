//! What the environment variable `KSHOT_SIMD` does; each value needs a process of its own.

use std::process::Command;

use kshot_kernels::{SIMD_VARIABLE, SimdLevel};

/// Not a test: what the others run in a process of their own.
#[test]
#[ignore = "prints the level for the tests of this file"]
fn print_the_level() {
    println!("level={}", SimdLevel::current().name());
}

/// The level that a process with this value uses, and what it says on standard error.
fn level_under(value: &str) -> (String, String) {
    let this = std::env::current_exe().unwrap();
    let output = Command::new(this)
        .args(["--exact", "print_the_level", "--ignored", "--nocapture"])
        .env(SIMD_VARIABLE, value)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let found = text.split("level=").nth(1).unwrap_or_default();
    let level = found.split_whitespace().next().unwrap_or_default().to_owned();
    (level, String::from_utf8(output.stderr).unwrap())
}

#[test]
fn an_available_level_is_used() {
    for level in SimdLevel::ALL.into_iter().filter(|level| level.is_available()) {
        let (used, said) = level_under(level.name());
        assert_eq!(used, level.name());
        assert!(!said.contains(SIMD_VARIABLE), "{said}");
    }
}

#[test]
fn any_other_value_is_reported_and_ignored() {
    let widest = SimdLevel::ALL
        .into_iter()
        .rfind(|level| level.is_available())
        .unwrap();
    let missing = SimdLevel::ALL
        .into_iter()
        .filter(|level| !level.is_available())
        .map(SimdLevel::name);
    for value in missing.chain(["AVX512", "", "fast"]) {
        let (used, said) = level_under(value);
        assert_eq!(used, widest.name());
        assert!(
            said.contains(&format!("{SIMD_VARIABLE}={value}: not available")),
            "{said}"
        );
        assert!(said.contains("portable"), "{said}");
    }
}
