//! The convolution block of few-shot encoders on the CPU: slices in, slices out.
//!
//! A block is a 3×3 or 1×1 convolution → batch norm (optional) → activation → 2×2 max-pool (optional), in `f32` and NHWC.
//! Nearly all the time of a few-shot learner goes into it. This crate knows no tensor framework, no method and no file.
//!
//! | function | what it does |
//! |---|---|
//! | [`forward`], [`forward_new`] | training forward pass with batch statistics, per group of images |
//! | [`backward`] | gradients with respect to input, weight, gamma and beta |
//! | [`infer`], [`infer_new`] | a given scale and shift in the place of the norm |
//! | [`Inference`] | the same for blocks that follow one another, prepared once |
//! | [`join_forward`], [`join_backward`] | the end of a residual block: sum, leaky ReLU, pool |
//! | [`pairs_forward`], [`pairs_backward`], [`pairs_infer`] | norm, ReLU and pool over all pairs of two sets of maps |
//! | [`CoordinateLstm`], [`CoordinateMlp`] | small networks with shared weights on each of many coordinates, and their gradients |
//! | [`UpdateRule`] | a recurrent rule that moves each of many coordinates by its own gradient, and its gradients |
//! | [`MemoryNetwork`] | an LSTM with a memory that it reads by similarity, over whole sequences, and its gradients |
//! | [`tangent_forward`], [`tangent_backward`] | directional derivative and its gradients: Hessian-vector products |
//!
//! ```
//! use kshot_kernels::{Activation, BlockShape, backward, forward_new};
//!
//! let shape = BlockShape {
//!     images: 10, height: 28, width: 28, c_in: 1, c_out: 64, kernel: 3, padding: 1,
//!     pool: true, norm: true, groups: 1, activation: Activation::Relu,
//! };
//! shape.validate()?;
//! let (x, w) = (vec![0.5; shape.input_len()], vec![0.1; shape.weight_len()]);
//! let (gamma, beta) = (vec![1.0; 64], vec![0.0; 64]);
//! let (out, saved) = forward_new(&shape, &x, &w, &gamma, &beta, 1e-5);
//! let gradients = backward(&shape, &x, &w, &gamma, &saved, &out, false);
//! assert_eq!(gradients.weight.len(), w.len());
//! # Ok::<(), kshot_kernels::ShapeError>(())
//! ```
//!
//! # What holds
//!
//! - **Same bits on any number of threads.** The batch is cut into chunks by its shape alone, and sums over chunks are
//!   taken in their order. Another instruction set may round differently.
//! - **NaN propagates** through activation and pool as through the plain formulas; a window with a NaN gives NaN. Winograd's convolution
//!   makes NaN of the whole tile that sees a NaN or an infinity (with a norm the channel is lost either way); other images don't change. Of equal
//!   values in a window the first wins, and its gradient goes there.
//! - **Any valid shape is right**, whatever its sizes; the fast paths are for channel counts that are multiples of 16.
//! - Work runs on the `rayon` pool of the caller. Who makes many short calls one after another makes them within
//!   [`on_awake_threads`].
//!
//! # How it is fast
//!
//! - One source for all instruction sets: AVX-512, AVX2 with FMA, NEON and plain Rust. [`SimdLevel::current`] is the widest
//!   that the machine has; the environment variable `KSHOT_SIMD` (`portable`, `neon`, `avx2`, `avx512`) forces one. A value
//!   that isn't one of these, or that the machine lacks, is reported on standard error and ignored.
//! - 3×3 convolutions between multiples of 16 channels go through Winograd's F(4×4, 3×3), in both directions; a size
//!   that isn't a multiple of 4 ends in smaller tiles instead of padded ones. Inference of even sizes takes tiles
//!   of 6×6, a fifth fewer products at four times the rounding error.
//! - With up to 32 inputs per window (a first layer), batch statistics and weight gradient follow from the covariance of
//!   the input's patches, and the layer's large map is never written.
//! - The sign of gamma says which pixel of a pool window wins before the statistics are known; so the map is pooled while it
//!   is in the cache.
//! - The gradient of the convolution's output is formed image by image in the cache and used at once for both gradients.
//! - [`Inference`] takes a few images at a time through all blocks, so that what lies between them stays in the cache; each block
//!   writes into the next one's border. The norm's scale is within the prepared weight.
//! - A direct convolution ends in its registers: pool, norm and activation follow before anything is stored.
//! - Large scratch memory is kept for later calls by the whole process, up to 512 MiB ([`release_memory`] gives it back): threads of a
//!   pool come and go, and pages that the system hands out anew must be cleared first.
//!
//! [`plain`] is the same block in plain `f64`, which everything here is tested against.

mod backward;
mod buffer;
mod coordinates;
mod differentiator;
mod dispatch;
mod engine;
mod forward;
mod inference;
mod join;
mod kernels;
mod memory;
mod pairs;
mod parallel;
mod parameters;
mod patches;
pub mod plain;
mod plan;
mod rule;
mod saved;
mod shape;
mod simd;
mod statistics;
mod tangent;
mod weight;

pub use backward::{Gradients, backward};
pub use buffer::release_memory;
pub use coordinates::{COORDINATE_HIDDEN, CoordinateLstm, CoordinateMlp};
pub use dispatch::{SIMD_VARIABLE, SimdLevel, UnsupportedSimd, with_simd_level};
pub use engine::{Algorithm, with_algorithm};
pub use forward::{forward, forward_new};
pub use inference::{Inference, InferenceBlock, infer, infer_new};
pub use join::{JoinShape, join_backward, join_forward};
pub use memory::{MemoryGradients, MemoryNetwork, MemoryTape};
pub use pairs::{PairsGradients, PairsSaved, PairsShape, pairs_backward, pairs_forward, pairs_infer};
pub use parallel::on_awake_threads;
pub use rule::{RuleGradients, RuleInputs, RuleState, UpdateRule};
pub use saved::Saved;
pub use shape::{Activation, BlockShape, ShapeError};
pub use tangent::{TangentGradients, TangentSaved, Tangents, tangent_backward, tangent_forward};
