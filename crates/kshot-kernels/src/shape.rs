//! What a convolution block is: its sizes, what follows the convolution, and the checks on both.

use thiserror::Error;

/// The function after the norm, applied to each element.
///
/// NaN passes through every one of them, and its derivative there is 1: only a value that compares
/// less than or equal to zero is on the negative side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `z`
    Identity,
    /// `z` if not `z <= 0`, else 0; derivative 0 at 0.
    Relu,
    /// `z` if not `z <= 0`, else `slope * z`; derivative `slope` at 0.
    LeakyRelu(f32),
}

impl Activation {
    /// Factor on the negative side: 1 for the identity, 0 for ReLU, the slope for leaky ReLU.
    pub fn negative_slope(self) -> f32 {
        match self {
            Activation::Identity => 1.0,
            Activation::Relu => 0.0,
            Activation::LeakyRelu(slope) => slope,
        }
    }
}

/// Sizes and parts of one convolution block:
/// convolution → batch norm (optional) → activation → 2×2 max-pool (optional).
///
/// Layouts, all row-major `f32`:
///
/// | what | shape |
/// |---|---|
/// | input | `[images, height, width, c_in]` |
/// | weight | `[kernel, kernel, c_in, c_out]` |
/// | gamma, beta, scale, shift | `[c_out]` |
/// | mean, variance | `[groups, c_out]` |
/// | output | `[images, out_height, out_width, c_out]` |
///
/// The convolution's stride is 1, the pool's stride is 2 and it drops an odd last row or column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockShape {
    /// Number of images in the batch.
    pub images: usize,
    /// Height of an input image in pixels.
    pub height: usize,
    /// Width of an input image in pixels.
    pub width: usize,
    /// Input channels.
    pub c_in: usize,
    /// Output channels.
    pub c_out: usize,
    /// Side of the convolution's window: 1 or 3.
    pub kernel: usize,
    /// Rows and columns of zeros around the image: 0 or 1, and less than `kernel`.
    pub padding: usize,
    /// Whether a 2×2 max-pool of stride 2 follows the activation.
    pub pool: bool,
    /// Whether batch norm follows the convolution; otherwise `beta` is the convolution's bias.
    pub norm: bool,
    /// Batch statistics are taken over `images / groups` consecutive images; 1 is the whole batch.
    pub groups: usize,
    /// What follows the norm.
    pub activation: Activation,
}

/// Why a [`BlockShape`] is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// A size is zero.
    #[error("convolution block: `{field}` is 0; it must be at least 1")]
    Zero {
        /// The field of [`BlockShape`].
        field: &'static str,
    },
    /// A window other than 1×1 and 3×3.
    #[error("convolution block: `kernel` is {kernel}; 1 and 3 are supported")]
    Kernel {
        /// What was asked for.
        kernel: usize,
    },
    /// More padding than the window sees.
    #[error(
        "convolution block: `padding` is {padding} with `kernel` {kernel}; it must be 0, or 1 with `kernel` 3"
    )]
    Padding {
        /// What was asked for.
        padding: usize,
        /// The window's side.
        kernel: usize,
    },
    /// The window (or the pool after it) does not fit into the image.
    #[error(
        "convolution block: an image of {height}×{width} with `padding` {padding} is too small for `kernel` {kernel}{}",
        if *.pool { " and a 2×2 pool after it" } else { "" }
    )]
    TooSmall {
        /// Image height.
        height: usize,
        /// Image width.
        width: usize,
        /// Padding.
        padding: usize,
        /// Window side.
        kernel: usize,
        /// Whether a pool follows.
        pool: bool,
    },
    /// The batch does not divide into the groups.
    #[error("convolution block: {images} images do not divide into {groups} groups of equal size")]
    Groups {
        /// Number of images.
        images: usize,
        /// Number of groups.
        groups: usize,
    },
    /// A buffer would have more elements than the machine can address.
    #[error("convolution block: the {buffer} of this shape is too large to address")]
    Overflow {
        /// Which buffer.
        buffer: &'static str,
    },
    /// A slope that is not a finite number (or, in a join, negative).
    #[error("convolution block: the leaky ReLU's slope is not a finite number that the block can take")]
    Slope,
}

