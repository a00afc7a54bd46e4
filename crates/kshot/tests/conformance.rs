//! What every registered method promises, checked for each of them.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Tensor;
use kshot::data::ImageShape;
use kshot::episode::{Episode, Support, TaskShape, images};
use kshot::learner::{Learner, logits_on_host};
use kshot::method::{METHODS, MethodSpec};
use kshot::named;
use kshot::norm::Norm;
use kshot::optimizer::Adam;
use kshot::settings::Settings;
use kshot::{model, random};
use rand::RngExt;

const IMAGE: ImageShape = ImageShape::square(28, 1);
const HALF: usize = IMAGE.height / 2;
const TASK: TaskShape = TaskShape {
    n_way: 4,
    n_shot: 2,
    n_query: 3,
};

/// Small, where the method and its encoder have these options.
const SMALL: [(&str, &str); 3] = [("filters", "6"), ("base-classes", "4"), ("way", "4")];
/// Methods whose last layer has an output of its own for each class, so that classes can't change places: they learn
/// from labels in random order to treat them alike, which no fresh network does.
const ONE_OUTPUT_PER_CLASS: &[&str] = &["mann", "meta-network"];

fn settings(method: &MethodSpec) -> Settings {
    let mut layer = BTreeMap::from([("method".to_owned(), method.name.to_owned())]);
    let known = Settings::resolve(&[&layer]).unwrap().layer();
    let small = SMALL.into_iter().filter(|(name, _)| known.contains_key(*name));
    layer.extend(small.map(|(name, value)| (name.to_owned(), value.to_owned())));
    Settings::resolve(&[&layer]).unwrap()
}

fn fresh(method: &MethodSpec) -> Box<dyn Learner> {
    model::fresh(&settings(method), IMAGE).unwrap()
}

/// Class k is a bright square in the k-th quadrant, under noise.
fn episode(seed: u64, noise: f32) -> Episode {
    let mut rng = random::stream(seed, &[]);
    let mut pictures = |per_class: usize| {
        let mut pixels = Vec::new();
        for class in 0..TASK.n_way {
            for _ in 0..per_class {
                for y in 0..IMAGE.height {
                    for x in 0..IMAGE.width {
                        let quadrant = 2 * (y / HALF) + x / HALF;
                        let central = (3..11).contains(&(y % HALF)) && (3..11).contains(&(x % HALF));
                        let inside = quadrant == class && central;
                        pixels.push((if inside { 0.9 } else { 0.1 }) + noise * (rng.random::<f32>() - 0.5));
                    }
                }
            }
        }
        pixels
    };
    Episode {
        task: TASK,
        image: IMAGE,
        support: pictures(TASK.n_shot),
        query: pictures(TASK.n_query),
        classes: (0..TASK.n_way).collect(),
        support_examples: vec![0; TASK.n_support()],
        query_examples: vec![0; TASK.n_queries()],
    }
}

fn scores(learner: &dyn Learner, support: &Support, query: Tensor<4>, norm: Norm) -> Vec<f32> {
    let task = learner.adapt(support, norm).unwrap();
    logits_on_host(learner.score(&task, query, norm).unwrap().logits)
}

fn episode_scores(learner: &dyn Learner, episode: &Episode, norm: Norm) -> Vec<f32> {
    let device = learner.device();
    scores(
        learner,
        &episode.support_on(device),
        episode.query_on(device),
        norm,
    )
}

fn weights(learner: &dyn Learner) -> Vec<Vec<f32>> {
    learner.read().into_iter().map(logits_on_host).collect()
}

/// Trains `steps` updates on fresh toy episodes, folding batch statistics as the training loop does.
fn train(learner: &mut dyn Learner, steps: u64) -> f32 {
    let mut values = learner.read();
    let mut optimizer = Adam::new(values.len());
    let mut accuracy = 0.0;
    for step in 0..steps {
        let step = learner.meta_step(&episode(step, 0.4)).unwrap();
        optimizer.step(5e-3, &mut values, step.gradients);
        for (index, observed) in step.statistics {
            values[index] = values[index].clone().mul_scalar(0.9) + observed.mul_scalar(0.1);
        }
        learner.write(&values);
        accuracy = step.accuracy;
    }
    accuracy
}

