//! A server that is killed while several clients change its store: what it acknowledged is there when it starts again.
#![cfg(unix)]

mod common;
#[path = "../../kshot-store/tests/common/postgres.rs"]
mod database;
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use serde_json::{Value, json};
use server::{Answer, Server, ask, form};

const CLIENTS: usize = 4;
const JSON: &str = "application/json";

/// The examples of each class.
type Classes = BTreeMap<String, BTreeSet<String>>;

/// Numbers by xorshift.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % limit
    }
}

/// A number that has not been given before.
fn fresh() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A picture that has not been sent before.
fn picture() -> Vec<u8> {
    let mut chance = Chance(fresh().wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let picture = image::GrayImage::from_fn(28, 28, |_, _| image::Luma([chance.below(256) as u8]));
    let mut file = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut file, image::ImageFormat::Png).unwrap();
    file.into_inner()
}

/// What a client asks for.
#[derive(Clone, Debug)]
enum Doing {
    Class(String),
    Examples(String, usize),
    Rename(String, String),
    Remove(String),
    RemoveExample(String, String),
}

impl Doing {
    fn any(client: usize, mine: &Classes, chance: &mut Chance) -> Self {
        let name = || format!("c{client}-{}", fresh());
        let roll = chance.below(100);
        let at = chance.below(mine.len().max(1));
        let Some((class, examples)) = mine.iter().nth(at) else {
            return Self::Class(name());
        };
        let class = class.clone();
        match roll {
            0..25 if mine.len() < 6 => Self::Class(name()),
            0..65 if examples.len() < 12 => Self::Examples(class, 1 + chance.below(2)),
            65..80 => Self::Rename(class, name()),
            80..90 if mine.len() > 2 => Self::Remove(class),
            _ => match examples.first() {
                Some(example) => Self::RemoveExample(class, example.clone()),
                None => Self::Examples(class, 1),
            },
        }
    }

    fn ask(&self, addr: SocketAddr) -> Option<Answer> {
        let at = |class: &str| format!("/v1/classes/{class}");
        let named = |name: &str| json!({"name": name}).to_string();
        match self {
            Self::Class(name) => ask(addr, "POST", "/v1/classes", JSON, named(name).as_bytes()),
            Self::Examples(class, count) => {
                let pictures: Vec<_> = (0..*count).map(|_| picture()).collect();
                let (kind, body) = form(&pictures, "images");
                ask(addr, "POST", &format!("{}/examples", at(class)), &kind, &body)
            }
            Self::Rename(from, to) => ask(addr, "PATCH", &at(from), JSON, named(to).as_bytes()),
            Self::Remove(class) => ask(addr, "DELETE", &at(class), JSON, b""),
            Self::RemoveExample(class, id) => {
                ask(addr, "DELETE", &format!("{}/examples/{id}", at(class)), JSON, b"")
            }
        }
    }

    /// What the classes are when it is done; `ids` are the new examples'.
    fn done(&self, mut classes: Classes, ids: impl IntoIterator<Item = String>) -> Classes {
        match self {
            Self::Class(name) => drop(classes.insert(name.clone(), BTreeSet::new())),
            Self::Examples(class, _) => classes.entry(class.clone()).or_default().extend(ids),
            Self::Rename(from, to) => {
                let examples = classes.remove(from).unwrap_or_default();
                classes.insert(to.clone(), examples);
            }
            Self::Remove(class) => drop(classes.remove(class)),
            Self::RemoveExample(class, id) => {
                classes.get_mut(class).map(|examples| examples.remove(id));
            }
        }
        classes
    }

    /// Whether `found` is what the classes are with it done, of which no answer came: new examples have any number.
    fn explains(&self, before: &Classes, found: &Classes) -> bool {
        let mut new = Vec::new();
        if let Self::Examples(class, count) = self {
            let (old, now) = (before.get(class), found.get(class));
            if let (Some(old), Some(now)) = (old, now) {
                new.extend(now.difference(old).cloned());
            }
            if new.len() != *count {
                return false;
            }
        }
        self.done(before.clone(), new) == *found
    }
}

/// A store as it was once, to be put back.
struct Copy {
    file: Vec<u8>,
    classes: Vec<Classes>,
}

/// What the clients know of their classes, and what they did.
struct Known {
    classes: Mutex<Vec<Classes>>,
    /// Clients share it; who replaces everything has it alone.
    gate: RwLock<()>,
    acknowledged: AtomicU64,
}

/// Changes classes of its own until the server dies; gives what was not answered.
fn change(client: usize, addr: SocketAddr, known: &Known, mut chance: Chance) -> Doing {
    loop {
        let _open = known.gate.read().unwrap();
        let mine = known.classes.lock().unwrap()[client].clone();
        let doing = Doing::any(client, &mine, &mut chance);
        let Some(answer) = doing.ask(addr) else {
            return doing;
        };
        assert!([200, 201, 204].contains(&answer.status), "{doing:?}: {answer:?}");
        let ids = match doing {
            Doing::Examples(..) => ids(&answer.json()),
            _ => Vec::new(),
        };
        known.classes.lock().unwrap()[client] = doing.done(mine, ids);
        known.acknowledged.fetch_add(1, Ordering::Relaxed);
    }
}

