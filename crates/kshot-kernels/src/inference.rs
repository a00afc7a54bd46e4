//! Inference: blocks with a given scale and shift, one after another while the images are in the cache.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use crate::buffer::Buffer;
use crate::dispatch::{Kernels, kernels};
use crate::engine::Engine;
use crate::kernels::winograd::Tiling;
use crate::parameters::Parameters;
use crate::plan::{Bordered, Layout};
use crate::shape::BlockShape;
use crate::weight::Weight;

/// Inference: `scale` and `shift`, `[c_out]`, stand for the norm (or for 1 and the bias). The map before
/// the pool never leaves the cache. As in [`crate::forward`], each group may have its own parameters.
///
/// # Panics
///
/// As [`crate::forward`].
pub fn infer(shape: &BlockShape, x: &[f32], w: &[f32], scale: &[f32], shift: &[f32], out: &mut [f32]) {
    run_infer(shape, x, w, scale, shift, as_uninit(out));
}

/// As [`infer`], with an output of its own that isn't filled with zeros first.
///
/// # Panics
///
/// As [`infer`].
pub fn infer_new(shape: &BlockShape, x: &[f32], w: &[f32], scale: &[f32], shift: &[f32]) -> Vec<f32> {
    shape.check(&[]);
    let mut out = Vec::with_capacity(shape.output_len());
    run_infer(
        shape,
        x,
        w,
        scale,
        shift,
        &mut out.spare_capacity_mut()[..shape.output_len()],
    );
    // SAFETY: `run_infer` has written every element.
    unsafe { out.set_len(shape.output_len()) };
    out
}

/// The same memory, of which nothing may be read before it is written.
pub fn as_uninit(values: &mut [f32]) -> &mut [MaybeUninit<f32>] {
    // SAFETY: same layout; this crate writes only initialised floats to its outputs.
    unsafe { &mut *(std::ptr::from_mut(values) as *mut [MaybeUninit<f32>]) }
}

/// [`infer`], writing every element of `out`.
fn run_infer(
    shape: &BlockShape,
    x: &[f32],
    w: &[f32],
    scale: &[f32],
    shift: &[f32],
    out: &mut [MaybeUninit<f32>],
) {
    shape.check(&[
        ("x", x.len(), shape.input_len()),
        ("out", out.len(), shape.output_len()),
    ]);
    let parameters = Parameters::new(shape, w, Some(scale), Some(shift));
    let (sets, engine) = if parameters.per_group() {
        (shape.groups, Engine::of(shape, true))
    } else {
        (1, Engine::of(shape, false))
    };
    let kernels = kernels();
    x.par_chunks_exact(x.len() / sets)
        .zip(out.par_chunks_exact_mut(shape.output_len() / sets))
        .enumerate()
        .for_each(|(group, (x, out))| {
            let block = InferenceBlock {
                shape: *shape,
                w: parameters.w(group),
                scale: parameters.gamma(group),
                shift: parameters.beta(group),
            };
            run(kernels, &[Stage::new(&block, kernels, engine)], x, out);
        });
}

/// One block of an [`Inference`].
#[derive(Clone, Copy, Debug)]
pub struct InferenceBlock<'a> {
    /// Its form; the numbers of images and of groups don't matter.
    pub shape: BlockShape,
    /// `[kernel, kernel, c_in, c_out]`
    pub w: &'a [f32],
    /// `[c_out]`, what the convolution is multiplied by.
    pub scale: &'a [f32],
    /// `[c_out]`, what is added to it.
    pub shift: &'a [f32],
}

/// Blocks that follow one another, ready for inference: with their weights in the form that the kernels read, which for
/// a few images takes longer to make than to use.
///
/// What an image becomes doesn't depend on the images beside it, nor on how many there are, to the last bit.
pub struct Inference {
    stages: Vec<Stage>,
}

