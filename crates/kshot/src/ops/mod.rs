//! Tensor operations of our own.

mod composed;
pub mod conv_block;
pub mod coordinates;
mod flex;
mod fused;
pub mod layered;
