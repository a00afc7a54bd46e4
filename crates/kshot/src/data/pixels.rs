//! Encoded pictures into pixels, within bounds that are checked before anything large is allocated.

use std::io::Cursor;
use std::path::Path;
use std::sync::Mutex;

use image::{DynamicImage, ImageDecoder, ImageReader, Limits};

use super::DataError;

/// Longest side of a picture that is decoded, in pixels.
pub const MAX_SIDE: u32 = 32_768;
/// Most memory that one picture may take while it is decoded, in bytes: 178 million RGB pixels.
pub const MAX_PICTURE: u64 = 512 << 20;
/// Most memory that the decoded pixels of one dataset may take, in bytes.
pub const MAX_DATASET: u64 = 4 << 30;
/// Pictures above this many bytes are decoded one at a time, so that the memory in use doesn't grow with the threads.
const LARGE: u64 = 64 << 20;

static ONE_LARGE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Decodes a PNG, JPEG, WebP or BMP, told by its content, turns it as its EXIF orientation says, and gives what `then`
/// makes of it; only one large picture is held at a time.
///
/// # Errors
/// [`DataError::Damaged`] with `path` for bytes that are no such picture, a damaged one, or one beyond [`MAX_SIDE`]
/// or [`MAX_PICTURE`].
pub fn decode<T>(bytes: &[u8], path: &Path, then: impl FnOnce(DynamicImage) -> T) -> Result<T, DataError> {
    let damaged = |problem: String| DataError::Damaged {
        path: path.to_owned(),
        problem,
    };
    let unreadable = |error: image::ImageError| {
        damaged(format!(
            "not a readable PNG, JPEG, WebP or BMP picture ({error}); replace or remove it"
        ))
    };
    if let Some(chunk) = overlong_chunk(bytes) {
        return Err(damaged(format!(
            "a WebP picture whose `{chunk}` chunk says that it is longer than the file; replace or remove it"
        )));
    }
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| DataError::io(path, error))?;
    // The sides are compared below, where both can be named; this bounds what the decoder itself allocates.
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_PICTURE);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(unreadable)?;
    let (width, height) = decoder.dimensions();
    let bytes = decoder.total_bytes();
    if width > MAX_SIDE || height > MAX_SIDE || bytes > MAX_PICTURE {
        return Err(damaged(format!(
            "a picture of {width}x{height} pixels ({} MiB decoded), and at most {MAX_SIDE} pixels a side and {} MiB \
             are decoded; scale it down",
            bytes >> 20,
            MAX_PICTURE >> 20
        )));
    }
    limits
        .reserve(bytes)
        .and_then(|()| decoder.set_limits(limits))
        .map_err(unreadable)?;
    let _alone = (bytes > LARGE).then(|| ONE_LARGE_AT_A_TIME.lock());
    let orientation = decoder.orientation().map_err(unreadable)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
    picture.apply_orientation(orientation);
    Ok(then(picture))
}

/// The name of a WebP's first chunk that reaches beyond the file: the decoder asks for as much memory as a chunk of
/// metadata says that it has, up to 4 GiB, whatever its limits are.
fn overlong_chunk(bytes: &[u8]) -> Option<String> {
    let length = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
    if bytes.get(..4)? != b"RIFF" || bytes.get(8..12)? != b"WEBP" {
        return None;
    }
    let end = length(4)?.saturating_add(8).min(bytes.len());
    let mut at = 12;
    while at + 8 <= end {
        let size = length(at + 4)?;
        if size > bytes.len() - (at + 8) {
            return Some(bytes[at..at + 4].escape_ascii().to_string());
        }
        // Chunks begin at even places.
        at += 8 + size.next_multiple_of(2);
    }
    None
}

/// Whether `count` images of `length` bytes each fit into [`MAX_DATASET`].
///
/// # Errors
/// [`DataError::Option`] that says what to lower.
pub fn check_memory(dataset: &str, count: usize, length: usize) -> Result<(), DataError> {
    let total = (count as u64).saturating_mul(length as u64);
    if total <= MAX_DATASET {
        return Ok(());
    }
    Err(DataError::Option {
        dataset: dataset.to_owned(),
        problem: format!(
            "{count} images of {length} bytes each take {} MiB of memory, and at most {} MiB are used; choose a smaller image size",
            total >> 20,
            MAX_DATASET >> 20
        ),
    })
}

/// One pixel as a number in `[0, 1]`.
pub fn unit(byte: u8) -> f32 {
    f32::from(byte) / 255.0
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, ImageFormat};

    use super::*;

    #[test]
    fn a_chunk_of_a_webp_is_no_longer_than_the_file() {
        let mut file = Cursor::new(Vec::new());
        GrayImage::new(6, 5)
            .write_to(&mut file, ImageFormat::WebP)
            .unwrap();
        let mut bytes = file.into_inner();
        let sides = |bytes: &[u8]| {
            decode(bytes, Path::new("a.webp"), |picture| {
                (picture.width(), picture.height())
            })
        };
        assert_eq!(sides(&bytes).unwrap(), (6, 5));
        bytes.extend(b"EXIF\xfa\xff\xff\xff\0\0");
        let length = bytes.len() as u32 - 8;
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        let error = sides(&bytes).unwrap_err().to_string();
        assert!(error.contains("`EXIF`"), "{error}");
        // What follows the picture is none of its chunks.
        bytes[4..8].copy_from_slice(&(length - 10).to_le_bytes());
        assert_eq!(sides(&bytes).unwrap(), (6, 5));
    }
}
