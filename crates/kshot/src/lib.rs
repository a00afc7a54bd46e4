//! kshot: learning from a few examples.

pub mod augment;
pub mod average;
pub mod block;
pub mod checkpoint;
pub mod data;
pub mod device;
pub mod encoder;
pub mod episode;
pub mod error;
pub mod eval;
mod files;
pub mod import;
pub mod lake;
pub mod layers;
pub mod learner;
pub mod meta_batch;
pub mod method;
pub mod model;
pub mod named;
pub mod norm;
pub mod ops;
pub mod optimizer;
pub mod options;
pub mod parameters;
pub mod random;
pub mod record;
pub mod report;
pub mod run;
pub mod sampler;
pub mod schedule;
pub mod settings;
mod suggest;
pub mod trace;
pub mod train;
pub mod transfer;

pub use error::Error;
