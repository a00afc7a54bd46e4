//! The papers' table on Omniglot with ours beside it: what is planned, what is there already, and the table of both.
//!
//! What a paper printed and how its numbers are reproduced stands in the method's own file
//! ([`MethodSpec::rows`](crate::method::MethodSpec::rows)); nothing here names a method. A [`Plan`] makes run folders and
//! commands of it, [`Run::state`] says how far each training has come, [`tested`] keeps the evaluations that were made,
//! and [`Table::gather`] reads all of that from disk, so that a table can be written at any moment. Where run folders are
//! elsewhere or gone, the finished results of [`Earlier`] tables stand in for them ([`Plan::keep`]).

mod dots;
mod earlier;
mod html;
mod json;
mod kept;
mod markdown;
mod outcome;
mod plan;
mod presented;
mod row;
mod state;
mod table;
pub mod tested;

pub use crate::report::escape::{line, shell};
pub use earlier::Earlier;
pub use kept::Kept;
pub use outcome::{Outcome, Validation};
pub use plan::{Plan, Protocol, Request, Run, SEED, TEST_EPISODES, Trial};
pub use row::{
    ALONE, COLUMNS, Column, Measure, Planned, Published, RUNNING, Row, Setup, TRANSDUCTIVE, Test, W5S1, W5S5,
    W20S1, W20S5,
};
pub use state::State;
pub use table::{Cell, Form, Ours, Status, Table, Trained};

#[cfg(test)]
mod tests;
