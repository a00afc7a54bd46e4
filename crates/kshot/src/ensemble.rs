//! Several answers in the place of one: test-time augmentation, and several models.
//!
//! Both are learners around learners, so that every evaluation and application takes them as they are. A task is
//! learned from the support images and changed copies of them; a query is scored in several views by every model; the
//! logarithms of the probabilities are averaged.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor};

use crate::augment::Augment;
use crate::data::ImageShape;
use crate::episode::{self, Episode, Support, TaskShape};
use crate::error::Error;
use crate::learner::{Learner, Step, Task, logits_on_host};
use crate::method::Scores;
use crate::norm::{Norm, NormalisedBy};
use crate::parameters::Parameter;
use crate::random;

/// The stream of the views: the same for every image, so that a query's score doesn't depend on the others.
const VIEWS: u64 = 0x7669_6577;

/// Learners that answer together.
pub struct Ensemble {
    members: Vec<Box<dyn Learner>>,
    views: u64,
    augment: Augment,
}

impl Ensemble {
    /// Averages over `members`, and over `views` views of each image: the image itself, and copies changed by `augment`.
    ///
    /// # Errors
    /// No member, no view, or several views that nothing changes.
    pub fn new(members: Vec<Box<dyn Learner>>, views: usize, augment: Augment) -> Result<Self, Error> {
        let refuse = |name, problem: &str| {
            Err(Error::Setting {
                name,
                problem: problem.to_owned(),
            })
        };
        if members.is_empty() {
            return refuse("run", "give at least one trained model");
        }
        if views == 0 {
            return refuse("views", "must be at least 1, found 0");
        }
        if views > 1 && augment == Augment::default() {
            return refuse(
                "views",
                "the model was trained without augmentation, so that there is nothing to make views with; take --views 1",
            );
        }
        Ok(Self {
            members,
            views: views as u64,
            augment,
        })
    }

    /// View number `view` of images `[n, height, width, channels]`; view 0 is the images themselves.
    fn view(&self, images: &Tensor<4>, view: u64) -> Tensor<4> {
        if view == 0 {
            return images.clone();
        }
        let [_, height, width, channels] = images.dims();
        let shape = ImageShape {
            height,
            width,
            channels,
        };
        let mut pixels = logits_on_host(images.clone());
        self.augment
            .apply_alike(&mut pixels, shape, &mut random::stream(VIEWS, &[view]));
        episode::images(&pixels, shape, &images.device())
    }
}

impl Learner for Ensemble {
    /// Of the first member.
    fn parameters(&self) -> &[Parameter] {
        self.members[0].parameters()
    }

    fn read(&self) -> Vec<Tensor<1>> {
        self.members[0].read()
    }

    /// To every member.
    fn write(&mut self, values: &[Tensor<1>]) {
        for member in &mut self.members {
            member.write(values);
        }
    }

    /// An ensemble is not trained; its members are.
    fn meta_step(&self, _episode: &Episode) -> Result<Step, Error> {
        Err(Error::Setting {
            name: "views",
            problem: "an ensemble is for evaluation; train its members one by one".to_owned(),
        })
    }

    fn check_task(&self, task: TaskShape, together: usize) -> Result<(), Error> {
        self.members
            .iter()
            .try_for_each(|member| member.check_task(task, together))
    }

    fn normalised_by(&self, norm: Norm) -> NormalisedBy {
        let first = self.members[0].normalised_by(norm);
        let same = self
            .members
            .iter()
            .all(|member| member.normalised_by(norm) == first);
        if same { first } else { NormalisedBy::Mixed }
    }

    fn n_way(&self) -> Option<usize> {
        self.members[0].n_way()
    }

    fn adapt(&self, support: &Support, norm: Norm) -> Result<Task, Error> {
        let images: Vec<Tensor<4>> = (0..self.views)
            .map(|view| self.view(&support.images, view))
            .collect();
        // Class by class where the support is, as an episode's is: example, then view.
        let (n, views) = (support.labels.len(), self.views as usize);
        let [_, height, width, channels] = support.images.dims();
        let images = Tensor::stack::<5>(images, 1).reshape([n * views, height, width, channels]);
        let viewed = Support {
            images,
            labels: support
                .labels
                .iter()
                .flat_map(|&label| std::iter::repeat_n(label, views))
                .collect(),
            n_way: support.n_way,
        };
        let tasks: Result<Vec<Task>, Error> = self
            .members
            .iter()
            .map(|member| member.adapt(&viewed, norm))
            .collect();
        Ok(Box::new(tasks?))
    }

