use std::time::Instant;

use super::*;
use crate::data::real;
use crate::options::Options;

fn request(data_dir: &Path, partition: &str, options: &[(&str, &str)]) -> OpenRequest {
    let given = options
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    OpenRequest {
        argument: String::new(),
        data_dir: Some(data_dir.to_owned()),
        partition: partition.to_owned(),
        image_size: None,
        channels: None,
        seed: 1,
        options: Options::resolve(SPEC.options, &given).unwrap(),
    }
}

fn counts(dataset: &Omniglot) -> [(usize, usize); 3] {
    Part::ALL.map(|part| (dataset.classes(part).len(), dataset.classes(part).groups().len()))
}

#[test]
fn the_published_archives_have_the_published_counts() {
    let Some(data) = real::folder("omniglot") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let cache = PixelCache::at(folder.path());
    let open = |partition, options: &[(&str, &str)]| {
        let start = Instant::now();
        let dataset = Omniglot::open(&request(&data, partition, options), &cache).unwrap();
        eprintln!("{partition} {options:?}: {:.3} s", start.elapsed().as_secs_f64());
        assert_eq!(dataset.warnings(), [""; 0]);
        dataset
    };
    let official = open("official", &[]);
    assert_eq!(counts(&official), [(4 * 813, 4 * 25), (151, 5), (659, 20)]);
    assert_eq!(
        counts(&open("official", &[("rotations", "none")])),
        [(813, 25), (151, 5), (659, 20)]
    );
    assert_eq!(
        counts(&open("official", &[("rotations", "all")])),
        [(4 * 813, 4 * 25), (4 * 151, 4 * 5), (4 * 659, 80)]
    );
    let vinyals = open("vinyals", &[]);
    assert_eq!(counts(&vinyals).map(|count| count.0), [4112, 688, 1692]);
    assert_eq!(
        counts(&open("vinyals", &[("rotations", "none")])).map(|count| count.0),
        [1028, 172, 423]
    );
    assert_eq!(
        counts(&open("vinyals", &[("train-on", "trainval")])).map(|count| count.0),
        [4800, 688, 1692]
    );
    assert_eq!(
        counts(&open("random", &[("rotations", "none")])).map(|count| count.0),
        [1080, 120, 423]
    );
    let mut pixels = vec![0.0; 784];
    let start = Instant::now();
    let mut reads = 0;
    let mut sum = 0.0;
    for class in 0..vinyals.classes(Part::Train).len() {
        for example in 0..20 {
            vinyals.read(Part::Train, class, example, &mut pixels).unwrap();
            sum += f64::from(pixels.iter().sum::<f32>());
            reads += 1;
        }
    }
    eprintln!(
        "{:.0} ns per read and sum, mean ink {:.4}",
        start.elapsed().as_nanos() as f64 / f64::from(reads),
        sum / f64::from(reads) / 784.0
    );
}
