use std::path::Path;
use std::sync::Arc;

use image::{GrayImage, Luma};
use proptest::prelude::*;
use rand::RngExt;

use super::*;
use crate::data::ImageShape;
use crate::model;
use crate::model_file::ModelFile;
use crate::named;
use crate::random;
use crate::settings::{Layer, Settings};

const IMAGE: ImageShape = ImageShape::square(28, 1);
const KERNELS: [Kernel; 4] = [
    Kernel::SquaredEuclidean,
    Kernel::Cosine { factor: 10.0 },
    Kernel::Attention { factor: 10.0 },
    Kernel::Nearest,
];

/// A model with fresh weights, made once for all tests of a method.
fn untrained(method: &str) -> Arc<Trained> {
    let layer = [("method", method), ("filters", "4")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let settings = Settings::resolve(&[&Layer::from(layer)]).unwrap();
    let learner = model::fresh(&settings, IMAGE).unwrap();
    let file = ModelFile {
        name: method.to_owned(),
        settings: settings.layer(),
        image: IMAGE,
        weights: named::from_parameters(learner.parameters(), &learner.read(), ""),
        encoder: None,
        card: String::new(),
        prototypes: None,
    };
    Arc::new(Trained::new(file, Path::new("test")).unwrap())
}

fn shared() -> Arc<Trained> {
    static MODEL: OnceLock<Arc<Trained>> = OnceLock::new();
    MODEL.get_or_init(|| untrained("prototypical")).clone()
}

fn by(kernel: Kernel) -> FewShotClassifier {
    FewShotClassifier::with_head(shared(), Head::Kernel(kernel))
}

fn example(number: u64, embedding: &[f32]) -> Example {
    let mut hash = [0; 16];
    // Spread, so that the order of the hashes isn't that of the numbers.
    hash[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    hash[8..].copy_from_slice(&number.to_le_bytes());
    Example::embedded(format!("{number}.png"), ContentHash(hash), embedding.into())
}

/// Class k is a ball around its own centre; `spread` is the deviation in each of eight directions.
fn balls(n_classes: usize, per_class: usize, spread: f32, seed: u64) -> Vec<(String, Vec<f32>)> {
    let mut rng = random::stream(seed, &[]);
    let mut normal = || -> f32 { (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0 };
    let mut centres = random::stream(7, &[]);
    let mut all = Vec::new();
    for class in 0..n_classes {
        let centre: Vec<f32> = (0..8).map(|_| 4.0 * (centres.random::<f32>() - 0.5)).collect();
        for _ in 0..per_class {
            all.push((
                format!("class{class}"),
                centre.iter().map(|c| c + spread * normal()).collect(),
            ));
        }
    }
    all
}

fn enrolled(kernel: Kernel, data: &[(String, Vec<f32>)]) -> FewShotClassifier {
    let mut classifier = by(kernel);
    for (number, (class, embedding)) in data.iter().enumerate() {
        classifier
            .add_examples(class, vec![example(number as u64, embedding)])
            .unwrap();
    }
    classifier
}

fn answers(classifier: &FewShotClassifier, data: &[(String, Vec<f32>)]) -> Vec<Answer> {
    let queries: Vec<&[f32]> = data.iter().map(|(_, embedding)| embedding.as_slice()).collect();
    let show = Show {
        top: 100,
        evidence: 4,
    };
    classifier.classify_embedded(&queries, show).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_order_of_adding_does_not_matter(seed in 0u64..1000, kernel in 0usize..4, swaps in proptest::collection::vec((0usize..24, 0usize..24), 1..40)) {
        let data = balls(6, 4, 0.8, seed);
        let mut numbered: Vec<_> = data.iter().enumerate().collect();
        for (a, b) in swaps {
            numbered.swap(a, b);
        }
        let mut shuffled = by(KERNELS[kernel]);
        for (number, (class, embedding)) in numbered {
            shuffled.add_examples(class, vec![example(number as u64, embedding)]).unwrap();
        }
        let queries = balls(6, 2, 0.8, seed + 1);
        prop_assert_eq!(answers(&shuffled, &queries), answers(&enrolled(KERNELS[kernel], &data), &queries));
    }

    #[test]
    fn removing_what_was_added_gives_the_same_answers(seed in 0u64..1000, kernel in 0usize..4, more in 1usize..12) {
        let data = balls(4, 3, 0.8, seed);
        let queries = balls(5, 2, 0.8, seed + 1);
        let mut classifier = enrolled(KERNELS[kernel], &data);
        let before = answers(&classifier, &queries);
        let further = balls(5, 3, 0.8, seed + 2);
        for (number, (class, embedding)) in further.iter().enumerate().take(more) {
            classifier.add_examples(class, vec![example(1000 + number as u64, embedding)]).unwrap();
            classifier.add_examples("one more", vec![example(2000 + number as u64, embedding)]).unwrap();
        }
        classifier.rename_class("one more", "renamed").unwrap();
        prop_assert_ne!(answers(&classifier, &queries), before.clone());
        classifier.remove_class("renamed").unwrap();
        for (number, (class, embedding)) in further.iter().enumerate().take(more) {
            classifier.remove_example(class, example(1000 + number as u64, embedding).hash()).unwrap();
        }
        prop_assert_eq!(answers(&classifier, &queries), before);
    }

    #[test]
    fn probabilities_and_weights_sum_to_one_and_fall(seed in 0u64..1000, kernel in 0usize..4) {
        let classifier = enrolled(KERNELS[kernel], &balls(5, 3, 0.8, seed));
        for answer in answers(&classifier, &balls(5, 2, 0.8, seed + 1)) {
            let sum: f64 = answer.ranked.iter().map(|ranked| ranked.probability).sum();
            prop_assert!((sum - 1.0).abs() < 1e-9);
            prop_assert!(answer.ranked.is_sorted_by(|a, b| a.probability >= b.probability));
            prop_assert!(answer.evidence.is_sorted_by(|a, b| a.weight >= b.weight));
            prop_assert!(answer.evidence.iter().all(|evidence| (0.0..=1.0).contains(&evidence.weight)));
            prop_assert_eq!(answer.known, answer.label.is_some());
        }
    }
}

#[test]
fn a_picture_that_is_added_twice_is_recognised_and_changes_nothing() {
    let mut classifier = FewShotClassifier::new(shared());
    let picture = || Picture::from_values(vec![0.5; IMAGE.len()]).unwrap();
    assert_eq!(classifier.add("a", "1.png", picture()).unwrap(), Added::New);
    assert_eq!(
        classifier.add("a", "other name.png", picture()).unwrap(),
        Added::Known
    );
    let twice = vec![("x".to_owned(), picture()), ("y".to_owned(), picture())];
    assert_eq!(
        classifier.add_all("b", twice).unwrap(),
        [Added::New, Added::Known]
    );
    assert_eq!(classifier.n_examples(), 2);
    assert_eq!(classifier.find(picture().hash()), ["a", "b"]);
}

#[test]
fn a_picture_has_one_hash_whatever_the_file_around_it() {
    let picture = image::DynamicImage::from(GrayImage::from_fn(40, 30, |x, y| Luma([(x * y % 251) as u8])));
    let input = *shared().input();
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    let mut bytes = bytes.into_inner();
    let hash = input.decode(&bytes, Path::new("p")).unwrap().hash();
    assert_eq!(input.picture(picture, Path::new("p")).unwrap().hash(), hash);
    // A comment before the end of the file changes the file, not the picture.
    let end = bytes.split_off(bytes.len() - 12);
    let comment = b"tEXtComment\0hello";
    bytes.extend((comment.len() as u32 - 4).to_be_bytes());
    bytes.extend(comment);
    bytes.extend(crc32fast::hash(comment).to_be_bytes());
    bytes.extend(end);
    assert_eq!(input.decode(&bytes, Path::new("q")).unwrap().hash(), hash);
    assert_eq!(hash.to_string().parse::<ContentHash>().unwrap(), hash);
    assert!("xyz".parse::<ContentHash>().is_err());
}

#[test]
fn calibrated_probabilities_are_about_as_high_as_the_accuracy() {
    for kernel in [
        Kernel::SquaredEuclidean,
        Kernel::Attention { factor: 10.0 },
        Kernel::Cosine { factor: 10.0 },
    ] {
        for spread in [0.5, 1.2] {
            let mut classifier = enrolled(kernel, &balls(12, 16, spread, 1));
            classifier.set_unknown(Unknown::Never).unwrap();
            let queries = balls(12, 60, spread, 2);
            let answers = answers(&classifier, &queries);
            let right = answers
                .iter()
                .zip(&queries)
                .filter(|(answer, (class, _))| answer.label.as_ref() == Some(class));
            let accuracy = right.count() as f64 / queries.len() as f64;
            let confidence =
                answers.iter().map(|answer| answer.probability).sum::<f64>() / queries.len() as f64;
            assert!(
                (accuracy - confidence).abs() < 0.1,
                "{kernel:?} {spread}: {accuracy} {confidence}"
            );
            let expected = classifier.calibration().unwrap().accuracy.unwrap();
            assert!(
                (accuracy - expected).abs() < 0.12,
                "{kernel:?} {spread}: {accuracy} {expected}"
            );
        }
    }
}

#[test]
fn a_picture_of_no_class_is_called_so_and_one_of_a_class_is_not() {
    let all = balls(12, 6, 0.35, 1);
    let (of_known, _) = all.split_at(8 * 6);
    let mut classifier = enrolled(Kernel::SquaredEuclidean, of_known);
    let queries = balls(12, 20, 0.35, 2);
    let (known, unknown) = queries.split_at(8 * 20);
    let share = |classifier: &FewShotClassifier, queries: &[_]| {
        answers(classifier, queries)
            .iter()
            .filter(|answer| answer.known)
            .count() as f64
            / queries.len() as f64
    };
    assert!(share(&classifier, known) > 0.9, "{}", share(&classifier, known));
    assert!(
        share(&classifier, unknown) < 0.1,
        "{}",
        share(&classifier, unknown)
    );
    let none = &answers(&classifier, unknown)[0];
    assert!(none.label.is_none() && none.probability > 0.5 && !none.ranked.is_empty());
    classifier.set_unknown(Unknown::Never).unwrap();
    assert_eq!(share(&classifier, unknown), 1.0);
    classifier.set_unknown(Unknown::Below(1.0)).unwrap();
    assert_eq!(share(&classifier, unknown), 0.0);
    assert!(classifier.set_unknown(Unknown::Below(1.5)).is_err());
    assert!(Unknown::from_text("nan").is_err() && Unknown::from_text("maybe").is_err());
}

#[test]
fn one_class_and_one_example_are_enough_to_answer() {
    let mut classifier = by(Kernel::SquaredEuclidean);
    let query = [vec![1.0f32, 0.0]];
    assert!(classifier.classify_embedded(&query, Show::default()).is_err());
    classifier
        .add_examples("only", vec![example(1, &[0.0, 0.0])])
        .unwrap();
    let answer = &classifier.classify_embedded(&query, Show::default()).unwrap()[0];
    assert_eq!((answer.label.as_deref(), answer.probability), (Some("only"), 1.0));
    assert_eq!(classifier.calibration().unwrap().boundary, None);
    classifier.remove_example("only", example(1, &[]).hash()).unwrap();
    assert_eq!(classifier.classes().len(), 0);
}

#[test]
fn classes_that_cannot_be_told_apart_are_named_with_their_pictures() {
    let mut data = balls(4, 5, 0.1, 1);
    // Two classes of the same ball.
    let twins: Vec<_> = balls(1, 10, 0.1, 9).into_iter().map(|(_, x)| x).collect();
    data.extend(
        twins
            .iter()
            .enumerate()
            .map(|(n, x)| (format!("twin{}", n % 2), x.iter().map(|x| x + 9.0).collect())),
    );
    let mut classifier = enrolled(Kernel::SquaredEuclidean, &data);
    let found = classifier.confusions();
    assert_eq!((found.checked, found.examples), (30, 30));
    assert_eq!(found.pairs.len(), 1, "{found:?}");
    assert_eq!(found.pairs[0].classes, ["twin0", "twin1"]);
    assert!(
        found.pairs[0]
            .examples
            .iter()
            .all(|confused| confused.label.starts_with("twin"))
    );
    // The very same picture in two classes.
    classifier
        .add_examples("class1", vec![example(0, &data[0].1)])
        .unwrap();
    let found = classifier.confusions();
    let pair = found
        .pairs
        .iter()
        .find(|pair| pair.classes == ["class0", "class1"])
        .unwrap();
    let same: Vec<_> = pair
        .examples
        .iter()
        .filter(|confused| confused.same_picture)
        .collect();
    assert_eq!(same.len(), 2);
    assert_eq!(same[0].example, "0.png");
}

#[test]
fn an_answer_without_evidence_is_the_same_answer() {
    let data = balls(6, 4, 0.5, 3);
    for kernel in KERNELS {
        let classifier = enrolled(kernel, &data);
        let embeddings: Vec<&[f32]> = data.iter().map(|(_, embedding)| &embedding[..]).collect();
        let shown = |evidence| {
            let show = Show { top: 6, evidence };
            classifier.classify_embedded(&embeddings, show).unwrap()
        };
        for (mut with, without) in shown(3).into_iter().zip(shown(0)) {
            assert_eq!(with.evidence.len(), 3, "{kernel:?}");
            with.evidence.clear();
            assert_eq!(with, without, "{kernel:?}");
        }
    }
}

#[test]
fn threads_read_while_each_gets_the_same_answers() {
    fn shareable<T: Send + Sync>(_: &T) {}
    let classifier = enrolled(Kernel::SquaredEuclidean, &balls(6, 4, 0.5, 1));
    shareable(&classifier);
    let queries = balls(6, 3, 0.5, 2);
    let expected = answers(&classifier.clone(), &queries);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| answers(&classifier, &queries)))
            .collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), expected);
        }
    });
}