#[test]
fn scores_have_one_row_per_query_and_one_column_per_class() {
    for method in METHODS {
        let learner = fresh(method);
        let episode = episode(1, 0.5);
        for norm in [Norm::Running, Norm::Episode] {
            let device = learner.device();
            let task = learner.adapt(&episode.support_on(device), norm).unwrap();
            let scores = learner.score(&task, episode.query_on(device), norm).unwrap();
            assert_eq!(
                scores.logits.dims(),
                [TASK.n_queries(), TASK.n_way],
                "{}",
                method.name
            );
            assert!(
                logits_on_host(scores.logits)
                    .iter()
                    .all(|value| value.is_finite()),
                "{}",
                method.name
            );
        }
    }
}

#[test]
fn adapting_scoring_and_a_training_step_leave_the_model_as_it_is() {
    for method in METHODS {
        let learner = fresh(method);
        let before = weights(learner.as_ref());
        episode_scores(learner.as_ref(), &episode(1, 0.5), Norm::Episode);
        learner.meta_step(&episode(2, 0.5)).unwrap();
        assert_eq!(before, weights(learner.as_ref()), "{}", method.name);
    }
}

#[test]
fn the_same_seed_gives_the_same_model_step_and_scores() {
    for method in METHODS {
        let run = || {
            let mut learner = fresh(method);
            train(learner.as_mut(), 3);
            (
                weights(learner.as_ref()),
                episode_scores(learner.as_ref(), &episode(9, 0.5), Norm::Running),
            )
        };
        assert_eq!(run(), run(), "{}", method.name);
    }
}

#[test]
fn weights_written_to_a_file_and_read_back_give_the_same_scores() {
    for method in METHODS {
        let mut learner = fresh(method);
        train(learner.as_mut(), 3);
        let path = Path::new("weights");
        let arrays = named::from_parameters(learner.parameters(), &learner.read(), "");
        let bytes = named::to_bytes(&arrays, path).unwrap();
        let again = model::with_weights(
            &settings(method),
            IMAGE,
            &named::from_bytes(&bytes, path).unwrap(),
            path,
        )
        .unwrap();
        let episode = episode(9, 0.5);
        for norm in [Norm::Running, Norm::Episode] {
            let scores = |learner| episode_scores(learner, &episode, norm);
            assert_eq!(
                scores(learner.as_ref()),
                scores(again.as_ref()),
                "{}",
                method.name
            );
        }
    }
}

/// The weights of a classifier of a fixed number of classes, with class k's in the place of `permutation[k]`'s.
fn relabelled_classifier(learner: &dyn Learner, permutation: &[usize]) -> Vec<Tensor<1>> {
    let parameters = learner.parameters().iter().zip(learner.read());
    parameters
        .map(|(parameter, value)| {
            if !parameter.name.contains("head.") {
                return value;
            }
            let before = logits_on_host(value);
            let mut after = before.clone();
            for (from, to) in before
                .chunks(permutation.len())
                .zip(after.chunks_mut(permutation.len()))
            {
                from.iter()
                    .zip(permutation)
                    .for_each(|(from, &place)| to[place] = *from);
            }
            named::on_device(&after, learner.device())
        })
        .collect()
}

#[test]
fn relabelling_the_classes_permutes_the_scores() {
    for method in METHODS {
        if ONE_OUTPUT_PER_CLASS.contains(&method.name) {
            continue;
        }
        let mut learner = fresh(method);
        train(learner.as_mut(), 3);
        let episode = episode(9, 0.5);
        let device = learner.device().clone();
        let support = episode.support_on(&device);
        let before = scores(
            learner.as_ref(),
            &support,
            episode.query_on(&device),
            Norm::Running,
        );
        let permutation = [2, 0, 3, 1];
        let relabelled = Support {
            labels: support.labels.iter().map(|&label| permutation[label]).collect(),
            ..support
        };
        // A classifier of fixed classes starts from one place per class: these must move along.
        if learner.n_way().is_some() {
            let moved = relabelled_classifier(learner.as_ref(), &permutation);
            learner.write(&moved);
        }
        let after = scores(
            learner.as_ref(),
            &relabelled,
            episode.query_on(&device),
            Norm::Running,
        );
        for (query, (before, after)) in before
            .chunks(TASK.n_way)
            .zip(after.chunks(TASK.n_way))
            .enumerate()
        {
            for (label, &moved) in permutation.iter().enumerate() {
                let difference = (before[label] - after[moved]).abs();
                assert!(
                    difference <= 1e-4 * (1.0 + before[label].abs()),
                    "{} query {query}",
                    method.name
                );
            }
        }
    }
}

