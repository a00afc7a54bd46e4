use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::augment::Augment;
use crate::data::real;
use crate::episode::TaskShape;
use crate::options::Options;
use crate::sampler::Sampler;

mod damage;

/// What a test asks for; `..ask()` for the rest.
struct Ask<'a> {
    partition: &'a str,
    options: &'a [(&'a str, &'a str)],
    side: usize,
    channels: usize,
    seed: u64,
}

fn ask() -> Ask<'static> {
    Ask {
        partition: "official",
        options: &[],
        side: 28,
        channels: 1,
        seed: 1,
    }
}

fn open(data_dir: &Path, cache: &PixelCache, ask: &Ask<'_>) -> Result<Omniglot, DataError> {
    let given = ask
        .options
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    let request = OpenRequest {
        argument: String::new(),
        data_dir: Some(data_dir.to_owned()),
        partition: ask.partition.to_owned(),
        image_size: Some(ask.side),
        channels: Some(ask.channels),
        seed: ask.seed,
        options: Options::resolve(SPEC.options, &given).unwrap(),
    };
    Omniglot::open(&request, cache)
}

/// A folder with the tiny archives, and one for the cache.
fn tiny() -> (TempDir, TempDir) {
    let data = tempfile::tempdir().unwrap();
    tiny::write(data.path());
    (data, tempfile::tempdir().unwrap())
}

fn message(result: Result<Omniglot, DataError>) -> String {
    let message = result.err().expect("an error").to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

fn counts(dataset: &Omniglot) -> [(usize, usize); 3] {
    Part::ALL.map(|part| (dataset.classes(part).len(), dataset.classes(part).groups().len()))
}

fn names(dataset: &Omniglot, part: Part) -> Vec<&str> {
    dataset
        .classes(part)
        .classes()
        .iter()
        .map(|class| &*class.name)
        .collect()
}

fn image(dataset: &Omniglot, part: Part, class: usize, example: usize) -> Vec<f32> {
    let mut pixels = vec![f32::NAN; dataset.shape().len()];
    dataset.read(part, class, example, &mut pixels).unwrap();
    pixels
}

fn all_images(dataset: &Omniglot) -> Vec<Vec<f32>> {
    let of = |part: Part| (0..dataset.classes(part).len()).map(move |class| image(dataset, part, class, 1));
    Part::ALL.into_iter().flat_map(of).collect()
}

#[test]
fn the_published_archives_have_the_published_counts() {
    let Some(data) = real::folder("omniglot") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let cache = PixelCache::at(folder.path());
    let counts_of = |partition, options| {
        let dataset = open(
            &data,
            &cache,
            &Ask {
                partition,
                options,
                ..ask()
            },
        )
        .unwrap();
        assert_eq!(dataset.warnings(), [""; 0]);
        assert!(
            Part::ALL
                .iter()
                .all(|&p| dataset.classes(p).classes().iter().all(|c| c.n_examples == 20))
        );
        counts(&dataset)
    };
    assert_eq!(
        counts_of("official", &[]),
        [(4 * 813, 4 * 25), (151, 5), (659, 20)]
    );
    assert_eq!(
        counts_of("official", &[("rotations", "none")]),
        [(813, 25), (151, 5), (659, 20)]
    );
    assert_eq!(
        counts_of("official", &[("rotations", "all")]),
        [(4 * 813, 4 * 25), (4 * 151, 4 * 5), (4 * 659, 4 * 20)]
    );
    let classes = |counts: [(usize, usize); 3]| counts.map(|(classes, _)| classes);
    assert_eq!(classes(counts_of("vinyals", &[])), [4112, 688, 1692]);
    assert_eq!(
        classes(counts_of("vinyals", &[("rotations", "none")])),
        [1028, 172, 423]
    );
    assert_eq!(
        classes(counts_of("vinyals", &[("train-on", "trainval")])),
        [4800, 688, 1692]
    );
    assert_eq!(classes(counts_of("random", &[])), [4 * 1080, 120, 423]);
}

#[test]
fn ink_is_one_and_a_class_named_rot090_is_turned_counter_clockwise() {
    let (data, cache) = tiny();
    // Ink in the top right quarter but for a margin, to survive any size.
    let corner = tiny::png(|x, y| x >= 60 && y < 45);
    let files = (1..=2)
        .map(|n| {
            (
                format!("images_evaluation/X/character01/1_{n}.png"),
                corner.clone(),
            )
        })
        .collect();
    tiny::pack(&data.path().join("omniglot/images_evaluation.zip"), &files);
    let cache = PixelCache::at(cache.path());
    for side in [28, 105, 210] {
        let options = &[("rotations", "all")];
        let dataset = open(
            data.path(),
            &cache,
            &Ask {
                options,
                side,
                ..ask()
            },
        )
        .unwrap();
        let expected = [
            "X/character01",
            "X/character01/rot090",
            "X/character01/rot180",
            "X/character01/rot270",
        ];
        assert_eq!(names(&dataset, Part::Test), expected);
        // Corners at which the ink then is: top right, top left, bottom left, bottom right.
        let at = |r: usize, c: usize| (r * (side - 1)) * side + c * (side - 1);
        for (class, (r, c)) in [(0, 1), (0, 0), (1, 0), (1, 1)].into_iter().enumerate() {
            let pixels = image(&dataset, Part::Test, class, 1);
            for corner in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let expected = if corner == (r, c) { 1.0 } else { 0.0 };
                assert_eq!(
                    pixels[at(corner.0, corner.1)],
                    expected,
                    "class {class}, side {side}, {corner:?}"
                );
            }
            let mean = pixels.iter().sum::<f32>() / pixels.len() as f32;
            assert!((mean - 45.0 * 45.0 / (105.0 * 105.0)).abs() < 0.01, "mean {mean}");
        }
    }
}

