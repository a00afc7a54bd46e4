//! Tensor operations of our own.

mod composed;
pub mod conv_block;
pub mod convolution;
mod fused;
pub mod join;
pub mod pairs;
