//! kshot: learning from a few examples.

pub mod data;
pub mod options;
pub mod random;
mod suggest;