/// Channels are stored inside the crate in multiples of this many.
pub(crate) const CHANNEL_STEP: usize = 16;

/// `channels` rounded up to the internal stride.
pub(crate) fn padded_channels(channels: usize) -> usize {
    channels.next_multiple_of(CHANNEL_STEP)
}

impl BlockShape {
    /// Checks every size, so that no later call can overflow or read outside a buffer.
    ///
    /// # Errors
    ///
    /// A [`ShapeError`] that names the first field at fault.
    pub fn validate(&self) -> Result<(), ShapeError> {
        for (field, value) in [
            ("images", self.images),
            ("height", self.height),
            ("width", self.width),
            ("c_in", self.c_in),
            ("c_out", self.c_out),
            ("groups", self.groups),
        ] {
            if value == 0 {
                return Err(ShapeError::Zero { field });
            }
        }
        let Self {
            images,
            height,
            width,
            kernel,
            padding,
            pool,
            groups,
            ..
        } = *self;
        if kernel != 1 && kernel != 3 {
            return Err(ShapeError::Kernel { kernel });
        }
        if padding > 1 || padding >= kernel {
            return Err(ShapeError::Padding { padding, kernel });
        }
        if !images.is_multiple_of(groups) {
            return Err(ShapeError::Groups { images, groups });
        }
        if let Activation::LeakyRelu(slope) = self.activation
            && !slope.is_finite()
        {
            return Err(ShapeError::Slope);
        }
        let side = kernel - 1 + if pool { 2 } else { 1 };
        if height.saturating_add(2 * padding) < side || width.saturating_add(2 * padding) < side {
            return Err(ShapeError::TooSmall {
                height,
                width,
                padding,
                kernel,
                pool,
            });
        }
        // Every buffer is bounded by one of these products (taken with room for padding to tiles and lanes).
        let room = |n: usize| n.checked_add(64);
        let bounded = |factors: [Option<usize>; 4]| {
            let mut product = size_of::<f64>();
            for factor in factors {
                product = product.checked_mul(factor?)?;
            }
            (product <= isize::MAX as usize).then_some(())
        };
        let (h, w, c_in, c_out) = (room(height), room(width), room(self.c_in), room(self.c_out));
        bounded([Some(images), h, w, c_in]).ok_or(ShapeError::Overflow { buffer: "input" })?;
        bounded([Some(images), h, w, c_out]).ok_or(ShapeError::Overflow { buffer: "output" })?;
        bounded([Some(64), c_in, c_out, Some(1)]).ok_or(ShapeError::Overflow { buffer: "weight" })?;
        Ok(())
    }

    /// Height of the convolution's output, before the pool.
    pub fn conv_height(&self) -> usize {
        self.height + 2 * self.padding + 1 - self.kernel
    }

    /// Width of the convolution's output, before the pool.
    pub fn conv_width(&self) -> usize {
        self.width + 2 * self.padding + 1 - self.kernel
    }

    /// Height of the block's output.
    pub fn out_height(&self) -> usize {
        if self.pool {
            self.conv_height() / 2
        } else {
            self.conv_height()
        }
    }

    /// Width of the block's output.
    pub fn out_width(&self) -> usize {
        if self.pool {
            self.conv_width() / 2
        } else {
            self.conv_width()
        }
    }

    /// Elements of the input.
    pub fn input_len(&self) -> usize {
        self.images * self.image_len()
    }

    /// Elements of the weight.
    pub fn weight_len(&self) -> usize {
        self.kernel * self.kernel * self.c_in * self.c_out
    }

    /// Elements of the output.
    pub fn output_len(&self) -> usize {
        self.images * self.out_image_len()
    }

    /// Elements of the statistics: `groups * c_out`.
    pub fn statistics_len(&self) -> usize {
        self.groups * self.c_out
    }

    /// Floating-point operations of the convolution's forward pass, as a direct convolution counts
    /// them (a multiplication and an addition per tap, zeros of the padding included). The weight
    /// gradient and the input gradient have as many each.
    pub fn flops(&self) -> f64 {
        let taps = (self.kernel * self.kernel * self.c_in) as f64;
        2.0 * taps * self.c_out as f64 * (self.conv_height() * self.conv_width()) as f64 * self.images as f64
    }

