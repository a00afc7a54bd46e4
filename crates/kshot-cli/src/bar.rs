//! Progress on standard error: a bar on a terminal, now and then a line elsewhere.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A progress display.
pub struct Bar {
    bar: ProgressBar,
    /// Off a terminal: when the last line was printed.
    last_line: Option<Instant>,
    label: &'static str,
}

impl Bar {
    /// A display for `length` steps.
    pub fn new(label: &'static str, length: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
        let template = "{prefix:>8} {bar:24} {pos}/{len} {msg} [{elapsed} elapsed, {eta} left]";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(label);
        let last_line = bar.is_hidden().then(Instant::now);
        Self {
            bar,
            last_line,
            label,
        }
    }

    /// Changes the number of steps.
    pub fn set_length(&self, length: u64) {
        self.bar.set_length(length);
    }

    /// Starts `position` steps in.
    pub fn start_at(&mut self, position: u64) {
        self.bar.set_position(position);
        self.bar.reset_eta();
    }

    /// Shows that `position` steps are done.
    pub fn show(&mut self, position: u64, message: impl FnOnce() -> String) {
        self.bar.set_position(position);
        match &mut self.last_line {
            None => self.bar.set_message(message()),
            Some(last) if last.elapsed() >= Duration::from_secs(10) => {
                *last = Instant::now();
                let length = self.bar.length().unwrap_or(0);
                eprintln!("{} {position}/{length} {}", self.label, message());
            }
            Some(_) => {}
        }
    }

    /// Prints a line above the bar.
    pub fn note(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
