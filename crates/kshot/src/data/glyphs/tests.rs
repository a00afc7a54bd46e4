//! What the procedural dataset promises.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::registry::OpenRequest;
use super::super::{DataError, Dataset, Part};
use super::SPEC;

fn try_open(
    side: usize,
    channels: usize,
    seed: u64,
    options: &[(&str, &str)],
) -> Result<Box<dyn Dataset>, DataError> {
    let given: BTreeMap<_, _> = options
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    (SPEC.open)(&OpenRequest {
        argument: String::new(),
        data_dir: None,
        partition: "seeded".to_owned(),
        image_size: Some(side),
        channels: Some(channels),
        seed,
        options: SPEC.options(&given).unwrap(),
    })
}

fn small(seed: u64) -> Box<dyn Dataset> {
    try_open(28, 1, seed, &[("alphabets", "12")]).unwrap()
}

fn image(glyphs: &dyn Dataset, part: Part, class: usize, example: usize) -> Vec<f32> {
    let mut pixels = vec![7.0; glyphs.shape().len()];
    glyphs.read(part, class, example, &mut pixels).unwrap();
    pixels
}

fn ink(pixels: &[f32]) -> f32 {
    pixels.iter().sum::<f32>() / pixels.len() as f32
}

#[test]
fn an_image_depends_on_nothing_but_its_place() {
    let (one, other) = (small(3), small(3));
    let n = one.classes(Part::Train).len();
    let places: Vec<(usize, usize)> = (0..60).map(|i| (i * 37 % n, i % 20)).collect();
    let forward: Vec<_> = places
        .iter()
        .map(|&(class, example)| image(&*one, Part::Train, class, example))
        .collect();
    let backward = std::thread::scope(|scope| {
        let (first, second) = places.split_at(30);
        let read = |places: &[(usize, usize)]| -> Vec<Vec<f32>> {
            let mut images: Vec<_> = places
                .iter()
                .rev()
                .map(|&(c, e)| image(&*other, Part::Train, c, e))
                .collect();
            images.reverse();
            images
        };
        let ahead = scope.spawn(move || read(first));
        let behind = read(second);
        [ahead.join().unwrap(), behind].concat()
    });
    assert_eq!(forward, backward);
}

#[test]
fn more_alphabets_for_training_change_none_of_the_others() {
    let (few, many) = (small(0), try_open(28, 1, 0, &[("alphabets", "40")]).unwrap());
    for part in [Part::Val, Part::Test] {
        assert_eq!(few.classes(part).classes(), many.classes(part).classes());
        assert_eq!(image(&*few, part, 100, 3), image(&*many, part, 100, 3));
    }
    assert_eq!(
        image(&*few, Part::Train, 100, 3),
        image(&*many, Part::Train, 100, 3)
    );
}

#[test]
fn the_parts_share_no_class_and_alphabets_have_14_to_55_characters() {
    let glyphs = try_open(28, 1, 5, &[]).unwrap();
    let mut names = std::collections::HashSet::new();
    for (part, alphabets) in [(Part::Train, 1000), (Part::Val, 20), (Part::Test, 50)] {
        let table = glyphs.classes(part);
        assert_eq!(table.groups().len(), alphabets);
        assert!(
            table
                .groups()
                .iter()
                .all(|(_, range)| (14..=55).contains(&range.len()))
        );
        assert!(
            table
                .classes()
                .iter()
                .all(|class| names.insert(class.name.clone()) && class.n_examples == 20)
        );
    }
    assert!(names.contains("alphabet0000/character01"));
}

#[test]
fn drawings_of_a_character_differ_but_less_than_characters_do() {
    let glyphs = small(1);
    let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
    let (mut within, mut between) = (0.0, 0.0);
    for class in 0..200 {
        let first = image(&*glyphs, Part::Train, class, 0);
        let again = image(&*glyphs, Part::Train, class, 1);
        let other = image(&*glyphs, Part::Train, class + 1, 1);
        assert_ne!(first, again, "class {class}");
        assert_ne!(again, other, "class {class}");
        within += distance(&first, &again);
        between += distance(&first, &other);
    }
    assert!(within < 0.9 * between, "{within} {between}");
}

#[test]
fn another_seed_gives_other_characters() {
    let (one, other) = (small(1), small(2));
    let same =
        (0..50).filter(|&class| image(&*one, Part::Val, class, 0) == image(&*other, Part::Val, class, 0));
    assert_eq!(same.count(), 0);
}