#[test]
fn a_clone_stays_as_it_was() {
    let mut classifier = enrolled(Kernel::Nearest, &balls(3, 3, 0.5, 1));
    let queries = balls(3, 3, 0.5, 2);
    let (clone, before) = (classifier.clone(), answers(&classifier, &queries));
    classifier.remove_class("class0").unwrap();
    assert_ne!(answers(&classifier, &queries), before);
    assert_eq!(answers(&clone, &queries), before);
}

/// Crosses and squares in dark on light, so that fresh weights tell them apart.
fn drawing(kind: usize, shift: u32, paper: u8, ink: u8) -> image::DynamicImage {
    GrayImage::from_fn(56, 56, |x, y| {
        let (x, y) = (x as i32 - 28 - shift as i32, y as i32 - 28);
        let on = match kind {
            0 => x.abs() < 3 || y.abs() < 3,
            1 => x.abs().max(y.abs()) / 3 == 5,
            _ => (x - y).abs() < 4,
        };
        let inside = x.abs() < 20 && y.abs() < 20;
        Luma([if on && inside { ink } else { paper }])
    })
    .into()
}

#[test]
fn every_method_classifies_through_its_own_head() {
    for method in ["prototypical", "matching", "relation", "siamese"] {
        let model = untrained(method);
        let picture = |kind, shift| {
            model
                .input()
                .picture(drawing(kind, shift, 255, 0), Path::new("p"))
                .unwrap()
        };
        let mut classifier = FewShotClassifier::new(model.clone());
        assert_eq!(
            classifier.kernel().is_some(),
            ["prototypical", "matching"].contains(&method)
        );
        for kind in 0..3 {
            let pictures = (0..3)
                .map(|shift| (format!("{kind}-{shift}"), picture(kind, 2 * shift)))
                .collect();
            classifier.add_all(&format!("kind{kind}"), pictures).unwrap();
        }
        classifier.set_unknown(Unknown::Never).unwrap();
        let queries: Vec<Picture> = (0..3).map(|kind| picture(kind, 3)).collect();
        let answers = classifier.classify(&queries).unwrap();
        assert_eq!(answers.len(), 3);
        for (index, answer) in answers.iter().enumerate() {
            assert_eq!(answer.ranked.len(), 3, "{method}");
            assert_eq!(answer.evidence.len(), 5, "{method}");
            let alone = &classifier.classify(&queries[index..=index]).unwrap()[0];
            assert!(
                (alone.ranked[0].probability - answer.ranked[0].probability).abs() < 1e-4,
                "{method}"
            );
        }
        let calibration = classifier.calibration().unwrap();
        assert_eq!(calibration.left_out, 9, "{method}");
    }
}

