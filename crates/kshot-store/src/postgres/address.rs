//! Where a database is and how it is reached: what stands in `postgres://user:password@host/database?sslmode=...`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use postgres::config::{Host, SslMode, SslNegotiation};
use postgres::error::SqlState;
use postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::tls::{self, Trust};
use crate::error::StoreError;

/// How long a connection may take, and how long a writer waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);
/// How a TLS handshake that fails is told from a server that doesn't answer.
const HANDSHAKE: &str = "error performing TLS handshake";

/// A database, ready to be connected to.
#[derive(Clone)]
pub struct Address {
    config: Config,
    tls: MakeRustlsConnect,
    place: String,
}

impl Address {
    /// From a URL.
    ///
    /// # Errors
    /// A URL that can't be read, an `sslmode` that isn't known, certificates that can't be read.
    pub fn parse(url: &str) -> Result<Self, StoreError> {
        // What can't be read may hold a password.
        let unusable = |problem: String| StoreError::Unusable {
            place: "the address of the PostgreSQL store".to_owned(),
            problem,
        };
        let (url, encryption) = Encryption::take_from(url).map_err(unusable)?;
        let mut config = Config::from_str(&url).map_err(|error| {
            unusable(format!(
                "{}; write postgres://user:password@host:port/database",
                in_words(&error)
            ))
        })?;
        let place = place(&config);
        config.ssl_mode(encryption.mode).application_name("kshot");
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(PATIENCE);
        }
        let direct = config.get_ssl_negotiation() == SslNegotiation::Direct;
        let tls = tls::connector(&encryption.trust, direct).map_err(|problem| StoreError::Unusable {
            place: place.clone(),
            problem,
        })?;
        Ok(Self { config, tls, place })
    }

    /// It without its password, and without parameters.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// A new connection.
    pub fn connect(&self) -> Result<Client, postgres::Error> {
        let mut client = self.config.connect(self.tls.clone())?;
        // An answer means: on the disk.
        client.batch_execute(&format!(
            "SET synchronous_commit = on; SET lock_timeout = '{}s'; SET client_min_messages = warning",
            PATIENCE.as_secs()
        ))?;
        Ok(client)
    }

    /// An error of this database.
    pub fn failed(&self, error: &postgres::Error) -> StoreError {
        let place = self.place.clone();
        let problem = match error.code() {
            Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                format!(
                    "another program has been writing for {} s; try again",
                    PATIENCE.as_secs()
                )
            }
            Some(&SqlState::DISK_FULL) => return StoreError::Full { place },
            Some(_) => in_words(error),
            None => {
                let words = in_words(error);
                match words.strip_prefix(HANDSHAKE) {
                    Some(cause) => format!(
                        "no encrypted connection can be made ({}); see sslmode and sslrootcert in the address",
                        cause.trim_start_matches([':', ' '])
                    ),
                    None => format!("the server can't be reached ({words}); is it running?"),
                }
            }
        };
        StoreError::Database { place, problem }
    }
}

/// What a URL says of encryption.
#[derive(Debug, PartialEq)]
struct Encryption {
    mode: SslMode,
    trust: Trust,
}

