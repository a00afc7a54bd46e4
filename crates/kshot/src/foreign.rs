//! Calls into other crates' readers of files, which may panic where a file is damaged or hostile.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is in a call whose panic becomes an error: a program's panic hook need say nothing then.
pub fn is_guarded() -> bool {
    GUARDED.get()
}

/// What `work` gives, or the message of its panic. What a panic leaves half done must not be used again.
#[cfg_attr(not(any(feature = "onnx", feature = "parquet")), allow(dead_code))]
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let outer = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    result.map_err(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        // Some messages go over lines.
        text.unwrap_or("of an unknown kind")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message_and_nothing_else_changes() {
        let number = |text: &str| guarded(|| text.parse::<i32>().unwrap());
        assert_eq!(number("7"), Ok(7));
        assert!(number("x").unwrap_err().contains("ParseIntError"));
        assert!(!is_guarded());
        assert_eq!(guarded(is_guarded), Ok(true));
    }
}
