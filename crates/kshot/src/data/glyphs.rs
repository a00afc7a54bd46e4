//! (being written)
use super::{registry::{DatasetSpec, OpenRequest}, DataError, Dataset};
/// spec
pub static SPEC: DatasetSpec = DatasetSpec { name: "glyphs", argument: "", summary: "", source: "", partitions: &["x"], options: &[], open };
fn open(_: &OpenRequest) -> Result<Box<dyn Dataset>, DataError> { Err(DataError::Option{dataset:"glyphs".into(), problem:"x".into()}) }