#[test]
fn the_last_sixth_of_the_background_alphabets_validates_and_turned_alphabets_are_groups() {
    let (data, cache) = tiny();
    let cache = PixelCache::at(cache.path());
    let dataset = open(data.path(), &cache, &ask()).unwrap();
    assert_eq!(counts(&dataset), [(60, 20), (3, 1), (6, 2)]);
    assert_eq!(
        names(&dataset, Part::Val),
        ["F/character01", "F/character02", "F/character03"]
    );
    let groups = dataset.classes(Part::Train).groups();
    assert_eq!(groups[0], ("A".to_owned(), 0..3));
    assert_eq!(groups[1], ("A/rot090".to_owned(), 3..6));
    assert_eq!(names(&dataset, Part::Train)[4], "A/character02/rot090");
    let unlike = dataset.warnings();
    assert!(
        unlike[0].contains("images_background holds 18 characters and the published one 964"),
        "{unlike:?}"
    );
    assert!(
        unlike[2].contains("24 characters don't have the published 20 drawings"),
        "{unlike:?}"
    );
    let both = open(
        data.path(),
        &cache,
        &Ask {
            options: &[("train-on", "trainval")],
            ..ask()
        },
    )
    .unwrap();
    assert_eq!(counts(&both), [(72, 24), (3, 1), (6, 2)]);
}

#[test]
fn with_one_rotation_per_episode_no_episode_mixes_rotations() {
    let (data, cache) = tiny();
    let cache = PixelCache::at(cache.path());
    let request = Ask {
        options: &[("rotations", "episode")],
        ..ask()
    };
    let dataset: std::sync::Arc<dyn Dataset> =
        std::sync::Arc::new(open(data.path(), &cache, &request).unwrap());
    let rotation = |name: &str| {
        name.split_once("/rot")
            .map_or(0, |(_, angle)| angle.parse().unwrap())
    };
    for (part, classes) in [(Part::Train, 15), (Part::Test, 6)] {
        assert_eq!(dataset.classes(part).pools().len(), 4);
        let task = |n_way| TaskShape {
            n_way,
            n_shot: 1,
            n_query: 1,
        };
        for (few_groups, within) in [(0.0, false), (0.5, false), (0.0, true)] {
            let n_way = if within { 3 } else { 5 };
            let tasks = task(n_way).into();
            let sampler = Sampler::new(dataset.clone(), part, tasks, 1, within, Augment::default()).unwrap();
            let sampler = sampler.with_few_groups(few_groups);
            let mut seen = std::collections::BTreeSet::new();
            for index in 0..60 {
                let episode = sampler.episode(index).unwrap();
                let table = dataset.classes(part).classes();
                let of: std::collections::BTreeSet<u32> = episode
                    .classes
                    .iter()
                    .map(|&class| rotation(&table[class].name))
                    .collect();
                assert_eq!(of.len(), 1, "{part} {index}: {of:?}");
                seen.extend(of);
            }
            assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 90, 180, 270]);
        }
        // As many classes as characters, not as turned characters.
        let most = Sampler::new(
            dataset.clone(),
            part,
            task(classes).into(),
            1,
            false,
            Augment::default(),
        );
        assert!(most.is_ok());
        let error = Sampler::new(
            dataset.clone(),
            part,
            task(classes + 1).into(),
            1,
            false,
            Augment::default(),
        );
        let error = error.err().expect("too few classes").to_string();
        assert!(error.contains(&format!("there are {classes}")), "{error}");
    }
}