#[test]
fn a_query_alone_scores_as_it_does_among_others_under_running_statistics() {
    for method in METHODS {
        let mut learner = fresh(method);
        train(learner.as_mut(), 3);
        let episode = episode(9, 0.5);
        let together = episode_scores(learner.as_ref(), &episode, Norm::Running);
        let device = learner.device();
        let task = learner.adapt(&episode.support_on(device), Norm::Running).unwrap();
        for (query, expected) in together.chunks(TASK.n_way).enumerate() {
            let pixels = &episode.query[query * IMAGE.len()..(query + 1) * IMAGE.len()];
            let alone = learner
                .score(&task, images(pixels, IMAGE, device), Norm::Running)
                .unwrap();
            for (a, b) in logits_on_host(alone.logits).iter().zip(expected) {
                assert!(
                    (a - b).abs() <= 1e-4 * (1.0 + b.abs()),
                    "{} query {query}",
                    method.name
                );
            }
        }
    }
}

/// Reptile and the LSTM learner give for a gradient what is by definition not the derivative of a loss. The loss of MAML
/// and Meta-SGD jumps where a ReLU or a pool changes sides in an inner gradient, so that differences say little; theirs
/// is checked against automatic differentiation in `golden_optimization.rs`, and step by step in `inner.rs`. Meta networks take
/// gradients of inner losses as numbers, through which everything before them moves the loss: `golden_memory.rs`.
const WITHOUT_DIFFERENCES: &[&str] = &["maml", "meta-sgd", "reptile", "lstm-learner", "meta-network"];

#[test]
fn gradients_agree_with_central_differences_of_the_loss() {
    let derivatives = |method: &&&MethodSpec| !WITHOUT_DIFFERENCES.contains(&method.name);
    for method in METHODS.iter().filter(derivatives) {
        let mut learner = fresh(method);
        train(learner.as_mut(), 2);
        let episode = episode(8, 0.8);
        let values = learner.read();
        let step = learner.meta_step(&episode).unwrap();
        for (index, parameter) in learner.parameters().to_vec().iter().enumerate() {
            let Some(gradient) = &step.gradients[index] else {
                continue;
            };
            let gradient: Vec<f64> = logits_on_host(gradient.clone())
                .into_iter()
                .map(f64::from)
                .collect();
            let length = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
            if length < 1e-4 {
                continue;
            }
            // Along the gradient itself the slope of the loss is its length.
            let size = (values[index].clone().square().sum().into_scalar::<f32>())
                .sqrt()
                .max(1.0);
            // Kinks of ReLU and max-pool disturb long steps, rounding disturbs short ones: one must agree.
            let difference = [2e-3, 5e-4, 1e-4, 3e-5].map(|reach| {
                let mut loss_at = |sign: f32| {
                    let along = |g: &f64| (g / length) as f32 * sign * reach * size;
                    let direction: Vec<f32> = gradient.iter().map(along).collect();
                    let mut moved = values.clone();
                    moved[index] = moved[index].clone() + named::on_device(&direction, learner.device());
                    learner.write(&moved);
                    f64::from(learner.meta_step(&episode).unwrap().loss)
                };
                let slope = (loss_at(1.0) - loss_at(-1.0)) / f64::from(2.0 * reach * size);
                (slope - length).abs() / length
            });
            learner.write(&values);
            let best = difference.into_iter().fold(f64::INFINITY, f64::min);
            assert!(
                best < 0.02,
                "{} {}: {difference:?} of {length}",
                method.name,
                parameter.name
            );
        }
    }
}

/// Methods that need far more episodes than a test has, or whose training has answers that can only be guessed (those to the
/// first picture of a class in a sequence): what is asked of them here is to be right in three of four queries, where
/// chance is one.
const GUESSING: &[&str] = &["mann", "meta-network"];

#[test]
fn a_separable_task_is_learned() {
    for method in METHODS {
        let mut learner = fresh(method);
        let trained = train(learner.as_mut(), 60);
        let guessing = GUESSING.contains(&method.name);
        assert!(guessing || trained == 1.0, "{}: {trained}", method.name);
        let episode = episode(1000, 0.4);
        let scores = episode_scores(learner.as_ref(), &episode, Norm::Running);
        let accuracy = kshot::learner::accuracy(&scores, TASK.n_way, &episode.query_labels());
        let least = if guessing { 0.75 } else { 1.0 };
        assert!(accuracy >= least, "{}: {accuracy}", method.name);
    }
}

