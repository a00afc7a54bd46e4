//! The two ways to convolve, behind one face: a worker takes a few images at a time.

use std::cell::Cell;
use std::mem::MaybeUninit;

use crate::buffer::Buffer;
use crate::dispatch::Kernels;
use crate::kernels::winograd::{Tiles, Tiling};
use crate::plan::{Bordered, Layout};
use crate::shape::{BlockShape, CHANNEL_STEP};
use crate::weight::Weight;

/// How a convolution is computed. It follows from the shape alone, so that bits do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Tap by tap, one image at a time.
    Direct,
    /// Winograd's, with tiles of so many images at a time.
    Winograd {
        /// How large the tiles are.
        tiles: Tiles,
        /// Images per block.
        block: usize,
    },
}

/// Most floats that a transformed weight may have: beyond, the partial sums of its gradient cost too much.
const MOST_TRANSFORMED: usize = 36 * 512 * 512;

/// Products per pair of channels that a block of images should come to. Fewer, and the transformed weight is read
/// too often; many more, and the transformed images leave the cache. Speed hardly depends on it in between.
const WANTED_PRODUCTS: usize = 960;

/// The same for tiles of 6×6, whose transformed weight is larger.
const WANTED_PRODUCTS_OF_SIX: usize = 1600;

/// The two ways to convolve, for [`with_algorithm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Tap by tap.
    Direct,
    /// F(4×4, 3×3), for 3×3 windows and channel counts that are multiples of 16.
    Winograd,
}

thread_local! {
    static FORCED: Cell<Option<Algorithm>> = const { Cell::new(None) };
}

/// Runs `body` with convolutions computed in the given way where they can be, instead of the one that is chosen by
/// the shape: for tests and measurements. It holds for calls that `body` makes on the calling thread.
pub fn with_algorithm<R>(algorithm: Algorithm, body: impl FnOnce() -> R) -> R {
    struct Restore(Option<Algorithm>);
    impl Drop for Restore {
        fn drop(&mut self) {
            FORCED.set(self.0);
        }
    }
    let _restore = Restore(FORCED.replace(Some(algorithm)));
    body()
}

impl Engine {
    /// The faster of the two for this shape, whose groups share one weight or have their own.
    pub fn of(shape: &BlockShape, per_group: bool) -> Self {
        let images = if per_group {
            shape.images_per_group()
        } else {
            shape.images
        };
        let size = (shape.conv_height(), shape.conv_width());
        // Transforming the weight pays for itself from so many products on.
        Self::choose(shape, size, &[Tiles::Four], |products| {
            products * images >= 8 * 36
        })
    }

    /// The fastest for this shape, for inference with any number of images and a weight that is transformed already.
    pub fn prepared(shape: &BlockShape) -> Self {
        let mut size = (shape.conv_height(), shape.conv_width());
        if shape.pool {
            size = (size.0 / 2 * 2, size.1 / 2 * 2);
        }
        let even = size.0.is_multiple_of(2) && size.1.is_multiple_of(2);
        let tiles: &[Tiles] = if even {
            &[Tiles::Four, Tiles::Six]
        } else {
            &[Tiles::Four]
        };
        Self::choose(shape, size, tiles, |_| true)
    }

    /// The tiles with the fewest products, unless tap by tap is better.
    fn choose(
        shape: &BlockShape,
        size: (usize, usize),
        tiles: &[Tiles],
        pays: impl Fn(usize) -> bool,
    ) -> Self {
        let channels = (shape.c_in, shape.c_out);
        let whole = shape.c_in.is_multiple_of(CHANNEL_STEP) && shape.c_out.is_multiple_of(CHANNEL_STEP);
        if shape.kernel != 3 || !whole {
            return Self::Direct;
        }
        let small = |tiles: &Tiles| Tiling::u_len(*tiles, channels) <= MOST_TRANSFORMED;
        let choices = tiles.iter().filter(|tiles| small(tiles));
        let choices = choices.map(|tiles| (Tiling::products(*tiles, size), *tiles));
        // The first of equals.
        let Some((products, tiles)) = choices.min_by_key(|(products, _)| *products) else {
            return Self::Direct;
        };
        let worth_it = match FORCED.get() {
            Some(algorithm) => algorithm == Algorithm::Winograd,
            None => 2 * products <= 9 * size.0 * size.1 && pays(products),
        };
        if !worth_it {
            return Self::Direct;
        }
        let wanted = match tiles {
            Tiles::Four => WANTED_PRODUCTS,
            Tiles::Six => WANTED_PRODUCTS_OF_SIX,
        };
        Self::Winograd {
            tiles,
            block: (wanted / products).clamp(1, 64),
        }
    }
}

/// One thread's means to convolve images.
pub struct Convolver<'a> {
    shape: &'a BlockShape,
    layout: &'a Layout,
    kernels: &'a Kernels,
    weight: &'a Weight,
    x: Bordered,
    winograd: Option<(Tiling, Buffer, Buffer)>,
    block: usize,
}

impl<'a> Convolver<'a> {
    pub fn new(
        shape: &'a BlockShape,
        layout: &'a Layout,
        kernels: &'a Kernels,
        engine: Engine,
        weight: &'a Weight,
    ) -> Self {
        let (block, winograd) = match engine {
            Engine::Direct => (1, None),
            Engine::Winograd { tiles, block } => {
                let tiling = Tiling::new(tiles, layout.conv, block, (shape.c_in, shape.c_out));
                let (v, m) = (Buffer::take(tiling.v_len()), Buffer::take(tiling.m_len()));
                (block, Some((tiling, v, m)))
            }
        };
        let x = Bordered::new((shape.height, shape.width), shape.padding, shape.c_in);
        Self {
            shape,
            layout,
            kernels,
            weight,
            x,
            winograd,
            block,
        }
    }