    fn score(&self, task: &Task, query: Tensor<4>, norm: Norm) -> Result<Scores, Error> {
        let tasks = task
            .downcast_ref::<Vec<Task>>()
            .filter(|tasks| tasks.len() == self.members.len())
            .ok_or_else(|| Error::Setting {
                name: "task",
                problem: "it was adapted by another learner".to_owned(),
            })?;
        let mut answers = Vec::new();
        for view in 0..self.views {
            let images = self.view(&query, view);
            for (member, task) in self.members.iter().zip(tasks) {
                answers.push(log_softmax(member.score(task, images.clone(), norm)?.logits, 1));
            }
        }
        let share = 1.0 / answers.len() as f32;
        let total = answers
            .into_iter()
            .reduce(|sum, answer| sum + answer)
            .unwrap_or_else(|| unreachable!("at least one member and one view"));
        Ok(Scores {
            logits: total.mul_scalar(share),
            attention: None,
        })
    }

    /// Of the first member.
    fn embed(&self, images: Tensor<4>, norm: Norm) -> Tensor<2> {
        self.members[0].embed(images, norm)
    }

    fn device(&self) -> &Device {
        self.members[0].device()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model;
    use crate::settings::Settings;

    const IMAGE: ImageShape = ImageShape::square(28, 1);

    fn learner(seed: &str) -> Box<dyn Learner> {
        let layer = BTreeMap::from([
            ("seed".to_owned(), seed.to_owned()),
            ("filters".to_owned(), "8".to_owned()),
        ]);
        model::fresh(&Settings::resolve(&[&layer]).unwrap(), IMAGE).unwrap()
    }

    fn task() -> Episode {
        let pixels = |n: usize| {
            (0..n * IMAGE.len())
                .map(|i| ((i * 7919) % 1013) as f32 / 1013.0)
                .collect()
        };
        Episode {
            task: TaskShape {
                n_way: 3,
                n_shot: 2,
                n_query: 2,
            },
            image: IMAGE,
            support: pixels(6),
            query: pixels(6),
            classes: vec![0, 1, 2],
            support_examples: vec![0; 6],
            query_examples: vec![0; 6],
        }
    }

    fn scores(learner: &dyn Learner, episode: &Episode) -> Vec<f32> {
        let task = learner
            .adapt(&episode.support_on(learner.device()), Norm::Running)
            .unwrap();
        let query = episode.query_on(learner.device());
        logits_on_host(log_softmax(
            learner.score(&task, query, Norm::Running).unwrap().logits,
            1,
        ))
    }

    #[test]
    fn members_are_averaged_in_the_logarithms_of_their_probabilities() {
        let episode = task();
        let (a, b) = (
            scores(learner("1").as_ref(), &episode),
            scores(learner("2").as_ref(), &episode),
        );
        let both = Ensemble::new(vec![learner("1"), learner("2")], 1, Augment::default()).unwrap();
        let mean: Vec<f32> = a.iter().zip(&b).map(|(a, b)| (a + b) / 2.0).collect();
        let row: f32 = mean[..3].iter().map(|log| log.exp()).sum();
        for (found, mean) in scores(&both, &episode)[..3].iter().zip(&mean) {
            assert!((found - (mean - row.ln())).abs() < 1e-4, "{found} {mean}");
        }
    }

    #[test]
    fn a_query_alone_scores_as_among_others_in_every_view() {
        let augment = Augment {
            rotate: 10.0,
            elastic: 1.0,
            ..Augment::default()
        };
        let ensemble = Ensemble::new(vec![learner("1")], 3, augment).unwrap();
        let episode = task();
        let all = scores(&ensemble, &episode);
        let task = ensemble
            .adapt(&episode.support_on(ensemble.device()), Norm::Running)
            .unwrap();
        let last = episode.query_on(ensemble.device()).narrow(0, 5, 1);
        let alone = logits_on_host(log_softmax(
            ensemble.score(&task, last, Norm::Running).unwrap().logits,
            1,
        ));
        for (alone, among) in alone.iter().zip(&all[15..]) {
            assert!((alone - among).abs() < 1e-4, "{alone} {among}");
        }
    }

    #[test]
    fn what_can_not_be_averaged_is_refused() {
        let refused =
            |members, views, augment| Ensemble::new(members, views, augment).err().unwrap().to_string();
        assert!(refused(vec![], 1, Augment::default()).contains("at least one"));
        assert!(refused(vec![learner("1")], 0, Augment::default()).contains("views"));
        assert!(refused(vec![learner("1")], 4, Augment::default()).contains("without augmentation"));
    }
}