/// The images and labels of an episode, one of each class in turn.
fn sequence(learner: &dyn Learner, episode: &Episode) -> Support {
    let support = episode.support_on(learner.device());
    let places: Vec<i32> = (0..TASK.n_support())
        .map(|t| (t % TASK.n_way * TASK.n_shot + t / TASK.n_way) as i32)
        .collect();
    Support {
        images: support
            .images
            .select(0, Tensor::from_data(places.as_slice(), learner.device())),
        labels: places
            .iter()
            .map(|&place| support.labels[place as usize])
            .collect(),
        n_way: support.n_way,
    }
}

#[test]
fn an_answer_in_a_sequence_depends_on_what_came_before_alone() {
    for method in METHODS {
        let mut learner = fresh(method);
        train(learner.as_mut(), 3);
        let sequence = sequence(learner.as_ref(), &episode(9, 0.5));
        let answers = |sequence: &Support| logits_on_host(learner.present(sequence, Norm::Running).unwrap());
        let before = answers(&sequence);
        assert_eq!(before.len(), TASK.n_support() * TASK.n_way, "{}", method.name);
        // Other images from the fifth on, and other labels from the fourth on.
        let mut other = sequence.clone();
        let images = other.images.clone();
        let kept = images.clone().narrow(0, 0, 4);
        other.images = Tensor::cat(vec![kept, -images.narrow(0, 4, TASK.n_support() - 4)], 0);
        for label in &mut other.labels[3..] {
            *label = (*label + 1) % TASK.n_way;
        }
        let after = answers(&other);
        let rows = |answers: &[f32], t: usize| answers[t * TASK.n_way..(t + 1) * TASK.n_way].to_vec();
        for t in 0..4 {
            for (a, b) in rows(&before, t).iter().zip(rows(&after, t)) {
                assert!(
                    (a - b).abs() <= 1e-5 * (1.0 + b.abs()),
                    "{} image {t}",
                    method.name
                );
            }
        }
        assert_ne!(rows(&before, 5), rows(&after, 5), "{}", method.name);
    }
}

#[test]
fn the_second_answer_of_a_sequence_is_that_after_adapting_to_its_first_image() {
    for method in METHODS {
        let mut learner = fresh(method);
        train(learner.as_mut(), 3);
        let sequence = sequence(learner.as_ref(), &episode(9, 0.5));
        let first = Support {
            images: sequence.images.clone().narrow(0, 0, 1),
            labels: sequence.labels[..1].to_vec(),
            n_way: sequence.n_way,
        };
        let expected = scores(
            learner.as_ref(),
            &first,
            sequence.images.clone().narrow(0, 1, 1),
            Norm::Running,
        );
        let answers = logits_on_host(learner.present(&sequence, Norm::Running).unwrap());
        // Classes that have not been seen may be held down.
        let (found, seen) = (&answers[TASK.n_way..2 * TASK.n_way], sequence.labels[0]);
        let difference = (found[seen] - expected[seen]).abs();
        assert!(
            difference <= 1e-4 * (1.0 + expected[seen].abs()),
            "{}",
            method.name
        );
    }
}

#[test]
fn a_meta_batch_is_the_mean_of_its_steps() {
    for method in METHODS {
        let learner = fresh(method);
        let episodes = [1, 2, 3].map(|seed| Episode {
            classes: vec![seed as usize; TASK.n_way],
            ..episode(seed, 0.5)
        });
        if !learner.parameters().iter().any(|parameter| parameter.trainable) {
            continue;
        }
        let together = learner.meta_batch(&episodes).unwrap();
        let one_by_one = episodes
            .each_ref()
            .map(|episode| learner.meta_step(episode).unwrap());
        let loss = one_by_one.iter().map(|step| step.loss).sum::<f32>() / 3.0;
        assert!((together.loss - loss).abs() < 1e-5, "{}", method.name);
        // A method may average them over its tasks.
        let some = one_by_one.iter().any(|step| !step.statistics.is_empty());
        assert_eq!(!together.statistics.is_empty(), some, "{}", method.name);
        for (index, found) in together.gradients.into_iter().enumerate() {
            let mut sum: Option<Tensor<1>> = None;
            for step in &one_by_one {
                if let Some(gradient) = step.gradients[index].clone() {
                    sum = Some(sum.map_or(gradient.clone(), |sum| sum + gradient));
                }
            }
            let (Some(found), Some(sum)) = (found, sum) else {
                continue;
            };
            let mean = sum.div_scalar(3.0);
            let scale: f32 = mean.clone().abs().max().into_scalar();
            let difference: f32 = (found - mean).abs().max().into_scalar();
            let name = &learner.parameters()[index].name;
            assert!(
                difference <= 5e-4 * scale + 1e-8,
                "{} {name}: {difference} of {scale}",
                method.name
            );
        }
    }
}
