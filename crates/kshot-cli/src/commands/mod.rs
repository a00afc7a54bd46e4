//! The subcommands, one file each.

pub mod classify;
pub mod completions;
pub mod data;
pub mod enroll;
pub mod eval;
pub mod export;
pub mod import;
pub mod list;
pub mod reproduce;
pub mod serve;
pub mod train;

mod common;
mod pictures;
mod regression;
mod session;

use anyhow::Error;
use clap::ArgMatches;

/// Runs the subcommand that was given.
pub fn run(matches: ArgMatches) -> Result<(), Error> {
    match matches.subcommand() {
        Some(("train", matches)) => train::run(matches),
        Some(("eval", matches)) => eval::run(matches),
        Some(("import", matches)) => import::run(matches),
        Some(("data", matches)) => data::run(matches),
        Some(("reproduce", matches)) => reproduce::run(matches),
        Some(("enroll", matches)) => enroll::run(matches),
        Some(("classify", matches)) => classify::run(matches),
        Some(("export", matches)) => export::run(matches),
        Some((name @ ("completions" | "man"), matches)) => completions::run(name, matches),
        Some(("serve", matches)) => serve::run(matches),
        Some((name, matches)) => list::run(name, matches),
        None => unreachable!("clap requires a subcommand"),
    }
}

/// 2 for wrong usage (an unknown name, a value out of its range), 1 for everything that went wrong later.
pub fn exit_code(error: &Error) -> u8 {
    let error = match error.downcast_ref::<kshot_store::StoreError>() {
        Some(kshot_store::StoreError::Kshot(error)) => Some(error),
        _ => error.downcast_ref::<kshot::Error>(),
    };
    match error {
        Some(
            kshot::Error::Unknown { .. }
            | kshot::Error::Option(_)
            | kshot::Error::Setting { .. }
            | kshot::Error::Data(
                kshot::data::DataError::Unknown { .. } | kshot::data::DataError::Option { .. },
            ),
        ) => 2,
        _ => 1,
    }
}