#[test]
fn generated_alphabets_are_not_turned_with_an_episode() {
    let (data, cache) = tiny();
    let given = [("rotations", "episode"), ("generated-alphabets", "2")];
    let given = given
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let request = OpenRequest {
        argument: String::new(),
        data_dir: Some(data.path().to_owned()),
        partition: "official".to_owned(),
        image_size: None,
        channels: None,
        seed: 1,
        options: Options::resolve(SPEC.options, &given).unwrap(),
    };
    let error = super::open(&request, &PixelCache::at(cache.path()))
        .err()
        .expect("an error")
        .to_string();
    assert!(error.contains("--generated-alphabets"), "{error}");
}

#[test]
fn zipped_and_unpacked_and_in_the_folder_itself_are_the_same() {
    let (data, cache) = tiny();
    let cache = PixelCache::at(cache.path());
    let zipped = open(data.path(), &cache, &ask()).unwrap();
    let unpacked = tempfile::tempdir().unwrap();
    tiny::sets()
        .iter()
        .for_each(|set| tiny::unpack(unpacked.path(), set));
    fs::write(
        unpacked.path().join("images_background/.hidden.png"),
        "no picture",
    )
    .unwrap();
    let unpacked = open(unpacked.path(), &cache, &ask()).unwrap();
    assert_eq!(names(&unpacked, Part::Train), names(&zipped, Part::Train));
    assert_eq!(all_images(&unpacked), all_images(&zipped));
    let direct = open(&data.path().join("omniglot"), &cache, &ask()).unwrap();
    assert_eq!(all_images(&direct), all_images(&zipped));
}

#[test]
fn three_channels_repeat_the_grey_one() {
    let (data, cache) = tiny();
    let cache = PixelCache::at(cache.path());
    let grey = image(&open(data.path(), &cache, &ask()).unwrap(), Part::Train, 3, 0);
    let colour = image(
        &open(data.path(), &cache, &Ask { channels: 3, ..ask() }).unwrap(),
        Part::Train,
        3,
        0,
    );
    assert_eq!(
        colour,
        grey.iter().flat_map(|&value| [value; 3]).collect::<Vec<_>>()
    );
}

#[test]
fn the_random_partition_follows_its_seed_and_no_class_lies_in_two_parts() {
    let (data, cache) = tiny();
    let cache = PixelCache::at(cache.path());
    let parts = |seed| {
        let options = &[("rotations", "none")];
        let dataset = open(
            data.path(),
            &cache,
            &Ask {
                partition: "random",
                options,
                seed,
                ..ask()
            },
        )
        .unwrap();
        Part::ALL.map(|part| {
            names(&dataset, part)
                .iter()
                .map(|name| name.to_string())
                .collect::<Vec<_>>()
        })
    };
    let one = parts(1);
    assert_eq!(one, parts(1));
    assert_ne!(one, parts(2));
    assert_eq!(one.each_ref().map(Vec::len), [17, 1, 6]);
    let all: std::collections::BTreeSet<_> = one.iter().flatten().collect();
    assert_eq!(all.len(), 24);
}

#[test]
fn the_vinyals_partition_is_what_its_files_list() {
    let (data, cache) = tiny();
    let cache = PixelCache::at(cache.path());
    let train = "B/character02/rot000\nB/character02/rot180\nA/character01/rot000\n\n";
    tiny::write_splits(data.path(), train, "C/character01/rot090\n", "X/character03\r\n");
    let dataset = |options| {
        open(
            data.path(),
            &cache,
            &Ask {
                partition: "vinyals",
                options,
                ..ask()
            },
        )
        .unwrap()
    };
    let listed = dataset(&[]);
    assert_eq!(
        names(&listed, Part::Train),
        ["A/character01", "B/character02", "B/character02/rot180"]
    );
    assert_eq!(names(&listed, Part::Val), ["C/character01/rot090"]);
    assert_eq!(names(&listed, Part::Test), ["X/character03"]);
    assert_eq!(
        names(&dataset(&[("rotations", "none")]), Part::Val),
        ["C/character01"]
    );
    assert_eq!(
        counts(&dataset(&[("rotations", "all")])).map(|count| count.0),
        [8, 4, 4]
    );
}

