//! Random changes to the images of a training episode.

use std::f32::consts::PI;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::data::ImageShape;
use crate::episode::Episode;

/// How the images of an episode are changed; the default changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Rotation of each image, uniform within ± this many degrees.
    pub rotate: f32,
    /// Shear of each image along x and y, uniform within ± this.
    pub shear: f32,
    /// Size of each image, log-uniform within a factor of 1 ± this.
    pub scale: f32,
    /// Shift of each image along x and y, uniform within ± this many 28ths of its side.
    pub shift: f32,
    /// Smooth displacement of the pixels, uniform within ± this many 28ths of its side at the points of a coarse grid.
    pub elastic: f32,
    /// Strokes wider (or, with the other sign, thinner) by a uniform share of a 28th of the side, up to this.
    pub stroke: f32,
    /// Probability of each of these changes, drawn for each image, direction and change on its own; 1 always.
    pub chance: f32,
}

impl Default for Augment {
    fn default() -> Self {
        Self {
            rotate: 0.0,
            shear: 0.0,
            scale: 0.0,
            shift: 0.0,
            elastic: 0.0,
            stroke: 0.0,
            chance: 1.0,
        }
    }
}

impl Augment {
    /// Changes every image of `episode`, each in its own way.
    pub fn apply(&self, episode: &mut Episode, rng: &mut ChaCha8Rng) {
        if [self.rotate, self.shear, self.scale, self.shift] == [0.0; 4] {
            return;
        }
        let shape = episode.image;
        let mut source = vec![0.0; shape.len()];
        for pixels in [&mut episode.support, &mut episode.query] {
            for image in pixels.chunks_exact_mut(shape.len()) {
                self.draw(shape, rng).apply(&mut source, shape, image);
            }
        }
    }

    /// Changes all of `pixels`, whole images of `shape`, in one and the same way.
    pub fn apply_alike(&self, pixels: &mut [f32], shape: ImageShape, rng: &mut ChaCha8Rng) {
        let change = self.draw(shape, rng);
        let mut source = vec![0.0; shape.len()];
        for image in pixels.chunks_exact_mut(shape.len()) {
            change.apply(&mut source, shape, image);
        }
    }

    fn draw(&self, shape: ImageShape, rng: &mut ChaCha8Rng) -> Change {
        let affine = self.affine(rng, shape);
        // What is certain draws nothing for its chance.
        let chance = self.chance;
        let happens = |rng: &mut ChaCha8Rng| chance >= 1.0 || rng.random::<f32>() < chance;
        let field = if self.elastic > 0.0 && happens(rng) {
            Some(Field::draw(self.elastic, shape, rng))
        } else {
            None
        };
        let stroke = if self.stroke > 0.0 && happens(rng) {
            rng.random_range(-self.stroke..=self.stroke)
        } else {
            0.0
        };
        Change {
            affine,
            field,
            stroke,
        }
    }

    fn affine(&self, rng: &mut ChaCha8Rng, shape: ImageShape) -> Affine {
        let mut within = |bound: f32| {
            // A change that is certain draws nothing for its chance.
            if bound > 0.0 && (self.chance >= 1.0 || rng.random::<f32>() < self.chance) {
                rng.random_range(-bound..=bound)
            } else {
                0.0
            }
        };
        let angle = within(self.rotate) * PI / 180.0;
        let (shear_x, shear_y) = (within(self.shear), within(self.shear));
        let size = (1.0 + self.scale).powf(within(1.0));
        let pixel = shape.height.max(shape.width) as f32 / 28.0;
        let (shift_x, shift_y) = (within(self.shift) * pixel, within(self.shift) * pixel);
        let (sin, cos) = angle.sin_cos();
        // target → source: the inverse of rotation · shear · scale, to the first order in the shear.
        let inverse = 1.0 / size;
        Affine {
            xx: inverse * (cos - shear_x * sin),
            xy: inverse * (sin + shear_x * cos),
            yx: inverse * (-sin + shear_y * cos),
            yy: inverse * (cos + shear_y * sin),
            shift_x,
            shift_y,
        }
    }
}

/// One change, drawn.
struct Change {
    affine: Affine,
    field: Option<Field>,
    stroke: f32,
}

impl Change {
    /// `source` is scratch of an image's length.
    fn apply(&self, source: &mut [f32], shape: ImageShape, image: &mut [f32]) {
        source.copy_from_slice(image);
        self.affine.resample(source, shape, self.field.as_ref(), image);
        if self.stroke != 0.0 {
            change_strokes(self.stroke, shape, image);
        }
    }
}

