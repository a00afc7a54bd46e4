//! Episodes are a pure function of (dataset, part, seed, index).

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use kshot::augment::Augment;
use kshot::data::registry::{self, OpenRequest};
use kshot::data::{Dataset, Part};
use kshot::options::Options;
use kshot::sampler::{Sampler, SamplerError, TaskRange};
use proptest::prelude::*;
use rayon::prelude::*;

static GLYPHS: LazyLock<Arc<dyn Dataset>> = LazyLock::new(|| {
    let (spec, argument) = registry::find("glyphs").unwrap();
    let request = OpenRequest {
        argument: argument.to_owned(),
        data_dir: None,
        partition: spec.partitions[0].to_owned(),
        image_size: Some(16),
        channels: None,
        seed: 7,
        options: Options::resolve(spec.options, &Default::default()).unwrap(),
    };
    Arc::from((spec.open)(&request).unwrap())
});

fn sampler(
    n_way: usize,
    n_shot: usize,
    n_query: usize,
    seed: u64,
    within: bool,
) -> Result<Sampler, SamplerError> {
    let tasks = TaskRange {
        n_way: n_way..=n_way,
        n_shot: n_shot..=n_shot,
        n_query,
    };
    let augment = Augment {
        rotate: 10.0,
        shift: 1.0,
        ..Augment::default()
    };
    Sampler::new(GLYPHS.clone(), Part::Train, tasks, seed, within, augment)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn an_episode_has_distinct_classes_and_no_picture_twice(
        n_way in 1usize..12, n_shot in 1usize..5, n_query in 1usize..5, seed: u64, index: u64, within: bool,
    ) {
        let sampler = sampler(n_way, n_shot, n_query, seed, within).unwrap();
        let episode = sampler.episode(index).unwrap();
        prop_assert_eq!(episode.classes.iter().collect::<HashSet<_>>().len(), n_way);
        for label in 0..n_way {
            let support = &episode.support_examples[label * n_shot..(label + 1) * n_shot];
            let query = &episode.query_examples[label * n_query..(label + 1) * n_query];
            prop_assert_eq!(support.iter().chain(query).collect::<HashSet<_>>().len(), n_shot + n_query);
        }
        if within {
            let groups = GLYPHS.classes(Part::Train).groups();
            let group = |class: &usize| groups.iter().position(|(_, range)| range.contains(class));
            prop_assert_eq!(episode.classes.iter().map(group).collect::<HashSet<_>>().len(), 1);
        }
        prop_assert!(episode.support.iter().chain(&episode.query).all(|value| (0.0..=1.0).contains(value)));
        prop_assert_eq!(&episode, &sampler.episode(index).unwrap());
    }
}

#[test]
fn workers_in_any_order_make_the_same_episodes() {
    let sampler = sampler(5, 1, 2, 3, false).unwrap();
    let one_by_one: Vec<_> = (0..32).map(|index| sampler.episode(index).unwrap()).collect();
    let mut on_all_threads: Vec<_> = (0..32usize)
        .into_par_iter()
        .rev()
        .map(|index| sampler.episode(index as u64).unwrap())
        .collect();
    on_all_threads.reverse();
    assert_eq!(one_by_one, on_all_threads);
}

#[test]
fn another_seed_or_index_is_another_episode() {
    let episode = |seed, index| {
        sampler(5, 1, 2, seed, false)
            .unwrap()
            .episode(index)
            .unwrap()
            .classes
    };
    assert_ne!(episode(1, 0), episode(1, 1));
    assert_ne!(episode(1, 0), episode(2, 0));
}

#[test]
fn parts_share_no_class() {
    let names = |part| -> HashSet<String> {
        GLYPHS
            .classes(part)
            .classes()
            .iter()
            .map(|class| class.name.clone())
            .collect()
    };
    let [train, val, test] = Part::ALL.map(names);
    assert!(train.is_disjoint(&val) && train.is_disjoint(&test) && val.is_disjoint(&test));
}

#[test]
fn ways_and_shots_of_a_range_are_all_drawn() {
    let tasks = TaskRange {
        n_way: 2..=4,
        n_shot: 1..=3,
        n_query: 1,
    };
    let sampler = Sampler::new(GLYPHS.clone(), Part::Train, tasks, 1, false, Augment::default()).unwrap();
    let drawn: HashSet<_> = (0..200)
        .map(|index| sampler.episode(index).unwrap().task)
        .map(|task| (task.n_way, task.n_shot))
        .collect();
    assert_eq!(drawn.len(), 9);
}
