//! Command-line flags from declared options, and back: the values that were given, as a layer.

use clap::{Arg, ArgAction, ArgMatches};
use kshot::options::{OptionKind, OptionSpec};
use kshot::settings::Layer;

/// A flag for each option. A name that several lists declare gets one flag.
pub fn of(specs: impl IntoIterator<Item = (&'static OptionSpec, &'static str)>) -> Vec<Arg> {
    let mut flags: Vec<Arg> = Vec::new();
    for (spec, heading) in specs {
        if !flags.iter().any(|flag| flag.get_id() == spec.name) {
            flags.push(flag(spec).help_heading(heading));
        }
    }
    flags
}

fn flag(spec: &'static OptionSpec) -> Arg {
    let arg = Arg::new(spec.name)
        .long(spec.name)
        .value_name(value_name(spec.kind))
        .allow_negative_numbers(true);
    let arg = match spec.kind {
        OptionKind::Flag => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
        OptionKind::Choice(words) => arg.value_parser(clap::builder::PossibleValuesParser::new(words)),
        _ => arg,
    };
    let default = if spec.default.is_empty() {
        String::new()
    } else {
        format!(" [default: {}]", spec.default)
    };
    arg.help(format!("{}{default}", spec.help)).action(ArgAction::Set)
}

fn value_name(kind: OptionKind) -> &'static str {
    match kind {
        OptionKind::Flag => "true|false",
        OptionKind::Integer(..) => "N",
        OptionKind::Range(..) => "N|LOW-HIGH",
        OptionKind::Number(..) => "X",
        OptionKind::Choice(_) => "NAME",
        OptionKind::Text => "VALUE",
    }
}

/// The values given on the command line for the options called `names`.
pub fn given<'a>(matches: &ArgMatches, names: impl IntoIterator<Item = &'a str>) -> Layer {
    names
        .into_iter()
        .filter_map(|name| {
            let value = matches.try_get_one::<String>(name).ok().flatten()?;
            Some((name.to_owned(), value.clone()))
        })
        .collect()
}
