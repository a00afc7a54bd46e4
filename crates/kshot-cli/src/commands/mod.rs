//! The subcommands, one file each.

pub mod data;
pub mod eval;
pub mod list;
pub mod serve;
pub mod train;

mod common;

use anyhow::Error;
use clap::ArgMatches;

/// Runs the subcommand that was given.
pub fn run(matches: ArgMatches) -> Result<(), Error> {
    match matches.subcommand() {
        Some(("train", matches)) => train::run(matches),
        Some(("eval", matches)) => eval::run(matches),
        Some(("data", matches)) => data::run(matches),
        Some(("serve", matches)) => serve::run(matches),
        Some((name, matches)) => list::run(name, matches),
        None => unreachable!("clap requires a subcommand"),
    }
}

/// 2 for wrong usage (an unknown name, a value out of its range), 1 for everything that went wrong later.
pub fn exit_code(error: &Error) -> u8 {
    match error.downcast_ref::<kshot::Error>() {
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
