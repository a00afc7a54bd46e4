//! From the gradient of a convolution's output to those of its weight and its input: a worker takes a few images at a time.

use std::mem::MaybeUninit;

use crate::buffer::Buffer;
use crate::dispatch::Kernels;
use crate::engine::Engine;
use crate::kernels::direct::Conv;
use crate::kernels::winograd::Tiling;
use crate::plan::{Bordered, Layout};
use crate::shape::BlockShape;
use crate::weight::Weight;

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
        let border = if engine == Engine::Direct {
            layout.dy_border
        } else {
            0
        };
        let direct = Self {
            shape,
            layout,
            kernels,
            weight,
            x,
            dy: Bordered::new(layout.conv, border, layout.c_out),
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
