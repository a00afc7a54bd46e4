//! Other programs' checkpoints: the same scores as there, and one clear error for everything else.
//!
//! The files of `golden/import/` were made by `bench/reference/relation_checkpoint.py`.

use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use kshot::checkpoint::Checkpoint;
use kshot::data::ImageShape;
use kshot::episode::Support;
use kshot::import;
use kshot::learner::logits_on_host;
use kshot::model;
use kshot::named::{self, Named};
use kshot::norm::Norm;
use kshot::settings::Settings;

const IMAGE: ImageShape = ImageShape::square(28, 1);
const N_SUPPORT: usize = 10;
const N_QUERIES: usize = 15;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/import")
        .join(name)
}

fn imported(files: &[&str]) -> Result<Checkpoint, kshot::Error> {
    let paths: Vec<PathBuf> = files.iter().map(|name| golden(name)).collect();
    import::checkpoint("relation", &paths, None)
}

#[track_caller]
fn refusal(files: &[PathBuf]) -> String {
    let error = import::checkpoint("relation", files, None).expect_err("a refusal");
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

fn array<'a>(arrays: &'a [Named], name: &str) -> &'a [f32] {
    &arrays.iter().find(|array| array.name == name).unwrap().values
}

#[test]
fn an_imported_pair_scores_as_it_does_in_pytorch_under_both_norms() {
    let path = golden("expected.safetensors");
    let expected = named::from_bytes(&std::fs::read(&path).unwrap(), &path).unwrap();
    let images = array(&expected, "images");
    for files in [["encoder.pt", "module.pt"], ["module.pkl", "encoder.pkl"]] {
        let checkpoint = imported(&files).unwrap();
        let settings = Settings::resolve(&[&checkpoint.settings]).unwrap();
        let learner = model::with_weights(&settings, IMAGE, &checkpoint.weights, &path).unwrap();
        let batch = |from: usize, n: usize| {
            let values = images[from * IMAGE.len()..(from + n) * IMAGE.len()].to_vec();
            Tensor::<4>::from_data(TensorData::new(values, [n, 28, 28, 1]), learner.device())
        };
        let support = Support {
            images: batch(0, N_SUPPORT),
            labels: (0..N_SUPPORT).map(|index| index / 2).collect(),
            n_way: 5,
        };
        for norm in [Norm::Running, Norm::Episode] {
            let task = learner.adapt(&support, norm).unwrap();
            let scores = learner.score(&task, batch(N_SUPPORT, N_QUERIES), norm).unwrap();
            let found = logits_on_host(scores.logits);
            let expected = array(&expected, &format!("{norm}.scores"));
            let worst = found
                .iter()
                .zip(expected)
                .fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()));
            assert!(worst < 2e-5, "{files:?} {norm}: log r differs by {worst:e}");
        }
    }
}

#[test]
fn both_formats_give_the_same_checkpoint_and_the_settings_of_the_authors_test() {
    let zip = imported(&["encoder.pt", "module.pt"]).unwrap();
    assert_eq!(zip, imported(&["module.pkl", "encoder.pkl"]).unwrap());
    for (name, value) in [
        ("norm", "episode"),
        ("image-size", "28"),
        ("filters", "6"),
        ("relation-filters", "5"),
        ("relation-padding", "1"),
    ] {
        assert_eq!(zip.settings[name], value, "{name}");
    }
}

#[test]
fn a_pair_that_is_none_is_refused() {
    let both = |files: [&str; 2]| refusal(&files.map(golden));
    assert!(both(["encoder.pt", "encoder.pkl"]).contains("neither file is a relation module"));
    assert!(both(["module.pt", "module.pkl"]).contains("both files are relation modules"));
    let one = refusal(&[golden("encoder.pt")]);
    assert!(one.contains("two files") && one.contains("found 1"), "{one}");
    let size = import::checkpoint("relation", &["encoder.pt", "module.pt"].map(golden), Some(100));
    let size = size.err().unwrap().to_string();
    assert!(size.contains("100x100") && size.contains("fc1.weight"), "{size}");
    let method = import::checkpoint("relations", &[], None)
        .err()
        .unwrap()
        .to_string();
    assert!(method.contains("did you mean `relation`"), "{method}");
}

/// `content` as a file beside the golden ones.
fn file(folder: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

#[test]
fn nothing_in_a_pickle_is_run() {
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("marker");
    let command = format!("touch {}", marker.display());
    // os.system(command), in the oldest protocol's letters: alone, and as a value of a dictionary.
    let call = format!("cos\nsystem\n(V{command}\ntR");
    let alone = file(folder.path(), "alone.pkl", format!("{call}.").as_bytes());
    let value = format!("(dVlayer1.0.weight\n{call}s.");
    let value = file(folder.path(), "value.pkl", value.as_bytes());
    for path in [alone, value] {
        let text = refusal(&[path.clone(), golden("module.pt")]);
        assert!(text.contains(&path.display().to_string()), "{text}");
        assert!(text.contains("system"), "{text}");
    }
    assert!(!marker.exists());
}

#[test]
fn sizes_beyond_the_file_are_refused_before_they_are_allocated() {
    let folder = tempfile::tempdir().unwrap();
    let text = refusal(&[golden("expanded.pt"), golden("module.pt")]);
    assert!(text.contains("expanded.pt"), "{text}");
    // A text of 4 GiB, a memo place of 4 billion, marks without end, and tuples in tuples.
    let deep = [&b"\x80\x02"[..], &b"(".repeat(1 << 20), b"."].concat();
    let nested = [&b"\x80\x02)"[..], &b"\x85".repeat(1 << 20), b"."].concat();
    for (name, bytes) in [
        ("text.pkl", &b"\x80\x02X\xff\xff\xff\xffabc"[..]),
        ("memo.pkl", b"\x80\x02}r\xff\xff\xff\xff."),
        ("deep.pkl", &deep),
        ("nested.pkl", &nested),
        ("empty.pkl", b""),
    ] {
        let path = file(folder.path(), name, bytes);
        assert!(refusal(&[path, golden("module.pt")]).contains(name), "{name}");
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["encoder.pt", "encoder.pkl"] {
        let whole = std::fs::read(golden(name)).unwrap();
        for part in 0..40 {
            let path = file(folder.path(), name, &whole[..whole.len() * part / 40]);
            let text = refusal(&[path, golden("module.pt")]);
            assert!(text.contains(name), "{text}");
        }
    }
}

#[test]
fn a_damaged_file_is_refused_or_read_but_never_more() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["encoder.pt", "encoder.pkl"] {
        let whole = std::fs::read(golden(name)).unwrap();
        for turn in 0..300usize {
            let mut damaged = whole.clone();
            // Spread by the golden ratio; in the old format the pickle itself is in the first bytes.
            let reach = if turn % 2 == 0 {
                damaged.len()
            } else {
                damaged.len().min(2500)
            };
            let place = (turn as f64 * 0.618_034).fract() * reach as f64;
            damaged[place as usize] ^= 1 << (turn % 8);
            let path = file(folder.path(), name, &damaged);
            if let Err(error) = import::checkpoint("relation", &[path, golden("module.pt")], None) {
                assert!(!error.to_string().contains('\n'), "{error}");
            }
        }
    }
}
