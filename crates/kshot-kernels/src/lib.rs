//! The convolution block of few-shot encoders on the CPU: slices in, slices out.

mod backward;
mod buffer;
mod dispatch;
mod engine;
mod forward;
mod kernels;
mod parameters;
mod patches;
pub mod plain;
mod plan;
mod saved;
mod shape;
mod simd;
mod statistics;
mod tangent;
mod weight;

pub use backward::{Gradients, backward};
pub use buffer::release_memory;
pub use dispatch::{SIMD_VARIABLE, SimdLevel, UnsupportedSimd, with_simd_level};
pub use forward::{forward, forward_new, infer, infer_new};
pub use saved::Saved;
pub use shape::{Activation, BlockShape, ShapeError};
pub use tangent::{TangentGradients, TangentSaved, Tangents, tangent_backward, tangent_forward};
