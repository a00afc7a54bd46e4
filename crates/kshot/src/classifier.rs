//! A classifier from a few examples of each class, which applications hold: classes come, change and go at any time, and
//! nothing is trained.
//!
//! ```
//! use kshot::classifier::{DynamicImage, FewShotClassifier};
//! use kshot::trained::Trained;
//!
//! # fn main() -> Result<(), kshot::Error> {
//! let mut classifier = FewShotClassifier::new(Trained::find("glyphs-conv4")?);
//! let input = *classifier.model().input();
//! for (class, name, at) in [("upright", "1", 18), ("upright", "2", 24), ("level", "1", 18), ("level", "2", 24)] {
//!     classifier.add(class, name, input.picture(bar(class == "upright", at), name.as_ref())?)?;
//! }
//! let answer = &classifier.classify(&[input.picture(bar(false, 21), "new".as_ref())?])?[0];
//! println!("{:?} with {:.0} %", answer.label, 100.0 * answer.probability);
//! assert_eq!(answer.label.as_deref(), Some("level"));
//! # Ok(())
//! # }
//! # /// A dark bar on light paper, in place of a file's picture, which `Input::decode` reads.
//! # fn bar(upright: bool, at: u32) -> DynamicImage {
//! #     let mut picture = DynamicImage::new_luma8(42, 42);
//! #     picture.invert();
//! #     if let DynamicImage::ImageLuma8(pixels) = &mut picture {
//! #         for along in 6..36 {
//! #             for across in at..at + 3 {
//! #                 let (x, y) = if upright { (across, along) } else { (along, across) };
//! #                 pixels[(x, y)].0 = [0];
//! #             }
//! #         }
//! #     }
//! #     picture
//! # }
//! ```
//!
//! What a class is to the model ([`Head`]): for models that score by embeddings alone, each example's embedding is kept,
//! so that adding a class costs its own examples only. Models that don't (relation networks, full-context embeddings,
//! everything that learns by gradients) adapt to all examples anew after each change; see [`Head::Learned`].
//!
//! Probabilities are calibrated by leaving each example out in turn; so is the limit beyond which a picture is none of
//! the classes. See [`Calibration`].

mod adapted;
mod answer;
mod calibration;
mod class;
mod confusion;
mod kernel;
mod left_out;
mod picture;
pub mod reliability;
mod temperature;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use crate::error::Error;
use crate::method::Kernel;
use crate::trained::Trained;

pub use answer::{Answer, Evidence, Ranked, Show};
pub use calibration::{Boundary, Calibration, Unknown};
pub use class::{Class, Example, check_name};
pub use confusion::{Confused, Confusion, Confusions};
pub use image::DynamicImage;
pub use picture::{ContentHash, Input, Picture, Polarity};

use adapted::Adapted;
use left_out::LeftOut;

/// How classes are scored.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Head {
    /// As the model was trained: by its kernel over embeddings if it has one, else [`Head::Learned`].
    #[default]
    Model,
    /// By this kernel over the model's embeddings, whatever it was trained for.
    Kernel(Kernel),
    /// By the model's own adapting and scoring. All examples are held as pixels and adapted to together, anew after each
    /// change; at most [`Head::MOST_LEARNED`] of them.
    Learned,
}

impl Head {
    /// Most examples of a classifier that adapts to all of them together.
    pub const MOST_LEARNED: usize = 2_000;

    /// `model`, `prototypes`, `cosine`, `attention`, `nearest` or `learned`.
    pub const NAMES: [&str; 6] = ["model", "prototypes", "cosine", "attention", "nearest", "learned"];

    /// One of [`Head::NAMES`].
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub fn from_name(name: &str) -> Result<Self, Error> {
        Ok(match name {
            "model" => Self::Model,
            "prototypes" => Self::Kernel(Kernel::SquaredEuclidean),
            "cosine" => Self::Kernel(Kernel::Cosine { factor: 10.0 }),
            "attention" => Self::Kernel(Kernel::Attention { factor: 10.0 }),
            "nearest" => Self::Kernel(Kernel::Nearest),
            "learned" => Self::Learned,
            _ => {
                return Err(Error::Unknown {
                    what: "head",
                    name: name.to_owned(),
                    hint: crate::suggest::hint(name, Self::NAMES.into_iter()),
                });
            }
        })
    }
}

/// What became of a picture that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is a new example.
    New,
    /// The same picture is an example of this class already; nothing changed.
    Known,
}

/// Classes and their examples in front of a trained model; see the module.
///
/// Everything that reads takes `&self` and may run on many threads at once. A clone shares examples and model: it costs
/// little, and changes to either leave the other as it is.
#[derive(Clone, Debug)]
pub struct FewShotClassifier {
    model: Arc<Trained>,
    /// `None` for [`Head::Learned`].
    kernel: Option<Kernel>,
    /// Shared with clones until either changes.
    classes: Arc<BTreeMap<String, Arc<Class>>>,
    unknown: Unknown,
    /// What follows from the classes, made when it is first needed after a change.
    derived: Derived,
}

