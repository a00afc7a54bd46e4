//! Omniglot in small, made by the tests: made-up characters in the published layout.

use std::fs;
use std::path::Path;

const BACKGROUND: [&str; 6] = ["A", "B", "C", "D", "E", "F"];
const CHARACTERS: u32 = 20;
const DRAWINGS: u32 = 20;

/// Writes both sets unpacked and Vinyals' split files into `data_dir/omniglot`.
pub fn write(data_dir: &Path) {
    let folder = data_dir.join("omniglot");
    for (index, alphabet) in BACKGROUND.into_iter().enumerate() {
        set(&folder.join("images_background").join(alphabet), index as u32);
    }
    set(&folder.join("images_evaluation/X"), 6);
    let splits = folder.join("splits/vinyals");
    fs::create_dir_all(&splits).unwrap();
    for (file, alphabets) in [
        ("train.txt", &BACKGROUND[..4]),
        ("val.txt", &BACKGROUND[4..5]),
        ("test.txt", &BACKGROUND[5..]),
    ] {
        let mut lines = String::new();
        for alphabet in alphabets {
            for character in 1..=CHARACTERS {
                for rotation in ["000", "090", "180", "270"] {
                    lines.push_str(&format!("{alphabet}/character{character:02}/rot{rotation}\n"));
                }
            }
        }
        fs::write(splits.join(file), lines).unwrap();
    }
}

/// Writes Lake's 20 runs into `data_dir/omniglot`.
pub fn write_lake(data_dir: &Path) {
    for run in 1..=20 {
        let folder = data_dir.join(format!("omniglot/one_shot_runs/run{run:02}"));
        let mut labels = String::new();
        for part in ["training", "test"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        for class in 1..=20 {
            picture(
                &folder.join(format!("training/class{class:02}.png")),
                run,
                class,
                1,
            );
            picture(&folder.join(format!("test/item{class:02}.png")), run, class, 2);
            labels.push_str(&format!(
                "run{run:02}/test/item{class:02}.png run{run:02}/training/class{class:02}.png\n"
            ));
        }
        fs::write(folder.join("class_labels.txt"), labels).unwrap();
    }
}

fn set(folder: &Path, alphabet: u32) {
    for character in 1..=CHARACTERS {
        let folder = folder.join(format!("character{character:02}"));
        fs::create_dir_all(&folder).unwrap();
        for drawing in 1..=DRAWINGS {
            let path = folder.join(format!(
                "{:04}_{drawing:02}.png",
                alphabet * CHARACTERS + character
            ));
            picture(&path, alphabet, character, drawing);
        }
    }
}

/// Bars whose widths are the character's and whose places are the drawing's.
fn picture(path: &Path, alphabet: u32, character: u32, drawing: u32) {
    let (wide, high) = (
        9 + 4 * (character % 5) + alphabet,
        9 + 4 * (character / 5) + 2 * alphabet,
    );
    let ink = |x: u32, y: u32| ((x + drawing) / wide + (y + drawing / 4) / high).is_multiple_of(2);
    let image = image::GrayImage::from_fn(105, 105, |x, y| image::Luma([if ink(x, y) { 0 } else { 255 }]));
    image.save(path).unwrap();
}
