//! The `kshot` command.

mod arguments;
mod bar;
mod commands;
mod flags;
mod interrupt;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    quiet_panics();
    match commands::run(arguments::command().get_matches()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", one_line(&error));
            ExitCode::from(commands::exit_code(&error))
        }
    }
}

/// An error with its causes, each said once: many errors have their cause in their own words already.
fn one_line(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |said, cause| {
        let cause = cause.to_string();
        match said.as_str() {
            "" => cause,
            _ if said.contains(&cause) => said,
            _ => format!("{said}: {cause}"),
        }
    })
}

/// Ends the process without a word when who reads its output has gone, as in `kshot methods | head`, and says nothing of
/// panics that become errors.
fn quiet_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let message = panic.payload_as_str().unwrap_or_default();
        if message.starts_with("failed printing to stdout") && message.contains("Broken pipe") {
            std::process::exit(0);
        }
        if !kshot::foreign::is_guarded() {
            usual(panic);
        }
    }));
}
