//! Tensor operations of our own.

pub mod chain;
mod composed;
pub mod conv_block;
pub mod convolution;
pub mod coordinates;
mod flex;
mod fused;
pub mod join;
pub mod layered;
pub mod lstm;
pub mod memory;
pub mod pairs;
