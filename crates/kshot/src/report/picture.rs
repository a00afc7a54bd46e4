//! Pictures small enough to stand in a page: PNG, inline.

use std::io;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, GrayImage, ImageEncoder, Pixel, Rgb, RgbImage, RgbaImage, imageops};

use crate::data::ImageShape;
use crate::error::Error;

/// A PNG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    png: Vec<u8>,
}

/// How a dataset's pictures are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Line drawings, ink 1 on paper 0: shown dark on light.
    Drawing,
    /// Everything else: shown as it is.
    Photo,
}

impl Look {
    /// Of whole images `[n, height, width, channels]`, in `[0, 1]`: line drawings are grey and mostly paper.
    pub fn of(pixels: &[f32], shape: ImageShape) -> Self {
        let grey = pixels
            .chunks_exact(shape.channels.max(1))
            .all(|pixel| pixel.iter().all(|value| value == &pixel[0]));
        let paper = pixels.iter().filter(|value| **value < 0.1).count();
        if grey && 2 * paper > pixels.len() {
            Self::Drawing
        } else {
            Self::Photo
        }
    }
}

impl Picture {
    /// Of one image `[height, width, channels]` in `[0, 1]`, at most `side` pixels a side.
    ///
    /// # Errors
    /// [`Error::Io`] when it can't be encoded.
    pub fn new(pixels: &[f32], shape: ImageShape, look: Look, side: u32) -> Result<Self, Error> {
        let (width, height) = (shape.width as u32, shape.height as u32);
        let (to_width, to_height) = fit(width, height, side);
        if look == Look::Drawing || shape.channels == 1 {
            let byte = |value: &f32| match look {
                Look::Drawing => byte(1.0 - value),
                Look::Photo => byte(*value),
            };
            let bytes = pixels.iter().step_by(shape.channels).map(byte).collect();
            let image = GrayImage::from_raw(width, height, bytes).unwrap_or_default();
            let image = shrunk(image, to_width, to_height);
            encode(&image, image.width(), image.height(), ExtendedColorType::L8)
        } else {
            let image = shrunk(colour(pixels, shape), to_width, to_height);
            encode(&image, image.width(), image.height(), ExtendedColorType::Rgb8)
        }
    }

    /// Of one line drawing `[height, width, channels]`, its ink in `colour` on nothing, at most `side` pixels a side.
    ///
    /// # Errors
    /// [`Error::Io`] when it can't be encoded.
    pub fn tinted(pixels: &[f32], shape: ImageShape, colour: [u8; 3], side: u32) -> Result<Self, Error> {
        let (width, height) = (shape.width as u32, shape.height as u32);
        let (to_width, to_height) = fit(width, height, side);
        let ink = pixels
            .iter()
            .step_by(shape.channels)
            .map(|value| byte(*value))
            .collect();
        let ink = shrunk(
            GrayImage::from_raw(width, height, ink).unwrap_or_default(),
            to_width,
            to_height,
        );
        let image = RgbaImage::from_fn(ink.width(), ink.height(), |x, y| {
            // The root keeps thin strokes from fading when they are drawn small.
            let alpha = byte((f32::from(ink.get_pixel(x, y).0[0]) / 255.0).sqrt());
            image::Rgba([colour[0], colour[1], colour[2], alpha])
        });
        encode(&image, image.width(), image.height(), ExtendedColorType::Rgba8)
    }

    /// The picture as the address of itself: `data:image/png;base64,...`.
    pub fn address(&self) -> String {
        format!("data:image/png;base64,{}", base64(&self.png))
    }
}

/// The longest side at which `count` pictures of `channels` stay below `bytes` in a page, even if nothing in them can
/// be compressed; between 8 and 64 pixels.
pub fn side_within(bytes: usize, count: usize, channels: usize) -> u32 {
    let each = bytes as f64 / (count.max(1) as f64 * 4.0 / 3.0) - 100.0;
    let side = (each.max(0.0) / channels as f64).sqrt();
    (side as u32).clamp(8, 64)
}

fn byte(value: f32) -> u8 {
    (value.clamp(0.0, 1.0) * 255.0).round() as u8
}

