use std::path::PathBuf;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArrayType, FixedLenByteArrayType};
use parquet::data_type::{DoubleType, FloatType, Int32Type, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use super::*;
use crate::data::features::{Labelled, table as tables};

type Group<'a> = SerializedRowGroupWriter<'a, File>;

fn write(
    folder: &Path,
    schema: &str,
    compression: Compression,
    groups: usize,
    rows: impl Fn(&mut Group<'_>, usize),
) -> PathBuf {
    let path = folder.join("table.parquet");
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder().set_compression(compression).build();
    let file = File::create(&path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    for number in 0..groups {
        let mut group = writer.next_row_group().unwrap();
        rows(&mut group, number);
        group.close().unwrap();
    }
    writer.close().unwrap();
    path
}

fn column<D: DataType>(
    group: &mut Group<'_>,
    values: &[D::T],
    definitions: Option<&[i16]>,
    repetitions: Option<&[i16]>,
) {
    let mut writer = group.next_column().unwrap().unwrap();
    writer
        .typed::<D>()
        .write_batch(values, definitions, repetitions)
        .unwrap();
    writer.close().unwrap();
}

fn read_all(path: &Path) -> Result<Labelled, DataError> {
    tables::read("features", path)
}

#[track_caller]
fn refused(path: &Path, expected: &str) {
    let error = read_all(path).err().unwrap().to_string();
    assert!(error.contains(expected), "{error}");
    assert!(error.contains("table.parquet"), "{error}");
}

fn texts(labels: &[Label]) -> Vec<String> {
    labels.iter().map(ToString::to_string).collect()
}

/// As pyarrow writes a list.
const LISTS: &str = "message schema {
    optional group features (LIST) { repeated group list { optional float element; } }
    optional binary label (STRING);
}";

/// Two rows of three features in each group: every level says that a value is there.
fn lists(group: &mut Group<'_>, number: usize) {
    let first = 6.0 * number as f32;
    let values: Vec<f32> = (0..6u8).map(|at| first + f32::from(at)).collect();
    column::<FloatType>(group, &values, Some(&[3; 6]), Some(&[0, 1, 1, 0, 1, 1]));
    let labels: Vec<ByteArray> = ["cat", "dog"].map(ByteArray::from).to_vec();
    column::<ByteArrayType>(group, &labels, Some(&[1; 2]), None);
}

#[test]
fn a_column_of_lists_is_read_whatever_compresses_it() {
    let folder = tempfile::tempdir().unwrap();
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(Default::default()),
        Compression::GZIP(Default::default()),
    ] {
        let path = write(folder.path(), LISTS, compression, 2, lists);
        let found = read_all(&path).unwrap();
        assert_eq!(found.width, 3, "{compression:?}");
        let expected: Vec<f32> = (0..12u8).map(f32::from).collect();
        assert_eq!(found.values, expected);
        assert_eq!(texts(&found.labels), ["cat", "dog", "cat", "dog"]);
    }
}

#[test]
fn a_table_without_labels_has_rows() {
    let folder = tempfile::tempdir().unwrap();
    let schema = "message schema { required float a; required float b; }";
    let path = write(folder.path(), schema, Compression::SNAPPY, 1, |group, _| {
        column::<FloatType>(group, &[1.0, 2.0], None, None);
        column::<FloatType>(group, &[3.0, 4.0], None, None);
    });
    let found = tables::read_any("features", &path).unwrap();
    assert_eq!((found.width, found.values), (2, vec![1.0, 3.0, 2.0, 4.0]));
    refused(&path, "no column called labels");
}

#[test]
fn columns_of_floats_are_a_feature_each_and_text_and_an_index_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let schema = "message schema {
        required binary file (STRING);
        required double b;
        required int64 class;
        required float a;
        required fixed_len_byte_array(2) c (FLOAT16);
        required int64 __index_level_0__;
    }";
    let path = write(folder.path(), schema, Compression::SNAPPY, 1, |group, _| {
        column::<ByteArrayType>(group, &["x.png", "y.png"].map(ByteArray::from), None, None);
        column::<DoubleType>(group, &[1.0, 2.0], None, None);
        column::<Int64Type>(group, &[7, -3], None, None);
        column::<FloatType>(group, &[3.0, 4.0], None, None);
        let halves = [0x3c00u16, 0xc000]
            .map(|bits| FixedLenByteArray::from(ByteArray::from(bits.to_le_bytes().to_vec())));
        column::<FixedLenByteArrayType>(group, &halves, None, None);
        column::<Int64Type>(group, &[0, 1], None, None);
    });
    let found = read_all(&path).unwrap();
    assert_eq!(found.width, 3);
    assert_eq!(found.values, [1.0, 3.0, 1.0, 2.0, 4.0, -2.0]);
    assert_eq!(found.labels, [Label::Number(7), Label::Number(-3)]);
}

