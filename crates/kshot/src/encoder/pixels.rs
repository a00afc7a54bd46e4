//! The picture itself as the feature vector, scaled down to a small square.
//!
//! What Santoro et al. 2016 (section 4.1) give to their network: Omniglot's drawings at 20×20 pixels, flattened.
//! A pixel of the result is the mean over the area that it covers. There is nothing to train here.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;

use super::{Built, Encoder, EncoderRequest, EncoderSpec};
use crate::data::ImageShape;
use crate::error::Error;
use crate::norm::Pass;
use crate::options::{OptionKind, OptionSpec};

pub static SPEC: EncoderSpec = EncoderSpec {
    name: "pixels",
    summary: "no network: the picture itself, scaled down to a small square",
    paper: "Santoro et al. 2016, Meta-Learning with Memory-Augmented Neural Networks, section 4.1",
    options: &[OptionSpec {
        name: "pixel-side",
        kind: OptionKind::Integer(1, 512),
        default: "20",
        help: "side of the scaled picture in pixels",
    }],
    image_size: None,
    external: None,
    build,
};

/// The scaling; see the module.
#[derive(Module, Debug)]
pub struct Pixels {
    #[module(skip)]
    side: usize,
}

fn build(request: &EncoderRequest<'_>, _rng: &mut ChaCha8Rng) -> Result<Built, Error> {
    let side = request.options.integer("pixel-side");
    Ok(Built {
        encoder: Encoder::Pixels(Pixels { side }),
        maps: ImageShape {
            height: side,
            width: side,
            channels: request.image.channels,
        },
    })
}

impl Pixels {
    /// `[n, height, width, channels]` → `[n, side, side, channels]`.
    pub fn forward(&self, images: Tensor<4>, _pass: &mut Pass) -> Tensor<4> {
        let [n, height, width, channels] = images.dims();
        let side = self.side;
        if height == side && width == side {
            return images;
        }
        let device = images.device();
        let rows = images
            .permute([0, 3, 2, 1])
            .reshape([n * channels * width, height]);
        let rows = rows.matmul(means(height, side, &device));
        let columns = rows
            .reshape([n * channels, width, side])
            .swap_dims(1, 2)
            .reshape([n * channels * side, width]);
        columns
            .matmul(means(width, side, &device))
            .reshape([n, channels, side, side])
            .permute([0, 2, 3, 1])
    }
}

/// Column j holds the share of each of `from` pixels in the j-th of `to` equal stretches: `[from, to]`.
fn means(from: usize, to: usize, device: &Device) -> Tensor<2> {
    let mut shares = vec![0.0f32; from * to];
    let length = from as f32 / to as f32;
    for target in 0..to {
        let (start, end) = (target as f32 * length, (target + 1) as f32 * length);
        for pixel in start as usize..from.min(end.ceil() as usize) {
            let overlap = end.min(pixel as f32 + 1.0) - start.max(pixel as f32);
            shares[pixel * to + target] = overlap.max(0.0) / length;
        }
    }
    Tensor::from_data(TensorData::new(shares, [from, to]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaled(pixels: &[f32], shape: [usize; 4], side: usize) -> Vec<f32> {
        let images = Tensor::<4>::from_data(TensorData::new(pixels.to_vec(), shape), &Device::flex());
        let maps = Pixels { side }.forward(images, &mut Pass::train());
        assert_eq!(maps.dims(), [shape[0], side, side, shape[3]]);
        maps.into_data().iter::<f32>().collect()
    }

    #[test]
    fn a_pixel_is_the_mean_of_its_area() {
        // 2×3 with two channels to 1×1, and 3×3 to 2×2 by hand: the middle column and row are shared by halves.
        let pixels: Vec<f32> = (0..12u8).map(f32::from).collect();
        assert_eq!(scaled(&pixels, [1, 2, 3, 2], 1), [5.0, 6.0]);
        let found = scaled(
            &[0.0, 3.0, 6.0, 9.0, 12.0, 15.0, 18.0, 21.0, 24.0],
            [1, 3, 3, 1],
            2,
        );
        for (found, expected) in found.iter().zip([4.0, 8.0, 16.0, 20.0]) {
            assert!((found - expected).abs() < 1e-5, "{found} instead of {expected}");
        }
    }

    #[test]
    fn a_larger_square_repeats_pixels() {
        let found = scaled(&[1.0, 2.0], [2, 1, 1, 1], 2);
        assert_eq!(found, [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0]);
    }
}
