//! What a build without the feature `onnx` has in place of an engine.

/// No model can be made.
#[derive(Debug)]
pub enum Engine {}

impl Engine {
    /// Says how to get a build that can.
    pub fn load(_bytes: &[u8], _sizes: [usize; 4], _output: &str) -> Result<Self, String> {
        Err("this kshot was built without ONNX models; build it with --features onnx".to_owned())
    }

    pub fn run(&self, _values: &[f32]) -> Result<Vec<f32>, String> {
        match *self {}
    }
}