#[derive(Clone, Debug, Default)]
struct Derived {
    calibration: Arc<OnceLock<Calibration>>,
    /// The scores from which the calibration was made, and those before the last changes.
    left_out: Arc<OnceLock<Arc<LeftOut>>>,
    left_out_before: Option<Arc<LeftOut>>,
    adapted: Arc<OnceLock<Adapted>>,
}

impl FewShotClassifier {
    /// No classes yet, scored as the model was trained.
    pub fn new(model: impl Into<Arc<Trained>>) -> Self {
        Self::with_head(model, Head::Model)
    }

    /// No classes yet, scored by `head`.
    pub fn with_head(model: impl Into<Arc<Trained>>, head: Head) -> Self {
        let model = model.into();
        let kernel = match head {
            Head::Model => model.learner().kernel(),
            Head::Kernel(kernel) => Some(kernel),
            Head::Learned => None,
        };
        Self {
            model,
            kernel,
            classes: Arc::default(),
            unknown: Unknown::default(),
            derived: Derived::default(),
        }
    }

    /// The model.
    pub fn model(&self) -> &Arc<Trained> {
        &self.model
    }

    /// The kernel over embeddings that scores; `None` where the model itself adapts to all examples.
    pub fn kernel(&self) -> Option<Kernel> {
        self.kernel
    }

    /// The classes by name, in alphabetical order.
    pub fn classes(&self) -> impl ExactSizeIterator<Item = &Class> {
        self.classes.values().map(Arc::as_ref)
    }

    /// A class by name.
    pub fn class(&self, name: &str) -> Option<&Class> {
        self.classes.get(name).map(Arc::as_ref)
    }

    /// Examples in all classes together.
    pub fn n_examples(&self) -> usize {
        self.classes().map(|class| class.examples().len()).sum()
    }

    /// Embeds a picture and adds it to a class, which comes into being with its first one. `name` is what evidence calls
    /// it: a file's name, a number.
    ///
    /// # Errors
    /// A name that can't be a class's, a picture made for another model, or more examples than the head can take.
    pub fn add(&mut self, class: &str, name: &str, picture: Picture) -> Result<Added, Error> {
        let added = self.add_all(class, vec![(name.to_owned(), picture)])?;
        Ok(added[0])
    }

    /// As [`FewShotClassifier::add`], for many pictures of a class at once, which is faster; all are added, or none.
    ///
    /// # Errors
    /// As [`FewShotClassifier::add`].
    pub fn add_all(&mut self, class: &str, pictures: Vec<(String, Picture)>) -> Result<Vec<Added>, Error> {
        let plain: Vec<&Picture> = pictures.iter().map(|(_, picture)| picture).collect();
        let embeddings = self.model.embed(&plain)?;
        let examples = pictures.into_iter().zip(embeddings);
        let examples = examples
            .map(|((name, picture), embedding)| Example::new(name, &picture, embedding))
            .collect();
        self.add_examples(class, examples)
    }

    /// Adds examples whose embeddings are known, as a store gives them back; all are added, or none.
    ///
    /// # Errors
    /// As [`FewShotClassifier::add`], and an embedding of another length than the others.
    pub fn add_examples(&mut self, class: &str, examples: Vec<Example>) -> Result<Vec<Added>, Error> {
        check_name(class)?;
        let problem = |problem: String| Error::Class {
            class: class.to_owned(),
            problem,
        };
        let features = self
            .features()
            .or(examples.first().map(|example| example.embedding().len()));
        for example in &examples {
            let found = example.embedding().len();
            if found == 0 || Some(found) != features || !example.embedding().iter().all(|x| x.is_finite()) {
                return Err(problem(format!(
                    "example `{}` has {found} features where {} finite ones belong; it was made by another model",
                    example.name(),
                    features.unwrap_or(1)
                )));
            }
        }
        if self.kernel.is_none() {
            if let Some(bare) = examples.iter().find(|example| example.pixels().is_none()) {
                return Err(problem(format!(
                    "example `{}` came without its pixels, which this model needs; add the picture itself",
                    bare.name()
                )));
            }
            let count = self.n_examples() + examples.len();
            if count > Head::MOST_LEARNED {
                return Err(problem(format!(
                    "{count} examples in all, and a model that adapts to all together takes {}; score by prototypes",
                    Head::MOST_LEARNED
                )));
            }
        }
        let old = self.classes.get(class).map(Arc::as_ref);
        let (changed, added) = Class::with(class, old, examples, self.kernel);
        if added.contains(&Added::New) {
            Arc::make_mut(&mut self.classes).insert(class.to_owned(), Arc::new(changed));
            self.changed();
        }
        Ok(added)
    }

    /// Gives a class another name.
    ///
    /// # Errors
    /// No such class, a class of the new name, or a name that can't be one.
    pub fn rename_class(&mut self, from: &str, to: &str) -> Result<(), Error> {
        check_name(to)?;
        let class = self.existing(from)?;
        if from == to {
            return Ok(());
        }
        if self.classes.contains_key(to) {
            return Err(Error::Class {
                class: to.to_owned(),
                problem: format!("is there already; remove it first, or choose another name for `{from}`"),
            });
        }
        let renamed = Arc::new(class.renamed(to));
        Arc::make_mut(&mut self.classes).remove(from);
        Arc::make_mut(&mut self.classes).insert(to.to_owned(), renamed);
        self.changed();
        Ok(())
    }

