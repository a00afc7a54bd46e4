//! Omniglot in small, for the tests: made-up alphabets of published shape.

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use image::{GrayImage, ImageFormat, Luma};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// Files of an archive: name and content.
pub type Files = Vec<(String, Vec<u8>)>;

/// A drawing as published: 0 where there is `ink`, 255 elsewhere.
pub fn png(ink: impl Fn(u32, u32) -> bool) -> Vec<u8> {
    let picture = GrayImage::from_fn(105, 105, |x, y| Luma([if ink(x, y) { 0 } else { 255 }]));
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// `n_characters` characters with `n_drawings` drawings each, for every alphabet: ink left of a column that differs.
pub fn set(name: &str, alphabets: &[&str], n_characters: usize, n_drawings: usize) -> Files {
    let mut files = Files::new();
    for (a, alphabet) in alphabets.iter().enumerate() {
        for character in 1..=n_characters {
            for drawing in 1..=n_drawings {
                let column = (a * 20 + character * 5 + drawing) as u32;
                let path = format!("{name}/{alphabet}/character{character:02}/{a:04}_{drawing:02}.png");
                files.push((path, png(|x, _| x < column)));
            }
        }
    }
    files
}

/// Packs files into a zip.
pub fn pack(path: &Path, files: &Files) {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        zip.start_file(name.as_str(), SimpleFileOptions::default())
            .unwrap();
        zip.write_all(content).unwrap();
    }
    fs::write(path, zip.finish().unwrap().into_inner()).unwrap();
}

/// Writes files under a folder.
pub fn unpack(folder: &Path, files: &Files) {
    for (name, content) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// The two sets: alphabets A to F and X, Y, of 3 characters and 2 drawings.
pub fn sets() -> [Files; 2] {
    [
        set("images_background", &["A", "B", "C", "D", "E", "F"], 3, 2),
        set("images_evaluation", &["X", "Y"], 3, 2),
    ]
}

/// Writes both archives into `data_dir/omniglot`.
pub fn write(data_dir: &Path) {
    let folder = data_dir.join("omniglot");
    fs::create_dir_all(&folder).unwrap();
    let [background, evaluation] = sets();
    pack(&folder.join("images_background.zip"), &background);
    pack(&folder.join("images_evaluation.zip"), &evaluation);
}

/// Writes Vinyals' split files into `data_dir/omniglot/splits/vinyals`.
pub fn write_splits(data_dir: &Path, train: &str, val: &str, test: &str) {
    let folder = data_dir.join("omniglot/splits/vinyals");
    fs::create_dir_all(&folder).unwrap();
    for (name, text) in [("train.txt", train), ("val.txt", val), ("test.txt", test)] {
        fs::write(folder.join(name), text).unwrap();
    }
}
