//! Model files: the safetensors around them, their description, and the model that it asks for.
//!
//! What begins with `{` is a description up to the first zero byte, and the rest one array: so that what is inside of the
//! format is reached as well. Anything else is a file as it is.
#![no_main]

use std::path::Path;

use kshot::named::{self, Named};
use kshot::trained::Trained;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("model");
    if bytes.first() != Some(&b'{') {
        let _ = Trained::from_bytes(bytes, path);
        return;
    }
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let (text, rest) = bytes.split_at(end);
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let values: Vec<f32> = rest
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();
    let array = Named {
        name: "encoder.blocks.0.beta".to_owned(),
        shape: vec![values.len()],
        values,
    };
    if let Ok(file) = named::to_described_bytes(&[array], Some(("kshot", text)), None, path) {
        let _ = Trained::from_bytes(&file, path);
    }
});
