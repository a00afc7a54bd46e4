//! A convolution's weight in the forms that the engines read.

use std::sync::atomic::{AtomicPtr, Ordering};

use crate::buffer::Buffer;
use crate::dispatch::Kernels;
use crate::engine::Engine;
use crate::kernels::winograd::{Tiles, Tiling};
use crate::parallel::each;
use crate::parameters::Parameters;
use crate::plan::{Layout, widen};
use crate::shape::BlockShape;

/// Pairs of channels from which two threads share a transform.
const WORTH_TWO: usize = 2048;

/// Who makes a weight's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Makers {
    /// The thread that asks, because the others have work of their own.
    One,
    /// Other threads, too, which wait for it.
    Two,
}

/// The weight as an engine wants it, for a whole batch.
pub enum Weight {
    /// `[taps, c_in, channels]`
    Direct(Buffer),
    /// Transformed.
    Winograd(Buffer),
}

impl Weight {
    /// For the forward pass.
    pub fn forward(
        shape: &BlockShape,
        layout: &Layout,
        kernels: &Kernels,
        engine: Engine,
        w: &[f32],
        makers: Makers,
    ) -> Self {
        match engine {
            Engine::Direct => Self::Direct(widen(w, shape.c_out, layout.c_out)),
            Engine::Winograd { tiles, .. } => {
                Self::transformed(kernels, tiles, (shape.c_in, shape.c_out), w, makers)
            }
        }
    }

    /// For the forward pass of a convolution whose output is multiplied by `scale`, a factor per channel.
    pub fn scaled(
        shape: &BlockShape,
        layout: &Layout,
        kernels: &Kernels,
        engine: Engine,
        w: &[f32],
        scale: &[f32],
    ) -> Self {
        let mut scaled = Buffer::take(w.len());
        for (to, from) in scaled
            .chunks_exact_mut(shape.c_out)
            .zip(w.chunks_exact(shape.c_out))
        {
            for ((to, from), scale) in to.iter_mut().zip(from).zip(scale) {
                *to = from * scale;
            }
        }
        Self::forward(shape, layout, kernels, engine, &scaled, Makers::One)
    }

    /// For the input gradient.
    pub fn backward(
        shape: &BlockShape,
        layout: &Layout,
        kernels: &Kernels,
        engine: Engine,
        w: &[f32],
        makers: Makers,
    ) -> Self {
        match engine {
            Engine::Direct => Self::Direct(flip(shape, layout, w)),
            Engine::Winograd { tiles, .. } => {
                let channels = (shape.c_out, shape.c_in);
                Self::transformed(kernels, tiles, channels, &transposed(shape, w), makers)
            }
        }
    }

    fn transformed(
        kernels: &Kernels,
        tiles: Tiles,
        channels: (usize, usize),
        w: &[f32],
        makers: Makers,
    ) -> Self {
        let mut u = Buffer::take(Tiling::u_len(tiles, channels));
        let to = AtomicPtr::new(u.as_mut_ptr());
        let part = |(from, end): (usize, usize)| {
            let to = to.load(Ordering::Relaxed);
            // SAFETY: `w` has nine taps of these channels, which are multiples of 16, and `u` room for the result; each
            // part writes its own input channels'.
            unsafe { (kernels.transform_weight)(tiles, channels, (from, end), w.as_ptr(), to) };
        };
        if makers == Makers::One || channels.0 * channels.1 < WORTH_TWO {
            part((0, channels.0));
        } else {
            let half = channels.0 / 2;
            each([(0, half), (half, channels.0)], part);
        }
        Self::Winograd(u)
    }

    pub fn as_ptr(&self) -> *const f32 {
        match self {
            Self::Direct(buffer) | Self::Winograd(buffer) => buffer.as_ptr(),
        }
    }
}

/// How a [`Weight`] is made of a plain one.
pub type Form = fn(&BlockShape, &Layout, &Kernels, Engine, &[f32], Makers) -> Weight;

/// The weight of a batch in one form: the one that all groups share, or a group's own when it is asked for.
pub struct Weights<'a> {
    shared: Option<Weight>,
    own: Box<dyn Fn(usize) -> Weight + Sync + 'a>,
}

impl<'a> Weights<'a> {
    pub fn new(
        shape: &'a BlockShape,
        kernels: &'static Kernels,
        engine: Engine,
        form: Form,
        parameters: Parameters<'a>,
    ) -> Self {
        let layout = Layout::of(shape);
        let make = move |group, makers| form(shape, &layout, kernels, engine, parameters.w(group), makers);
        Self {
            shared: (!parameters.per_group()).then(|| make(0, Makers::Two)),
            own: Box::new(move |group| make(group, Makers::One)),
        }
    }

