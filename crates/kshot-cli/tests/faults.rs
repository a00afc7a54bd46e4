//! What no one wishes for: a full disk, and a thousand clients at once of whom many mean no good.
#![cfg(unix)]

mod common;
mod server;

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use common::kshot;
use common::skipped::skipped;
use serde_json::Value;
use server::{Server, bar, noise, read_answer, teach};

/// A file system of so many bytes in `folder`; `None` where this user may not make one, and a line that says so.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn new(folder: &'a Path, size: &str) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let made = mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], folder);
        if !made {
            skipped("a small file system can't be mounted here");
        }
        made.then_some(Self(folder))
    }

    fn grow(&self, size: &str) {
        assert!(mount(&["-o", &format!("remount,size={size}")], self.0));
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

fn mount(arguments: &[&str], folder: &Path) -> bool {
    let done = Command::new("mount").args(arguments).arg(folder).output();
    done.is_ok_and(|output| output.status.success())
}

#[test]
fn a_full_disk_is_said_and_what_was_acknowledged_stays() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = folder.path().join("pictures");
    for class in 0..60 {
        let place = pictures.join(format!("class{class:02}"));
        fs::create_dir_all(&place).unwrap();
        for example in 0..2 {
            noise(2 * class + example, 200)
                .save(place.join(format!("{example}.png")))
                .unwrap();
        }
    }
    let at = folder.path().join("disk");
    let Some(disk) = SmallDisk::new(&at, "3m") else {
        return;
    };
    let store = at.join("store");
    let enroll = || {
        let mut command = kshot();
        command.arg("enroll").arg(&store).arg(&pictures).arg("--json");
        command.output().unwrap()
    };
    let output = enroll();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("no room left on the disk") && !error.contains("panicked"),
        "{error}"
    );
    let acknowledged: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|line: &Value| line.get("class").is_some())
        .collect();
    assert!(
        !acknowledged.is_empty() && acknowledged.len() < 60,
        "{}",
        acknowledged.len()
    );
    disk.grow("40m");
    {
        let open = kshot_store::open(&store.display().to_string()).unwrap();
        let library = kshot_store::Library::open(open, kshot::classifier::Head::Model).unwrap();
        for line in &acknowledged {
            let class = library.classifier().class(line["class"].as_str().unwrap());
            assert_eq!(class.map(|class| class.examples().len()), Some(2), "{line}");
        }
        assert!(
            library
                .classifier()
                .classes()
                .all(|class| class.examples().len() == 2)
        );
    }
    // With room again the same command goes on.
    let output = enroll();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let last = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        last.contains("\"examples\": 120") || last.contains("\"examples\":120"),
        "{last}"
    );
}

#[test]
fn a_server_on_a_full_disk_says_so_keeps_what_it_acknowledged_and_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("disk");
    let Some(disk) = SmallDisk::new(&at, "4m") else {
        return;
    };
    let place = at.join("classes.kshot");
    let start = || {
        let mut command = kshot();
        command.arg("serve").arg(&place).args(["--addr", "127.0.0.1:0"]);
        Server::spawn(command_with_room_in(command, &at))
    };
    let server = start();
    teach(&server);
    let picture = |seed| {
        let mut file = std::io::Cursor::new(Vec::new());
        noise(seed, 300)
            .write_to(&mut file, image::ImageFormat::Png)
            .unwrap();
        file.into_inner()
    };
    let add = |server: &Server, seed| server.picture("/v1/classes/upright/examples", &picture(seed));
    let mut acknowledged = 2;
    let refused = loop {
        let answer = add(&server, acknowledged);
        if answer.status != 201 {
            break answer;
        }
        acknowledged += 1;
        assert!(acknowledged < 60, "the disk is never full");
    };
    refused.problem(507, "no-room");
    // A copy of the store has no room either, neither out nor in; whatever is only read is answered.
    server.get("/v1/store").problem(507, "no-room");
    let upload = vec![7; 6 << 20];
    server
        .request("PUT", "/v1/store", &[], &upload)
        .problem(507, "no-room");
    server::recognise(&server);
    let count = |server: &Server| server.get("/v1/classes/upright").expect(200).json()["n_examples"].clone();
    assert_eq!(count(&server), acknowledged);
    disk.grow("40m");
    add(&server, 1_000).expect(201);
    assert!(server.get("/v1/store").expect(200).body.len() > 1 << 20);
    drop(server);
    assert_eq!(count(&start()), acknowledged + 1);
}

/// A command whose temporary files lie in a folder.
fn command_with_room_in(mut command: Command, folder: &Path) -> Command {
    command.env("TMPDIR", folder);
    command
}

#[test]
fn a_thousand_clients_of_whom_many_are_slow_or_broken_stop_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(
        &folder.path().join("classes.kshot"),
        &["--head-timeout", "5", "--body-timeout", "5"],
    );
    teach(&server);
    let picture = bar(true, 20);
    // All are connected before the first answer is read. One thread sends for all, so that nobody is slow who shouldn't be.
    let mut asking = Vec::new();
    let mut others = Vec::new();
    for number in 0..1000 {
        let mut stream = server.connect();
        let mut send = |bytes: &[u8]| {
            let _ = stream.write_all(bytes);
        };
        match number % 10 {
            // Half a head, half a body, nonsense.
            6 => send(b"POST /classify HTTP/1.1\r\nhost: loc"),
            7 => send(b"POST /classify HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\nabc"),
            8 => send(&[0xff; 3000]),
            // Asks and goes away.
            9 => {
                send(&request(server.addr, &picture));
                continue;
            }
            _ => {
                send(&request(server.addr, &picture));
                asking.push(stream);
                continue;
            }
        }
        others.push(stream);
    }
    let (mut answered, mut sent_away) = (0, 0);
    for mut stream in asking {
        let answer = read_answer(&mut stream);
        match answer.status {
            200 => {
                assert_eq!(answer.json()["ranked"][0]["label"], "upright");
                answered += 1;
            }
            503 => sent_away += 1,
            other => panic!("{other}: {}", answer.head),
        }
    }
    for mut stream in others {
        // The server ends what never becomes a request.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    eprintln!("{answered} answered, {sent_away} sent away for later");
    assert_eq!(answered + sent_away, 600);
    assert!(answered >= 300, "{answered}");
    server.picture("/classify", &picture).expect(200);
    let peak = server.peak_memory_mib();
    assert!(peak < 700, "{peak} MiB");
}

/// A request for a picture, whole.
fn request(host: std::net::SocketAddr, picture: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /classify HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        picture.len()
    );
    [head.as_bytes(), picture].concat()
}
