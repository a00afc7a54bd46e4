//! The command line as clap sees it: one subcommand per file of `commands/`.

use clap::Command;

use crate::commands::{
    classify, completions, data, enroll, eval, export, import, list, reproduce, serve, train,
};

/// The whole command line.
pub fn command() -> Command {
    Command::new("kshot")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Few-shot learning: meta-train on many small tasks, then recognise new classes from a few examples")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(train::command())
        .subcommand(eval::command())
        .subcommand(reproduce::command())
        .subcommand(import::command())
        .subcommand(data::command())
        .subcommand(enroll::command())
        .subcommand(classify::command())
        .subcommand(export::command())
        .subcommand(serve::command())
        .subcommands(list::commands())
        .subcommands(completions::commands())
}
