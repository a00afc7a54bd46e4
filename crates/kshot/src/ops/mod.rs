//! Tensor operations of our own.

mod composed;
pub mod conv_block;
mod fused;
pub mod join;
