use std::io::Write;
use std::path::PathBuf;

use super::npy::half;
use super::*;
use crate::data::registry;

/// The bytes of an .npy file, format 1.0.
fn npy(kind: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Four examples of two features: classes 7 and 3.
fn features() -> Vec<u8> {
    npy(
        "<f4",
        "(4, 2)",
        &floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]),
    )
}

fn labels() -> Vec<u8> {
    npy(
        "<i8",
        "(4,)",
        &[7i64, 3, 7, 3]
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .collect::<Vec<_>>(),
    )
}

fn archive(folder: &Path, entries: &[(&str, Vec<u8>)]) -> PathBuf {
    let path = folder.join("a.npz");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    for (name, bytes) in entries {
        zip.start_file(*name, zip::write::SimpleFileOptions::default())
            .unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
    path
}

fn open(path: &Path) -> Result<Box<dyn Dataset>, DataError> {
    let text = format!("features:{}", path.display());
    let (spec, argument) = registry::find(&text)?;
    let given = [("train-fraction", "0"), ("val-fraction", "0")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    (spec.open)(&OpenRequest {
        argument: argument.to_owned(),
        data_dir: None,
        partition: "seeded".to_owned(),
        image_size: None,
        channels: None,
        seed: 1,
        options: spec.options(&given.into()).unwrap(),
    })
}

#[track_caller]
fn check(path: &Path, names: &[&str]) {
    let dataset = open(path).unwrap();
    assert_eq!(dataset.shape().to_string(), "1x1x2");
    let classes: Vec<_> = dataset
        .classes(Part::Test)
        .classes()
        .iter()
        .map(|class| class.name.as_str())
        .collect();
    assert_eq!(classes, names);
    let mut row = [0.0; 2];
    // Classes are ordered: 3 (rows 1 and 3) before 7 (rows 0 and 2).
    dataset.read(Part::Test, 0, 1, &mut row).unwrap();
    assert_eq!(row, [7.0, 8.0]);
    dataset.read(Part::Test, 1, 0, &mut row).unwrap();
    assert_eq!(row, [1.0, 2.0]);
    assert!(dataset.read(Part::Test, 2, 0, &mut row).is_err());
    assert!(dataset.read(Part::Train, 0, 0, &mut row).is_err());
}

#[test]
fn an_npz_with_numbers_or_text_as_labels_is_read() {
    let folder = tempfile::tempdir().unwrap();
    check(
        &archive(folder.path(), &[("X.npy", features()), ("y.npy", labels())]),
        &["3", "7"],
    );
    let text: Vec<u8> = ["dog", "cat", "dog", "cat"]
        .iter()
        .flat_map(|word| {
            word.chars()
                .flat_map(|c| u32::from(c).to_le_bytes())
                .collect::<Vec<_>>()
        })
        .collect();
    let entries = [
        ("features.npy", features()),
        ("labels.npy", npy("<U3", "(4,)", &text)),
    ];
    check(&archive(folder.path(), &entries), &["cat", "dog"]);
}

#[test]
fn an_npy_is_read_with_the_labels_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.npy");
    std::fs::write(&path, features()).unwrap();
    let error = open(&path).err().unwrap().to_string();
    assert!(error.contains("f.labels.npy"), "{error}");
    std::fs::write(folder.path().join("f.labels.txt"), "b\na\nb\na\n").unwrap();
    check(&path, &["a", "b"]);
    std::fs::write(folder.path().join("f.labels.npy"), labels()).unwrap();
    check(&path, &["3", "7"]);
}

#[test]
fn a_safetensors_file_is_read() {
    use safetensors::tensor::{Dtype, TensorView};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.safetensors");
    let values = floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    let numbers: Vec<u8> = [7i64, 3, 7, 3].iter().flat_map(|n| n.to_le_bytes()).collect();
    let views = [
        (
            "features",
            TensorView::new(Dtype::F32, vec![4, 2], &values).unwrap(),
        ),
        ("labels", TensorView::new(Dtype::I64, vec![4], &numbers).unwrap()),
    ];
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    check(&path, &["3", "7"]);
}

#[test]
fn rows_need_no_labels_and_classes_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = archive(folder.path(), &[("embeddings.npy", features())]);
    let rows = Rows::open(&path).unwrap();
    assert_eq!(rows.width(), 2);
    assert_eq!(rows.iter().nth(2).unwrap(), [5.0, 6.0]);
    let error = Rows::open_labelled(&path).err().unwrap().to_string();
    assert!(error.contains("no array called labels"), "{error}");
    let path = archive(folder.path(), &[("X.npy", features()), ("y.npy", labels())]);
    let (rows, classes) = Rows::open_labelled(&path).unwrap();
    assert_eq!(rows.iter().len(), 4);
    assert_eq!(
        classes,
        [("3".to_owned(), vec![1, 3]), ("7".to_owned(), vec![0, 2])]
    );
}

#[test]
fn damage_is_named_and_nothing_panics() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.npy");
    std::fs::write(folder.path().join("f.labels.npy"), labels()).unwrap();
    let whole = features();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(open(&path).is_err(), "{length}");
    }
    let cases: [(Vec<u8>, &str); 6] = [
        (npy("<f4", "(9999999999, 9999999999)", &[]), "bytes of data"),
        (npy(">f4", "(4, 2)", &[0; 32]), "big-endian"),
        (npy("<c8", "(4, 2)", &[0; 64]), "more than there can be"),
        (npy("<f4", "(8,)", &[0; 32]), "expected [examples, features]"),
        (npy("<f4", "(2, 4)", &[0; 32]), "2 examples and 4 labels"),
        (npy("<f4", "(4, 2)", &floats(&[f32::NAN; 8])), "finite"),
    ];
    for (bytes, expected) in cases {
        std::fs::write(&path, bytes).unwrap();
        let error = open(&path).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let error = open(&archive(folder.path(), &[("Z.npy", features())]))
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("no array called features, embeddings, embedding, X, x; there are Z"),
        "{error}"
    );
}

#[test]
fn half_precision_is_that_of_ieee_754() {
    let cases = [
        (0x3c00, 1.0),
        (0xc000, -2.0),
        (0x3555, 0.333_251_95),
        (0x0001, 5.960_464_5e-8),
        (0x7bff, 65504.0),
    ];
    for (bits, value) in cases {
        assert_eq!(half(bits), value);
    }
    assert!(half(0x7c00).is_infinite() && half(0x7e00).is_nan());
}
