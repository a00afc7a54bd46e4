//! Picture files as `classify`, `enroll` and the server take them: head, decoding, scaling, ink.
#![no_main]

use std::path::Path;

use kshot::classifier::{Input, Polarity};
use kshot::data::ImageShape;
use kshot::data::folder::Fit;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if kshot_fuzz::is_large(bytes) {
        return;
    }
    // A line drawing, a photograph, and one that is inverted; the length says which, so that a seed is a plain file.
    let (polarity, channels, fit) = [
        (Polarity::Ink, 1, Fit::Pad),
        (Polarity::Light, 3, Fit::Crop),
        (Polarity::Dark, 1, Fit::Stretch),
    ][bytes.len() % 3];
    let input = Input {
        shape: ImageShape::square(28, channels),
        polarity,
        fit,
    };
    if let Ok(picture) = input.decode(bytes, Path::new("picture")) {
        assert_eq!(picture.pixels().len(), input.shape.len());
        assert!(picture.pixels().iter().all(|pixel| (0.0..=1.0).contains(pixel)));
    }
});
