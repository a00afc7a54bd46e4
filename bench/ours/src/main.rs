//! kshot's side of the speed comparison: the same tasks and flags as `bench/peers/step.py`, one JSON line.

mod evaluate;
mod run;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
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
    /// Where `train`, `resnet12` and `infer` compute: flex (the CPU), or a device feature of this build. A step then begins
    /// with images in host memory and ends when the device has done its work.
    #[arg(long, default_value = "flex")]
    device: String,
    /// After warming up print a line `ready`, then do one run per line read from standard input.
    #[arg(long)]
    on_demand: bool,
}

impl Arguments {
    fn on_host(&self) -> bool {
        self.device == "flex"
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    rayon::ThreadPoolBuilder::new()
        .num_threads(arguments.threads)
        .build_global()?;
    if arguments.iterations == 0 || arguments.tasks == 0 {
        bail!("--iterations and --tasks must be at least 1");
    }
    if !arguments.on_host() && !matches!(arguments.task, Task::Train | Task::Resnet12 | Task::Infer) {
        bail!(
            "--device {}: only --task train, resnet12 and infer are measured beside the CPU",
            arguments.device
        );
    }
    let (image, encoder) = match arguments.task {
        Task::Resnet12 => (ImageShape::square(84, 3), "resnet12"),
        _ => (ImageShape::square(28, 1), "conv4"),
    };
    let mut settings = BTreeMap::from([
        ("method".to_owned(), arguments.method.clone()),
        ("device".to_owned(), arguments.device.clone()),
    ]);
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
    match arguments.task {
        Task::Sample => sample(task, &arguments),
        Task::Eval => {
            let episodes = meta_batches(task, image, arguments.tasks).concat();
            evaluate(learner.as_ref(), &episodes[..arguments.tasks], &arguments)
        }
        Task::Infer => infer(learner.as_ref(), image, &arguments),
        Task::Maml => train(
            learner.as_mut(),
            &meta_batches(task, image, arguments.tasks),
            &arguments,
        ),
        Task::Train | Task::Resnet12 => train(learner.as_mut(), &meta_batches(task, image, 1), &arguments),
    }
}

/// Forward, backward and Adam, as the training loop does them.
fn train(learner: &mut dyn Learner, batches: &[Vec<Episode>], arguments: &Arguments) -> Result<()> {
    let mut values = learner.read();
    let mut optimizer = Adam::new(values.len());
    let mut in_turn = batches.iter().cycle();
    run::measure(arguments, images_of(&batches[0]), || {
        let Some(episodes) = in_turn.next() else {
            bail!("no episodes")
        };
        let step = learner.meta_batch(episodes)?;
        optimizer.step(1e-3, &mut values, step.gradients);
        learner.write(&values);
        // A device still computes the new weights.
        learner.device().sync().context("--device")
    })
}

fn evaluate(learner: &dyn Learner, episodes: &[Episode], arguments: &Arguments) -> Result<()> {
    run::measure(arguments, images_of(episodes), || {
        evaluate::accuracy(learner, episodes).map(|_| ())
    })
}

fn sample(task: TaskShape, arguments: &Arguments) -> Result<()> {
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
    run::measure(arguments, task.n_support() + task.n_queries(), || {
        index += 1;
        sampler.episode(index)?;
        Ok(())
    })
}

fn infer(learner: &dyn Learner, image: ImageShape, arguments: &Arguments) -> Result<()> {
    let batches: Vec<Vec<f32>> = (1..=4)
        .map(|seed| random_pixels(arguments.images * image.len(), seed))
        .collect();
    let upload = |pixels: &Vec<f32>| episode::images(pixels, image, learner.device());
    // On the processor the images are where they are computed with; a device gets them anew in every step.
    let resident: Vec<_> = batches
        .iter()
        .filter(|_| arguments.on_host())
        .map(upload)
        .collect();
    let mut in_turn = (0..batches.len()).cycle();
    run::measure(arguments, arguments.images, || {
        let at = in_turn.next().unwrap_or(0);
        let images = resident.get(at).cloned().unwrap_or_else(|| upload(&batches[at]));
        let embeddings = learner.embed(images, Norm::Running).into_data();
        if embeddings.num_elements() == 0 {
            bail!("no embedding");
        }
        Ok(())
    })
}

fn images_of(episodes: &[Episode]) -> usize {
    episodes
        .iter()
        .map(|episode| episode.task.n_support() + episode.task.n_queries())
        .sum()
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
