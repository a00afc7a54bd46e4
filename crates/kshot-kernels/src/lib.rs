//! The convolution block of few-shot encoders on the CPU: slices in, slices out.

mod block;
pub mod plain;
mod shape;

pub use block::{
    Gradients, Saved, TangentGradients, TangentSaved, Tangents, backward, forward, infer, tangent_backward,
    tangent_forward,
};
pub use shape::{Activation, BlockShape, ShapeError};
