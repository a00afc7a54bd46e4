//! How a test says that it could not run here.

use std::io::Write;

/// Says that the running test is skipped, and why, so that it is seen in every run: what passing tests print by `println!`
/// and `eprintln!` the harness keeps to itself.
pub fn skipped(why: &str) {
    let thread = std::thread::current();
    let line = format!("skipped: {}: {why}\n", thread.name().unwrap_or("a test"));
    // One call, so that lines of several tests don't mix. Who closed standard error doesn't want to know.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
