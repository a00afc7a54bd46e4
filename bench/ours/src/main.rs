//! kshot's side of the speed comparison: the same tasks and flags as `bench/peers/step.py`, one JSON line.

mod evaluate;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};
use kshot::augment::Augment;
use kshot::data::{ImageShape, Part};
use kshot::episode::{self, Episode, TaskShape};
use kshot::learner::Learner;
use kshot::norm::Norm;
use kshot::optimizer::Adam;
use kshot::sampler::Sampler;
use kshot::settings::Settings;
use kshot::{model, random};
use rand::RngExt;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Task {
    /// A Prototypical training step on Conv4-64, 28x28x1.
    Train,
    /// Embedding of images by Conv4-64 under running statistics.
    Infer,
    /// A Prototypical training step on ResNet-12, 84x84x3.
    Resnet12,
    /// Answering episodes of `--method`.
    Eval,
    /// A second-order MAML step on Conv4-64 with a linear classifier, 28x28x1, all weights adapted.
    Maml,
    /// Drawing an episode of generated glyphs on one thread, with affine augmentation.
    Sample,
}

/// Measures one task.
#[derive(Parser)]
struct Arguments {
    #[arg(long, value_enum)]
    task: Task,
    #[arg(long, default_value_t = 60)]
    way: usize,
    #[arg(long, default_value_t = 5)]
    shot: usize,
    #[arg(long, default_value_t = 5)]
    query: usize,
    /// Images of `infer`; for the other tasks way, shot and query say how many there are.
    #[arg(long, default_value_t = 600)]
    images: usize,
    /// Whose episodes `eval` answers.
    #[arg(long, default_value = "prototypical")]
    method: String,
    /// Tasks of each step of `maml` and `eval`.
    #[arg(long, default_value_t = 32)]
    tasks: usize,
    /// Inner steps of each task of `maml`; the inner rate is 0.4 for one and 0.1 for more.
    #[arg(long, default_value_t = 1)]
    inner_steps: usize,
    /// Measured repetitions, after a tenth as many that are not.
    #[arg(long, default_value_t = 20)]
    iterations: usize,
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    rayon::ThreadPoolBuilder::new()
        .num_threads(arguments.threads)
        .build_global()?;
    if arguments.iterations == 0 || arguments.tasks == 0 {
        bail!("--iterations and --tasks must be at least 1");
    }
    let (image, encoder) = match arguments.task {
        Task::Resnet12 => (ImageShape::square(84, 3), "resnet12"),
        _ => (ImageShape::square(28, 1), "conv4"),
    };
    let mut settings = BTreeMap::from([("method".to_owned(), arguments.method.clone())]);
    if arguments.method != "relation" {
        settings.insert("encoder".to_owned(), encoder.to_owned());
    }
    if arguments.task == Task::Maml {
        let inner_lr = if arguments.inner_steps == 1 { "0.4" } else { "0.1" };
        let maml = [
            ("method", "maml".to_owned()),
            ("way", arguments.way.to_string()),
            ("inner-steps", arguments.inner_steps.to_string()),
            ("inner-lr", inner_lr.to_owned()),
        ];
        settings.extend(maml.map(|(name, value)| (name.to_owned(), value)));
    }
    let mut learner = model::fresh(&Settings::resolve(&[&settings])?, image)?;
    let task = TaskShape {
        n_way: arguments.way,
        n_shot: arguments.shot,
        n_query: arguments.query,
    };
    let (images, seconds) = match arguments.task {
        Task::Sample => (task.n_support() + task.n_queries(), sample(task, &arguments)?),
        Task::Eval => {
            let episodes = meta_batches(task, image, arguments.tasks).concat();
            let episodes = &episodes[..arguments.tasks];
            let answer = || evaluate::accuracy(learner.as_ref(), episodes).map(|_| ());
            let images = arguments.tasks * (task.n_support() + task.n_queries());
            (images, repeat(&arguments, answer)?)
        }
        Task::Infer => (arguments.images, infer(learner.as_ref(), image, &arguments)?),
        Task::Maml => (
            arguments.tasks * (task.n_support() + task.n_queries()),
            train(
                learner.as_mut(),
                &meta_batches(task, image, arguments.tasks),
                &arguments,
            )?,
        ),
        _ => (
            task.n_support() + task.n_queries(),
            train(learner.as_mut(), &meta_batches(task, image, 1), &arguments)?,
        ),
    };
    let tasks = (arguments.task == Task::Maml).then_some(arguments.tasks);
    let median = median(seconds);
    println!(
        "{}",
        serde_json::json!({
            "program": "kshot", "version": env!("CARGO_PKG_VERSION"),
            "task": arguments.task.to_possible_value().map(|value| value.get_name().to_owned()),
            "iterations": arguments.iterations, "threads": rayon::current_num_threads(),
            "seconds_per_step": median, "images": images, "images_per_second": images as f64 / median,
            "peak_rss_mib": peak_memory_mib(),
            "tasks": tasks, "inner_steps": tasks.map(|_| arguments.inner_steps),
            "tasks_per_second": tasks.map(|tasks| tasks as f64 / median),
        })
    );
    Ok(())
}