/// Source coordinates as an affine map of target coordinates, both from the image's centre.
struct Affine {
    xx: f32,
    xy: f32,
    yx: f32,
    yy: f32,
    shift_x: f32,
    shift_y: f32,
}

impl Affine {
    /// Bilinear; what lies outside the source is 0 (paper). `field` displaces further.
    fn resample(&self, source: &[f32], shape: ImageShape, field: Option<&Field>, target: &mut [f32]) {
        let ImageShape {
            height,
            width,
            channels,
        } = shape;
        let (centre_y, centre_x) = ((height as f32 - 1.0) / 2.0, (width as f32 - 1.0) / 2.0);
        let at = |y: i32, x: i32, channel: usize| {
            if y < 0 || x < 0 || y >= height as i32 || x >= width as i32 {
                0.0
            } else {
                source[(y as usize * width + x as usize) * channels + channel]
            }
        };
        for (index, pixel) in target.chunks_exact_mut(channels).enumerate() {
            let (dy, dx) = (
                (index / width) as f32 - centre_y,
                (index % width) as f32 - centre_x,
            );
            let [ex, ey] = field.map_or([0.0; 2], |field| field.at(index / width, index % width, shape));
            let x = self.xx * dx + self.xy * dy + centre_x - self.shift_x + ex;
            let y = self.yx * dx + self.yy * dy + centre_y - self.shift_y + ey;
            let (x0, y0) = (floor(x), floor(y));
            let (fx, fy) = (x - x0 as f32, y - y0 as f32);
            if (0..height as i32 - 1).contains(&y0) && (0..width as i32 - 1).contains(&x0) {
                let first = (y0 as usize * width + x0 as usize) * channels;
                let (upper, lower) = source[first..].split_at(width * channels);
                for (channel, value) in pixel.iter_mut().enumerate() {
                    let along = |row: &[f32]| row[channel] * (1.0 - fx) + row[channel + channels] * fx;
                    *value = along(upper) * (1.0 - fy) + along(lower) * fy;
                }
                continue;
            }
            for (channel, value) in pixel.iter_mut().enumerate() {
                let top = at(y0, x0, channel) * (1.0 - fx) + at(y0, x0 + 1, channel) * fx;
                let bottom = at(y0 + 1, x0, channel) * (1.0 - fx) + at(y0 + 1, x0 + 1, channel) * fx;
                *value = top * (1.0 - fy) + bottom * fy;
            }
        }
    }
}

/// The greatest integer that isn't above `value`. The library's is a call where the target lacks the instruction.
fn floor(value: f32) -> i32 {
    let towards_zero = value as i32;
    towards_zero - i32::from(towards_zero as f32 > value)
}

/// A smooth displacement: vectors at the points of a coarse grid over the image, and between them a smoothed
/// bilinear mixture.
struct Field {
    points: [[[f32; 2]; Field::SIDE]; Field::SIDE],
}

impl Field {
    const SIDE: usize = 4;

    fn draw(bound: f32, shape: ImageShape, rng: &mut ChaCha8Rng) -> Self {
        let bound = bound * shape.height.max(shape.width) as f32 / 28.0;
        let mut points = [[[0.0; 2]; Self::SIDE]; Self::SIDE];
        for value in points.iter_mut().flatten().flatten() {
            *value = rng.random_range(-bound..=bound);
        }
        Self { points }
    }

    /// In pixels along x and y, for a pixel of the target.
    fn at(&self, y: usize, x: usize, shape: ImageShape) -> [f32; 2] {
        let place = |index: usize, side: usize| {
            let at = index as f32 / side.saturating_sub(1).max(1) as f32 * (Self::SIDE - 1) as f32;
            let cell = (at as usize).min(Self::SIDE - 2);
            let share = at - cell as f32;
            // Its derivative is 0 at the points, so that the field has no creases there.
            (cell, share * share * (3.0 - 2.0 * share))
        };
        let ((row, down), (column, right)) = (place(y, shape.height), place(x, shape.width));
        std::array::from_fn(|axis| {
            let point = |row: usize, column: usize| self.points[row][column][axis];
            let top = point(row, column) * (1.0 - right) + point(row, column + 1) * right;
            let bottom = point(row + 1, column) * (1.0 - right) + point(row + 1, column + 1) * right;
            top * (1.0 - down) + bottom * down
        })
    }
}

