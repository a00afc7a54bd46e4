//! The end of a residual block: `pool(leaky(a + b))`, two maps in, one of a quarter of the size out.
//!
//! Out of stock operations it takes five passes over the large map; here it is one, and it keeps one byte for each
//! output.

use rayon::prelude::*;

use crate::shape::ShapeError;

/// Sizes of a join; the pool is 2×2 with stride 2 and drops an odd last row or column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JoinShape {
    /// Number of images in the batch.
    pub images: usize,
    /// Height of the two maps.
    pub height: usize,
    /// Width of the two maps.
    pub width: usize,
    /// Channels of all three.
    pub channels: usize,
    /// Factor of values that are not positive, at least 0.
    pub slope: f32,
}

/// Bits of a code: which pixel of the window won, and whether it is on the negative side.
const WINNER: u8 = 0b011;
const NEGATIVE: u8 = 0b100;

impl JoinShape {
    /// Checks every size.
    ///
    /// # Errors
    /// A [`ShapeError`] that names what is wrong.
    pub fn validate(&self) -> Result<(), ShapeError> {
        let Self {
            images,
            height,
            width,
            channels,
            slope,
        } = *self;
        for (field, value) in [("images", images), ("channels", channels)] {
            if value == 0 {
                return Err(ShapeError::Zero { field });
            }
        }
        if height < 2 || width < 2 {
            return Err(ShapeError::TooSmall {
                height,
                width,
                padding: 0,
                kernel: 1,
                pool: true,
            });
        }
        if !slope.is_finite() || slope < 0.0 {
            return Err(ShapeError::Slope);
        }
        let len = [height, width, channels, size_of::<f32>()]
            .into_iter()
            .try_fold(images, usize::checked_mul);
        match len {
            Some(bytes) if bytes <= isize::MAX as usize => Ok(()),
            _ => Err(ShapeError::Overflow { buffer: "input" }),
        }
    }

    /// Elements of each of the two maps, `[images, height, width, channels]`.
    pub fn input_len(&self) -> usize {
        self.images * self.image_len()
    }

    /// Elements of the output, `[images, height / 2, width / 2, channels]`.
    pub fn output_len(&self) -> usize {
        self.images * self.out_image_len()
    }

    fn image_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    fn out_image_len(&self) -> usize {
        (self.height / 2) * (self.width / 2) * self.channels
    }

    /// Floats from a window's first pixel to each of its four.
    fn offsets(&self) -> [usize; 4] {
        let row = self.width * self.channels;
        [0, self.channels, row, row + self.channels]
    }

    /// First float of the window of output pixel `index` of an image.
    fn window(&self, index: usize) -> usize {
        let columns = self.width / 2;
        (index / columns * 2 * self.width + index % columns * 2) * self.channels
    }
}

/// `pool(leaky(a + b))`, and a code per output that [`join_backward`] needs. The winner of a window is the first NaN, else
/// the first of the largest.
///
/// # Panics
/// Where `shape` is not valid or a slice is not as long as it says.
pub fn join_forward(shape: &JoinShape, a: &[f32], b: &[f32]) -> (Vec<f32>, Vec<u8>) {
    check(
        shape,
        &[(a.len(), shape.input_len()), (b.len(), shape.input_len())],
    );
    let (image_len, out_len) = (shape.image_len(), shape.out_image_len());
    let mut out = vec![0.0; shape.output_len()];
    let mut codes = vec![0; shape.output_len()];
    (
        out.par_chunks_exact_mut(out_len),
        codes.par_chunks_exact_mut(out_len),
        a.par_chunks_exact(image_len),
        b.par_chunks_exact(image_len),
    )
        .into_par_iter()
        .for_each(|(out, codes, a, b)| {
            let channels = shape.channels;
            let pixels = out
                .chunks_exact_mut(channels)
                .zip(codes.chunks_exact_mut(channels));
            for (index, (out, codes)) in pixels.enumerate() {
                let first = shape.window(index);
                let maps = shape.offsets().map(|offset| {
                    let at = first + offset..first + offset + channels;
                    (&a[at.clone()], &b[at])
                });
                join_pixel(maps, shape.slope, out, codes);
            }
        });
    (out, codes)
}

/// One window, all channels. Branch-free, so that it is vectorised.
fn join_pixel(maps: [(&[f32], &[f32]); 4], slope: f32, out: &mut [f32], codes: &mut [u8]) {
    for (c, (out, code)) in out.iter_mut().zip(codes).enumerate() {
        let mut best = maps[0].0[c] + maps[0].1[c];
        let mut winner = 0u8;
        for (k, (a, b)) in maps.iter().enumerate().skip(1) {
            let z = a[c] + b[c];
            // `z > best`, or the first NaN.
            #[allow(clippy::neg_cmp_op_on_partial_ord)]
            let better = !(z <= best) & !best.is_nan();
            best = if better { z } else { best };
            winner = if better { k as u8 } else { winner };
        }
        let negative = best <= 0.0;
        *out = if negative { slope * best } else { best };
        *code = winner | if negative { NEGATIVE } else { 0 };
    }
}

/// The gradient of `sum(out * dout)` with respect to `a`, which is also the one with respect to `b`.
///
/// # Panics
/// As [`join_forward`].
pub fn join_backward(shape: &JoinShape, codes: &[u8], dout: &[f32]) -> Vec<f32> {
    check(
        shape,
        &[
            (codes.len(), shape.output_len()),
            (dout.len(), shape.output_len()),
        ],
    );
    let (image_len, out_len) = (shape.image_len(), shape.out_image_len());
    let mut gradient = vec![0.0; shape.input_len()];
    (
        gradient.par_chunks_exact_mut(image_len),
        codes.par_chunks_exact(out_len),
        dout.par_chunks_exact(out_len),
    )
        .into_par_iter()
        .for_each(|(gradient, codes, dout)| {
            let channels = shape.channels;
            let pixels = codes.chunks_exact(channels).zip(dout.chunks_exact(channels));
            for (index, (codes, dout)) in pixels.enumerate() {
                let first = shape.window(index);
                for (k, offset) in shape.offsets().into_iter().enumerate() {
                    let to = &mut gradient[first + offset..][..channels];
                    for ((to, code), dout) in to.iter_mut().zip(codes).zip(dout) {
                        let slope = if code & NEGATIVE == 0 { 1.0 } else { shape.slope };
                        *to = if code & WINNER == k as u8 {
                            slope * dout
                        } else {
                            0.0
                        };
                    }
                }
            }
        });
    gradient
}

fn check(shape: &JoinShape, lengths: &[(usize, usize)]) {
    if let Err(error) = shape.validate() {
        panic!("{error}");
    }
    for (found, expected) in lengths {
        assert_eq!(found, expected, "a slice is not as long as the join's shape says");
    }
}
