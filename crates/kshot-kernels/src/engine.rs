//! The two ways to convolve, behind one face: a worker takes a few images at a time.

use std::cell::Cell;
use std::mem::MaybeUninit;

use crate::buffer::Buffer;
use crate::dispatch::Kernels;
use crate::kernels::direct::Conv;
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

/// One thread's means to turn `dy` into gradients, and its sum of the weight's.
pub struct Differentiator<'a> {
    shape: &'a BlockShape,
    layout: &'a Layout,
    kernels: &'a Kernels,
    /// The weight for the input gradient, where it is wanted.
    weight: Option<&'a Weight>,
    x: Bordered,
    /// Where `dy` of one image is put; its border is that of the direct input gradient.
    dy: Bordered,
    dw: Buffer,
    dx: Buffer,
    winograd: Option<Transformed>,
    block: usize,
}

struct Transformed {
    tiling: Tiling,
    v: Buffer,
    m: Buffer,
    /// The sum of the weight's gradient, once `begun`.
    du: Buffer,
    begun: bool,
    dx: Bordered,
}

impl<'a> Differentiator<'a> {
    pub fn new(
        shape: &'a BlockShape,
        layout: &'a Layout,
        kernels: &'a Kernels,
        engine: Engine,
        weight: Option<&'a Weight>,
    ) -> Self {
        let size = (shape.height, shape.width);
        let x = Bordered::new(size, shape.padding, shape.c_in);
        let mut dw = Buffer::take(shape.kernel * shape.kernel * shape.c_in * layout.c_out);
        if engine == Engine::Direct {
            // Others write it whole, in the end.
            dw.fill(0.0);
        }
        let direct = Self {
            shape,
            layout,
            kernels,
            weight,
            x,
            dy: Bordered::new(layout.conv, layout.dy_border, layout.c_out),
            dw,
            dx: Buffer::take(if layout.c_in == shape.c_in {
                0
            } else {
                size.0 * size.1 * layout.c_in
            }),
            winograd: None,
            block: 1,
        };
        let Engine::Winograd { tiles, block } = engine else {
            return direct;
        };
        let tiling = Tiling::new(tiles, layout.conv, block, (shape.c_in, shape.c_out));
        let transformed = Transformed {
            v: Buffer::take(tiling.v_len()),
            m: Buffer::take(tiling.m_len()),
            du: Buffer::take(Tiling::u_len(tiles, (shape.c_in, shape.c_out))),
            begun: false,
            dx: Bordered::new(size, shape.padding, shape.c_in),
            tiling,
        };
        Self {
            dy: Bordered::new(layout.conv, 0, layout.c_out),
            winograd: Some(transformed),
            block,
            ..direct
        }
    }

    /// Most images that [`Self::run`] takes at a time.
    pub fn block(&self) -> usize {
        self.block
    }

    /// Adds the weight gradient of up to [`Self::block`] images and writes their input gradients, where they are
    /// wanted, all of them. `fill(k, dy, row)` writes `dy` of image `k`, rows `row` floats apart.
    pub fn run(
        &mut self,
        images: &[f32],
        dx: &mut [MaybeUninit<f32>],
        mut fill: impl FnMut(usize, &mut [f32], usize),
    ) {
        let (shape, kernels) = (self.shape, self.kernels);
        let (x_len, x_row, dy_row) = (shape.image_len(), self.x.row(), self.dy.row());
        let images = images.chunks_exact(x_len);
        let count = images.len();
        assert!(count <= self.block && (self.weight.is_none() || dx.len() == count * x_len));
        let Some(Transformed {
            tiling,
            v,
            m,
            du,
            begun,
            dx: sum,
        }) = &mut self.winograd
        else {
            for (k, image) in images.enumerate() {
                self.x.fill(image);
                fill(k, self.dy.inside_mut(), dy_row);
                let dx = if self.weight.is_some() {
                    &mut dx[k * x_len..][..x_len]
                } else {
                    &mut []
                };
                self.run_direct(dx);
            }
            return;
        };
        for (k, image) in images.enumerate() {
            let x = self.x.fill(image);
            fill(k, self.dy.inside_mut(), dy_row);
            // SAFETY: `x` has the border, `dy` is a whole map, `v` and `m` have room for `block` images.
            unsafe {
                (kernels.transform_input)(tiling, k, (x.as_ptr(), x_row), v.as_mut_ptr());
                (kernels.transform_output_adjoint)(
                    tiling,
                    k,
                    (self.dy.all().as_ptr(), dy_row),
                    m.as_mut_ptr(),
                );
            }
        }
        let weight = self.weight.map(Weight::as_ptr);
        // SAFETY: all have the tiling's sizes.
        unsafe {
            (kernels.gradients)(
                tiling,
                count,
                (v.as_mut_ptr(), m.as_ptr()),
                (du.as_mut_ptr(), *begun),
                weight,
            )
        };
        *begun = true;
        if weight.is_some() {
            for (k, dx) in dx.chunks_exact_mut(x_len).enumerate() {
                let all = sum.all_mut();
                all.fill(0.0);
                // SAFETY: `all` has the size of `x` with its border.
                unsafe {
                    (kernels.transform_input_adjoint)(tiling, k, v.as_ptr(), (all.as_mut_ptr(), x_row))
                };
                sum.copy_to(dx);
            }
        }
    }

    fn run_direct(&mut self, dx: &mut [MaybeUninit<f32>]) {
        let (shape, layout, kernels) = (self.shape, self.layout, self.kernels);
        let dy_row = self.dy.row();
        let conv = Conv {
            y_strides: (dy_row, layout.c_out),
            ..layout.convolution(shape, layout.conv.0)
        };
        let inside = self.dy.inside().as_ptr();
        // SAFETY: `x` has its border, `dy` is a whole map, `dw` has all taps.
        unsafe { (kernels.weight_gradient)(&conv, self.x.all().as_ptr(), inside, self.dw.as_mut_ptr()) };
        let Some(weight) = self.weight else {
            return;
        };
        let conv = Conv {
            rows: shape.height,
            columns: shape.width,
            kernel: shape.kernel,
            channels: layout.c_out,
            x_strides: (dy_row, layout.c_out),
            out_channels: layout.c_in,
            y_strides: (shape.width * layout.c_in, layout.c_in),
        };
        // The input gradient comes in whole vectors of channels; other channel counts go through a copy.
        let dense = layout.c_in == shape.c_in;
        let to = if dense {
            dx.as_mut_ptr().cast()
        } else {
            self.dx.as_mut_ptr()
        };
        // SAFETY: `dy` with its border gives `height` by `width` pixels, for which there is room at `to`.
        unsafe { (kernels.convolve)(&conv, self.dy.all().as_ptr(), weight.as_ptr(), to) };
        if !dense {
            for (to, from) in dx
                .chunks_exact_mut(shape.c_in)
                .zip(self.dx.chunks_exact(layout.c_in))
            {
                for (to, from) in to.iter_mut().zip(from) {
                    to.write(*from);
                }
            }
        }
    }

    /// The weight gradient of all images so far, `[taps, c_in, channels]`.
    pub fn finish(mut self) -> Buffer {
        if let Some(Transformed { du, begun, .. }) = &mut self.winograd {
            if !*begun {
                du.fill(0.0);
            }
            let channels = (self.shape.c_in, self.shape.c_out);
            // SAFETY: `du` and `dw` have the sizes for these channels, which are multiples of 16.
            unsafe { (self.kernels.transform_weight_adjoint)(channels, du.as_ptr(), self.dw.as_mut_ptr()) };
        }
        self.dw
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
