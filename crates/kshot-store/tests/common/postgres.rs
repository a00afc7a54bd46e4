//! A PostgreSQL server on loopback, for one test program.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

#[allow(
    clippy::duplicate_mod,
    reason = "the tests of the command have it beside their own"
)]
#[path = "../../../kshot/tests/common/skipped.rs"]
mod skipped;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use skipped::skipped;

/// PostgreSQL refuses to run as root: `nobody` runs it then.
const NOBODY: u32 = 65_534;

/// Runs until its standard input is closed, which the end of the test program does in any case.
const GUARD: &str =
    "\"$0\" \"$@\" >server.log 2>&1 & server=$!; cat >/dev/null; kill -INT $server; wait $server";

/// A server.
pub struct Server {
    programs: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
    running: Option<Child>,
    /// Settings of its own.
    settings: Vec<String>,
    databases: AtomicU32,
}

impl Server {
    /// A fresh one; `None` where PostgreSQL isn't installed, and a line that says so.
    pub fn start() -> Option<Self> {
        Self::start_with(&[], |_| {})
    }

    /// As [`Server::start`], with settings like `ssl=on`, and what `prepare` puts into its folder of data.
    pub fn start_with(settings: &[&str], prepare: impl FnOnce(&Path)) -> Option<Self> {
        let programs = programs()?;
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut server = Self {
            programs,
            folder,
            port,
            running: None,
            settings: settings.iter().map(|setting| (*setting).to_owned()).collect(),
            databases: AtomicU32::new(0),
        };
        if is_root() {
            std::os::unix::fs::chown(server.folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let made = server
            .command(&server.programs.join("initdb"))
            .args([
                "--no-sync",
                "-A",
                "trust",
                "-U",
                "kshot",
                "-E",
                "UTF8",
                "--locale=C",
                "-D",
                "data",
            ])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        prepare(&server.folder.path().join("data"));
        server.go_on();
        Some(server)
    }

    /// The one that the tests of this program share.
    pub fn shared() -> Option<&'static Self> {
        static SERVER: OnceLock<Option<Server>> = OnceLock::new();
        // Each test says for itself that it is skipped.
        programs()?;
        SERVER.get_or_init(Self::start).as_ref()
    }

    /// Starts it on what it holds.
    pub fn go_on(&mut self) {
        let port = self.port.to_string();
        let postgres = self.programs.join("postgres");
        let child = self
            .command(Path::new("sh"))
            .args(["-c", GUARD])
            .arg(postgres)
            .args(["-D", "data", "-h", "127.0.0.1", "-k", "", "-p", &port])
            .args(["-c", "fsync=off", "-c", "max_connections=200"])
            .args(self.settings.iter().flat_map(|setting| ["-c", setting]))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.running = Some(child);
        let started = Instant::now();
        while self.client("postgres").is_err() {
            assert!(started.elapsed() < Duration::from_secs(60), "{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it; connections are cut.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.running.take() {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
    }

    /// The address of a new, empty database.
    pub fn database(&self) -> String {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut client = self.client("postgres").unwrap();
        client.batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
        self.address(&name)
    }

    fn address(&self, database: &str) -> String {
        format!("postgres://kshot@127.0.0.1:{}/{database}", self.port)
    }

    fn client(&self, database: &str) -> Result<postgres::Client, postgres::Error> {
        postgres::Client::connect(&self.address(database), postgres::NoTls)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }

    fn command(&self, program: &Path) -> Command {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).env("LC_ALL", "C");
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Writes a file that only the server may read.
pub fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    if is_root() {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    uid.and_then(|ids| ids.split_whitespace().next()) == Some("0")
}

/// The folder of `initdb` and `postgres`: on the path, or where Debian puts them.
/// Where the server's programs are; `None` where they aren't installed, and a line that says so.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let found = std::env::split_paths(&path)
        .chain(debian.map(|version| version.path().join("bin")))
        .find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists());
    if found.is_none() {
        skipped("PostgreSQL's server isn't installed");
    }
    found
}