    /// The weight of a group.
    pub fn of(&self, group: usize) -> Held<'_> {
        self.shared
            .as_ref()
            .map_or_else(|| Held::Own((self.own)(group)), Held::Shared)
    }
}

/// A shared weight or one's own.
pub enum Held<'a> {
    Shared(&'a Weight),
    Own(Weight),
}

impl std::ops::Deref for Held<'_> {
    type Target = Weight;
    fn deref(&self) -> &Weight {
        match self {
            Self::Shared(weight) => weight,
            Self::Own(weight) => weight,
        }
    }
}

/// Side of the squares that are turned at once.
const SQUARE: usize = 4;
/// Rows whose squares are turned one after another: their columns fill a line of the cache.
const ROWS: usize = 16;

/// `to[o * to_row + c] = from[c * c_out + o]` for all pairs of channels.
fn transpose((c_in, c_out): (usize, usize), from: &[f32], to: &mut [f32], to_row: usize) {
    for first in (0..c_in).step_by(ROWS) {
        let end = (first + ROWS).min(c_in);
        for o in (0..c_out).step_by(SQUARE) {
            for c in (first..end).step_by(SQUARE) {
                if c + SQUARE > end || o + SQUARE > c_out {
                    for o in o..(o + SQUARE).min(c_out) {
                        (c..(c + SQUARE).min(end)).for_each(|c| to[o * to_row + c] = from[c * c_out + o]);
                    }
                    continue;
                }
                let mut columns = [[0.0; SQUARE]; SQUARE];
                for k in 0..SQUARE {
                    let row = &from[(c + k) * c_out + o..][..SQUARE];
                    (0..SQUARE).for_each(|column| columns[column][k] = row[column]);
                }
                for (k, column) in columns.iter().enumerate() {
                    to[(o + k) * to_row + c..][..SQUARE].copy_from_slice(column);
                }
            }
        }
    }
}

/// The weight for the convolution that gives the input gradient: `[kernel, kernel, c_out, c_in]`, both
/// window axes reversed, channels rounded up.
fn flip(shape: &BlockShape, layout: &Layout, w: &[f32]) -> Buffer {
    let (taps, ci, co) = (shape.kernel * shape.kernel, shape.c_in, shape.c_out);
    let mut flipped = Buffer::zeroed(taps * layout.c_out * layout.c_in);
    for tap in 0..taps {
        let to = &mut flipped[(taps - 1 - tap) * layout.c_out * layout.c_in..];
        let from = &w[tap * ci * co..];
        transpose((ci, co), from, to, layout.c_in);
    }
    flipped
}

/// `[taps, c_out, c_in]`
fn transposed(shape: &BlockShape, w: &[f32]) -> Buffer {
    let (ci, co) = (shape.c_in, shape.c_out);
    let mut all = Buffer::take(w.len());
    for (to, from) in all.chunks_exact_mut(ci * co).zip(w.chunks_exact(ci * co)) {
        transpose((ci, co), from, to, ci);
    }
    all
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
    fn flipping_twice_gives_the_weight_again() {
        let w: Vec<f32> = (0..SHAPE.weight_len()).map(|i| i as f32).collect();
        let layout = Layout::of(&SHAPE);
        let flipped = flip(&SHAPE, &layout, &w);
        assert_ne!(flipped[..], w[..]);
        assert_eq!(flip(&SHAPE, &layout, &flipped)[..], w[..]);
        assert_eq!(flipped[0], w[8 * 256]);
    }

    #[test]
    fn all_pairs_of_channels_are_transposed_whatever_their_numbers() {
        for (c_in, c_out) in [(1, 1), (3, 64), (4, 4), (5, 7), (16, 20), (33, 18), (64, 64)] {
            let from: Vec<f32> = (0..c_in * c_out).map(|i| i as f32).collect();
            let to_row = c_in + 2;
            let mut to = vec![-1.0; c_out * to_row];
            transpose((c_in, c_out), &from, &mut to, to_row);
            for (at, &value) in to.iter().enumerate() {
                let (o, c) = (at / to_row, at % to_row);
                let expected = if c < c_in { from[c * c_out + o] } else { -1.0 };
                assert_eq!(value, expected, "{c_in}x{c_out}: {c}, {o}");
            }
        }
    }
}