    /// Most images that [`Self::run`] takes at a time.
    pub fn block(&self) -> usize {
        self.block
    }

    /// Convolves up to [`Self::block`] dense images into dense maps.
    pub fn run(&mut self, images: &[f32], ys: &mut [f32]) {
        let (shape, layout, kernels) = (self.shape, self.layout, self.kernels);
        let (x_row, y_row) = (self.x.row(), layout.conv.1 * layout.c_out);
        let w = self.weight.as_ptr();
        let images = images.chunks_exact(shape.image_len());
        let count = images.len();
        assert!(count <= self.block && ys.len() == count * layout.conv_len());
        let Some((tiling, v, m)) = &mut self.winograd else {
            let conv = layout.convolution(shape, layout.conv.0);
            for (image, y) in images.zip(ys.chunks_exact_mut(layout.conv_len())) {
                let x = self.x.fill(image);
                // SAFETY: `x` has the border, `y` a whole map, `w` all taps; see `Layout`.
                unsafe { (kernels.convolve)(&conv, x.as_ptr(), w, y.as_mut_ptr()) };
            }
            return;
        };
        for (k, image) in images.enumerate() {
            let x = self.x.fill(image);
            // SAFETY: `x` has the border, and `v` room for `block` images.
            unsafe { (kernels.transform_input)(tiling, k, (x.as_ptr(), x_row), v.as_mut_ptr()) };
        }
        // SAFETY: `v`, `w` and `m` have the tiling's sizes.
        unsafe { (kernels.multiply)(tiling, count, v.as_ptr(), w, m.as_mut_ptr()) };
        for (k, y) in ys.chunks_exact_mut(layout.conv_len()).enumerate() {
            // SAFETY: `y` is a whole map.
            unsafe { (kernels.transform_output)(tiling, k, m.as_ptr(), (y.as_mut_ptr(), y_row)) };
        }
    }

    /// Convolves only the output rows from `first` on, `rows` of them, of an image that was given to
    /// [`Self::place`]; direct convolution only.
    pub fn run_rows(&self, first: usize, rows: usize, y: &mut [f32]) {
        let Weight::Direct(w) = self.weight else {
            unreachable!("strips of rows are for the direct convolution");
        };
        assert!(
            first + rows <= self.layout.conv.0 && y.len() >= rows * self.layout.conv.1 * self.layout.c_out
        );
        let x = &self.x.all()[first * self.x.row()..];
        let conv = self.layout.convolution(self.shape, rows);
        // SAFETY: `x` starts at the first row and holds the window's rows below the last one.
        unsafe { (self.kernels.convolve)(&conv, x.as_ptr(), w.as_ptr(), y.as_mut_ptr()) };
    }

    /// Puts an image in place for [`Self::run_rows`].
    pub fn place(&mut self, image: &[f32]) {
        self.x.fill(image);
    }

    /// The whole block on one image, with a code per output element; direct convolution only.
    pub fn run_to_the_end(
        &mut self,
        image: &[f32],
        shift: &[f32],
        codes: &mut [u8],
        out: &mut [MaybeUninit<f32>],
    ) {
        let (shape, layout) = (self.shape, self.layout);
        assert!(self.winograd.is_none() && shift.len() == layout.c_out);
        assert!(codes.len() == layout.out_len() && out.len() == shape.out_image_len());
        let (conv, ending) = layout.convolution_and_ending(shape, layout.out.1 * shape.c_out);
        let from = (self.x.fill(image).as_ptr(), self.weight.as_ptr(), shift.as_ptr());
        let (codes, out) = (codes.as_mut_ptr(), out.as_mut_ptr().cast());
        // SAFETY: `x` has the border and `w` all taps; the others have just been checked.
        unsafe { (self.kernels.convolve_and_end)((&conv, &ending), from, codes, out) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Activation;

    const SHAPE: BlockShape = BlockShape {
        images: 30,
        height: 14,
        width: 14,
        c_in: 16,
        c_out: 16,
        kernel: 3,
        padding: 1,
        pool: false,
        norm: false,
        groups: 1,
        activation: Activation::Identity,
    };

    #[test]
    fn winograd_is_chosen_where_it_saves_work() {
        let engine = |shape: BlockShape| matches!(Engine::of(&shape, false), Engine::Winograd { .. });
        assert!(engine(SHAPE));
        assert!(engine(BlockShape {
            height: 7,
            width: 7,
            ..SHAPE
        }));
        assert!(engine(BlockShape {
            height: 3,
            width: 3,
            ..SHAPE
        }));
        assert!(!engine(BlockShape { c_in: 1, ..SHAPE }));
        assert!(!engine(BlockShape {
            kernel: 1,
            padding: 0,
            ..SHAPE
        }));
        assert!(!engine(BlockShape {
            height: 1,
            width: 1,
            ..SHAPE
        }));
        assert!(!engine(BlockShape {
            images: 1,
            height: 3,
            width: 3,
            ..SHAPE
        }));
        assert!(!engine(BlockShape {
            c_in: 640,
            c_out: 640,
            ..SHAPE
        }));
    }
}