impl Inference {
    /// Prepares the blocks.
    ///
    /// # Panics
    ///
    /// If there is none, if a slice does not have the length that its shape says, if a shape fails
    /// [`BlockShape::validate`], or if a block's output isn't the next one's input.
    pub fn new(blocks: &[InferenceBlock<'_>]) -> Self {
        assert!(!blocks.is_empty(), "inference: no blocks");
        for pair in blocks.windows(2) {
            let (from, to) = (&pair[0].shape, &pair[1].shape);
            assert_eq!(
                (from.out_height(), from.out_width(), from.c_out),
                (to.height, to.width, to.c_in),
                "inference: a block's output and the next block's input (height, width, channels)"
            );
        }
        let prepare = |block: &InferenceBlock<'_>| {
            let shape = BlockShape {
                images: 1,
                groups: 1,
                ..block.shape
            };
            shape.check(&[]);
            Parameters::new(&shape, block.w, Some(block.scale), Some(block.shift));
            let engine = Engine::prepared(&shape);
            Stage::new(&InferenceBlock { shape, ..*block }, kernels(), engine)
        };
        Self {
            stages: blocks.iter().map(prepare).collect(),
        }
    }

    /// The last block's output, `[images, out_height, out_width, c_out]`, for `x`, `[images, height, width, c_in]`.
    ///
    /// # Panics
    ///
    /// If `x` isn't a whole number of images.
    pub fn run(&self, x: &[f32]) -> Vec<f32> {
        let (first, last) = (&self.stages[0].shape, &self.stages[self.stages.len() - 1].shape);
        assert!(
            x.len().is_multiple_of(first.image_len()),
            "inference: `x` isn't a whole number of images"
        );
        let len = x.len() / first.image_len() * last.out_image_len();
        let mut out = Vec::with_capacity(len);
        run(kernels(), &self.stages, x, &mut out.spare_capacity_mut()[..len]);
        // SAFETY: `run` has written every element.
        unsafe { out.set_len(len) };
        out
    }
}

/// Floats of maps between blocks that should stay in the second-level cache.
const CACHED: usize = 1 << 18;

/// Most images that go through all blocks together.
const MOST_IMAGES: usize = 8;

/// The stages on all images of `x`, writing every element of `out`.
fn run(kernels: &'static Kernels, stages: &[Stage], x: &[f32], out: &mut [MaybeUninit<f32>]) {
    let (image, answer) = (
        stages[0].shape.image_len(),
        stages[stages.len() - 1].shape.out_image_len(),
    );
    let largest = stages
        .iter()
        .map(|stage| stage.shape.image_len())
        .max()
        .unwrap_or(1);
    let count = x.len() / image;
    // As many images as may go together, and as many parts for one thread as for another.
    let most = MOST_IMAGES.min(CACHED.div_ceil(largest));
    let parts = count
        .div_ceil(most)
        .next_multiple_of(rayon::current_num_threads());
    let images = count.div_ceil(parts.max(1)).max(1);
    x.par_chunks(images * image)
        .zip(out.par_chunks_mut(images * answer))
        .for_each_init(
            || Worker::new(stages, images),
            |worker, (x, out)| worker.run(kernels, stages, x, out),
        );
}

/// One thread's memory for some images on their way through the stages.
struct Worker {
    /// Each stage's inputs.
    maps: Vec<Vec<Bordered>>,
    v: Buffer,
    m: Buffer,
    y: Buffer,
}

impl Worker {
    fn new(stages: &[Stage], images: usize) -> Self {
        let maps = |stage: &Stage| {
            let shape = &stage.shape;
            let map = || Bordered::new((shape.height, shape.width), shape.padding, shape.c_in);
            (0..images).map(|_| map()).collect()
        };
        let most = |of: &dyn Fn(&(Tiling, usize)) -> usize| {
            let tilings = stages.iter().filter_map(|stage| stage.tiling.as_ref());
            Buffer::take(tilings.map(of).max().unwrap_or(0))
        };
        Self {
            maps: stages.iter().map(maps).collect(),
            v: most(&|(tiling, _)| tiling.v_len()),
            m: most(&|(tiling, _)| tiling.m_len()),
            y: Buffer::take(
                stages
                    .iter()
                    .map(|stage| stage.layout.conv_len())
                    .max()
                    .unwrap_or(0),
            ),
        }
    }

