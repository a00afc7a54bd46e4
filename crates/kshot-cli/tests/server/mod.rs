//! `kshot serve` as a process, and requests to it byte by byte.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A PNG of 40x40 pixels: a bar, upright or level, at a place.
pub fn bar(upright: bool, at: u32) -> Vec<u8> {
    let picture = image::GrayImage::from_fn(40, 40, |x, y| {
        let (across, along) = if upright { (x, y) } else { (y, x) };
        let ink = across.abs_diff(at) < 2 && (6..34).contains(&along);
        image::Luma([if ink { 0 } else { 255 }])
    });
    let mut file = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut file, image::ImageFormat::Png).unwrap();
    file.into_inner()
}

/// A picture that no compression makes small.
pub fn noise(seed: u64, side: u32) -> image::GrayImage {
    let mut state = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    image::GrayImage::from_fn(side, side, |_, _| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        image::Luma([(state >> 32) as u8])
    })
}

/// Two classes of two examples each.
pub fn teach(server: &Server) {
    for (name, upright) in [("upright", true), ("level", false)] {
        server
            .json("POST", "/v1/classes", &json!({"name": name}))
            .expect(201);
        for at in [18, 22] {
            server
                .picture(&format!("/v1/classes/{name}/examples"), &bar(upright, at))
                .expect(201);
        }
    }
}

/// It on a store in a folder, with further arguments.
pub fn start(folder: &Path, arguments: &[&str]) -> Server {
    Server::start(&folder.join("classes.kshot"), arguments)
}

/// What it says of an upright bar.
pub fn recognise(server: &Server) -> Value {
    server.picture("/classify", &bar(true, 20)).expect(200).json()
}

/// A form with a file for each picture.
pub fn form(pictures: &[Vec<u8>], field: &str) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (index, picture) in pictures.iter().enumerate() {
        body.extend(format!("--xYz\r\ncontent-disposition: form-data; name=\"{field}\"; filename=\"p{index}.png\"\r\ncontent-type: image/png\r\n\r\n").bytes());
        body.extend(picture);
        body.extend(b"\r\n");
    }
    body.extend(b"--xYz--\r\n");
    ("multipart/form-data; boundary=xYz".to_owned(), body)
}

/// A running server; it is killed when dropped.
pub struct Server {
    child: Child,
    pub addr: SocketAddr,
    /// The line that it printed.
    pub line: String,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Server {
    /// Starts it on a free port with further arguments.
    #[track_caller]
    pub fn start(store: &Path, arguments: &[&str]) -> Self {
        let mut command = super::common::kshot();
        command
            .arg("serve")
            .arg(store)
            .args(["--addr", "127.0.0.1:0"])
            .args(arguments);
        Self::spawn(command)
    }

    #[track_caller]
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let addr = line
            .split("http://")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next());
        let addr = addr.and_then(|addr| addr.trim_end_matches(['/', ',', ';']).parse().ok());
        let addr = addr.unwrap_or_else(|| panic!("no address in {line:?}"));
        Self { child, addr, line }
    }

    /// The page's address.
    pub fn page(&self) -> String {
        format!("http://{}/", self.addr)
    }

    /// The most memory that it has held at a time.
    pub fn peak_memory_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
        kib.unwrap_or(0) / 1024
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        let done = Command::new("kill")
            .arg("-TERM")
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(done.success());
    }

    /// Sends SIGKILL and waits.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the end; gives the exit code.
    #[track_caller]
    pub fn wait(mut self, patience: Duration) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < patience, "still running after {patience:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// One request on a connection of its own; `head` are further header lines.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, head: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = self.connect();
        let mut text = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n",
            self.addr
        );
        for (name, value) in head {
            text += &format!("{name}: {value}\r\n");
        }
        text += &format!("content-length: {}\r\n\r\n", body.len());
        stream.write_all(text.as_bytes()).unwrap();
        // A server that refuses may close before it has read everything.
        let _ = stream.write_all(body);
        read_answer(&mut stream)
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], b"")
    }

    #[track_caller]
    pub fn json(&self, method: &str, path: &str, value: &Value) -> Answer {
        self.request(
            method,
            path,
            &[("content-type", "application/json")],
            value.to_string().as_bytes(),
        )
    }

    #[track_caller]
    pub fn picture(&self, path: &str, bytes: &[u8]) -> Answer {
        self.request("POST", path, &[("content-type", "image/png")], bytes)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Expects a status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(
            self.status,
            status,
            "{}\n{}",
            self.head,
            String::from_utf8_lossy(&self.body)
        );
        self
    }

    /// Expects a problem document; gives its detail.
    #[track_caller]
    pub fn problem(self, status: u16, kind: &str) -> String {
        let answer = self.expect(status);
        assert!(
            answer
                .head
                .to_lowercase()
                .contains("content-type: application/problem+json"),
            "{}",
            answer.head
        );
        let document = answer.json();
        assert_eq!(document["type"], format!("/docs#{kind}"), "{document}");
        assert_eq!(document["status"], status);
        document["detail"].as_str().unwrap().to_owned()
    }
}

/// A request to a server that may die meanwhile; `None` unless its whole answer came.
pub fn ask(addr: SocketAddr, method: &str, path: &str, kind: &str, body: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(addr).ok()?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).ok()?;
    let mut bytes = Vec::new();
    // A reset that comes after the whole answer doesn't matter.
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length = length.map_or(0, |length| length.parse().unwrap_or(usize::MAX));
    (bytes.len() - end - 4 == length).then(|| Answer {
        status: head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or(0),
        body: bytes.split_off(end + 4),
        head,
    })
}

/// Reads an answer to the end of the connection.
#[track_caller]
pub fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // A connection that is closed on unread data ends in a reset after the answer.
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer: {bytes:?}"));
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap();
    Answer {
        status,
        head,
        body: bytes[end + 4..].to_vec(),
    }
}
