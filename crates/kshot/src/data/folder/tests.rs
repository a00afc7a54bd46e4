use std::fs;
use std::io::Cursor;
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, GrayImage, ImageEncoder, ImageFormat, Luma, RgbImage};
use tempfile::TempDir;

use super::*;
use crate::data::real;
use crate::options::Options;

fn open(folder: &Path, options: &[(&str, &str)], side: usize, channels: usize) -> Result<Folder, DataError> {
    let given = options
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    Folder::open(&OpenRequest {
        argument: folder.to_str().unwrap().to_owned(),
        data_dir: None,
        partition: "seeded".to_owned(),
        image_size: Some(side),
        channels: Some(channels),
        seed: 1,
        options: Options::resolve(SPEC.options, &given).unwrap(),
    })
}

const ALL_TEST: [(&str, &str); 2] = [("train-fraction", "0"), ("val-fraction", "0")];

fn message(result: Result<Folder, DataError>) -> String {
    let message = result.err().expect("an error").to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

fn encode(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn grey(value: u8) -> DynamicImage {
    GrayImage::from_pixel(20, 10, Luma([value])).into()
}

fn write(folder: &Path, file: &str, bytes: impl AsRef<[u8]>) {
    let path = folder.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// `n` classes `c00`, `c01`, ... of two pictures whose grey tells the class.
fn folder(n: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for class in 0..n {
        for example in 0..2 {
            let bytes = encode(&grey((class * 10 + example) as u8), ImageFormat::Png);
            write(folder.path(), &format!("c{class:02}/{example}.png"), bytes);
        }
    }
    folder
}

fn names(dataset: &Folder, part: Part) -> Vec<&str> {
    dataset
        .classes(part)
        .classes()
        .iter()
        .map(|class| &*class.name)
        .collect()
}

fn first_value(dataset: &Folder, part: Part, class: usize, example: usize) -> f32 {
    let mut pixels = vec![f32::NAN; dataset.shape().len()];
    dataset.read(part, class, example, &mut pixels).unwrap();
    assert!(pixels.iter().all(|value| (0.0..=1.0).contains(value)));
    pixels[0]
}

#[test]
fn fractions_divide_the_classes_and_zero_makes_all_of_them_test_classes() {
    let folder = folder(10);
    let dataset = open(folder.path(), &[], 8, 1).unwrap();
    assert_eq!(Part::ALL.map(|part| dataset.classes(part).len()), [6, 2, 2]);
    let mut all: Vec<_> = Part::ALL.iter().flat_map(|&part| names(&dataset, part)).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 10);
    for part in Part::ALL {
        for (index, name) in names(&dataset, part).iter().enumerate() {
            let class: f32 = name[1..].parse().unwrap();
            assert_eq!(
                first_value(&dataset, part, index, 1),
                (class * 10.0 + 1.0) / 255.0
            );
        }
    }
    let dataset = open(folder.path(), &ALL_TEST, 8, 1).unwrap();
    assert_eq!(Part::ALL.map(|part| dataset.classes(part).len()), [0, 0, 10]);
    assert_eq!(dataset.classes(Part::Test).groups(), [("all".to_owned(), 0..10)]);
    let text = message(open(folder.path(), &[("train-fraction", "0.9")], 8, 1));
    assert!(
        text.ends_with("train-fraction 0.9 and val-fraction 0.2 are more than 1 together; lower one"),
        "{text}"
    );
}

#[test]
fn another_seed_is_another_partition_and_the_same_seed_the_same() {
    assert_eq!(partition(30, [0.6, 0.2], 4), partition(30, [0.6, 0.2], 4));
    assert_ne!(partition(30, [0.6, 0.2], 4), partition(30, [0.6, 0.2], 5));
    // Half classes round up, and never to more than there are.
    assert_eq!(partition(3, [0.5, 0.5], 1).each_ref().map(Vec::len), [2, 1, 0]);
}

#[test]
fn every_format_counts_by_its_content_and_hidden_files_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let formats = [
        ("a.PNG", ImageFormat::Png),
        ("b.jpeg", ImageFormat::Jpeg),
        ("c.Jpg", ImageFormat::Jpeg),
        ("d.webp", ImageFormat::WebP),
        ("e.bmp", ImageFormat::Bmp),
        ("misnamed.jpg", ImageFormat::Png),
    ];
    for (index, (name, format)) in formats.into_iter().enumerate() {
        let colour = DynamicImage::ImageRgb8(grey(40 * index as u8).into_rgb8());
        write(folder.path(), &format!("class/{name}"), encode(&colour, format));
    }
    write(folder.path(), "class/.hidden.png", "no picture");
    write(folder.path(), "class/notes.txt", "no picture");
    write(folder.path(), ".git/x.png", "no picture");
    let dataset = open(folder.path(), &ALL_TEST, 8, 1).unwrap();
    assert_eq!(dataset.warnings(), [""; 0]);
    assert_eq!(names(&dataset, Part::Test), ["class"]);
    for index in 0..formats.len() {
        assert!((first_value(&dataset, Part::Test, 0, index) * 255.0 - 40.0 * index as f32).abs() < 2.0);
    }
}

#[test]
fn the_exif_orientation_turns_a_picture() {
    // Left half black, right half white; orientation 6 means: turn clockwise to view. So black is on top.
    let picture = RgbImage::from_fn(16, 16, |x, _| image::Rgb(if x < 8 { [0; 3] } else { [255; 3] }));
    let exif = [
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".as_slice(),
        &[6, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
    encoder.set_exif_metadata(exif).unwrap();
    encoder.encode_image(&picture).unwrap();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "class/a.jpg", bytes);
    let dataset = open(folder.path(), &ALL_TEST, 8, 1).unwrap();
    let mut pixels = vec![0.0; 64];
    dataset.read(Part::Test, 0, 0, &mut pixels).unwrap();
    let row = |y: usize| pixels[y * 8..][..8].iter().sum::<f32>() / 8.0;
    assert!(row(0) < 0.05 && row(7) > 0.95, "{pixels:?}");
}

#[test]
fn folders_without_pictures_or_classes_are_named() {
    let folder = folder(2);
    let text = message(open(&folder.path().join("nowhere"), &[], 8, 1));
    assert!(
        text.contains("nowhere is not there; give the folder that holds one folder of pictures per class"),
        "{text}"
    );
    let text = message(open(&folder.path().join("c00"), &[], 8, 1));
    assert!(text.contains("c00: no class folders in it"), "{text}");
    let text = message(open(&folder.path().join("c00/0.png"), &[], 8, 1));
    assert!(text.contains("c00/0.png: "), "{text}");
    fs::create_dir(folder.path().join("empty")).unwrap();
    let text = message(open(folder.path(), &[], 8, 1));
    assert!(
        text.contains("empty: no picture (.png, .jpg, .jpeg, .webp, .bmp) of this class; add some, or"),
        "{text}"
    );
    write(folder.path(), "empty/a.HEIC", "");
    let text = message(open(folder.path(), &[], 8, 1));
    assert!(
        text.contains("found 1 .heic, which can't be read: convert them"),
        "{text}"
    );
}

#[test]
fn what_is_left_out_is_warned_of() {
    let folder = folder(2);
    write(folder.path(), "loose.png", "");
    write(folder.path(), "c00/a.heic", "");
    write(folder.path(), "c01/deeper/a.png", "");
    let dataset = open(folder.path(), &ALL_TEST, 8, 1).unwrap();
    let warnings = dataset.warnings();
    assert!(
        warnings[0].contains("1 pictures lie in no class folder"),
        "{warnings:?}"
    );
    assert!(
        warnings[1].contains("class c00: 1 .heic can't be read"),
        "{warnings:?}"
    );
    assert!(
        warnings[2].contains("class c01: 1 folders within it are left out"),
        "{warnings:?}"
    );
}

#[test]
fn an_unreadable_picture_fails_or_is_skipped_with_a_warning() {
    let folder = folder(3);
    write(folder.path(), "c01/0.png", "no picture");
    let mut cut = encode(&grey(9), ImageFormat::Png);
    cut.truncate(cut.len() / 2);
    write(folder.path(), "c02/9.png", cut);
    let text = message(open(folder.path(), &ALL_TEST, 8, 1));
    assert!(
        text.contains("c01/0.png: not a readable PNG, JPEG, WebP or BMP picture ("),
        "{text}"
    );
    assert!(
        text.ends_with("or leave such pictures out with --unreadable skip (1 more can't be read)"),
        "{text}"
    );

    let skip = [ALL_TEST[0], ALL_TEST[1], ("unreadable", "skip")];
    let dataset = open(folder.path(), &skip, 8, 1).unwrap();
    let examples: Vec<_> = dataset
        .classes(Part::Test)
        .classes()
        .iter()
        .map(|class| class.n_examples)
        .collect();
    assert_eq!(examples, [2, 1, 2]);
    assert_eq!(first_value(&dataset, Part::Test, 1, 0), 11.0 / 255.0);
    assert_eq!(first_value(&dataset, Part::Test, 2, 1), 21.0 / 255.0);
    let warnings = dataset.warnings();
    assert!(
        warnings[0].contains("left out: ") && warnings[0].contains("c01/0.png: "),
        "{warnings:?}"
    );
    assert!(
        warnings[2].ends_with("2 of 7 pictures left out as unreadable"),
        "{warnings:?}"
    );

    write(folder.path(), "c01/1.png", "");
    let text = message(open(folder.path(), &skip, 8, 1));
    assert!(text.contains("c01: none of its 2 pictures can be read"), "{text}");
}

#[test]
fn a_header_that_claims_40000_by_40000_pixels_is_refused_before_anything_is_allocated() {
    // A PNG whose header is whole and has the right checksum, and nothing behind it but an empty chunk of data.
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [
        (
            b"IHDR",
            [
                40_000u32.to_be_bytes().as_slice(),
                &40_000u32.to_be_bytes(),
                &[8, 2, 0, 0, 0],
            ]
            .concat(),
        ),
        (b"IDAT", vec![]),
    ] {
        png.extend((data.len() as u32).to_be_bytes());
        let chunk = [kind.as_slice(), &data].concat();
        png.extend(&chunk);
        png.extend(crc32fast::hash(&chunk).to_be_bytes());
    }
    // A BMP of the same size.
    let mut bmp = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    bmp.extend([40_000u32.to_le_bytes(), 40_000u32.to_le_bytes()].concat());
    bmp.extend([1, 0, 24, 0]);
    bmp.extend([0; 24]);
    for (name, bytes) in [("c00/0.png", png), ("c00/0.bmp", bmp)] {
        let folder = folder(1);
        write(folder.path(), name, bytes);
        let text = message(open(folder.path(), &ALL_TEST, 8, 1));
        assert!(
            text.contains("a picture of 40000x40000 pixels (4577 MiB decoded), and at most 32768 pixels"),
            "{text}"
        );
        assert!(
            text.contains("a side and 512 MiB are decoded; scale it down"),
            "{text}"
        );
    }
}

#[test]
fn more_pictures_than_memory_are_refused() {
    let error = load::load(
        "folder:x",
        scan::Scanned {
            classes: vec![("a".to_owned(), vec!["p".into(); 2_000])],
            warnings: vec![],
        },
        &Target {
            side: 1024,
            channels: 3,
            fit: Fit::Crop,
            invert: false,
            filter: FilterType::Bilinear,
        },
        false,
    );
    let text = error.unwrap_err().to_string();
    assert!(
        text.contains("2000 images of 3145728 bytes each take 6000 MiB of memory, and at most 4096 MiB"),
        "{text}"
    );
}

#[test]
fn what_is_out_of_range_is_said() {
    let folder = folder(2);
    let dataset = open(folder.path(), &ALL_TEST, 8, 3).unwrap();
    let error = |class, example, length| {
        dataset
            .read(Part::Test, class, example, &mut vec![0.0; length])
            .unwrap_err()
            .to_string()
    };
    assert!(error(2, 0, 192).ends_with("class 2 of test, which has 2"));
    assert!(error(1, 2, 192).ends_with("example 2 of c01, which has 2"));
    assert!(error(1, 1, 64).ends_with("an image of 8x8x3 takes 192 values, not 64"));
    assert!(message(open(folder.path(), &[], 7, 1)).contains("8 to 1024 pixels a side and 1 or 3 channels"));
    assert!(message(open(folder.path(), &[], 8, 2)).contains("asked for 8 and 2"));
}

#[test]
fn a_folder_of_photographs_opens_as_its_owner_has_it() {
    let Some(data) = real::folder("sign-language-digits") else {
        return;
    };
    let dataset = open(&data.join("sign-language-digits/Dataset"), &ALL_TEST, 28, 3).unwrap();
    assert_eq!(dataset.warnings(), [""; 0]);
    assert_eq!(
        names(&dataset, Part::Test),
        ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
    );
    let total: usize = dataset
        .classes(Part::Test)
        .classes()
        .iter()
        .map(|class| class.n_examples)
        .sum();
    assert_eq!(total, 2062);
}