    fn run(&mut self, kernels: &Kernels, stages: &[Stage], x: &[f32], out: &mut [MaybeUninit<f32>]) {
        let shape = &stages[0].shape;
        let images = x.chunks_exact(shape.image_len());
        let count = images.len();
        for (map, image) in self.maps[0].iter_mut().zip(images) {
            map.fill(image);
        }
        for (k, stage) in stages.iter().enumerate() {
            let (before, after) = self.maps.split_at_mut(k + 1);
            let from = &before[k][..count];
            let scratch = (&mut *self.v, &mut *self.m, &mut *self.y);
            if let Some(next) = after.first_mut() {
                let to = next.iter_mut().map(|map| {
                    let row = map.row();
                    (as_uninit(map.inside_mut()), row)
                });
                stage.run(kernels, scratch, from, to);
            } else {
                let row = stage.layout.out.1 * stage.shape.c_out;
                let to = out.chunks_exact_mut(stage.shape.out_image_len());
                stage.run(kernels, scratch, from, to.map(|out| (out, row)));
            }
        }
    }
}

/// A block, its scale within its weight.
struct Stage {
    shape: BlockShape,
    layout: Layout,
    weight: Weight,
    shift: Buffer,
    /// For Winograd's convolution, with the images that it takes at a time.
    tiling: Option<(Tiling, usize)>,
}

impl Stage {
    fn new(block: &InferenceBlock<'_>, kernels: &Kernels, engine: Engine) -> Self {
        let shape = block.shape;
        let mut layout = Layout::of(&shape);
        if shape.pool {
            // A last row or column that no window covers has no say in the answer.
            layout.conv = (2 * layout.out.0, 2 * layout.out.1);
        }
        let mut shift = Buffer::zeroed(layout.c_out);
        shift[..shape.c_out].copy_from_slice(block.shift);
        let tiling = match engine {
            Engine::Direct => None,
            Engine::Winograd { tiles, block } => {
                let block = block.min(MOST_IMAGES);
                Some((
                    Tiling::new(tiles, layout.conv, block, (shape.c_in, shape.c_out)),
                    block,
                ))
            }
        };
        Self {
            weight: Weight::scaled(&shape, &layout, kernels, engine, block.w, block.scale),
            shape,
            layout,
            shift,
            tiling,
        }
    }

    /// The block on the images in `from`; `to` gives for each its place and the floats from one row to the next.
    fn run<'a>(
        &self,
        kernels: &Kernels,
        (v, m, y): (&mut [f32], &mut [f32], &mut [f32]),
        from: &[Bordered],
        to: impl Iterator<Item = (&'a mut [MaybeUninit<f32>], usize)>,
    ) {
        let (shape, layout) = (&self.shape, &self.layout);
        let (w, shift) = (self.weight.as_ptr(), self.shift.as_ptr());
        let room = |out: &[MaybeUninit<f32>], row| {
            assert!(out.len() >= (layout.out.0 - 1) * row + layout.out.1 * shape.c_out);
        };
        let Some((tiling, block)) = &self.tiling else {
            for (x, (out, row)) in from.iter().zip(to) {
                room(out, row);
                let (conv, ending) = layout.convolution_and_ending(shape, row);
                let from = (x.all().as_ptr(), w, shift);
                // SAFETY: `x` has the border, `w` all taps, and `out` room for the rows.
                unsafe {
                    let out = out.as_mut_ptr().cast();
                    (kernels.convolve_and_end)((&conv, &ending), from, std::ptr::null_mut(), out);
                }
            }
            return;
        };
        assert!(v.len() >= tiling.v_len() && m.len() >= tiling.m_len() && y.len() >= layout.conv_len());
        let y_row = layout.conv.1 * layout.c_out;
        let mut to = to;
        for images in from.chunks(*block) {
            // SAFETY: `x` has the border; `v`, `w` and `m` have the tiling's sizes, for `block` images.
            unsafe {
                for (k, x) in images.iter().enumerate() {
                    (kernels.transform_input)(tiling, k, (x.all().as_ptr(), x.row()), v.as_mut_ptr());
                }
                (kernels.multiply)(tiling, images.len(), v.as_ptr(), w, m.as_mut_ptr());
            }
            for (k, (out, row)) in to.by_ref().take(images.len()).enumerate() {
                room(out, row);
                let (_, ending) = layout.convolution_and_ending(shape, row);
                // SAFETY: `y` is a whole map, and `out` has room for the rows.
                unsafe {
                    let out = out.as_mut_ptr().cast();
                    (kernels.transform_output)(tiling, k, m.as_ptr(), (y.as_mut_ptr(), y_row));
                    (kernels.answer)(
                        (layout.out, &ending),
                        (y.as_ptr(), y_row, layout.c_out),
                        shift,
                        out,
                    );
                }
            }
        }
    }
}
