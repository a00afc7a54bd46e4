use std::cell::RefCell;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::thread;

use super::super::tiny::{self, Files};
use super::*;
use crate::data::real;

/// A server on this machine that answers each request for a file of `folder` in turn with what `answer` makes of its
/// bytes; gives its address.
fn serve(folder: PathBuf, answer: fn(Vec<u8>) -> Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/python/", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let request = lines.next().unwrap().unwrap();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            let name = request
                .split(' ')
                .nth(1)
                .unwrap()
                .strip_prefix("/python/")
                .unwrap()
                .to_owned();
            let _ = stream.write_all(&answer(fs::read(folder.join(name)).unwrap_or_default()));
        }
    });
    address
}

fn ok(body: Vec<u8>) -> Vec<u8> {
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend(body);
    answer
}

/// The tiny archives in a folder, and what their authors would say of them.
fn published() -> (tempfile::TempDir, [Published; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let archives = [0, 1].map(|set| {
        let name = ARCHIVES[set].name;
        let path = folder.path().join(name);
        tiny::pack(&path, &tiny::sets()[set]);
        let md5 = md5(&fs::read(path).unwrap()).leak();
        Published {
            name,
            md5,
            max_length: 1 << 20,
        }
    });
    (folder, archives)
}

fn request<'a>(data_dir: &Path, progress: &'a dyn Fn(&str, u64, u64)) -> FetchRequest<'a> {
    FetchRequest {
        data_dir: data_dir.to_owned(),
        from: None,
        base_url: None,
        progress,
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|item| item.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn both_archives_are_downloaded_once_and_are_the_published_ones() {
    let (folder, archives) = published();
    let address = serve(folder.path().to_owned(), ok);
    let data = tempfile::tempdir().unwrap();
    let told = RefCell::new(Vec::new());
    let progress = |name: &str, done, total| told.borrow_mut().push((name.to_owned(), done, total));
    let request = FetchRequest {
        base_url: Some(address),
        ..request(data.path(), &progress)
    };
    let text = fetch_files(&request, &archives).unwrap();
    assert!(
        text.contains("images_evaluation.zip: downloaded, the published file (MD5) in "),
        "{text}"
    );
    assert_eq!(
        names(&data.path().join("omniglot")),
        ["images_background.zip", "images_evaluation.zip"]
    );
    for file in &archives {
        let length = fs::metadata(folder.path().join(file.name)).unwrap().len();
        assert!(told.borrow().contains(&(file.name.to_owned(), length, length)));
    }
    told.borrow_mut().clear();
    let text = fetch_files(&request, &archives).unwrap();
    assert!(
        text.starts_with("images_background.zip: already there, the published file (MD5); "),
        "{text}"
    );
    assert!(told.borrow().is_empty());
    // A damaged one is fetched again.
    fs::write(data.path().join("omniglot/images_evaluation.zip"), "half").unwrap();
    let text = fetch_files(&request, &archives).unwrap();
    assert!(
        text.contains("images_background.zip: already there") && text.contains("evaluation.zip: downloaded")
    );
}

#[test]
fn a_download_that_goes_wrong_says_why_and_leaves_what_was_there() {
    let (folder, archives) = published();
    let data = tempfile::tempdir().unwrap();
    let fails = |answer| {
        let address = serve(folder.path().to_owned(), answer);
        let request = FetchRequest {
            base_url: Some(address),
            ..request(data.path(), &|_, _, _| {})
        };
        fs::create_dir_all(data.path().join("omniglot")).unwrap();
        fs::write(data.path().join("omniglot/images_background.zip"), "old").unwrap();
        let text = fetch_files(&request, &archives).unwrap_err().to_string();
        assert_eq!(
            fs::read(data.path().join("omniglot/images_background.zip")).unwrap(),
            b"old"
        );
        assert_eq!(names(&data.path().join("omniglot")), ["images_background.zip"]);
        assert!(text.contains("/python/images_background.zip: "), "{text}");
        assert!(
            text.ends_with("or get the file in another way and give its folder with --from DIR"),
            "{text}"
        );
        text
    };
    let text = fails(|_| ok(b"something else".to_vec()));
    assert!(
        text.contains("its MD5 is 6c7ba9c5a141421e1c03cb9807c97c74, and that of the published file "),
        "{text}"
    );
    let text =
        fails(|_| b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec());
    assert!(text.contains("can't be downloaded (http status: 404)"), "{text}");
    let text = fails(|body| ok(body)[..2000].to_vec());
    assert!(text.contains("the download broke off"), "{text}");
    let text = fails(|_| ok(vec![0; 2 << 20]));
    assert!(text.contains("longer than the 1 MiB that it may have"), "{text}");
    // The same without a length up front.
    let text = fails(|_| {
        [
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec(),
            vec![0; 2 << 20],
        ]
        .concat()
    });
    assert!(text.contains("longer than the 1 MiB that it may have"), "{text}");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let request = FetchRequest {
        base_url: Some(format!("http://{closed}")),
        ..request(data.path(), &|_, _, _| {})
    };
    assert!(
        fetch_files(&request, &archives)
            .unwrap_err()
            .to_string()
            .contains("can't be downloaded (")
    );
}

#[test]
fn what_from_gives_is_copied_when_it_is_whole() {
    // As many characters and drawings as the published ones, all drawn alike.
    let whole = |set: usize| -> Files {
        let drawing = tiny::png(|x, y| x == y);
        let file = |n: usize| {
            let (character, drawing_number) = (n / DRAWERS + 1, n % DRAWERS + 1);
            (
                format!(
                    "{}/A{set}/character{character:03}/{drawing_number}.png",
                    SETS[set].0
                ),
                drawing.clone(),
            )
        };
        (0..SETS[set].1 * DRAWERS).map(file).collect()
    };
    let from = tempfile::tempdir().unwrap();
    tiny::write_splits(
        from.path(),
        "A0/character001\n",
        "A0/character002\n",
        "A1/character001\n",
    );
    let folder = from.path().join("omniglot");
    tiny::pack(&folder.join(ARCHIVES[1].name), &whole(1));
    let data = tempfile::tempdir().unwrap();
    let request = FetchRequest {
        from: Some(from.path().to_owned()),
        ..request(data.path(), &|_, _, _| {})
    };
    let text = fetch(&request).unwrap_err().to_string();
    assert!(
        text.contains("images_background.zip is not there; give the folder that holds"),
        "{text}"
    );

    let mut background = whole(0);
    let last = background.pop().unwrap();
    tiny::pack(&folder.join(ARCHIVES[0].name), &background);
    let text = fetch(&request).unwrap_err().to_string();
    assert!(
        text.contains("964 characters, 963 of them with 20 drawings, and images_background has 964"),
        "{text}"
    );

    background.push((last.0.clone(), b"no picture".to_vec()));
    tiny::pack(&folder.join(ARCHIVES[0].name), &background);
    assert!(
        fetch(&request)
            .unwrap_err()
            .to_string()
            .contains("/character964/20.png: not a readable")
    );
    assert_eq!(names(data.path()), [""; 0]);

    background.pop();
    background.push(last);
    tiny::pack(&folder.join(ARCHIVES[0].name), &background);
    let text = fetch(&request).unwrap();
    assert!(
        text.contains("images_background.zip: copied, packed anew (its MD5 is not the published one)"),
        "{text}"
    );
    assert!(
        text.contains("with all 659 characters of 20 drawings; splits/vinyals: copied in "),
        "{text}"
    );
    let copied = data.path().join("omniglot");
    assert_eq!(
        names(&copied),
        ["images_background.zip", "images_evaluation.zip", "splits"]
    );
    assert_eq!(
        names(&copied.join("splits/vinyals")),
        ["test.txt", "train.txt", "val.txt"]
    );
}

#[test]
fn an_unpacked_set_is_used_where_it_is() {
    let from = tempfile::tempdir().unwrap();
    fs::create_dir(from.path().join("images_background")).unwrap();
    let data = tempfile::tempdir().unwrap();
    let request = FetchRequest {
        from: Some(from.path().to_owned()),
        ..request(data.path(), &|_, _, _| {})
    };
    let text = fetch(&request).unwrap_err().to_string();
    assert!(
        text.contains("images_background is unpacked already; use it where it is with --data-dir"),
        "{text}"
    );
}

#[test]
fn the_archives_at_hand_are_whole() {
    let Some(from) = real::folder("omniglot") else {
        return;
    };
    let data = tempfile::tempdir().unwrap();
    let request = FetchRequest {
        from: Some(from),
        ..request(data.path(), &|_, _, _| {})
    };
    let text = fetch(&request).unwrap();
    assert!(
        text.contains("images_background.zip: copied") && text.contains("splits/vinyals: copied"),
        "{text}"
    );
}