#[test]
fn the_built_in_model_tells_new_drawings_apart() {
    let mut classifier = FewShotClassifier::new(Trained::find(crate::pretrained::DEFAULT).unwrap());
    let input = *classifier.model().input();
    let picture = |kind, shift| {
        input
            .picture(drawing(kind, shift, 255, 0), Path::new("p"))
            .unwrap()
    };
    for kind in 0..3 {
        let pictures = (0..3)
            .map(|shift| (shift.to_string(), picture(kind, 2 * shift)))
            .collect();
        classifier.add_all(&format!("kind{kind}"), pictures).unwrap();
    }
    for kind in 0..3 {
        let answer = &classifier.classify(&[picture(kind, 3)]).unwrap()[0];
        assert_eq!(answer.ranked[0].label, format!("kind{kind}"), "{answer:?}");
        assert_eq!(answer.evidence[0].label, format!("kind{kind}"), "{answer:?}");
    }
}

#[test]
fn ink_is_found_on_light_dark_and_grey_paper() {
    let input = shared().input().to_owned();
    let prepare = |paper, ink| input.picture(drawing(0, 0, paper, ink), Path::new("p")).unwrap();
    let normal = prepare(255, 0);
    assert_eq!(normal.pixels()[14 * 28 + 14], 1.0);
    assert_eq!(normal.pixels()[0], 0.0);
    for (paper, ink) in [(0, 255), (230, 40), (90, 200), (128, 90)] {
        let other = prepare(paper, ink);
        for (a, b) in normal.pixels().iter().zip(other.pixels()) {
            assert!((a - b).abs() < 0.04, "{paper} {ink}: {a} {b}");
        }
    }
    let blank = input.picture(drawing(0, 0, 200, 200), Path::new("p")).unwrap();
    assert!(blank.pixels().iter().all(|&pixel| pixel == 0.0));
    // The dirt of a scanner is no ink.
    let dirty = input.picture(drawing(0, 0, 200, 190), Path::new("p")).unwrap();
    assert!(dirty.pixels().iter().all(|&pixel| pixel < 0.5));
}

