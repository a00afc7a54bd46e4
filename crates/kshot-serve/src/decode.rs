//! Encoded pictures as the model takes them, within bounds that are checked before anything large is allocated.

use std::io::Cursor;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};
use kshot::classifier::{Input, Picture};

use crate::budget::Share;
use crate::convert::problem;
use crate::problem::{NOT_A_PICTURE, Problem};
use crate::state::App;
use crate::upload::{Encoded, Upload};

/// Pictures of so many pixels together are decoded at once, larger ones beside the threads that answer.
const AT_ONCE: u64 = 1 << 16;
/// Memory for a pixel while it is decoded, in bytes: four channels of 16 bits, and a copy in grey.
const PER_PIXEL: u64 = 10;

/// Longer side of a picture that is shown, in pixels.
pub const THUMBNAIL: u32 = 160;

/// Longest picture that is shown, in bytes of its `data:` address: 4 bytes a pixel that no compression makes smaller, in
/// base64.
pub const LONGEST_THUMBNAIL: usize = (THUMBNAIL * THUMBNAIL * 4) as usize / 2 * 3;

/// A picture with its name.
#[derive(Debug)]
pub struct Decoded {
    /// What the request calls it.
    pub name: String,
    /// As the model takes it.
    pub picture: Picture,
}

/// A picture to be shown.
#[derive(Debug)]
pub struct Thumbnail {
    /// At most [`THUMBNAIL`] pixels a side.
    pub png: Vec<u8>,
    /// Whether it is dark ink on light paper.
    pub ink: bool,
}

/// Memory for so many pictures as the model takes them, until they are recognised.
///
/// # Errors
/// 503 where others have it.
fn room(app: &App, n: usize) -> Result<Share, Problem> {
    app.pictures.take(n * app.picture()).ok_or_else(|| {
        app.metrics.refused.inc();
        Problem::busy("too many pictures are waiting; try again in a second")
    })
}

/// Decodes the pictures of a request, with the memory that they take.
///
/// # Errors
/// 422 that names the first picture that can't be used, 503 where there is no memory.
pub async fn pictures(app: &App, upload: Upload) -> Result<(Vec<Decoded>, Share), Problem> {
    let input = app.workspace.input();
    let decode_all = move |upload: Upload| {
        let decoded = upload.pictures.iter().map(|one| {
            Ok(Decoded {
                name: one.name.clone(),
                picture: decode(&input, one)?,
            })
        });
        decoded.collect::<Result<Vec<_>, Problem>>()
    };
    let sizes = sizes(app, &upload)?;
    let room = room(app, upload.pictures.len())?;
    if sizes.iter().sum::<u64>() <= AT_ONCE {
        return Ok((decode_all(upload)?, room));
    }
    let share = memory(app, &sizes).await;
    // Both shares go with the work, which goes on where who asked hangs up.
    app.blocking(move |_| {
        let _share = share;
        Ok((decode_all(upload)?, room))
    })
    .await
}

/// Checks the pictures of a request by their heads, and waits for the memory that decoding them takes.
///
/// # Errors
/// 422 that names the first picture that can't be used.
pub async fn admit(app: &App, upload: &Upload) -> Result<Option<Share>, Problem> {
    let sizes = sizes(app, upload)?;
    Ok(memory(app, &sizes).await)
}

/// Pictures are decoded one after the other: the largest says how much memory that takes.
async fn memory(app: &App, sizes: &[u64]) -> Option<Share> {
    let largest = sizes.iter().max().copied().unwrap_or(0);
    app.pixels
        .wait(usize::try_from(largest * PER_PIXEL).unwrap_or(usize::MAX))
        .await
}

/// Pixels of each picture, as its head says.
fn sizes(app: &App, upload: &Upload) -> Result<Vec<u64>, Problem> {
    let most = app.config.limits.pixels;
    upload.pictures.iter().map(|one| size(one, most)).collect()
}

/// Pixels of a picture, as its head says.
///
/// # Errors
/// 422 for one that can't be read, or has more than `most`.
pub fn size(one: &Encoded, most: u64) -> Result<u64, Problem> {
    let unreadable = |error: String| {
        Problem::new(
            &NOT_A_PICTURE,
            format!(
                "{}: not a readable PNG, JPEG, WebP or BMP picture ({error})",
                one.name
            ),
        )
    };
    let reader = ImageReader::new(Cursor::new(&one.bytes))
        .with_guessed_format()
        .map_err(|error| unreadable(error.to_string()))?;
    let (width, height) = reader
        .into_dimensions()
        .map_err(|error| unreadable(error.to_string()))?;
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > most {
        return Err(Problem::new(
            &NOT_A_PICTURE,
            format!(
                "{}: {width}x{height} pixels, and pictures have from 1 to {most}; scale it down",
                one.name
            ),
        ));
    }
    Ok(pixels)
}

/// A picture as the model takes it.
///
/// # Errors
/// 422.
pub fn decode(input: &Input, one: &Encoded) -> Result<Picture, Problem> {
    input.decode(&one.bytes, Path::new(&one.name)).map_err(problem)
}

/// A stored picture as it is shown.
///
/// # Errors
/// A picture that was damaged in the store.
pub fn thumbnail(bytes: &[u8]) -> Result<Thumbnail, Problem> {
    let mut decoder = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(Problem::internal)?
        .into_decoder()
        .map_err(Problem::internal)?;
    let orientation = decoder.orientation().map_err(Problem::internal)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(Problem::internal)?;
    picture.apply_orientation(orientation);
    if picture.width().max(picture.height()) > THUMBNAIL {
        picture = picture.thumbnail(THUMBNAIL, THUMBNAIL);
    }
    let picture = if picture.color().has_color() || picture.color().has_alpha() {
        DynamicImage::ImageRgba8(picture.into_rgba8())
    } else {
        DynamicImage::ImageLuma8(picture.into_luma8())
    };
    let mut file = Cursor::new(Vec::new());
    picture
        .write_to(&mut file, ImageFormat::Png)
        .map_err(Problem::internal)?;
    Ok(Thumbnail {
        ink: is_ink(&picture.into_rgba8()),
        png: file.into_inner(),
    })
}

/// Whether most of a picture is light and nothing in it is coloured.
fn is_ink(picture: &image::RgbaImage) -> bool {
    let (mut light, mut coloured) = (0usize, 0usize);
    for pixel in picture.pixels() {
        let [red, green, blue, alpha] = pixel.0;
        let (least, most) = (red.min(green).min(blue), red.max(green).max(blue));
        light += usize::from(least > 200 || alpha < 128);
        coloured += usize::from(most - least > 40 && alpha >= 128);
    }
    let n = (picture.width() * picture.height()) as usize;
    light * 2 > n && coloured * 50 < n
}

/// A PNG as an address.
pub fn data_address(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", STANDARD.encode(png))
}