/// Mixes the image with its dilation (`by` above 0) or erosion by one 28th of its side.
fn change_strokes(by: f32, shape: ImageShape, image: &mut [f32]) {
    let ImageShape {
        height,
        width,
        channels,
    } = shape;
    let steps = (height.max(width) as f32 / 28.0).round().max(1.0) as usize;
    let extreme = if by > 0.0 { f32::max } else { f32::min };
    let mut changed = image.to_vec();
    for _ in 0..steps {
        let before = changed.clone();
        for (index, value) in changed.iter_mut().enumerate() {
            let (pixel, channel) = (index / channels, index % channels);
            let (y, x) = (pixel / width, pixel % width);
            let mut neighbour = |y: usize, x: usize| {
                if y < height && x < width {
                    *value = extreme(*value, before[(y * width + x) * channels + channel]);
                }
            };
            neighbour(y.wrapping_sub(1), x);
            neighbour(y + 1, x);
            neighbour(y, x.wrapping_sub(1));
            neighbour(y, x + 1);
        }
    }
    for (value, changed) in image.iter_mut().zip(changed) {
        *value += by.abs() * (changed - *value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    fn resampled(augment: Augment, seed: u64) -> (Vec<f32>, Vec<f32>) {
        let shape = ImageShape::square(9, 1);
        let mut source = vec![0.0; shape.len()];
        source[4 * 9 + 4] = 1.0;
        source[4 * 9 + 6] = 0.5;
        let mut target = vec![0.0; shape.len()];
        augment
            .affine(&mut random::stream(seed, &[]), shape)
            .resample(&source, shape, None, &mut target);
        (source, target)
    }

    #[test]
    fn no_change_leaves_every_pixel() {
        let (source, target) = resampled(Augment::default(), 1);
        assert_eq!(source, target);
    }

    #[test]
    fn a_turn_about_the_centre_keeps_the_centre_and_moves_the_rest() {
        let (source, target) = resampled(
            Augment {
                rotate: 30.0,
                ..Augment::default()
            },
            3,
        );
        assert!((target[4 * 9 + 4] - 1.0).abs() < 1e-5);
        assert_ne!(source, target);
    }

    #[test]
    fn each_change_comes_as_often_as_its_chance_says() {
        let augment = Augment {
            rotate: 10.0,
            shift: 2.0,
            chance: 0.5,
            ..Augment::default()
        };
        let (mut turned, mut moved, mut both) = (0, 0, 0);
        for seed in 0..400 {
            let affine = augment.affine(&mut random::stream(seed, &[]), ImageShape::square(28, 1));
            let (turn, shift) = (affine.xy != 0.0, affine.shift_x != 0.0);
            turned += usize::from(turn);
            moved += usize::from(shift);
            both += usize::from(turn && shift);
        }
        // 200, 200 and 100 in the mean, with deviations of 10, 10 and 9.
        assert!(
            (150..=250).contains(&turned) && (150..=250).contains(&moved),
            "{turned} {moved}"
        );
        assert!((55..=145).contains(&both), "{both}");
    }

    #[test]
    fn size_stays_within_its_bounds() {
        for seed in 0..50 {
            let augment = Augment {
                scale: 0.25,
                ..Augment::default()
            };
            let affine = augment.affine(&mut random::stream(seed, &[]), ImageShape::square(28, 1));
            assert!((0.8 - 1e-5..=1.25 + 1e-5).contains(&affine.xx), "{}", affine.xx);
        }
    }

    #[test]
    fn an_elastic_field_moves_pixels_by_no_more_than_its_bound() {
        let shape = ImageShape::square(56, 1);
        let field = Field::draw(1.5, shape, &mut random::stream(5, &[]));
        let moved: Vec<f32> = (0..shape.len())
            .flat_map(|at| field.at(at / 56, at % 56, shape))
            .collect();
        assert!(
            moved.iter().all(|by| by.abs() <= 3.0),
            "1.5 28ths of 56 pixels are 3"
        );
        assert!(moved.iter().any(|by| by.abs() > 0.5));
    }

    #[test]
    fn strokes_grow_and_shrink_by_the_given_share() {
        let shape = ImageShape::square(5, 1);
        let mut dot = vec![0.0; 25];
        dot[12] = 1.0;
        let mut wide = dot.clone();
        change_strokes(0.5, shape, &mut wide);
        assert_eq!((wide[12], wide[11], wide[7], wide[6]), (1.0, 0.5, 0.5, 0.0));
        let mut thin = dot;
        change_strokes(-0.25, shape, &mut thin);
        assert_eq!((thin[12], thin[11]), (0.75, 0.0));
    }
}