    /// Panics unless the shape is valid and each `(name, length found, length expected)` agrees.
    pub(crate) fn check(&self, lengths: &[(&str, usize, usize)]) {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        for (name, found, expected) in lengths {
            assert_eq!(
                found, expected,
                "convolution block: elements of `{name}` (found, expected)"
            );
        }
    }

    /// Elements of one input image.
    pub(crate) fn image_len(&self) -> usize {
        self.height * self.width * self.c_in
    }

    /// Elements of one output image.
    pub(crate) fn out_image_len(&self) -> usize {
        self.out_height() * self.out_width() * self.c_out
    }

    /// Images whose statistics are taken together.
    pub(crate) fn images_per_group(&self) -> usize {
        self.images / self.groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: BlockShape = BlockShape {
        images: 6,
        height: 5,
        width: 7,
        c_in: 3,
        c_out: 4,
        kernel: 3,
        padding: 1,
        pool: true,
        norm: true,
        groups: 2,
        activation: Activation::Relu,
    };

    #[test]
    fn sizes_follow_from_the_parts() {
        assert_eq!(GOOD.validate(), Ok(()));
        assert_eq!((GOOD.conv_height(), GOOD.conv_width()), (5, 7));
        assert_eq!((GOOD.out_height(), GOOD.out_width()), (2, 3));
        assert_eq!(
            (GOOD.input_len(), GOOD.weight_len(), GOOD.output_len()),
            (630, 108, 144)
        );
        assert_eq!(GOOD.flops(), (2 * 27 * 4 * 35 * 6) as f64);
        let bare = BlockShape {
            padding: 0,
            pool: false,
            ..GOOD
        };
        assert_eq!((bare.out_height(), bare.out_width()), (3, 5));
    }

    #[test]
    fn every_bad_field_is_refused_by_its_own_error() {
        let refused = |shape: BlockShape| shape.validate().unwrap_err();
        for (shape, field) in [
            (BlockShape { images: 0, ..GOOD }, "images"),
            (BlockShape { height: 0, ..GOOD }, "height"),
            (BlockShape { width: 0, ..GOOD }, "width"),
            (BlockShape { c_in: 0, ..GOOD }, "c_in"),
            (BlockShape { c_out: 0, ..GOOD }, "c_out"),
            (BlockShape { groups: 0, ..GOOD }, "groups"),
        ] {
            assert_eq!(refused(shape), ShapeError::Zero { field });
        }
        assert_eq!(
            refused(BlockShape { kernel: 5, ..GOOD }),
            ShapeError::Kernel { kernel: 5 }
        );
        let padding = BlockShape {
            kernel: 1,
            padding: 1,
            ..GOOD
        };
        assert_eq!(
            refused(padding),
            ShapeError::Padding {
                padding: 1,
                kernel: 1
            }
        );
        assert_eq!(
            refused(BlockShape { groups: 4, ..GOOD }),
            ShapeError::Groups { images: 6, groups: 4 }
        );
        let slope = BlockShape {
            activation: Activation::LeakyRelu(f32::NAN),
            ..GOOD
        };
        assert_eq!(refused(slope), ShapeError::Slope);
        let small = BlockShape {
            height: 3,
            padding: 0,
            ..GOOD
        };
        assert!(matches!(refused(small), ShapeError::TooSmall { height: 3, .. }));
        let small = BlockShape {
            height: 2,
            padding: 0,
            pool: false,
            ..GOOD
        };
        assert!(matches!(refused(small), ShapeError::TooSmall { height: 2, .. }));
        let large = BlockShape {
            images: usize::MAX / 4 * 2,
            ..GOOD
        };
        assert_eq!(refused(large), ShapeError::Overflow { buffer: "input" });
        let large = BlockShape {
            c_in: usize::MAX / 64,
            c_out: usize::MAX / 64,
            ..GOOD
        };
        assert!(matches!(refused(large), ShapeError::Overflow { .. }));
        let large = BlockShape {
            width: usize::MAX,
            padding: 1,
            ..GOOD
        };
        assert!(matches!(refused(large), ShapeError::Overflow { .. }));
    }
}