#[test]
fn missing_values_and_lists_of_different_lengths_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let with = |definitions: &'static [i16], repetitions: &'static [i16], labels: &'static [i16]| {
        write(folder.path(), LISTS, Compression::SNAPPY, 1, move |group, _| {
            let full = definitions.iter().filter(|&&level| level == 3).count();
            column::<FloatType>(group, &vec![1.0; full], Some(definitions), Some(repetitions));
            let full = labels.iter().filter(|&&level| level == 1).count();
            column::<ByteArrayType>(group, &vec![ByteArray::from("a"); full], Some(labels), None);
        })
    };
    // A null in a list, no list, an empty list; then a ragged one and a null label.
    refused(
        &with(&[3, 3, 3, 2], &[0, 1, 0, 1], &[1, 1]),
        "`features` has no value in row 1",
    );
    refused(
        &with(&[3, 3, 0], &[0, 1, 0], &[1, 1]),
        "`features` has no value in row 1",
    );
    refused(
        &with(&[1, 3, 3], &[0, 0, 1], &[1, 1]),
        "`features` has no value in row 0",
    );
    refused(
        &with(&[3, 3, 3], &[0, 1, 0], &[1, 1]),
        "2 features in row 0 and 1 in row 1",
    );
    refused(
        &with(&[3, 3, 3, 3], &[0, 1, 0, 1], &[0, 1]),
        "`label` has no value in row 0",
    );
}

#[test]
fn tables_without_features_or_labels_say_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let one = |schema: &str| {
        write(folder.path(), schema, Compression::SNAPPY, 1, |group, _| {
            column::<Int32Type>(group, &[1, 2], None, None);
            column::<Int32Type>(group, &[3, 4], None, None);
        })
    };
    refused(
        &one("message schema { required int32 a; required int32 b; }"),
        "`a` holds whole numbers",
    );
    let schema = "message schema { required float a; required float b; }";
    let path = write(folder.path(), schema, Compression::SNAPPY, 1, |group, _| {
        column::<FloatType>(group, &[1.0, 2.0], None, None);
        column::<FloatType>(group, &[3.0, 4.0], None, None);
    });
    refused(
        &path,
        "no column called labels, label, y, targets, target, class; there are a, b",
    );
    refused(
        &one("message schema { required int32 id; required int32 label; }"),
        "`id` holds whole numbers",
    );
    refused(
        &one("message schema { required int32 __index_level_0__; required int32 label; }"),
        "there are __index_level_0__, label",
    );
    let schema = "message schema { required float a; required float label; }";
    let path = write(folder.path(), schema, Compression::SNAPPY, 1, |group, _| {
        column::<FloatType>(group, &[1.0, 2.0], None, None);
        column::<FloatType>(group, &[3.0, 4.0], None, None);
    });
    refused(&path, "labels holds FLOAT");
    let empty = write(folder.path(), LISTS, Compression::SNAPPY, 0, lists);
    refused(&empty, "there are none");
}

#[test]
fn no_damage_is_more_than_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), LISTS, Compression::SNAPPY, 1, lists);
    let whole = std::fs::read(&path).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(read_all(&path).is_err(), "{length}");
    }
    for at in 0..whole.len() {
        for flip in [0x01, 0x10, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            std::fs::write(&path, bytes).unwrap();
            let _ = read_all(&path);
        }
    }
}

#[test]
fn a_few_bytes_can_not_ask_for_all_memory() {
    let folder = tempfile::tempdir().unwrap();
    // One list of as many equal values as take a few bytes when they are counted.
    let n = MAX_PAGE as usize + 1;
    let path = write(folder.path(), LISTS, Compression::SNAPPY, 1, |group, _| {
        let mut writer = group.next_column().unwrap().unwrap();
        let mut repetitions = vec![1; n];
        repetitions[0] = 0;
        writer
            .typed::<FloatType>()
            .write_batch(&vec![1.0; n], Some(&vec![3; n]), Some(&repetitions))
            .unwrap();
        writer.close().unwrap();
        column::<ByteArrayType>(group, &[ByteArray::from("a")], Some(&[1]), None);
    });
    let error = read_all(&path).err().unwrap().to_string();
    assert!(error.contains("at most"), "{error}");
}

/// Written by `bench/reference/parquet_files.py` with pyarrow 26.0.1 and pandas 3.1.1.
#[test]
fn files_of_pyarrow_and_pandas_are_read() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/parquet");
    let lists = read_all(&golden.join("pyarrow-lists.parquet")).unwrap();
    assert_eq!(lists.width, 3);
    assert_eq!(
        lists.values,
        [0.5, -1.0, 2.0, 1.5, 0.0, -0.25, 3.0, 4.0, 5.0, -6.0, 7.0, 8.5]
    );
    assert_eq!(texts(&lists.labels), ["cat", "dog", "cat", "bird"]);
    let columns = read_all(&golden.join("pandas-columns.parquet")).unwrap();
    assert_eq!(columns.width, 3);
    assert_eq!(columns.values, [0.5, -1.0, 2.0, 1.5, 0.0, -0.25, 3.0, 4.0, 5.0]);
    assert_eq!(texts(&columns.labels), ["2", "0", "2"]);
}