/// Downloads the store and puts it back later, again and again; says whether that was under way when the server died.
fn replace(addr: SocketAddr, known: &Known, copy: &mut Option<Copy>, mut chance: Chance) -> bool {
    loop {
        std::thread::sleep(Duration::from_millis(chance.below(120) as u64));
        let _alone = known.gate.write().unwrap();
        match copy {
            Some(there) if chance.below(2) == 0 => {
                let put = ask(addr, "PUT", "/v1/store", "application/octet-stream", &there.file);
                let Some(answer) = put else { return true };
                assert_eq!(answer.status, 204, "{answer:?}");
                known.classes.lock().unwrap().clone_from(&there.classes);
                known.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            _ => {
                let Some(answer) = ask(addr, "GET", "/v1/store", JSON, b"") else {
                    return false;
                };
                *copy = Some(Copy {
                    file: answer.body,
                    classes: known.classes.lock().unwrap().clone(),
                });
            }
        }
    }
}

fn ids(listed: &Value) -> Vec<String> {
    let examples = listed["examples"].as_array().unwrap();
    let id = |example: &Value| example["id"].as_str().unwrap().to_owned();
    examples.iter().map(id).collect()
}

/// Each client's classes as the server has them, with a picture of each example.
fn found(server: &Server) -> Vec<Classes> {
    let mut found = vec![Classes::new(); CLIENTS];
    for class in server.get("/v1/classes").expect(200).json()["classes"]
        .as_array()
        .unwrap()
    {
        let name = class["name"].as_str().unwrap();
        let path = format!("/v1/classes/{name}/examples?pictures=true");
        let listed = server.get(&path).expect(200).json();
        let ids = ids(&listed);
        assert_eq!(ids.len() as u64, class["n_examples"].as_u64().unwrap());
        let client: usize = name[1..2].parse().unwrap();
        found[client].insert(name.to_owned(), ids.into_iter().collect());
    }
    found
}

fn kill_again_and_again(place: &str, kills: u64) {
    let known = Known {
        classes: Mutex::new(vec![Classes::new(); CLIENTS]),
        gate: RwLock::new(()),
        acknowledged: AtomicU64::new(0),
    };
    let mut copy = None;
    let (mut done, mut not_done) = (0, 0);
    let mut server = Server::start(place.as_ref(), &[]);
    for trial in 0..kills {
        let mut chance = Chance(trial.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let after = Duration::from_millis(10 + chance.below(400) as u64);
        let addr = server.addr;
        let (unanswered, replacing) = std::thread::scope(|scope| {
            let mut own = || Chance(chance.below(usize::MAX) as u64 | 1);
            let (known, copy) = (&known, &mut copy);
            let clients: Vec<_> = (0..CLIENTS)
                .map(|client| {
                    let own = own();
                    scope.spawn(move || change(client, addr, known, own))
                })
                .collect();
            let own = own();
            let replacing = scope.spawn(move || replace(addr, known, copy, own));
            std::thread::sleep(after);
            server.kill();
            let unanswered: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
            (unanswered, replacing.join().unwrap())
        });
        server = Server::start(place.as_ref(), &[]);
        let found = found(&server);
        let mut classes = known.classes.lock().unwrap();
        let put = copy.as_ref().filter(|copy| replacing && copy.classes == found);
        if put.is_some() {
            done += 1;
        } else {
            for ((before, found), doing) in classes.iter().zip(&found).zip(&unanswered) {
                let is_done = doing.explains(before, found);
                assert!(
                    is_done || before == found,
                    "kill {trial} after {after:?}: acknowledged {before:?}, under way {doing:?}, found {found:?}"
                );
                if is_done { done += 1 } else { not_done += 1 }
            }
        }
        *classes = found;
    }
    let acknowledged = known.acknowledged.into_inner();
    assert!(
        acknowledged > kills,
        "only {acknowledged} changes in {kills} lives"
    );
    eprintln!(
        "{kills} kills: {acknowledged} changes acknowledged, none lost; of those that were not answered {done} were done as a \
         whole and {not_done} not at all"
    );
}

#[test]
fn nothing_that_a_server_acknowledged_is_lost_with_it() {
    let folder = tempfile::tempdir().unwrap();
    kill_again_and_again(
        &folder.path().join("s.kshot").display().to_string(),
        common::kills(12),
    );
}

#[test]
fn nothing_that_a_server_in_front_of_a_database_acknowledged_is_lost_with_it() {
    if let Some(database) = database::Server::shared() {
        kill_again_and_again(&database.database(), common::kills(8));
    }
}