/// Forward, backward and Adam, as the training loop does them.
fn train(learner: &mut dyn Learner, batches: &[Vec<Episode>], arguments: &Arguments) -> Result<Vec<f64>> {
    let mut values = learner.read();
    let mut optimizer = Adam::new(values.len());
    let mut in_turn = batches.iter().cycle();
    repeat(arguments, || {
        let Some(episodes) = in_turn.next() else {
            bail!("no episodes")
        };
        let step = learner.meta_batch(episodes)?;
        optimizer.step(1e-3, &mut values, step.gradients);
        learner.write(&values);
        Ok(())
    })
}

fn sample(task: TaskShape, arguments: &Arguments) -> Result<Vec<f64>> {
    let settings = Settings::resolve(&[])?;
    let dataset = Arc::from((settings.dataset.open)(&settings.open_request()?)?);
    let augment = Augment {
        rotate: 10.0,
        shear: 0.15,
        scale: 0.15,
        shift: 2.0,
        ..Augment::default()
    };
    let sampler = Sampler::new(dataset, Part::Train, task.into(), 1, false, augment)?;
    let mut index = 0;
    repeat(arguments, || {
        index += 1;
        sampler.episode(index)?;
        Ok(())
    })
}

fn infer(learner: &dyn Learner, image: ImageShape, arguments: &Arguments) -> Result<Vec<f64>> {
    let pixels = random_pixels(arguments.images * image.len(), 1);
    let images = episode::images(&pixels, image, learner.device());
    repeat(arguments, || {
        let embeddings = learner.embed(images.clone(), Norm::Running).into_data();
        if embeddings.num_elements() == 0 {
            bail!("no embedding");
        }
        Ok(())
    })
}

fn repeat(arguments: &Arguments, mut once: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    for _ in 0..arguments.iterations.div_ceil(10) {
        once()?;
    }
    (0..arguments.iterations)
        .map(|_| {
            let started = Instant::now();
            once()?;
            Ok(started.elapsed().as_secs_f64())
        })
        .collect()
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// Four batches of `tasks` random episodes, so that no step sees one that it has just learned by heart.
fn meta_batches(task: TaskShape, image: ImageShape, tasks: usize) -> Vec<Vec<Episode>> {
    let episode = |seed: u64| Episode {
        task,
        image,
        support: random_pixels(task.n_support() * image.len(), 2 * seed + 2),
        query: random_pixels(task.n_queries() * image.len(), 2 * seed + 3),
        classes: (0..task.n_way).collect(),
        support_examples: vec![0; task.n_support()],
        query_examples: vec![0; task.n_queries()],
    };
    let tasks = tasks as u64;
    (0..4)
        .map(|batch| (batch * tasks..(batch + 1) * tasks).map(episode).collect())
        .collect()
}

fn random_pixels(count: usize, seed: u64) -> Vec<f32> {
    let mut rng = random::stream(seed, &[]);
    (0..count).map(|_| rng.random::<f32>()).collect()
}

/// Peak resident memory in MiB, where the system says it (Linux).
fn peak_memory_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace()
        .nth(1)?
        .parse::<f64>()
        .ok()
        .map(|kibibytes| kibibytes / 1024.0)
}
