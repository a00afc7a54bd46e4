//! What the methods that adapt their weights refuse, and with which words.

use std::collections::BTreeMap;

use kshot::data::ImageShape;
use kshot::episode::{Episode, TaskShape};
use kshot::inner::Plain;
use kshot::learner::{Learner, logits_on_host};
use kshot::method::{Family, METHODS};
use kshot::model;
use kshot::norm::Norm;
use kshot::settings::Settings;

const IMAGE: ImageShape = ImageShape::square(28, 1);

fn settings(pairs: &[(&str, &str)]) -> Settings {
    let layer: BTreeMap<String, String> = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Settings::resolve(&[&layer]).unwrap()
}

fn refusal(pairs: &[(&str, &str)]) -> String {
    let settings = settings(pairs);
    let image = ImageShape::square(32, 1);
    model::fresh(&settings, image).err().unwrap().to_string()
}

/// The names of the methods that adapt their weights.
fn methods() -> impl Iterator<Item = &'static str> {
    let adapting = METHODS.iter().filter(|spec| spec.family == Family::Optimization);
    adapting.map(|spec| spec.name)
}

#[test]
fn an_encoder_that_is_no_chain_is_refused_with_the_names_of_those_that_are() {
    for method in methods() {
        let refusal = refusal(&[("method", method), ("encoder", "resnet12"), ("width", "2")]);
        assert!(refusal.contains("--encoder conv4, mlp or relation"), "{refusal}");
    }
}

#[test]
fn a_range_of_ways_is_refused() {
    for method in methods() {
        let refusal = refusal(&[("method", method), ("way", "5-20"), ("filters", "2")]);
        assert!(
            refusal.starts_with("way: ") && refusal.ends_with("found 5-20"),
            "{refusal}"
        );
    }
}

#[test]
fn a_task_of_another_way_or_image_size_is_refused_by_adapting_and_by_training() {
    for method in methods() {
        let settings = settings(&[("method", method), ("way", "5"), ("filters", "2")]);
        let learner = model::fresh(&settings, IMAGE).unwrap();
        let episode = |n_way: usize, image: ImageShape| {
            let task = TaskShape {
                n_way,
                n_shot: 1,
                n_query: 1,
            };
            Episode {
                task,
                image,
                support: vec![0.5; n_way * image.len()],
                query: vec![0.5; n_way * image.len()],
                classes: (0..n_way).collect(),
                support_examples: vec![0; n_way],
                query_examples: vec![0; n_way],
            }
        };
        for (episode, words) in [
            (episode(3, IMAGE), "train it with --way 3"),
            (
                episode(5, ImageShape::square(20, 1)),
                "takes images of 784 values, found 400",
            ),
        ] {
            let support = episode.support_on(learner.device());
            let adapted = learner.adapt(&support, Norm::Running).err().unwrap().to_string();
            assert!(adapted.contains(words), "{method}: {adapted}");
            let learned = learner.meta_step(&episode).err().unwrap().to_string();
            assert_eq!(adapted, learned, "{method}");
        }
    }
}

#[test]
fn step_by_step_begins_at_the_start_and_ends_where_the_adaptation_does() {
    let task = TaskShape {
        n_way: 5,
        n_shot: 2,
        n_query: 3,
    };
    let episode = Episode {
        task,
        image: IMAGE,
        support: ramp(task.n_support(), 0.37),
        query: ramp(task.n_queries(), 0.61),
        classes: (0..5).collect(),
        support_examples: vec![0; task.n_support()],
        query_examples: vec![0; task.n_queries()],
    };
    for method in methods() {
        let learner = |steps: &str| {
            let settings = settings(&[("method", method), ("filters", "4"), ("test-steps", steps)]);
            model::fresh(&settings, IMAGE).unwrap()
        };
        let learner_of = [learner("1"), learner("3")];
        let (support, query) = {
            let device = learner_of[0].device();
            (episode.support_on(device), episode.query_on(device))
        };
        for norm in [Norm::Episode, Norm::Running] {
            let own = |learner: &dyn Learner| learner.step_by_step(&support, query.clone(), norm, None);
            let [short, long] = learner_of
                .each_ref()
                .map(|learner| own(learner.as_ref()).unwrap().unwrap());
            assert_eq!((short.len(), long.len()), (2, 4), "{method}");
            // The same start and the same first step, however many follow; then the weights move on.
            assert_eq!(short[..], long[..2], "{method}");
            assert_ne!(long[2], long[3], "{method}");
            let task = learner_of[1].adapt(&support, norm).unwrap();
            let end = learner_of[1].score(&task, query.clone(), norm).unwrap();
            assert_eq!(logits_on_host(end.logits), long[3], "{method}");
            let sgd = Some((Plain::Sgd { rate: 0.4 }, 3));
            let plain = learner_of[1].step_by_step(&support, query.clone(), norm, sgd);
            let plain = plain.unwrap().unwrap();
            assert_eq!(plain.len(), 4);
            if method == "maml" {
                // Its own rule is gradient descent at that rate.
                assert_eq!(plain, long);
            } else if norm == Norm::Episode {
                assert_eq!(plain[0], long[0], "{method}");
            }
        }
    }
}

/// Images that differ from each other.
fn ramp(images: usize, pace: f32) -> Vec<f32> {
    (0..images * IMAGE.len())
        .map(|place| (place as f32 * pace).sin().abs())
        .collect()
}