    /// Removes a class with its examples.
    ///
    /// # Errors
    /// No such class.
    pub fn remove_class(&mut self, class: &str) -> Result<(), Error> {
        self.existing(class)?;
        Arc::make_mut(&mut self.classes).remove(class);
        self.changed();
        Ok(())
    }

    /// Removes an example by its picture's hash, and its class with the last one.
    ///
    /// # Errors
    /// No such class or example.
    pub fn remove_example(&mut self, class: &str, hash: ContentHash) -> Result<(), Error> {
        let old = self.existing(class)?;
        match old.without(hash, self.kernel) {
            None => Err(Error::Class {
                class: class.to_owned(),
                problem: format!("has no example {hash}"),
            }),
            Some(left) if left.examples().is_empty() => self.remove_class(class),
            Some(left) => {
                Arc::make_mut(&mut self.classes).insert(class.to_owned(), Arc::new(left));
                self.changed();
                Ok(())
            }
        }
    }

    /// Names of the classes that only one of both has, or whose pictures differ from those of the other's class of that
    /// name, in alphabetical order. Classes that two clones share cost next to nothing.
    pub fn differences<'a>(&'a self, other: &'a Self) -> Vec<&'a str> {
        if Arc::ptr_eq(&self.classes, &other.classes) {
            return Vec::new();
        }
        let (mut ours, mut theirs) = (
            self.classes.values().peekable(),
            other.classes.values().peekable(),
        );
        let mut found = Vec::new();
        loop {
            let order = match (ours.peek(), theirs.peek()) {
                (Some(our), Some(their)) if Arc::ptr_eq(our, their) => {
                    ours.next();
                    theirs.next();
                    continue;
                }
                (Some(our), Some(their)) => our.name().cmp(their.name()),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return found,
            };
            let our = if order.is_le() { ours.next() } else { None };
            let their = if order.is_ge() { theirs.next() } else { None };
            if !our
                .zip(their)
                .is_some_and(|(our, their)| our.has_examples_of(their))
            {
                found.extend(our.or(their).map(|class| class.name()));
            }
        }
    }

    /// Classes of which this picture is an example.
    pub fn find(&self, hash: ContentHash) -> Vec<&str> {
        let classes = self.classes().filter(|class| class.example(hash).is_some());
        classes.map(Class::name).collect()
    }

    /// When a picture is called none of the classes.
    pub fn unknown(&self) -> Unknown {
        self.unknown
    }

    /// Sets when a picture is called none of the classes.
    ///
    /// # Errors
    /// A probability outside `[0, 1]`.
    pub fn set_unknown(&mut self, unknown: Unknown) -> Result<(), Error> {
        self.unknown = unknown.checked()?;
        Ok(())
    }

    /// What leaving examples out has taught; made now if a change has come since it was last needed.
    ///
    /// # Errors
    /// Examples that the model can't adapt to.
    pub fn calibration(&self) -> Result<&Calibration, Error> {
        if let Some(calibration) = self.derived.calibration.get() {
            return Ok(calibration);
        }
        let made = calibration::calibrate(self, self.left_out())?;
        Ok(self.derived.calibration.get_or_init(|| made))
    }

    /// What follows from the classes is made anew when it is next needed; a clone keeps its own.
    fn changed(&mut self) {
        let before = std::mem::take(&mut self.derived);
        self.derived.left_out_before = before.left_out.get().cloned().or(before.left_out_before);
    }

    /// The scores of left-out examples, where a kernel scores; what a change left as it was is taken from those before it.
    fn left_out(&self) -> Option<&LeftOut> {
        let kernel = self.kernel?;
        if let Some(found) = self.derived.left_out.get() {
            return Some(found);
        }
        // Not within the lock: what is made in parallel may take up work that asks for the same.
        let classes = self.classes.values().cloned().collect();
        let made = LeftOut::of(kernel, classes, self.derived.left_out_before.as_deref());
        Some(self.derived.left_out.get_or_init(|| Arc::new(made)))
    }

    fn adapted(&self) -> Result<&Adapted, Error> {
        if let Some(adapted) = self.derived.adapted.get() {
            return Ok(adapted);
        }
        let made = Adapted::to(self, |_, _| true)?;
        Ok(self.derived.adapted.get_or_init(|| made))
    }

    fn features(&self) -> Option<usize> {
        let example = self.classes().flat_map(Class::examples).next()?;
        Some(example.embedding().len())
    }

    fn existing(&self, class: &str) -> Result<&Class, Error> {
        self.class(class).ok_or_else(|| Error::Class {
            class: class.to_owned(),
            problem: format!(
                "is not there{}",
                crate::suggest::near(class, self.classes.keys().map(String::as_str)).unwrap_or_default()
            ),
        })
    }
}

#[cfg(test)]
mod tests;
