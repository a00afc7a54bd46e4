//! What the fuzz targets share: a folder for the files that they write, and small files that are right.

pub mod server;

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use kshot::data::registry::{self, OpenRequest};
use kshot::data::{DataError, Dataset, Part};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Images of more pixels are left out by the targets: that they are refused or bounded is tested elsewhere, and decoding
/// them is slow.
pub const MOST_PIXELS: u64 = 1 << 21;

/// A folder of this process, below `TMPDIR`: put that into memory.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        folder.keep()
    })
}

/// Writes a file below [`folder`], with the folders on its way.
pub fn write(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).expect("a folder can be made");
    }
    std::fs::write(&path, bytes).expect("a file can be written");
    path
}

/// A zip with these files, not compressed.
pub fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in entries {
        zip.start_file(*name, stored).expect("memory can be written");
        zip.write_all(bytes).expect("memory can be written");
    }
    zip.finish().expect("memory can be written").into_inner()
}

/// A PNG of a drawing.
pub fn drawing() -> Vec<u8> {
    png(|x, y| x == y)
}

/// A PNG of another drawing.
pub fn bar() -> Vec<u8> {
    png(|x, _| (6..9).contains(&x))
}

fn png(ink: impl Fn(u32, u32) -> bool) -> Vec<u8> {
    let picture = image::GrayImage::from_fn(16, 16, |x, y| image::Luma([if ink(x, y) { 0 } else { 255 }]));
    let mut file = Cursor::new(Vec::new());
    picture
        .write_to(&mut file, image::ImageFormat::Png)
        .expect("memory can be written");
    file.into_inner()
}

/// Whether a picture's head, where it can be read, says that it is large.
pub fn is_large(bytes: &[u8]) -> bool {
    let reader = image::ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let size = reader.ok().and_then(|reader| reader.into_dimensions().ok());
    size.is_some_and(|(width, height)| u64::from(width) * u64::from(height) > MOST_PIXELS)
}

/// Opens a dataset and reads an image of each class, as a training would.
pub fn read_dataset(
    text: &str,
    options: &[(&str, &str)],
    image_size: Option<usize>,
) -> Result<(), DataError> {
    let (spec, argument) = registry::find(text)?;
    let given: BTreeMap<String, String> = options
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let dataset: Box<dyn Dataset> = (spec.open)(&OpenRequest {
        argument: argument.to_owned(),
        data_dir: Some(folder().to_owned()),
        partition: spec.partitions[0].to_owned(),
        image_size,
        channels: None,
        seed: 1,
        options: spec.options(&given).expect("the options are right"),
    })?;
    let mut pixels = vec![0.0; dataset.shape().len()];
    for part in [Part::Train, Part::Val, Part::Test] {
        for class in 0..dataset.classes(part).len().min(64) {
            dataset.read(part, class, 0, &mut pixels)?;
            assert!(pixels.iter().all(|value| value.is_finite()));
        }
    }
    Ok(())
}
