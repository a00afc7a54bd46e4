//! Data that is damaged, hostile or not there: one clear line that says what, where and what to do.

mod common;

use std::path::Path;

use common::{fail, kshot, succeed};

/// A grey PNG of `side` pixels with a mark that depends on `seed`.
fn picture(path: &Path, side: u32, seed: u32) {
    let image = image::GrayImage::from_fn(side, side, |x, y| {
        image::Luma([((x * 7 + y * 13 + seed * 31) % 256) as u8])
    });
    image.save(path).unwrap();
}

/// A folder dataset with six classes of four pictures.
fn pictures(root: &Path) {
    for class in 0..6 {
        let folder = root.join(format!("class{class}"));
        std::fs::create_dir_all(&folder).unwrap();
        for example in 0..4 {
            picture(&folder.join(format!("{example}.png")), 32, class * 10 + example);
        }
    }
}

fn train_on(root: &Path, out: &Path) -> std::process::Command {
    let mut command = kshot();
    command.args([
        "train",
        "prototypical",
        "--filters",
        "4",
        "--way",
        "3",
        "--shot",
        "1",
        "--query",
        "2",
    ]);
    command.args([
        "--episodes",
        "3",
        "--val-way",
        "1",
        "--val-query",
        "2",
        "--val-episodes",
        "2",
    ]);
    command.args(["--test-query", "2", "--test-episodes", "2", "--data"]);
    command
        .arg(format!("folder:{}", root.display()))
        .arg("--out")
        .arg(out);
    command
}

#[test]
fn a_folder_of_pictures_is_trained_on_and_tested() {
    let folder = tempfile::tempdir().unwrap();
    pictures(&folder.path().join("data"));
    let output = succeed(train_on(&folder.path().join("data"), &folder.path().join("run")).arg("--json"));
    let record: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(record["split"], "test");
    let page = std::fs::read_to_string(folder.path().join("run/report.html")).unwrap();
    assert!(page.contains("</html>"));
}

#[test]
fn an_unreadable_picture_is_named_and_fatal_or_skipped_by_a_flag() {
    let folder = tempfile::tempdir().unwrap();
    let (data, run) = (folder.path().join("data"), folder.path().join("run"));
    pictures(&data);
    std::fs::write(data.join("class2/broken.png"), b"\x89PNG\r\n\x1a\nnothing").unwrap();
    let error = fail(&mut train_on(&data, &run), 1);
    assert!(
        error.contains("broken.png") && error.contains("--unreadable skip"),
        "{error}"
    );
    let output = succeed(train_on(&data, &run).args(["--unreadable", "skip"]));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("warning:") && text.contains("broken.png"), "{text}");
}

#[test]
fn a_header_of_40000_by_40000_pixels_is_refused_before_memory_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    pictures(&data);
    // The header of a small PNG, with another width and height and the right checksum over them.
    let path = data.join("class1/0.png");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[16..20].copy_from_slice(&40_000u32.to_be_bytes());
    bytes[20..24].copy_from_slice(&40_000u32.to_be_bytes());
    let checksum = crc32fast::hash(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
    std::fs::write(&path, bytes).unwrap();
    let error = fail(&mut train_on(&data, &folder.path().join("run")), 1);
    assert!(error.contains("0.png") && error.contains("40000"), "{error}");
}

#[test]
fn an_empty_class_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    pictures(&data);
    std::fs::create_dir(data.join("nothing")).unwrap();
    let error = fail(&mut train_on(&data, &folder.path().join("run")), 1);
    assert!(error.contains("nothing"), "{error}");
}

#[test]
fn a_dataset_that_is_not_there_says_where_it_was_looked_for_and_how_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    let error = fail(
        kshot()
            .args(["data", "info", "omniglot", "--data-dir"])
            .arg(folder.path()),
        1,
    );
    assert!(
        error.contains("images_background.zip") && error.contains("kshot data fetch omniglot"),
        "{error}"
    );
    let error = fail(kshot().args(["data", "info", "folder:/nowhere/at/all"]), 1);
    assert!(error.contains("/nowhere/at/all"), "{error}");
}

#[test]
fn a_truncated_zip_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let omniglot = folder.path().join("omniglot");
    std::fs::create_dir(&omniglot).unwrap();
    for name in ["images_background.zip", "images_evaluation.zip"] {
        std::fs::write(omniglot.join(name), b"PK\x03\x04 and then nothing").unwrap();
    }
    let error = fail(
        kshot()
            .args(["data", "info", "omniglot", "--data-dir"])
            .arg(folder.path()),
        1,
    );
    assert!(error.contains("images_background.zip"), "{error}");
}

#[test]
fn a_preview_is_a_picture_of_the_episode() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("episode.png");
    succeed(
        kshot()
            .args([
                "data", "preview", "glyphs", "--way", "3", "--shot", "2", "--query", "1", "--out",
            ])
            .arg(&path),
    );
    let picture = image::open(&path).unwrap();
    assert!(picture.width() > 200 && picture.height() > 150);
}
