//! Tensor operations of our own.

pub mod conv_block;
mod composed;
mod fused;
