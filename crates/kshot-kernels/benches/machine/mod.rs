//! What the machine can do at most: fused multiply-adds and bytes from memory, over all threads of the pool.
#![allow(dead_code)]

use std::hint::black_box;

use kshot_kernels::SimdLevel;
use rayon::prelude::*;

/// Multiply-adds per lane and thread in one call of [`multiply_add`].
const ROUNDS: usize = 2_000_000;

/// Independent sums: enough to hide the latency of each, few enough for 16 registers.
const SUMS: usize = 12;

/// Lanes of the instruction set that the kernels use.
fn lanes() -> usize {
    match SimdLevel::current() {
        SimdLevel::Avx512 => 16,
        SimdLevel::Avx2 | SimdLevel::Portable => 8,
        SimdLevel::Neon => 4,
    }
}

/// Floating-point operations of one call of [`multiply_add`].
pub fn multiply_add_flops() -> f64 {
    (2 * ROUNDS * SUMS * lanes() * rayon::current_num_threads()) as f64
}

/// Multiply-adds in registers and nothing else, on every thread.
pub fn multiply_add() {
    (0..rayon::current_num_threads())
        .into_par_iter()
        .for_each(|_| match SimdLevel::current() {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the level is the machine's.
            SimdLevel::Avx512 => unsafe { avx512() },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the level is the machine's.
            SimdLevel::Avx2 => unsafe { avx2() },
            SimdLevel::Neon => plain::<4>(),
            _ => plain::<8>(),
        });
}

/// Different start values, or the compiler would compute one sum for all.
fn starts<const LANES: usize>() -> [[f32; LANES]; SUMS] {
    black_box(std::array::from_fn(|i| [i as f32 * 0.01; LANES]))
}

fn plain<const LANES: usize>() {
    let mut sums = starts::<LANES>();
    let (factor, term) = (black_box(0.999f32), black_box(0.001f32));
    for _ in 0..ROUNDS {
        sums.iter_mut()
            .flatten()
            .for_each(|sum| *sum = *sum * factor + term);
    }
    black_box(sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512() {
    use std::arch::x86_64::*;
    // SAFETY: each array is 16 floats long.
    let mut sums = starts::<16>().map(|start| unsafe { _mm512_loadu_ps(start.as_ptr()) });
    let (factor, term) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(0.001)));
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, factor, term);
        }
    }
    black_box(sums);
}

/// Floating-point operations of one call of [`bf16_dot`], two products per lane.
pub fn bf16_dot_flops() -> f64 {
    (4 * ROUNDS * SUMS * 16 * rayon::current_num_threads()) as f64
}

/// Dot products of bf16 pairs in registers and nothing else, on every thread; false where the machine has none.
pub fn bf16_dot() -> bool {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx512bf16") && std::is_x86_feature_detected!("avx512f") {
        (0..rayon::current_num_threads())
            .into_par_iter()
            // SAFETY: the machine has both.
            .for_each(|_| unsafe { avx512_bf16() });
        return true;
    }
    false
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
fn avx512_bf16() {
    use std::arch::x86_64::*;
    // SAFETY: each array is 16 floats long.
    let mut sums = starts::<16>().map(|start| unsafe { _mm512_loadu_ps(start.as_ptr()) });
    let narrow = |value| {
        let value = _mm512_set1_ps(black_box(value));
        _mm512_cvtne2ps_pbh(value, value)
    };
    let (left, right) = (narrow(0.999), narrow(0.001));
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = _mm512_dpbf16_ps(*sum, left, right);
        }
    }
    black_box(sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2() {
    use std::arch::x86_64::*;
    // SAFETY: each array is 8 floats long.
    let mut sums = starts::<8>().map(|start| unsafe { _mm256_loadu_ps(start.as_ptr()) });
    let (factor, term) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(0.001)));
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, factor, term);
        }
    }
    black_box(sums);
}

/// Two arrays that are larger than any cache.
pub struct Memory {
    from: Vec<f32>,
    to: Vec<f32>,
}

impl Memory {
    const FLOATS: usize = 32 << 20;

    pub fn new() -> Self {
        Self {
            from: vec![1.0; Self::FLOATS],
            to: vec![0.0; Self::FLOATS],
        }
    }

    /// Bytes read and written by one call of [`Self::copy`].
    pub fn bytes() -> u64 {
        (2 * Self::FLOATS * size_of::<f32>()) as u64
    }

    /// Copies one to the other, all threads a part each.
    pub fn copy(&mut self) {
        let part = Self::FLOATS / rayon::current_num_threads();
        self.to
            .par_chunks_mut(part)
            .zip(self.from.par_chunks(part))
            .for_each(|(to, from)| to.copy_from_slice(from));
        black_box(&self.to);
    }
}

