//! A picture of any size made square, scaled, grey or in colour.

use std::path::Path;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::DynamicImage;
use serde::{Deserialize, Serialize};

use crate::data::DataError;

/// How a picture is made square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// The largest square in the centre.
    #[default]
    Crop,
    /// The whole picture in the centre, the rest filled with the mean of its outermost pixels.
    Pad,
    /// The whole picture, out of proportion.
    Stretch,
}

impl Fit {
    /// `crop`, `pad` or `stretch`; anything else crops.
    pub fn from_name(name: &str) -> Self {
        match name {
            "pad" => Fit::Pad,
            "stretch" => Fit::Stretch,
            _ => Fit::Crop,
        }
    }
}

/// What becomes of every picture.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Side in pixels.
    pub side: usize,
    /// 1 grey (Rec. 709 luma), 3 colour.
    pub channels: usize,
    /// How it is made square.
    pub fit: Fit,
    /// Whether dark and light are swapped.
    pub invert: bool,
    /// How pixels are averaged: by a triangle for photographs, by area (box) for line drawings.
    pub filter: FilterType,
}

/// Writes `picture` as `[side, side, channels]` bytes into `pixels`. Transparent parts stand on white. The filter is a
/// triangle as wide as the reduction (what PIL and torchvision call bilinear with antialiasing), so that pictures look
/// to an encoder as those that it was trained on elsewhere.
///
/// # Errors
/// None that a decoded picture can cause; those of the scaling library are passed on with `path`.
pub fn fit(picture: DynamicImage, path: &Path, target: &Target, pixels: &mut [u8]) -> Result<(), DataError> {
    let picture = on_white(picture);
    let (width, height) = (picture.width(), picture.height());
    let (bytes, kind) = match target.channels {
        1 => (picture.into_luma8().into_raw(), PixelType::U8),
        _ => (picture.into_rgb8().into_raw(), PixelType::U8x3),
    };
    let damaged = |problem: String| DataError::Damaged {
        path: path.to_owned(),
        problem: format!("can't be scaled ({problem}); replace or remove it"),
    };
    let source = ImageRef::new(width, height, &bytes, kind).map_err(|error| damaged(error.to_string()))?;
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(target.filter))
        .use_alpha(false);
    let side = target.side as u32;
    let scale = |options: &ResizeOptions, width, height, pixels: &mut [u8]| {
        let mut image =
            Image::from_slice_u8(width, height, pixels, kind).map_err(|error| damaged(error.to_string()))?;
        Resizer::new()
            .resize(&source, &mut image, options)
            .map_err(|error| damaged(error.to_string()))
    };
    match target.fit {
        Fit::Crop => scale(
            &options.fit_into_destination(Some((0.5, 0.5))),
            side,
            side,
            pixels,
        )?,
        Fit::Stretch => scale(&options, side, side, pixels)?,
        Fit::Pad => {
            let longer = width.max(height);
            let scaled = |length: u32| {
                ((u64::from(length) * u64::from(side) + u64::from(longer / 2)) / u64::from(longer)).max(1)
                    as u32
            };
            let (inner_width, inner_height) = (scaled(width), scaled(height));
            let mut inner = vec![0; (inner_width * inner_height) as usize * target.channels];
            scale(&options, inner_width, inner_height, &mut inner)?;
            let (left, top) = (
                (side - inner_width) as usize / 2,
                (side - inner_height) as usize / 2,
            );
            let frame = frame(&bytes, width as usize, height as usize, target.channels);
            match frame[..] {
                [grey] => pixels.fill(grey),
                _ => pixels
                    .chunks_exact_mut(target.channels)
                    .for_each(|pixel| pixel.copy_from_slice(&frame)),
            }
            let row_length = inner_width as usize * target.channels;
            for (y, row) in inner.chunks_exact(row_length).enumerate() {
                pixels[((top + y) * target.side + left) * target.channels..][..row_length]
                    .copy_from_slice(row);
            }
        }
    }
    if target.invert {
        pixels.iter_mut().for_each(|byte| *byte = 255 - *byte);
    }
    Ok(())
}

