//! Episodes from a dataset: (dataset, part, seed, index) → episode, a pure function.
//!
//! Any worker, in any order, on any machine makes the same episode; so training can prefetch,
//! resume in the middle and be repeated bit for bit.

use std::ops::RangeInclusive;
use std::sync::Arc;

use rand::RngExt;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use crate::augment::Augment;
use crate::data::{DataError, Dataset, Part};
use crate::episode::{Episode, TaskShape};
use crate::random;

/// Which tasks are drawn: ways and shots may vary from episode to episode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRange {
    /// Classes per episode.
    pub n_way: RangeInclusive<usize>,
    /// Labelled examples per class.
    pub n_shot: RangeInclusive<usize>,
    /// Queries per class.
    pub n_query: usize,
}

impl TaskRange {
    /// The largest task.
    pub const fn largest(&self) -> TaskShape {
        TaskShape {
            n_way: *self.n_way.end(),
            n_shot: *self.n_shot.end(),
            n_query: self.n_query,
        }
    }
}

impl From<TaskShape> for TaskRange {
    fn from(task: TaskShape) -> Self {
        Self {
            n_way: task.n_way..=task.n_way,
            n_shot: task.n_shot..=task.n_shot,
            n_query: task.n_query,
        }
    }
}

/// Why no episode can be drawn.
#[derive(Debug, thiserror::Error)]
pub enum SamplerError {
    /// More classes per episode than there are.
    #[error(
        "{dataset}, part {part}{within}: {n_way}-way episodes need {n_way} classes, there are {found}; \
         lower --way or choose a part with more classes"
    )]
    TooFewClasses {
        /// Dataset and partition.
        dataset: String,
        /// Part.
        part: Part,
        /// ` within one alphabet` when episodes stay inside a group.
        within: &'static str,
        /// Wanted.
        n_way: usize,
        /// Found.
        found: usize,
    },
    /// A class has fewer examples than shots and queries together.
    #[error(
        "{dataset}, part {part}: class `{class}` has {found} examples, {n_shot} shots + {n_query} queries \
         need {needed}; lower --shot or --query, or add examples"
    )]
    TooFewExamples {
        /// Dataset and partition.
        dataset: String,
        /// Part.
        part: Part,
        /// The class.
        class: String,
        /// Shots.
        n_shot: usize,
        /// Queries.
        n_query: usize,
        /// Their sum.
        needed: usize,
        /// Examples there are.
        found: usize,
    },
    /// A way, a shot or a query of zero, or an empty range.
    #[error("way, shot and query must be at least 1 (ranges low-high), found {found}")]
    EmptyTask {
        /// The task.
        found: String,
    },
    /// The dataset failed.
    #[error(transparent)]
    Data(#[from] DataError),
}

/// Draws episodes from one part of a dataset.
#[derive(Clone)]
pub struct Sampler {
    dataset: Arc<dyn Dataset>,
    part: Part,
    tasks: TaskRange,
    seed: u64,
    /// Candidate class ranges, those that are large enough: the dataset's pools (mostly all classes), or its groups.
    pools: Vec<std::ops::Range<usize>>,
    /// Share of the episodes whose classes come from as few groups as fill the way.
    few_groups: f64,
    augment: Augment,
}

impl Sampler {
    /// Checks once that every episode can be drawn; `within_group` keeps an episode inside one
    /// alphabet (groups with too few classes are left out).
    ///
    /// # Errors
    /// Too few classes, or a class with too few examples, by name.
    pub fn new(
        dataset: Arc<dyn Dataset>,
        part: Part,
        tasks: TaskRange,
        seed: u64,
        within_group: bool,
        augment: Augment,
    ) -> Result<Self, SamplerError> {
        if *tasks.n_way.start() == 0
            || *tasks.n_shot.start() == 0
            || tasks.n_query == 0
            || tasks.n_way.is_empty()
            || tasks.n_shot.is_empty()
        {
            return Err(SamplerError::EmptyTask {
                found: format!("{tasks:?}"),
            });
        }
        let n_way = *tasks.n_way.end();
        let table = dataset.classes(part);
        let name = || format!("{} ({})", dataset.name(), dataset.partition());
        let mut pools = if within_group {
            table.groups().iter().map(|(_, range)| range.clone()).collect()
        } else {
            table.pools()
        };
        let largest = pools.iter().map(std::ops::Range::len).max().unwrap_or(0);
        pools.retain(|range| range.len() >= n_way);
        if pools.is_empty() {
            return Err(SamplerError::TooFewClasses {
                dataset: name(),
                part,
                within: if within_group { " within one alphabet" } else { "" },
                n_way,
                found: largest,
            });
        }
        let needed = *tasks.n_shot.end() + tasks.n_query;
        if let Some(class) = table.classes().iter().find(|class| class.n_examples < needed) {
            return Err(SamplerError::TooFewExamples {
                dataset: name(),
                part,
                class: class.name.clone(),
                n_shot: *tasks.n_shot.end(),
                n_query: tasks.n_query,
                needed,
                found: class.n_examples,
            });
        }
        Ok(Self {
            dataset,
            part,
            tasks,
            seed,
            pools,
            few_groups: 0.0,
            augment,
        })
    }

