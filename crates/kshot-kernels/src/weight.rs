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
                Self::transformed(kernels, tiles, channels, &transpose(shape, w), makers)
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

/// Calls `to(c, o)` for all pairs of channels, in blocks that stay in the cache on both sides.
fn each_pair((c_in, c_out): (usize, usize), mut to: impl FnMut(usize, usize)) {
    for first in (0..c_in).step_by(16) {
        for o in 0..c_out {
            for c in first..(first + 16).min(c_in) {
                to(c, o);
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
        each_pair((ci, co), |c, o| to[o * layout.c_in + c] = from[c * co + o]);
    }
    flipped
}

/// `[taps, c_out, c_in]`
fn transpose(shape: &BlockShape, w: &[f32]) -> Buffer {
    let (ci, co) = (shape.c_in, shape.c_out);
    let mut transposed = Buffer::take(w.len());
    for (to, from) in transposed.chunks_exact_mut(ci * co).zip(w.chunks_exact(ci * co)) {
        each_pair((ci, co), |c, o| to[o * ci + c] = from[c * co + o]);
    }
    transposed
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
}
