//! Checkpoint folders: `state.json` up to the first zero byte of the input, the rest the arrays, with right checksums.
#![no_main]

use kshot::checkpoint::Checkpoint;
use kshot::model_file::ModelFile;
use kshot::trained::Trained;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fuzz_target!(|bytes: &[u8]| {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let (state, rest) = bytes.split_at(end);
    let arrays = rest.get(1..).unwrap_or_default();
    let state = match serde_json::from_slice(state) {
        Ok(Value::Object(mut state)) => {
            // Without one of its own it is taken as it is.
            state.remove("checksum");
            let checksum = crc32(arrays);
            state.insert(
                "checksums".to_owned(),
                json!({"weights.safetensors": checksum, "training.safetensors": checksum}),
            );
            Value::Object(state).to_string().into_bytes()
        }
        _ => state.to_owned(),
    };
    kshot_fuzz::write("checkpoint/weights.safetensors", arrays);
    kshot_fuzz::write("checkpoint/training.safetensors", arrays);
    let path = kshot_fuzz::write("checkpoint/state.json", &state);
    let path = path.parent().expect("it lies in a folder");
    if let Ok(checkpoint) = Checkpoint::load(path)
        && let Ok(file) = ModelFile::from_checkpoint("model", checkpoint, path)
    {
        let _ = Trained::new(file, path);
    }
});

/// CRC-32 as zip files and checkpoints have it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}
