//! How the server is set up, and what it refuses.

use std::net::SocketAddr;
use std::time::Duration;

/// How the server is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens.
    pub addr: SocketAddr,
    /// What requests must carry as `Authorization: Bearer …`; `None` for no such thing.
    pub token: Option<String>,
    /// Whether it may listen beyond this computer without a token.
    pub insecure_open: bool,
    /// What it refuses.
    pub limits: Limits,
}

/// What the server refuses.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest body of a request with pictures, in bytes.
    pub body: usize,
    /// Longest store that is taken, in bytes.
    pub store: usize,
    /// Most pixels of a picture.
    pub pixels: u64,
    /// Most pictures in a request.
    pub images_per_request: usize,
    /// Most pictures waiting to be recognised.
    pub queue: usize,
    /// Most classes.
    pub classes: usize,
    /// Most examples of a class.
    pub examples_per_class: usize,
    /// Most examples in all.
    pub examples: usize,
    /// Most connections at a time.
    pub connections: usize,
    /// Most memory that bodies under way may take together, in bytes.
    pub bodies_memory: usize,
    /// Most memory that pictures may take together while they are decoded, in bytes.
    pub pixels_memory: usize,
    /// Most memory that decoded pictures may take together until they are recognised, in bytes.
    pub pictures_memory: usize,
    /// Most memory that large answers may take together until they are sent, in bytes.
    pub answers_memory: usize,
    /// How long a request's head may take to arrive, and how long a connection may be idle.
    pub head_timeout: Duration,
    /// How long a request's body may take to arrive.
    pub body_timeout: Duration,
    /// How long a client may take nothing of its answer.
    pub write_timeout: Duration,
    /// How long requests that were accepted may take to end after the signal to stop.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 32 << 20,
            store: 1 << 30,
            pixels: 40_000_000,
            images_per_request: 256,
            queue: 2048,
            classes: 1_000,
            examples_per_class: 1_000,
            examples: 20_000,
            connections: 1024,
            bodies_memory: 512 << 20,
            pixels_memory: 512 << 20,
            pictures_memory: 512 << 20,
            answers_memory: 256 << 20,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(20),
        }
    }
}

impl Config {
    /// A server for this computer alone.
    pub fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            token: None,
            insecure_open: false,
            limits: Limits::default(),
        }
    }

    /// Whether this setup may start.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub fn check(&self) -> Result<(), String> {
        if self
            .token
            .as_ref()
            .is_some_and(|token| token.len() < 16 || !token.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            return Err("a token has at least 16 characters, all of them visible ASCII; `openssl rand -hex 32` makes a good one".to_owned());
        }
        if !self.addr.ip().is_loopback() && self.token.is_none() && !self.insecure_open {
            return Err(format!(
                "{} can be reached from other computers, and without a token anyone there could change the classes; \
                 give a token (KSHOT_TOKEN or --token-file), or say --insecure-open",
                self.addr
            ));
        }
        Ok(())
    }
}
