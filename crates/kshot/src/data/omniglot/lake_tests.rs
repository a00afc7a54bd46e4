use std::fs;

use super::super::tiny::{self, Files};
use super::*;
use crate::data::real;

/// 20 runs in which test drawing i is of training class (i + run) % 20: ink left of a column that tells the class.
fn runs(prefix: &str) -> Files {
    let drawing = |class: usize| tiny::png(move |x, _| x < 5 * class as u32);
    let mut files = Files::new();
    for run in 1..=20 {
        let mut labels = String::new();
        for i in 0..20 {
            let answer = (i + run) % 20;
            files.push((
                format!("{prefix}run{run:02}/training/class{:02}.png", i + 1),
                drawing(i),
            ));
            files.push((
                format!("{prefix}run{run:02}/test/item{:02}.png", i + 1),
                drawing(answer),
            ));
            labels += &format!(
                "run{run:02}/test/item{:02}.png run{run:02}/training/class{:02}.png\n",
                i + 1,
                answer + 1
            );
        }
        files.push((
            format!("{prefix}run{run:02}/class_labels.txt"),
            labels.into_bytes(),
        ));
    }
    files
}

#[test]
fn every_answer_names_the_class_of_its_test_drawing_zipped_or_not() {
    let data = tempfile::tempdir().unwrap();
    tiny::pack(&data.path().join("all_runs.zip"), &runs(""));
    let zipped = one_shot_runs(data.path(), 21).unwrap();
    assert_eq!(zipped.len(), 20);
    for (index, run) in zipped.iter().enumerate() {
        assert_eq!(run.name, format!("run{:02}", index + 1));
        assert_eq!((run.training.len(), run.test.len()), (20, 20));
        for (test, &answer) in run.test.iter().zip(&run.answers) {
            assert_eq!(test, &run.training[answer]);
            assert_eq!(test.iter().sum::<f32>(), (answer * 21) as f32);
        }
    }
    let unpacked = tempfile::tempdir().unwrap();
    tiny::unpack(unpacked.path(), &runs("omniglot/one_shot_runs/"));
    assert_eq!(one_shot_runs(unpacked.path(), 21).unwrap(), zipped);
}

#[test]
fn missing_incomplete_and_mislabelled_runs_are_named() {
    let data = tempfile::tempdir().unwrap();
    let message = || one_shot_runs(data.path(), 28).unwrap_err().to_string();
    assert!(
        message().contains("omniglot/all_runs.zip is not there; get all_runs.zip from"),
        "{}",
        message()
    );
    let path = data.path().join("all_runs.zip");
    let without = |name: &str| {
        runs("")
            .into_iter()
            .filter(|file| !file.0.starts_with(name))
            .collect::<Files>()
    };
    tiny::pack(&path, &without("run07"));
    assert!(
        message().contains("expected the 20 runs run01 to run20, found 19"),
        "{}",
        message()
    );
    tiny::pack(&path, &without("run07/test/item03"));
    assert!(
        message().contains("all_runs.zip/run07: expected 20 training drawings"),
        "{}",
        message()
    );
    assert!(
        message().contains("found 20, 19 and class_labels.txt"),
        "{}",
        message()
    );
    tiny::pack(&path, &without("run07/class_labels"));
    assert!(
        message().contains("found 20, 20 and no class_labels.txt"),
        "{}",
        message()
    );
    let labelled = |labels: &[u8]| {
        let mut files = runs("");
        let file = files
            .iter_mut()
            .find(|file| file.0 == "run07/class_labels.txt")
            .unwrap();
        file.1 = labels.to_vec();
        tiny::pack(&path, &files);
        message()
    };
    let text = labelled(b"run07/test/item01.png run07/training/class99.png\n");
    assert!(
        text.contains("run07/class_labels.txt: line 1: expected a test drawing and a training"),
        "{text}"
    );
    let text = labelled(b"run07/test/item01.png run07/training/class01.png\n");
    assert!(text.contains("names a class for 1 of 20 test drawings"), "{text}");
    assert!(labelled(&[0xff]).contains("not UTF-8 text"));
    fs::write(&path, "no zip").unwrap();
    assert!(
        message().contains("all_runs.zip: not a readable zip"),
        "{}",
        message()
    );
    assert!(
        one_shot_runs(data.path(), 7)
            .unwrap_err()
            .to_string()
            .contains("8 to 512")
    );
}

#[test]
fn the_published_runs_have_every_class_answered_once() {
    let Some(data) = real::folder("omniglot") else {
        return;
    };
    let runs = one_shot_runs(&data, 28).unwrap();
    assert_eq!(runs.len(), 20);
    for run in &runs {
        let mut answers = run.answers.clone();
        answers.sort_unstable();
        assert_eq!(answers, (0..20).collect::<Vec<_>>(), "{}", run.name);
        assert!(run.training.iter().chain(&run.test).all(|image| {
            let ink = image.iter().sum::<f32>() / 784.0;
            image.len() == 784 && (0.005..0.4).contains(&ink)
        }));
    }
    // `run01/test/item01.png run01/training/class08.png`, says the file.
    assert_eq!(runs[0].answers[..3], [7, 8, 1]);
}
