//! How a batch is cut into chunks of images, and the small pieces of memory that go with it.
//!
//! The cut is a function of the shape alone: a sum over chunks, taken in their order, has the same bits
//! however many threads there are.

use std::mem::MaybeUninit;

use crate::buffer::Buffer;
use crate::kernels::direct::Conv;
use crate::kernels::ending::Ending;
use crate::kernels::epilogue::{Pixels, Pool, Spread};
use crate::shape::{BlockShape, padded_channels};

/// Consecutive images of one group that one thread works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub group: usize,
    pub start: usize,
    pub end: usize,
}

impl Chunk {
    pub fn images(&self) -> usize {
        self.end - self.start
    }
}

/// Most chunks that a batch is cut into (where the groups don't ask for more).
const MOST_CHUNKS: usize = 16;

/// Work below which a further chunk isn't worth its own partial sums, in floating-point operations.
const CHUNK_FLOPS: f64 = 40e6;

/// The same for each number of a large weight: a chunk's partial sum of its gradient is as long as the weight.
const CHUNK_FLOPS_PER_WEIGHT: f64 = 3000.0;

/// Cuts the batch; into an even number of chunks where there are two images, so that two cores have as much work.
pub fn chunks(shape: &BlockShape) -> Vec<Chunk> {
    let worth_it = CHUNK_FLOPS.max(CHUNK_FLOPS_PER_WEIGHT * shape.weight_len() as f64);
    let wanted = ((shape.flops() / worth_it) as usize / 2 * 2).clamp(2, MOST_CHUNKS);
    let images = shape.images_per_group();
    let per_group = wanted.div_ceil(shape.groups).min(images);
    let mut chunks = Vec::with_capacity(shape.groups * per_group);
    for group in 0..shape.groups {
        for part in 0..per_group {
            let cut = |part: usize| group * images + part * images / per_group;
            chunks.push(Chunk {
                group,
                start: cut(part),
                end: cut(part + 1),
            });
        }
    }
    chunks
}

/// Cuts `whole`, `per_image` elements for each image, along the chunks.
pub fn split<'a, T>(chunks: &[Chunk], per_image: usize, mut whole: &'a mut [T]) -> Vec<&'a mut [T]> {
    chunks
        .iter()
        .map(|chunk| {
            let (part, rest) = std::mem::take(&mut whole).split_at_mut(chunk.images() * per_image);
            whole = rest;
            part
        })
        .collect()
}

/// Sizes inside the crate: channels rounded up to whole vectors, images with their border.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Output channels, rounded up.
    pub c_out: usize,
    /// Input channels, rounded up (where an input gradient is formed).
    pub c_in: usize,
    /// Size of the convolution's output.
    pub conv: (usize, usize),
    /// Size of the output.
    pub out: (usize, usize),
    /// Size of an input image with its border.
    pub bordered: (usize, usize),
    /// Border around `dy` where its convolution gives the input gradient.
    pub dy_border: usize,
}

impl Layout {
    pub fn of(shape: &BlockShape) -> Self {
        let conv = (shape.conv_height(), shape.conv_width());
        let dy_border = shape.kernel - 1 - shape.padding;
        Self {
            c_out: padded_channels(shape.c_out),
            c_in: padded_channels(shape.c_in),
            conv,
            out: (shape.out_height(), shape.out_width()),
            bordered: (shape.height + 2 * shape.padding, shape.width + 2 * shape.padding),
            dy_border,
        }
    }

    /// Elements of the convolution's output for one image.
    pub fn conv_len(&self) -> usize {
        self.conv.0 * self.conv.1 * self.c_out
    }

    /// Elements of the output for one image, inside the crate.
    pub fn out_len(&self) -> usize {
        self.out.0 * self.out.1 * self.c_out
    }

    /// The convolution of `rows` rows into a dense map.
    pub fn convolution(&self, shape: &BlockShape, rows: usize) -> Conv {
        Conv {
            rows,
            columns: self.conv.1,
            kernel: shape.kernel,
            channels: shape.c_in,
            x_strides: (self.bordered.1 * shape.c_in, shape.c_in),
            out_channels: self.c_out,
            y_strides: (self.conv.1 * self.c_out, self.c_out),
        }
    }

    /// The convolution of a whole image, as far as the output sees it, and what follows it, into rows `row` floats apart.
    pub fn convolution_and_ending(&self, shape: &BlockShape, row: usize) -> (Conv, Ending) {
        let side = if shape.pool { 2 } else { 1 };
        let conv = Conv {
            columns: side * self.out.1,
            ..self.convolution(shape, side * self.out.0)
        };
        let ending = Ending {
            pool: shape.pool,
            slope: shape.activation.negative_slope(),
            channels: shape.c_out,
            row,
        };
        (conv, ending)
    }

    /// The pool of `rows` rows of windows of a dense map.
    pub fn pool(&self, rows: usize) -> Pool {
        Pool {
            rows,
            columns: self.out.1,
            channels: self.c_out,
            y_row: self.conv.1 * self.c_out,
        }
    }

    /// How a gradient at the output is spread over the convolution's output.
    pub fn spread(
        &self,
        shape: &BlockShape,
        dy_row: usize,
        factors: (*const f32, Option<(*const f32, *const f32)>),
    ) -> Spread {
        Spread {
            rows: self.conv.0,
            columns: self.conv.1,
            pool: shape.pool,
            dy_row,
            add: false,
            factors,
        }
    }

