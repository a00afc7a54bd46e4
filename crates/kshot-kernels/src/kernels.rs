//! The inner loops, written once over [`Simd`](crate::simd::Simd) and compiled once per instruction set.
//!
//! All of them work on one image (or a few) and on raw pointers into buffers whose channel count is a
//! multiple of 16; the safe code around them ([`crate::forward`] and its neighbours) sizes the buffers.

pub mod coordinates;
pub mod direct;
pub mod ending;
pub mod epilogue;
pub mod memory;
pub mod patches;
pub mod rule;
pub mod winograd;
