//! `kshot serve`: a store's classes over HTTP, with a web page.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Arg, ArgMatches, Command, value_parser};
use kshot::classifier::Head;
use kshot::trained::Trained;
use kshot_serve::{Config, Server, stop_signal};
use kshot_store::{Library, open_or_create};
use tracing_subscriber::filter::LevelFilter;

use super::common;
use crate::interrupt::Interrupt;

/// Longest token file, in bytes.
const LONGEST_TOKEN: u64 = 4096;

pub fn command() -> Command {
    Command::new("serve")
        .about("Recognise pictures over HTTP, and teach new classes on a web page")
        .arg(
            Arg::new("store")
                .value_name("STORE")
                .help("the classes: a file or a PostgreSQL address, made where there is none [default: a file of your own, \
                       which is said at the start]"),
        )
        .arg(
            Arg::new("addr")
                .long("addr")
                .value_name("ADDR:PORT")
                .default_value("127.0.0.1:8080")
                .value_parser(parse_address)
                .help("where to listen; port 0 takes a free one"),
        )
        .arg(
            Arg::new("model")
                .long("model")
                .value_name("MODEL")
                .default_value(kshot::pretrained::DEFAULT)
                .help("for a new store: a model of this build, a run folder, a checkpoint, a model file or an ONNX model"),
        )
        .arg(
            Arg::new("token-file")
                .long("token-file")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("requests must carry the token in this file (or in KSHOT_TOKEN) as `Authorization: Bearer TOKEN`"),
        )
        .arg(common::switch(
            "insecure-open",
            "listen beyond this computer without a token: anyone there can change the classes",
        ))
        .arg(number("max-classes", "classes"))
        .arg(number("max-examples", "examples in all"))
        .arg(number("max-examples-per-class", "examples of one class"))
        .arg(number("max-body", "bytes of a request with pictures"))
        .arg(number("max-store", "bytes of a store that is uploaded"))
        .arg(number("max-pixels", "pixels of a picture"))
        .arg(number("max-connections", "connections at a time"))
        .arg(number("queue", "pictures waiting to be recognised"))
        .arg(number("head-timeout", "seconds for a request's head to arrive"))
        .arg(number("body-timeout", "seconds for a request's body to arrive"))
        .arg(number("write-timeout", "seconds in which a client takes nothing of its answer"))
        .arg(
            Arg::new("log")
                .long("log")
                .value_name("LEVEL")
                .default_value("info")
                .value_parser(["error", "warn", "info", "debug", "off"])
                .help("what to log on standard error"),
        )
        .arg(common::switch("log-json", "log as one JSON object per line"))
        .arg(common::threads_flag())
}

fn number(name: &'static str, what: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name("N")
        .value_parser(value_parser!(u32).range(1..))
        .help_heading("Limits")
        .help(format!("most {what}"))
}

/// An address and a port. Of names only `localhost` is one that can't mean another computer tomorrow.
fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let address = match text.split_once(':') {
        Some((name, port)) if name.eq_ignore_ascii_case("localhost") => format!("127.0.0.1:{port}"),
        _ => text.to_owned(),
    };
    address.parse().map_err(|_| {
        "give an IP address and a port, as in 127.0.0.1:8080, 0.0.0.0:8080 (from everywhere) or [::1]:8080".to_owned()
    })
}

pub fn run(matches: &ArgMatches) -> Result<()> {
    start_log(matches);
    common::start_threads(matches)?;
    let config = config(matches)?;
    if let Err(problem) = config.check() {
        bail!(problem);
    }
    let (library, fresh) = library(&place(matches)?, matches)?;
    let place = library.store().place().to_owned();
    // The first signal lets what was accepted be answered; the second ends at once.
    let _second = Interrupt::listen().context("listening to signals")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("http")
        // Each may hold a decoded picture.
        .max_blocking_threads(32)
        .build()
        .context("starting the threads that answer")?;
    runtime.block_on(async {
        let addr = config.addr;
        let stop = stop_signal().context("listening to signals")?;
        let listener = tokio::net::TcpListener::bind(addr).await.with_context(|| {
            format!("{addr}: can't listen there; choose another --addr, or stop what listens")
        })?;
        let addr = listener.local_addr().context("asking for the port")?;
        let what = if fresh { "a new store" } else { "the classes" };
        let mut out = std::io::stdout();
        writeln!(out, "serving {what} in {place} at http://{addr}/ (Ctrl-C stops)")
            .and_then(|()| out.flush())
            .context("standard output")?;
        let server = Server::new(config, library)?;
        server.run(listener, stop).await;
        Ok::<(), anyhow::Error>(())
    })?;
    // Work that is still waiting for the disk may end; what hangs may not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(5));
    Ok(())
}

