//! Zips: Omniglot's archives, and the archive of Lake's one-shot runs.
#![no_main]

use std::sync::Once;

use kshot::data::omniglot::lake;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: nothing else runs yet. Without a cache every input is decoded.
        unsafe { std::env::set_var("KSHOT_CACHE", "") };
        let drawing = kshot_fuzz::drawing();
        let zip = kshot_fuzz::zip(&[("images_evaluation/Tiny/character01/0001_01.png", &drawing)]);
        kshot_fuzz::write("omniglot/images_evaluation.zip", &zip);
    });
    kshot_fuzz::write("omniglot/images_background.zip", bytes);
    kshot_fuzz::write("omniglot/all_runs.zip", bytes);
    let _ = kshot_fuzz::read_dataset("omniglot", &[], Some(8));
    let _ = lake::one_shot_runs(kshot_fuzz::folder(), 8);
});
