//! Files of features: `.npy` (as features and as labels), `.npz` and `.safetensors`, told by their first bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

const OPTIONS: &[(&str, &str)] = &[
    ("train-fraction", "0"),
    ("val-fraction", "0"),
    ("unit-length", "true"),
];

fuzz_target!(|bytes: &[u8]| {
    let read = |name: &str| {
        let path = kshot_fuzz::folder().join(name);
        let _ = kshot_fuzz::read_dataset(&format!("features:{}", path.display()), OPTIONS, None);
    };
    if bytes.starts_with(b"\x93NUMPY") {
        let right = npy("<f4", "(2, 1)", &[0; 8]);
        let labels = npy("<i8", "(2,)", &[0; 16]);
        kshot_fuzz::write("a.npy", bytes);
        kshot_fuzz::write("a.labels.npy", &labels);
        read("a.npy");
        kshot_fuzz::write("b.npy", &right);
        kshot_fuzz::write("b.labels.npy", bytes);
        read("b.npy");
        // The same in a zip, whose checksums are right then.
        kshot_fuzz::write("c.npz", &kshot_fuzz::zip(&[("x.npy", bytes), ("y.npy", &labels)]));
        read("c.npz");
    } else if bytes.starts_with(b"PK") {
        kshot_fuzz::write("d.npz", bytes);
        read("d.npz");
    } else {
        kshot_fuzz::write("e.safetensors", bytes);
        read("e.safetensors");
    }
});

/// An `.npy` file of format 1.0.
fn npy(kind: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}
