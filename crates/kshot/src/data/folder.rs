//! (being written)
use super::{registry::{DatasetSpec, OpenRequest}, DataError, Dataset};
/// spec
pub static SPEC: DatasetSpec = DatasetSpec { name: "folder", argument: "", summary: "", source: "", partitions: &["x"], options: &[], open };
fn open(_: &OpenRequest) -> Result<Box<dyn Dataset>, DataError> { Err(DataError::Option{dataset:"folder".into(), problem:"x".into()}) }
