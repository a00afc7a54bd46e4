//! PyTorch's files, imported as either half of a relation network.
//!
//! A zip and a pickle of the older kind are files as they are; a pickle is also read as `data.pkl` of a zip, whose
//! checksums are right then.
#![no_main]

use std::path::Path;

use kshot::import;
use libfuzzer_sys::fuzz_target;

const ENCODER: &[u8] = include_bytes!("../../crates/kshot/tests/golden/import/encoder.pt");
const MODULE: &[u8] = include_bytes!("../../crates/kshot/tests/golden/import/module.pt");

fuzz_target!(|bytes: &[u8]| {
    let file = kshot_fuzz::write("fuzzed.pt", bytes);
    import_with_others(&file);
    if !bytes.starts_with(b"PK") {
        let storage = [0; 64];
        let zip = kshot_fuzz::zip(&[
            ("archive/data.pkl", bytes),
            ("archive/byteorder", b"little"),
            ("archive/data/0", &storage),
            ("archive/data/1", &storage),
            ("archive/version", b"3\n"),
        ]);
        import_with_others(&kshot_fuzz::write("fuzzed.zip.pt", &zip));
    }
});

fn import_with_others(file: &Path) {
    for (name, other) in [("encoder.pt", ENCODER), ("module.pt", MODULE)] {
        let other = kshot_fuzz::write(name, other);
        let _ = import::checkpoint("relation", &[file.to_owned(), other], None);
    }
}
