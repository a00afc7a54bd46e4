//! The papers' table on Omniglot with ours beside it: what is planned, what is there already, and the table of both.
//!
//! What a paper printed and how its numbers are reproduced stands in the method's own file
//! ([`MethodSpec::rows`](crate::method::MethodSpec::rows)); nothing here names a method. A [`Plan`] makes run folders and
//! commands of it, [`Run::state`] says how far each training has come, [`tested`] keeps the evaluations that were made,
//! and [`Table::gather`] reads all of that from disk, so that a table can be written at any moment.

mod dots;
mod html;
mod json;
mod markdown;
mod plan;
mod presented;
mod row;
mod state;
mod table;
pub mod tested;

pub use crate::report::escape::shell;
pub use plan::{Plan, Protocol, Request, Run, SEED, TEST_EPISODES, Trial};
pub use row::{
    COLUMNS, Column, Measure, Planned, Published, RUNNING, Row, Setup, Test, W5S1, W5S5, W20S1, W20S5,
};
pub use state::State;
pub use table::{Cell, Form, Ours, Status, Table, Trained};

#[cfg(test)]
mod tests;