fn config(matches: &ArgMatches) -> Result<Config> {
    let addr = matches.get_one::<SocketAddr>("addr").copied();
    let mut config = Config::new(addr.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080))));
    config.insecure_open = matches.get_flag("insecure-open");
    config.token = token(matches)?;
    let limits = &mut config.limits;
    let fields = [
        ("max-classes", &mut limits.classes),
        ("max-examples", &mut limits.examples),
        ("max-examples-per-class", &mut limits.examples_per_class),
        ("max-body", &mut limits.body),
        ("max-store", &mut limits.store),
        ("max-connections", &mut limits.connections),
        ("queue", &mut limits.queue),
    ];
    for (name, field) in fields {
        if let Some(&number) = matches.get_one::<u32>(name) {
            *field = number as usize;
        }
    }
    if let Some(&number) = matches.get_one::<u32>("max-pixels") {
        limits.pixels = u64::from(number);
    }
    for (name, field) in [
        ("head-timeout", &mut limits.head_timeout),
        ("body-timeout", &mut limits.body_timeout),
        ("write-timeout", &mut limits.write_timeout),
    ] {
        if let Some(&seconds) = matches.get_one::<u32>(name) {
            *field = Duration::from_secs(u64::from(seconds));
        }
    }
    Ok(config)
}

/// The token of the file, or of the environment.
fn token(matches: &ArgMatches) -> Result<Option<String>> {
    if let Some(path) = matches.get_one::<PathBuf>("token-file") {
        let size = std::fs::metadata(path)
            .with_context(|| path.display().to_string())?
            .len();
        if size > LONGEST_TOKEN {
            bail!(
                "{}: {size} bytes, and a token has {LONGEST_TOKEN} at most",
                path.display()
            );
        }
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        return Ok(Some(text.trim().to_owned()));
    }
    match std::env::var("KSHOT_TOKEN") {
        Ok(token) if !token.is_empty() => Ok(Some(token)),
        Ok(_) | Err(std::env::VarError::NotPresent) => Ok(None),
        Err(error) => Err(anyhow!("KSHOT_TOKEN: {error}")),
    }
}

/// Where the classes lie.
fn place(matches: &ArgMatches) -> Result<String> {
    if let Some(place) = matches.get_one::<String>("store") {
        return Ok(place.clone());
    }
    let folder =
        data_folder().ok_or_else(|| anyhow!("no home folder is known; say where the STORE is to be"))?;
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder.join("classes.kshot").display().to_string())
}

/// Where programs keep what they hold for this user.
fn data_folder() -> Option<PathBuf> {
    let folder = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let home = || folder("HOME");
    let base = if cfg!(windows) {
        folder("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        home().map(|home| home.join("Library/Application Support"))
    } else {
        folder("XDG_DATA_HOME").or_else(|| home().map(|home| home.join(".local/share")))
    };
    base.map(|base| base.join("kshot"))
}

/// The classes of a store, which gets the model of `--model` if it has none, and whether it is new.
fn library(place: &str, matches: &ArgMatches) -> Result<(Library, bool)> {
    let store = open_or_create(place)?;
    if store.model()?.is_some() {
        let library = Library::open(store, Head::Model)?;
        check_pictures(library.classifier().model())?;
        return Ok((library, false));
    }
    let name = matches
        .get_one::<String>("model")
        .map_or(kshot::pretrained::DEFAULT, String::as_str);
    let model = Trained::find(name)?;
    check_pictures(&model)?;
    Ok((Library::with_model(store, model, Head::Model)?, true))
}

/// Whether a model is one of pictures, as all that comes over HTTP.
fn check_pictures(model: &Trained) -> Result<()> {
    if let Some(features) = model.input().features() {
        bail!(
            "{}: takes {features} features of another program's, and the server recognises pictures; use `kshot classify`",
            model.name()
        );
    }
    Ok(())
}

fn start_log(matches: &ArgMatches) {
    let level = match matches.get_one::<String>("log").map(String::as_str) {
        Some("error") => LevelFilter::ERROR,
        Some("warn") => LevelFilter::WARN,
        Some("debug") => LevelFilter::DEBUG,
        Some("off") => LevelFilter::OFF,
        _ => LevelFilter::INFO,
    };
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false);
    if matches.get_flag("log-json") {
        log.json().init();
    } else {
        let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
        log.with_ansi(colour).compact().init();
    }
}