#[test]
fn a_wide_drawing_keeps_both_its_ends() {
    let wide = GrayImage::from_fn(112, 56, |x, _| {
        Luma([if (4..10).contains(&x) || (102..108).contains(&x) {
            0
        } else {
            255
        }])
    });
    let picture = shared().input().picture(wide.into(), Path::new("p")).unwrap();
    let row = &picture.pixels()[14 * 28..15 * 28];
    assert!(
        row[..3].iter().any(|&ink| ink > 0.5) && row[25..].iter().any(|&ink| ink > 0.5),
        "{row:?}"
    );
}

#[test]
fn wrong_names_embeddings_and_pictures_are_refused_and_change_nothing() {
    let mut classifier = enrolled(Kernel::SquaredEuclidean, &balls(2, 2, 0.1, 1));
    let long = "x".repeat(300);
    for name in ["", "  ", "a\nb", " a", &long] {
        assert!(
            classifier
                .add_examples(name, vec![example(50, &[0.0; 8])])
                .is_err(),
            "{name:?}"
        );
        assert!(classifier.rename_class("class0", name).is_err(), "{name:?}");
    }
    assert!(
        classifier
            .add_examples("class0", vec![example(50, &[0.0; 7])])
            .is_err()
    );
    assert!(
        classifier
            .add_examples("class0", vec![example(50, &[f32::NAN; 8])])
            .is_err()
    );
    assert!(
        classifier
            .add("class0", "p", Picture::from_values(vec![0.0; 3]).unwrap())
            .is_err()
    );
    assert!(Picture::from_values(vec![f32::INFINITY]).is_err());
    let error = classifier.rename_class("clas0", "b").unwrap_err().to_string();
    assert_eq!(error, "class `clas0`: is not there; did you mean `class0`?");
    assert!(classifier.rename_class("class0", "class1").is_err());
    assert!(classifier.remove_example("class0", ContentHash([9; 16])).is_err());
    assert!(
        classifier
            .classify_embedded(&[vec![0.0f32; 3]], Show::default())
            .is_err()
    );
    assert_eq!((classifier.classes().len(), classifier.n_examples()), (2, 4));
}

#[test]
fn two_classifiers_differ_in_the_classes_that_do() {
    let mut one = enrolled(Kernel::SquaredEuclidean, &balls(6, 3, 0.5, 1));
    let other = one.clone();
    assert!(one.differences(&other).is_empty());
    one.rename_class("class1", "class9").unwrap();
    one.remove_class("class3").unwrap();
    one.add_examples("class4", vec![example(99, &[0.5; 8])]).unwrap();
    let names = ["class1", "class3", "class4", "class9"];
    assert_eq!(
        (one.differences(&other), other.differences(&one)),
        (names.to_vec(), names.to_vec())
    );
    // Made anew, the same pictures are no difference.
    assert!(
        other
            .differences(&enrolled(Kernel::SquaredEuclidean, &balls(6, 3, 0.5, 1)))
            .is_empty()
    );
}