fn colour(pixels: &[f32], shape: ImageShape) -> RgbImage {
    let mut image = RgbImage::new(shape.width as u32, shape.height as u32);
    for (pixel, values) in image.pixels_mut().zip(pixels.chunks_exact(shape.channels)) {
        let channel = |index: usize| byte(values.get(index).copied().unwrap_or(values[0]));
        *pixel = Rgb([channel(0), channel(1), channel(2)]);
    }
    image
}

fn fit(width: u32, height: u32, side: u32) -> (u32, u32) {
    let longest = width.max(height).max(1);
    if longest <= side {
        return (width, height);
    }
    let scaled = |length: u32| (length * side).div_ceil(longest).max(1);
    (scaled(width), scaled(height))
}

fn shrunk<P: Pixel<Subpixel = u8> + 'static>(
    image: image::ImageBuffer<P, Vec<u8>>,
    width: u32,
    height: u32,
) -> image::ImageBuffer<P, Vec<u8>> {
    if (width, height) == image.dimensions() {
        image
    } else {
        imageops::thumbnail(&image, width, height)
    }
}

fn encode(bytes: &[u8], width: u32, height: u32, kind: ExtendedColorType) -> Result<Picture, Error> {
    let mut png = Vec::new();
    PngEncoder::new_with_quality(&mut png, CompressionType::Best, FilterType::Adaptive)
        .write_image(bytes, width, height, kind)
        .map_err(|error| Error::io("a picture of the report", io::Error::other(error)))?;
    Ok(Picture { png })
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = (word >> (18 - 6 * place)) & 63;
            text.push(if place <= chunk.len() {
                char::from(ALPHABET[digit as usize])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_gives_the_vectors_of_its_standard() {
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, encoded) in vectors {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    fn decoded(picture: &Picture) -> image::DynamicImage {
        image::load_from_memory(&picture.png).unwrap()
    }

    #[test]
    fn ink_is_dark_on_light_and_colour_is_as_it_is() {
        let shape = ImageShape {
            height: 1,
            width: 3,
            channels: 1,
        };
        let drawing = Picture::new(&[0.0, 1.0, 0.0], shape, Look::Drawing, 64).unwrap();
        assert_eq!(decoded(&drawing).into_luma8().into_raw(), [255, 0, 255]);
        let shape = ImageShape {
            height: 1,
            width: 1,
            channels: 3,
        };
        let photo = Picture::new(&[1.0, 0.5, f32::NAN], shape, Look::Photo, 64).unwrap();
        assert_eq!(decoded(&photo).into_rgb8().into_raw(), [255, 128, 0]);
        let tinted = Picture::tinted(&[0.2, 0.2, 0.2], shape, [1, 2, 3], 64).unwrap();
        assert_eq!(decoded(&tinted).into_rgba8().into_raw(), [1, 2, 3, 114]);
    }

    #[test]
    fn a_large_picture_becomes_small() {
        let shape = ImageShape {
            height: 100,
            width: 200,
            channels: 3,
        };
        let photo = Picture::new(&vec![0.5; shape.len()], shape, Look::Photo, 20).unwrap();
        let image = decoded(&photo);
        assert_eq!((image.width(), image.height()), (20, 10));
    }

    #[test]
    fn grey_pictures_that_are_mostly_paper_are_drawings() {
        let grey = ImageShape {
            height: 1,
            width: 4,
            channels: 1,
        };
        assert_eq!(Look::of(&[0.0, 0.0, 0.0, 1.0], grey), Look::Drawing);
        assert_eq!(Look::of(&[0.4, 0.0, 0.6, 1.0], grey), Look::Photo);
        let colour = ImageShape {
            height: 1,
            width: 2,
            channels: 3,
        };
        assert_eq!(Look::of(&[0.0, 0.0, 0.0, 0.0, 0.05, 0.0], colour), Look::Photo);
        assert_eq!(Look::of(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.0], colour), Look::Drawing);
    }

    #[test]
    fn many_pictures_are_smaller_ones() {
        assert_eq!(side_within(1 << 20, 10, 1), 64);
        let side = side_within(1 << 20, 450, 3);
        assert!((20..30).contains(&side), "{side}");
        assert_eq!(side_within(1, 1000, 3), 8);
    }
}
