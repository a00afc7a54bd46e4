//! `kshot completions` and `kshot man`: what shells and manuals need to know, from the same definition as the help.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

pub fn commands() -> [Command; 2] {
    [
        Command::new("completions")
            .about("Print a script that completes kshot's commands and flags in a shell")
            .after_help(
                "Examples:\n  kshot completions bash > ~/.local/share/bash-completion/completions/kshot\n  \
                 kshot completions fish > ~/.config/fish/completions/kshot.fish",
            )
            .arg(
                Arg::new("shell")
                    .value_name("SHELL")
                    .required(true)
                    .value_parser(value_parser!(Shell))
                    .help("the shell"),
            ),
        Command::new("man")
            .about("Write the manual pages, one per command")
            .after_help("Examples:\n  kshot man --out ~/.local/share/man/man1")
            .arg(
                Arg::new("out")
                    .long("out")
                    .value_name("DIR")
                    .required(true)
                    .value_parser(value_parser!(PathBuf))
                    .help("the folder, made if it isn't there"),
            ),
    ]
}

pub fn run(name: &str, matches: &ArgMatches) -> Result<()> {
    let command = crate::arguments::command();
    if name == "man" {
        let Some(out) = matches.get_one::<PathBuf>("out") else {
            bail!("give --out DIR");
        };
        fs::create_dir_all(out).with_context(|| out.display().to_string())?;
        return clap_mangen::generate_to(command, out).with_context(|| out.display().to_string());
    }
    let Some(&shell) = matches.get_one::<Shell>("shell") else {
        bail!("give a shell");
    };
    // Into memory first: the generator panics where a pipe is closed early.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut { command }, "kshot", &mut script);
    std::io::Write::write_all(&mut std::io::stdout(), &script).context("writing the script")
}