    /// `rows` rows of the output.
    pub fn pixels(&self, shape: &BlockShape, rows: usize) -> Pixels {
        Pixels {
            rows,
            columns: self.out.1,
            channels: self.c_out,
            out_channels: shape.c_out,
            slope: shape.activation.negative_slope(),
        }
    }
}

/// Rows of `from` channels, each at the start of a row of `to >= from` channels, the rest zeros.
pub fn widen(values: &[f32], from: usize, to: usize) -> Buffer {
    let mut wide = Buffer::zeroed(values.len() / from * to);
    for (wide, values) in wide.chunks_exact_mut(to).zip(values.chunks_exact(from)) {
        wide[..from].copy_from_slice(values);
    }
    wide
}

/// A scratch image with a border of zeros that stays zero from image to image. The middle is unspecified until it is written.
pub struct Bordered {
    buffer: Buffer,
    border: usize,
    width: usize,
    channels: usize,
}

impl Bordered {
    /// For images of `size` with `border` rows and columns around and `channels` channels.
    pub fn new(size: (usize, usize), border: usize, channels: usize) -> Self {
        let (height, width) = (size.0 + 2 * border, size.1 + 2 * border);
        let mut bordered = Self {
            buffer: Buffer::take(height * width * channels),
            border,
            width,
            channels,
        };
        if cfg!(debug_assertions) {
            // What reads the middle before it is written is found by the tests.
            bordered.buffer.fill(f32::NAN);
        }
        let (row, inner) = (bordered.row(), size.1 * channels);
        let buffer = &mut bordered.buffer;
        buffer[..border * row].fill(0.0);
        for row in buffer[border * row..].chunks_exact_mut(row).take(size.0) {
            row[..border * channels].fill(0.0);
            row[border * channels + inner..].fill(0.0);
        }
        buffer[(height - border) * row..].fill(0.0);
        bordered
    }

    /// Makes the border `-shift` per channel, as subtracting `shift` from everything would.
    pub fn shift_zeros(&mut self, shift: &[f32]) {
        for pixel in self.buffer.chunks_exact_mut(self.channels) {
            pixel.iter_mut().zip(shift).for_each(|(to, shift)| *to = -shift);
        }
    }

    /// Copies a dense image into the middle.
    pub fn fill(&mut self, image: &[f32]) -> &[f32] {
        let row = self.width * self.channels;
        let inner = (self.width - 2 * self.border) * self.channels;
        let first = self.border * row + self.border * self.channels;
        for (to, from) in self.buffer[first..]
            .chunks_mut(row)
            .zip(image.chunks_exact(inner))
        {
            to[..inner].copy_from_slice(from);
        }
        &self.buffer
    }

    /// Everything, border included.
    pub fn all(&self) -> &[f32] {
        &self.buffer
    }

    /// Everything, border included. What is written to the border stays there.
    pub fn all_mut(&mut self) -> &mut [f32] {
        &mut self.buffer
    }

    /// Copies the middle into a dense image, all of it.
    pub fn copy_to(&self, image: &mut [MaybeUninit<f32>]) {
        let inner = (self.width - 2 * self.border) * self.channels;
        for (to, from) in image
            .chunks_exact_mut(inner)
            .zip(self.inside().chunks(self.row()))
        {
            to.write_copy_of_slice(&from[..inner]);
        }
    }

    /// From the first pixel inside the border; rows are [`Self::row`] apart.
    pub fn inside(&self) -> &[f32] {
        &self.buffer[self.first()..]
    }

    /// As [`Self::inside`].
    pub fn inside_mut(&mut self) -> &mut [f32] {
        let first = self.first();
        &mut self.buffer[first..]
    }

    /// Floats from one row to the next.
    pub fn row(&self) -> usize {
        self.width * self.channels
    }

    fn first(&self) -> usize {
        (self.border * self.width + self.border) * self.channels
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Activation;

    fn shape(images: usize, groups: usize, side: usize) -> BlockShape {
        BlockShape {
            images,
            height: side,
            width: side,
            c_in: 64,
            c_out: 64,
            kernel: 3,
            padding: 1,
            pool: true,
            norm: true,
            groups,
            activation: Activation::Relu,
        }
    }

    #[test]
    fn chunks_cover_the_batch_and_stay_within_groups() {
        for (images, groups) in [(600, 1), (30, 1), (1, 1), (7, 7), (60, 3), (640, 32), (2, 1)] {
            let shape = shape(images, groups, 14);
            let chunks = chunks(&shape);
            assert_eq!((chunks[0].start, chunks.last().map(|c| c.end)), (0, Some(images)));
            assert!(chunks.windows(2).all(|pair| pair[0].end == pair[1].start));
            for chunk in &chunks {
                assert!(chunk.start < chunk.end);
                assert_eq!(chunk.start / shape.images_per_group(), chunk.group);
                assert_eq!((chunk.end - 1) / shape.images_per_group(), chunk.group);
            }
            assert!(chunks.len() >= images.min(2));
        }
    }

    #[test]
    fn a_border_stays_zero() {
        // Memory of the same size that isn't zero.
        Buffer::take(4 * 3 * 2).fill(9.0);
        let mut bordered = Bordered::new((2, 1), 1, 2);
        bordered.fill(&[1.0, 2.0, 3.0, 4.0]);
        let mut expected = vec![0.0; 4 * 3 * 2];
        expected[8..10].copy_from_slice(&[1.0, 2.0]);
        expected[14..16].copy_from_slice(&[3.0, 4.0]);
        assert_eq!(bordered.all(), expected);
        assert_eq!((bordered.inside()[0], bordered.row()), (1.0, 6));
    }
}