#[test]
fn every_class_has_ink_and_none_is_cut_off_at_the_border() {
    let glyphs = small(4);
    let side = glyphs.shape().width;
    for part in Part::ALL {
        for class in 0..glyphs.classes(part).len() {
            let pixels = image(&*glyphs, part, class, class % 20);
            let amount = ink(&pixels);
            assert!((0.001..0.35).contains(&amount), "{part} {class}: {amount}");
            let border: f32 = (0..side)
                .map(|i| {
                    pixels[i] + pixels[(side - 1) * side + i] + pixels[i * side] + pixels[i * side + side - 1]
                })
                .sum();
            assert!(
                border < 0.5 * amount * pixels.len() as f32,
                "{part} {class}: {border}"
            );
        }
    }
}

#[test]
fn three_channels_hold_the_grey_image_three_times() {
    let (grey, colour) = (small(1), try_open(28, 3, 1, &[("alphabets", "12")]).unwrap());
    let (one, three) = (image(&*grey, Part::Test, 9, 2), image(&*colour, Part::Test, 9, 2));
    assert!(three.chunks(3).zip(one).all(|(pixel, ink)| pixel == [ink; 3]));
}

#[test]
fn a_large_image_averaged_down_is_nearly_the_small_one() {
    let (small, large) = (small(6), try_open(112, 1, 6, &[("alphabets", "12")]).unwrap());
    for class in 0..50 {
        let (coarse, fine) = (
            image(&*small, Part::Val, class, 1),
            image(&*large, Part::Val, class, 1),
        );
        let averaged = |row: usize, column: usize| -> f32 {
            (0..16)
                .map(|i| fine[(4 * row + i / 4) * 112 + 4 * column + i % 4])
                .sum::<f32>()
                / 16.0
        };
        let off: f32 = (0..784)
            .map(|i| (averaged(i / 28, i % 28) - coarse[i]).abs())
            .sum::<f32>()
            / 784.0;
        assert!(off < 0.02, "class {class}: {off}");
    }
}

#[test]
fn what_does_not_exist_is_refused_by_name() {
    let glyphs = small(0);
    let n = glyphs.classes(Part::Val).len();
    let mut pixels = vec![0.0; 784];
    let error = glyphs.read(Part::Val, n, 0, &mut pixels).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("glyphs: class {n} of the val part, which has {n} classes")
    );
    let error = glyphs.read(Part::Val, 0, 20, &mut pixels).unwrap_err();
    assert_eq!(error.to_string(), "glyphs: example 20 of a class of 20 examples");
    let error = glyphs.read(Part::Val, 0, 0, &mut pixels[1..]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "glyphs: a slice of 783 values for an image of 28x28x1, which has 784"
    );
    for (side, channels) in [(7, 1), (513, 1), (28, 2), (28, 0)] {
        assert!(
            matches!(try_open(side, channels, 0, &[]), Err(DataError::Option { .. })),
            "{side} {channels}"
        );
    }
}

/// The pictures that this generator draws, as 64-bit FNV-1a over grey levels from 0 to 255.
///
/// Trained models, and every accuracy measured on glyphs, depend on them: when this test fails, the dataset has
/// become another one. If that is meant, say so in the changelog and put the new numbers here.
#[test]
fn the_generator_draws_what_it_has_always_drawn() {
    let hash = |pixels: &[f32]| {
        pixels.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, &x| {
            (hash ^ u64::from((x * 255.0 + 0.5) as u8)).wrapping_mul(0x0100_0000_01b3)
        })
    };
    let small = small(0);
    let large = try_open(64, 3, 1, &[("alphabets", "3"), ("noise", "0.5")]).unwrap();
    let found = [
        hash(&image(&*small, Part::Train, 0, 0)),
        hash(&image(&*small, Part::Train, 123, 4)),
        hash(&image(&*small, Part::Test, 1000, 19)),
        hash(&image(&*large, Part::Val, 50, 7)),
    ];
    assert_eq!(found.map(|hash| format!("{hash:016x}")), GOLDEN);
}

const GOLDEN: [&str; 4] = [
    "deedaca6cc76afdc",
    "92b74a0c4e33faec",
    "17382c6fa186609f",
    "4d7b6b9636b2673f",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_size_seed_and_noise_gives_ink_between_0_and_1(
        side in 8usize..=160, colour in any::<bool>(), seed in any::<u64>(), noise in 0.0f32..=3.0,
        class in 0usize..200, example in 0usize..1000,
    ) {
        let noise = noise.to_string();
        let options = [("alphabets", "1"), ("drawers", "1000"), ("noise", noise.as_str())];
        let glyphs = try_open(side, if colour { 3 } else { 1 }, seed, &options).unwrap();
        let pixels = image(&*glyphs, Part::Val, class, example);
        prop_assert!(pixels.iter().all(|x| (0.0..=1.0).contains(x)));
        prop_assert!(ink(&pixels) > 0.0005);
    }
}
