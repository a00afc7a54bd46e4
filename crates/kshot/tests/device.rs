//! Every other device gives what the CPU gives: there the convolution block is composed of stock operations, here it
//! runs through the kernels.
//!
//! A build without device features has nothing to compare and says so, as does a machine without the device:
//! `cargo test -p kshot --features vulkan --test device`. It takes a real driver: Mesa's software one, lavapipe, ends the
//! process with a segmentation fault (22.3 and 25.0). It happens while the driver compiles the first kernel that sums up a whole
//! tensor, which is the one with which `device::find` tries the device.

#[path = "common/golden.rs"]
mod golden;
#[path = "common/skipped.rs"]
mod skipped;

use golden::{IMAGE, TASK, assert_close, resolve};
use kshot::device::{self, DEVICES};
use kshot::episode::Episode;
use kshot::learner::{Learner, logits_on_host};
use kshot::model;
use kshot::norm::Norm;
use skipped::skipped;

/// What is compared: settings of learners whose blocks have every form.
const LEARNERS: &[&[(&str, &str)]] = &[
    &[("method", "prototypical"), ("filters", "16")],
    &[("method", "matching"), ("filters", "8")],
    &[("method", "siamese"), ("filters", "8")],
    &[("method", "relation"), ("relation-filters", "8")],
    &[
        ("method", "prototypical"),
        ("encoder", "resnet12"),
        ("width", "4"),
    ],
];

/// The other devices that this machine really has.
fn others() -> Vec<&'static str> {
    let found: Vec<&str> = DEVICES
        .iter()
        .copied()
        .filter(|name| *name != "flex")
        .filter(|name| match device::find(name) {
            Ok(_) => true,
            Err(error) => {
                skipped(&error.to_string());
                false
            }
        })
        .collect();
    if found.is_empty() {
        skipped("no device beside the CPU; build with --features vulkan");
    }
    found
}

fn learner(settings: &[(&str, &str)], device: &str) -> Box<dyn Learner> {
    let mut settings = settings.to_vec();
    settings.push(("device", device));
    model::fresh(&resolve(&settings), IMAGE).unwrap()
}

/// Images in which each class has a bright square of its own, at slightly different places.
fn episode() -> Episode {
    let image = |class: usize, example: usize| {
        (0..IMAGE.len()).map(move |pixel| {
            let (y, x) = (pixel / IMAGE.width, pixel % IMAGE.width);
            let inside = (y.abs_diff(4 * class + 5) < 3 + example % 2)
                && (x.abs_diff(22 - 3 * class) < 4 + example % 3);
            // Small differences everywhere, so that no two values of a pool's window are equal.
            f32::from(u8::from(inside)) + 0.1 * ((pixel * 37 + class * 11 + example * 5) % 101) as f32 / 101.0
        })
    };
    let images = |examples: std::ops::Range<usize>| {
        (0..TASK.n_way)
            .flat_map(|class| examples.clone().map(move |example| (class, example)))
            .flat_map(|(class, example)| image(class, example))
            .collect()
    };
    Episode {
        task: TASK,
        image: IMAGE,
        support: images(0..TASK.n_shot),
        query: images(TASK.n_shot..TASK.n_shot + TASK.n_query),
        classes: (0..TASK.n_way).collect(),
        support_examples: vec![0; TASK.n_support()],
        query_examples: vec![0; TASK.n_queries()],
    }
}

#[test]
fn training_steps_agree_with_the_cpu() {
    let episode = episode();
    for device in others() {
        for settings in LEARNERS {
            let (ours, theirs) = (learner(settings, "flex"), learner(settings, device));
            let (ours, theirs) = (
                ours.meta_step(&episode).unwrap(),
                theirs.meta_step(&episode).unwrap(),
            );
            let what = format!("{device} {settings:?}");
            assert_close(&what, &[theirs.loss], &[ours.loss], 1e-4);
            assert_eq!(ours.gradients.len(), theirs.gradients.len());
            for (ours, theirs) in ours.gradients.into_iter().zip(theirs.gradients) {
                assert_eq!(ours.is_some(), theirs.is_some(), "{what}");
                if let (Some(ours), Some(theirs)) = (ours, theirs) {
                    assert_close(&what, &logits_on_host(theirs), &logits_on_host(ours), 2e-3);
                }
            }
        }
    }
}

#[test]
fn scores_agree_with_the_cpu_under_both_norms() {
    let episode = episode();
    for device in others() {
        for settings in LEARNERS {
            for norm in [Norm::Running, Norm::Episode] {
                let scores = |learner: &dyn Learner| {
                    let task = learner
                        .adapt(&episode.support_on(learner.device()), norm)
                        .unwrap();
                    let query = episode.query_on(learner.device());
                    logits_on_host(learner.score(&task, query, norm).unwrap().logits)
                };
                let (ours, theirs) = (learner(settings, "flex"), learner(settings, device));
                let what = format!("{device} {settings:?} {norm}");
                assert_close(&what, &scores(theirs.as_ref()), &scores(ours.as_ref()), 1e-3);
            }
        }
    }
}