/// Time on the wall and of the processor, which other programs on the machine disturb much less.
pub mod clock {
    use std::time::{Duration, Instant};

    /// Wall time and processor time over all threads.
    #[derive(Clone, Copy)]
    pub struct Moment(Instant, Duration);

    impl Moment {
        pub fn now() -> Self {
            Self(Instant::now(), cpu_time::ProcessTime::now().as_duration())
        }

        /// Seconds of both since then.
        pub fn elapsed(self) -> [f64; 2] {
            let cpu = cpu_time::ProcessTime::now().as_duration() - self.1;
            [self.0.elapsed().as_secs_f64(), cpu.as_secs_f64()]
        }
    }

    pub fn median(samples: &[[f64; 2]]) -> [f64; 2] {
        [0, 1].map(|k: usize| {
            let mut of: Vec<f64> = samples.iter().map(|sample| sample[k]).collect();
            of.sort_by(f64::total_cmp);
            of[of.len() / 2]
        })
    }
}

/// Four blocks of 64 channels on 28×28 images of one channel, and all that a step through them needs.
pub mod step {
    use kshot_kernels::{Activation, BlockShape, Inference, InferenceBlock};

    /// A block of a few-shot encoder.
    pub fn block(images: usize, side: usize, c_in: usize) -> BlockShape {
        BlockShape {
            images,
            height: side,
            width: side,
            c_in,
            c_out: 64,
            kernel: 3,
            padding: 1,
            pool: true,
            norm: true,
            groups: 1,
            activation: Activation::Relu,
        }
    }

    /// Values in [-0.5, 0.5).
    pub fn values(len: usize, mut seed: u32) -> Vec<f32> {
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..len).map(|_| next()).collect()
    }

    /// The encoder and one batch.
    pub struct Encoder {
        pub blocks: [BlockShape; 4],
        weights: Vec<Vec<f32>>,
        x: Vec<f32>,
        dout: Vec<f32>,
        gamma: Vec<f32>,
        beta: Vec<f32>,
    }

    impl Encoder {
        pub fn new(images: usize) -> Self {
            let blocks = [(28, 1), (14, 64), (7, 64), (3, 64)].map(|(side, c_in)| block(images, side, c_in));
            let scaled = |shape: &BlockShape| {
                let scale = (24.0 / (9 * shape.c_in) as f32).sqrt();
                values(shape.weight_len(), 1).iter().map(|v| v * scale).collect()
            };
            Self {
                weights: blocks.iter().map(scaled).collect(),
                x: values(blocks[0].input_len(), 2),
                dout: values(blocks[3].output_len(), 3),
                gamma: vec![1.0; 64],
                beta: vec![0.1; 64],
                blocks,
            }
        }

        /// Counted as direct convolutions, three passes.
        pub fn flops(&self) -> f64 {
            self.blocks.iter().map(|block| 3.0 * block.flops()).sum()
        }

        /// Forward and backward; calls `mark(block, backward)` after each part.
        pub fn step(&self, mut mark: impl FnMut(usize, bool)) {
            let mut maps: Vec<Vec<f32>> = Vec::new();
            let mut saved = Vec::new();
            for (k, (shape, w)) in self.blocks.iter().zip(&self.weights).enumerate() {
                let x = maps.last().unwrap_or(&self.x);
                let (out, kept) = kshot_kernels::forward_new(shape, x, w, &self.gamma, &self.beta, 1e-5);
                maps.push(out);
                saved.push(kept);
                mark(k, false);
            }
            let mut gradient = self.dout.clone();
            for (k, (shape, w)) in self.blocks.iter().zip(&self.weights).enumerate().rev() {
                let x = if k == 0 { &self.x } else { &maps[k - 1] };
                let found = kshot_kernels::backward(shape, x, w, &self.gamma, &saved[k], &gradient, k > 0);
                gradient = found.input.unwrap_or_default();
                mark(k, true);
            }
        }

        /// The blocks, ready for inference.
        pub fn inference(&self) -> Inference {
            let blocks = self.blocks.iter().zip(&self.weights);
            let blocks: Vec<_> = blocks
                .map(|(shape, w)| InferenceBlock {
                    shape: *shape,
                    w,
                    scale: &self.gamma,
                    shift: &self.beta,
                })
                .collect();
            Inference::new(&blocks)
        }

        /// The images.
        pub fn images(&self) -> &[f32] {
            &self.x
        }
    }
}
