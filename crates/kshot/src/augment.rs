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
                source.copy_from_slice(image);
                self.affine(rng, shape).resample(&source, shape, image);
            }
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
    /// Bilinear; what lies outside the source is 0 (paper).
    fn resample(&self, source: &[f32], shape: ImageShape, target: &mut [f32]) {
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
            let x = self.xx * dx + self.xy * dy + centre_x - self.shift_x;
            let y = self.yx * dx + self.yy * dy + centre_y - self.shift_y;
            let (x0, y0) = (x.floor(), y.floor());
            let (fx, fy) = (x - x0, y - y0);
            let (x0, y0) = (x0 as i32, y0 as i32);
            for (channel, value) in pixel.iter_mut().enumerate() {
                let top = at(y0, x0, channel) * (1.0 - fx) + at(y0, x0 + 1, channel) * fx;
                let bottom = at(y0 + 1, x0, channel) * (1.0 - fx) + at(y0 + 1, x0 + 1, channel) * fx;
                *value = top * (1.0 - fy) + bottom * fy;
            }
        }
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
            .resample(&source, shape, &mut target);
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
}
