//! Where the tests find real data.

#[path = "../../tests/common/skipped.rs"]
mod skipped;

use std::path::{Path, PathBuf};

/// The folder `name` of `KSHOT_DATA`, else of `shared/data` beside the workspace; says so on standard error when it
/// isn't there, for the test to end early.
pub fn folder(name: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let data = std::env::var_os("KSHOT_DATA").map_or_else(beside, PathBuf::from);
    let found = data.join(name).is_dir();
    if !found {
        skipped::skipped(&format!(
            "no {name} in {}; set KSHOT_DATA to test with real data",
            data.display()
        ));
    }
    found.then_some(data)
}
