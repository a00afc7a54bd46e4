//! One drawing: from its PNG to ink in 0..=255 at the wanted size.

use std::path::Path;

use image::DynamicImage;

use crate::data::{DataError, pixels};

/// Side of the drawings as published, in pixels.
pub const SIDE: usize = 105;

/// Decodes a drawing and scales it to `side`: ink is 255 and paper 0 (in the file it is the other way round).
///
/// # Errors
/// Bytes that are no picture, or one that isn't 105x105.
pub fn decode(bytes: &[u8], path: &Path, side: usize, ink: &mut [u8]) -> Result<(), DataError> {
    let picture = pixels::decode(bytes, path, DynamicImage::into_luma8)?;
    let (width, height) = picture.dimensions();
    if (width as usize, height as usize) != (SIDE, SIDE) {
        return Err(DataError::Damaged {
            path: path.to_owned(),
            problem: format!(
                "expected a drawing of {SIDE}x{SIDE} pixels, found {width}x{height}; get the published files"
            ),
        });
    }
    let mut drawing = picture.into_raw();
    drawing.iter_mut().for_each(|pixel| *pixel = 255 - *pixel);
    scale(&drawing, SIDE, ink, side);
    Ok(())
}

/// Scales a square of `side * side` pixels to one of `target_side * target_side` by exact area averaging: a new pixel
/// is the mean of the area that it covers, every old pixel weighted by the share of it that lies inside.
///
/// Thin strokes keep their ink, nothing aliases, and quarter turns commute with it. All in whole numbers, rounded once
/// at the end, so that every machine gets the same bytes.
pub fn scale(source: &[u8], side: usize, target: &mut [u8], target_side: usize) {
    if side == target_side {
        target.copy_from_slice(source);
        return;
    }
    let spans = spans(side, target_side);
    // Rows first: `[side, target_side]`, in units of 1 / side.
    let mut rows = vec![0u32; side * target_side];
    for (source, row) in source.chunks_exact(side).zip(rows.chunks_exact_mut(target_side)) {
        for (sum, span) in row.iter_mut().zip(&spans) {
            *sum = span
                .iter()
                .map(|&(index, weight)| weight * u32::from(source[index]))
                .sum();
        }
    }
    let area = (side * side) as u32;
    let mut sums = vec![0u32; target_side];
    for (target, span) in target.chunks_exact_mut(target_side).zip(&spans) {
        sums.fill(area / 2);
        for &(index, weight) in span {
            let row = &rows[index * target_side..][..target_side];
            sums.iter_mut()
                .zip(row)
                .for_each(|(sum, &value)| *sum += weight * value);
        }
        target
            .iter_mut()
            .zip(&sums)
            .for_each(|(pixel, &sum)| *pixel = (sum / area) as u8);
    }
}

/// For each of `target` cells the old cells it overlaps and by how much, in units that sum to `side`.
fn spans(side: usize, target: usize) -> Vec<Vec<(usize, u32)>> {
    // On a line of side * target units an old cell is `target` long and a new one `side`.
    let span = |cell: usize| {
        let (start, end) = (cell * side, (cell + 1) * side);
        let overlap = |index: usize| (end.min((index + 1) * target) - start.max(index * target)) as u32;
        (start / target..end.div_ceil(target))
            .map(|index| (index, overlap(index)))
            .collect()
    };
    (0..target).map(span).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::omniglot::rotation::Rotation;
    use proptest::prelude::*;

    fn scaled(source: &[u8], side: usize, target_side: usize) -> Vec<u8> {
        let mut target = vec![0; target_side * target_side];
        scale(source, side, &mut target, target_side);
        target
    }

    #[test]
    fn a_new_pixel_is_the_mean_of_the_area_it_covers() {
        assert_eq!(scaled(&[0, 255, 255, 255], 2, 1), [191]);
        // 3 -> 2: the middle column and row are shared half and half.
        assert_eq!(scaled(&[90, 0, 0, 0, 0, 0, 0, 0, 0], 3, 2), [40, 0, 0, 0]);
        assert_eq!(scaled(&[0, 0, 0, 0, 90, 0, 0, 0, 0], 3, 2), [10, 10, 10, 10]);
        // Upwards, an old pixel fills its area.
        assert_eq!(
            scaled(&[1, 2, 3, 4], 2, 4),
            [1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4, 3, 3, 4, 4]
        );
    }

    proptest! {
        #[test]
        fn scaling_keeps_the_mean_and_commutes_with_turning(
            source in proptest::collection::vec(any::<u8>(), 12 * 12),
            target_side in 1usize..20,
        ) {
            let small = scaled(&source, 12, target_side);
            let mean = |pixels: &[u8]| pixels.iter().map(|&p| f64::from(p)).sum::<f64>() / pixels.len() as f64;
            prop_assert!((mean(&small) - mean(&source)).abs() <= 0.5);
            for rotation in Rotation::ALL {
                let turn = |pixels: &[u8], side| {
                    let mut turned = Vec::new();
                    rotation.for_each_pixel(pixels, side, |pixel| turned.push(pixel));
                    turned
                };
                prop_assert_eq!(scaled(&turn(&source, 12), 12, target_side), turn(&small, target_side));
            }
        }
    }
}