    /// Draws the classes of this `share` of the episodes, in `[0, 1]`, from as few groups as fill the way: characters of
    /// one alphabet are harder to tell apart than characters of many. The other episodes stay as they are.
    #[must_use]
    pub fn with_few_groups(mut self, share: f64) -> Self {
        self.few_groups = share;
        self
    }

    /// The dataset that is drawn from.
    pub fn dataset(&self) -> &Arc<dyn Dataset> {
        &self.dataset
    }

    /// The part that is drawn from.
    pub fn part(&self) -> Part {
        self.part
    }

    /// Which tasks are drawn.
    pub fn tasks(&self) -> &TaskRange {
        &self.tasks
    }

    /// Episode number `index`.
    ///
    /// # Errors
    /// A picture that can't be read.
    pub fn episode(&self, index: u64) -> Result<Episode, SamplerError> {
        let mut rng = random::stream(self.seed, &[self.part as u64, index]);
        let n_way = draw(&mut rng, &self.tasks.n_way);
        let n_shot = draw(&mut rng, &self.tasks.n_shot);
        let task = TaskShape {
            n_way,
            n_shot,
            n_query: self.tasks.n_query,
        };
        let image = self.dataset.shape();
        let classes = self.draw_classes(&mut rng, n_way);
        let table = self.dataset.classes(self.part).classes();
        let mut episode = Episode {
            task,
            image,
            support: vec![0.0; task.n_support() * image.len()],
            query: vec![0.0; task.n_queries() * image.len()],
            support_examples: Vec::with_capacity(task.n_support()),
            query_examples: Vec::with_capacity(task.n_queries()),
            classes,
        };
        for (label, &class) in episode.classes.iter().enumerate() {
            let drawn = index::sample(&mut rng, table[class].n_examples, n_shot + task.n_query);
            for (place, example) in drawn.into_iter().enumerate() {
                let pixels = if place < n_shot {
                    episode.support_examples.push(example);
                    nth_image(&mut episode.support, label * n_shot + place, image.len())
                } else {
                    episode.query_examples.push(example);
                    nth_image(
                        &mut episode.query,
                        label * task.n_query + place - n_shot,
                        image.len(),
                    )
                };
                self.dataset.read(self.part, class, example, pixels)?;
            }
        }
        self.augment.apply(&mut episode, &mut rng);
        Ok(episode)
    }

    /// `n_way` different classes.
    fn draw_classes(&self, rng: &mut ChaCha8Rng, n_way: usize) -> Vec<usize> {
        let few = self.few_groups > 0.0 && rng.random_bool(self.few_groups);
        let pool = match self.pools.as_slice() {
            [pool] => pool,
            pools => &pools[rng.random_range(0..pools.len())],
        };
        if few {
            let groups = self.dataset.classes(self.part).groups();
            let groups: Vec<_> = groups
                .iter()
                .filter(|(_, range)| pool.contains(&range.start))
                .collect();
            let mut candidates = Vec::new();
            for group in index::sample(rng, groups.len(), groups.len()) {
                candidates.extend(groups[group].1.clone());
                if candidates.len() >= n_way {
                    break;
                }
            }
            let places = index::sample(rng, candidates.len(), n_way);
            return places.into_iter().map(|place| candidates[place]).collect();
        }
        let places = index::sample(rng, pool.len(), n_way);
        places.into_iter().map(|place| pool.start + place).collect()
    }
}

fn draw(rng: &mut impl RngExt, range: &RangeInclusive<usize>) -> usize {
    if range.start() == range.end() {
        *range.start()
    } else {
        rng.random_range(range.clone())
    }
}

fn nth_image(pixels: &mut [f32], index: usize, len: usize) -> &mut [f32] {
    &mut pixels[index * len..(index + 1) * len]
}