#[test]
fn a_split_file_that_is_wrong_or_missing_is_named_with_its_line() {
    let (data, cache) = tiny();
    let cache = PixelCache::at(cache.path());
    let message = || {
        message(open(
            data.path(),
            &cache,
            &Ask {
                partition: "vinyals",
                ..ask()
            },
        ))
    };
    assert!(
        message()
            .contains("splits/vinyals/train.txt is not there; put train.txt, val.txt and test.txt there")
    );
    let val = "C/character01/rot000\n";
    for (test, expected) in [
        (
            "X/character01/rot000\nX/character99/rot000\n",
            "test.txt: line 2: no character `X/character99`",
        ),
        (
            "X/character01/rot45\n",
            "test.txt: line 1: expected Alphabet/characterNN/rotRRR",
        ),
        ("X\n", "found `X`"),
        ("X/character01/rot000/more\n", "found `X/character01/rot000/more`"),
        (
            "\nC/character01/rot000\n",
            "test.txt: line 2: `C/character01/rot000` is listed before, in val.txt line 1",
        ),
    ] {
        tiny::write_splits(data.path(), "A/character01/rot000\n", val, test);
        assert!(message().contains(expected), "{}", message());
    }
    fs::write(data.path().join("omniglot/splits/vinyals/val.txt"), [0xff, 0xfe]).unwrap();
    assert!(message().contains("val.txt: not UTF-8 text"), "{}", message());
}

#[test]
fn what_is_missing_or_out_of_range_is_said() {
    let empty = tempfile::tempdir().unwrap();
    let none = PixelCache::at(empty.path().join("cache"));
    let text = message(open(empty.path(), &none, &ask()));
    assert!(
        text.contains("omniglot/images_background.zip is not there; get it with `kshot data fetch omniglot`")
    );
    let (data, _cache) = tiny();
    let text = message(open(
        data.path(),
        &none,
        &Ask {
            partition: "offical",
            ..ask()
        },
    ));
    assert_eq!(text, "unknown partition `offical`; did you mean `official`?");
    let text = message(open(data.path(), &none, &Ask { side: 600, ..ask() }));
    assert_eq!(
        text,
        "omniglot: images have 8 to 512 pixels a side and 1 or 3 channels, asked for 600 and 1"
    );
    let dataset = open(data.path(), &none, &ask()).unwrap();
    let error = |class, example, length| {
        dataset
            .read(Part::Val, class, example, &mut vec![0.0; length])
            .unwrap_err()
            .to_string()
    };
    assert_eq!(error(3, 0, 784), "omniglot: class 3 of val, which has 3");
    assert_eq!(
        error(2, 2, 784),
        "omniglot: example 2 of F/character03, which has 2"
    );
    assert_eq!(
        error(2, 1, 783),
        "omniglot: an image of 28x28x1 takes 784 values, not 783"
    );
}

#[test]
fn generated_alphabets_are_training_classes_beside_its_own() {
    let (data, cache) = tiny();
    let cache = PixelCache::at(cache.path());
    let request = |count: &str| {
        let given = [("generated-alphabets".to_owned(), count.to_owned())].into();
        OpenRequest {
            argument: String::new(),
            data_dir: Some(data.path().to_owned()),
            partition: "official".to_owned(),
            image_size: Some(28),
            channels: Some(1),
            seed: 1,
            options: Options::resolve(SPEC.options, &given).unwrap(),
        }
    };
    let (plain, mixed) = (
        super::open(&request("0"), &cache).unwrap(),
        super::open(&request("2"), &cache).unwrap(),
    );
    for part in [Part::Val, Part::Test] {
        assert_eq!(mixed.classes(part).classes(), plain.classes(part).classes());
    }
    let (own, all) = (plain.classes(Part::Train), mixed.classes(Part::Train));
    assert_eq!(all.groups().len(), own.groups().len() + 2);
    assert_eq!(all.classes()[..own.len()], *own.classes());
    assert!(all.classes()[own.len()].name.starts_with("alphabet"));
    let read = |dataset: &dyn Dataset, class: usize| {
        let mut pixels = vec![0.5; dataset.shape().len()];
        dataset.read(Part::Train, class, 1, &mut pixels).unwrap();
        pixels
    };
    for class in [0, own.len() - 1] {
        assert_eq!(read(mixed.as_ref(), class), read(plain.as_ref(), class));
    }
    let generated = glyphs::training(2, 1, plain.shape()).unwrap();
    let last = all.len() - 1;
    assert_eq!(
        read(mixed.as_ref(), last),
        read(generated.as_ref(), last - own.len())
    );
    let mut pixels = vec![0.0; 784];
    assert!(mixed.read(Part::Train, all.len(), 0, &mut pixels).is_err());
}
