//! The size of an image.

use serde::{Deserialize, Serialize};

/// Height, width (pixels) and channels (1 grey, 3 colour) of an image; pixels lie `[height, width, channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageShape {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Values per pixel.
    pub channels: usize,
}

impl ImageShape {
    /// A square image.
    pub const fn square(side: usize, channels: usize) -> Self {
        Self {
            height: side,
            width: side,
            channels,
        }
    }

    /// Values in one image.
    pub const fn len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Whether an image of this shape holds no value at all.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl std::fmt::Display for ImageShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}x{}", self.height, self.width, self.channels)
    }
}