/// The picture in front of white, where it has transparent parts.
fn on_white(picture: DynamicImage) -> DynamicImage {
    if !picture.color().has_alpha() {
        return picture;
    }
    let mut picture = picture.into_rgba8();
    for pixel in picture.pixels_mut() {
        let alpha = u32::from(pixel.0[3]);
        for value in &mut pixel.0[..3] {
            *value = ((u32::from(*value) * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        }
    }
    DynamicImage::ImageRgba8(picture)
}

/// The mean of the outermost pixels.
fn frame(bytes: &[u8], width: usize, height: usize, channels: usize) -> Vec<u8> {
    let mut sums = vec![0u64; channels];
    let mut n = 0;
    let mut add = |x: usize, y: usize| {
        let pixel = &bytes[(y * width + x) * channels..][..channels];
        sums.iter_mut()
            .zip(pixel)
            .for_each(|(sum, &value)| *sum += u64::from(value));
        n += 1;
    };
    for x in 0..width {
        add(x, 0);
        add(x, height - 1);
    }
    for y in 0..height {
        add(0, y);
        add(width - 1, y);
    }
    sums.into_iter().map(|sum| ((sum + n / 2) / n) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, Luma, Rgb, RgbImage, Rgba, RgbaImage};

    fn fitted(picture: DynamicImage, side: usize, channels: usize, fit_: Fit, invert: bool) -> Vec<u8> {
        let mut pixels = vec![0; side * side * channels];
        fit(
            picture,
            Path::new("p"),
            &Target {
                side,
                channels,
                fit: fit_,
                invert,
                filter: FilterType::Bilinear,
            },
            &mut pixels,
        )
        .unwrap();
        pixels
    }

    /// 12x4: a white square in the middle of black.
    fn wide() -> DynamicImage {
        GrayImage::from_fn(12, 4, |x, _| Luma([if (4..8).contains(&x) { 255 } else { 0 }])).into()
    }

    #[test]
    fn crop_takes_the_centre_pad_keeps_all_and_stretch_distorts() {
        assert_eq!(fitted(wide(), 4, 1, Fit::Crop, false), [255; 16]);
        assert_eq!(fitted(wide(), 4, 1, Fit::Crop, true), [0; 16]);
        let grey: DynamicImage = GrayImage::from_pixel(12, 4, Luma([9])).into();
        for how in [Fit::Crop, Fit::Pad, Fit::Stretch] {
            assert_eq!(fitted(grey.clone(), 8, 1, how, false), [9; 64], "{how:?}");
        }
        // Of the 28 outermost pixels 8 are white.
        let padded = fitted(wide(), 12, 1, Fit::Pad, false);
        assert_eq!(padded[..12], [(8.0f64 / 32.0 * 255.0).round() as u8; 12]);
        assert_eq!(
            padded[4 * 12..5 * 12],
            [0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0]
        );
        let stretched = fitted(wide(), 12, 1, Fit::Stretch, false);
        assert_eq!(stretched[..12], [0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0]);
        assert_eq!(stretched[11 * 12..], stretched[..12]);
    }

    #[test]
    fn colour_stays_and_grey_is_its_luma() {
        let green = || RgbImage::from_pixel(5, 5, Rgb([0, 255, 0])).into();
        assert_eq!(fitted(green(), 2, 3, Fit::Crop, false), [0, 255, 0].repeat(4));
        assert_eq!(fitted(green(), 2, 1, Fit::Crop, false), [182; 4]);
        let grey = GrayImage::from_pixel(5, 5, Luma([7])).into();
        assert_eq!(fitted(grey, 2, 3, Fit::Crop, false), [7; 12]);
    }

    #[test]
    fn transparent_parts_stand_on_white() {
        let half = RgbaImage::from_fn(2, 2, |x, _| Rgba([0, 0, 0, if x == 0 { 0 } else { 255 }]));
        assert_eq!(fitted(half.into(), 2, 1, Fit::Crop, false), [255, 0, 255, 0]);
    }

    #[test]
    fn a_picture_one_pixel_wide_is_fitted_too() {
        let line = || GrayImage::from_pixel(3000, 1, Luma([200])).into();
        for how in [Fit::Crop, Fit::Pad, Fit::Stretch] {
            assert_eq!(fitted(line(), 8, 1, how, false), [200; 64], "{how:?}");
        }
    }
}