impl Encryption {
    /// The URL without it, and it.
    fn take_from(url: &str) -> Result<(String, Self), String> {
        // A password may hold a question mark.
        let after_password = url.find('@').map_or(0, |at| at + 1);
        let Some(at) = url[after_password..].find('?') else {
            return Ok((url.to_owned(), Self::of(None, None)?));
        };
        let (rest, parameters) = url.split_at(after_password + at);
        let (mut mode, mut roots, mut others) = (None, None, Vec::new());
        for parameter in parameters[1..]
            .split('&')
            .filter(|parameter| !parameter.is_empty())
        {
            match parameter.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value),
                Some(("sslrootcert", value)) => roots = Some(decoded(value)?),
                _ => others.push(parameter),
            }
        }
        let encryption = Self::of(mode, roots)?;
        let mark = if others.is_empty() { "" } else { "?" };
        Ok((format!("{rest}{mark}{}", others.join("&")), encryption))
    }

    fn of(mode: Option<&str>, roots: Option<String>) -> Result<Self, String> {
        let file = roots.filter(|roots| roots != "system").map(PathBuf::from);
        let (mode, trust) = match mode.unwrap_or("prefer") {
            "disable" => (SslMode::Disable, Trust::Anyone),
            "prefer" => (SslMode::Prefer, Trust::Anyone),
            // With certificates to go by it verifies them, as PostgreSQL's own programs do.
            "require" if file.is_some() => (SslMode::Require, Trust::Signed(file)),
            "require" => (SslMode::Require, Trust::Anyone),
            "verify-ca" => (SslMode::Require, Trust::Signed(file)),
            "verify-full" => (SslMode::Require, Trust::Host(file)),
            other => {
                return Err(format!(
                    "sslmode is `{}`, expected disable, prefer, require, verify-ca or verify-full",
                    other.chars().take(20).collect::<String>()
                ));
            }
        };
        Ok(Self { mode, trust })
    }
}

/// Text in which `%2F` stands for `/`.
fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        bytes.push(match byte {
            b'%' => match (digit(rest.next()), digit(rest.next())) {
                (Some(high), Some(low)) => (16 * high + low) as u8,
                _ => return Err("sslrootcert has a % without two hexadecimal digits behind it".to_owned()),
            },
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| "sslrootcert is not UTF-8 text".to_owned())
}

/// The address without its password.
fn place(config: &Config) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        #[cfg(unix)]
        Some(Host::Unix(path)) => path.display().to_string(),
        None => "localhost".to_owned(),
    };
    let user = config
        .get_user()
        .map_or_else(String::new, |user| format!("{user}@"));
    let port = config
        .get_ports()
        .first()
        .map_or_else(String::new, |port| format!(":{port}"));
    let database = config
        .get_dbname()
        .map_or_else(String::new, |name| format!("/{name}"));
    format!("postgres://{user}{host}{port}{database}")
}

/// What the server said, where it said something, and else the whole chain of causes.
fn in_words(error: &postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        return said.message().to_owned();
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(url: &str) -> (String, SslMode, Trust) {
        let (url, Encryption { mode, trust }) = Encryption::take_from(url).unwrap();
        (url, mode, trust)
    }

    #[test]
    fn encryption_is_read_and_taken_out_of_the_address() {
        let url = "postgres://user:what?@host/name";
        assert_eq!(taken(url), (url.to_owned(), SslMode::Prefer, Trust::Anyone));
        let file = || Some(PathBuf::from("/etc/a b.pem"));
        for (parameters, left, mode, trust) in [
            ("sslmode=disable", "", SslMode::Disable, Trust::Anyone),
            ("sslmode=require", "", SslMode::Require, Trust::Anyone),
            ("sslmode=verify-full", "", SslMode::Require, Trust::Host(None)),
            (
                "sslrootcert=system&sslmode=verify-ca",
                "",
                SslMode::Require,
                Trust::Signed(None),
            ),
            (
                "connect_timeout=3&sslmode=require&sslrootcert=/etc/a%20b.pem&options=x",
                "?connect_timeout=3&options=x",
                SslMode::Require,
                Trust::Signed(file()),
            ),
        ] {
            assert_eq!(
                taken(&format!("{url}?{parameters}")),
                (format!("{url}{left}"), mode, trust),
                "{parameters}"
            );
        }
    }

    #[test]
    fn what_is_wrong_with_encryption_is_said_without_the_password() {
        for (parameters, said) in [
            ("sslmode=verify", "sslmode is `verify`, expected disable, prefer"),
            ("sslrootcert=%2", "two hexadecimal digits"),
            ("sslrootcert=%ff", "not UTF-8"),
            (
                "sslmode=verify-full&sslrootcert=/no/such/file.pem",
                "/no/such/file.pem: ",
            ),
        ] {
            let url = format!("postgres://someone:secret@host/name?{parameters}");
            let error = Address::parse(&url).err().unwrap().to_string();
            assert!(error.contains(said) && !error.contains("secret"), "{error}");
        }
    }
}
