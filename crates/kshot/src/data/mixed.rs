//! A dataset whose training part is enlarged by another's: more classes to learn to learn from, with validation and test
//! left as they are.

use super::{ClassTable, DataError, Dataset, ImageShape, Part};

/// A dataset with the training classes of another one after its own.
pub struct Mixed {
    own: Box<dyn Dataset>,
    other: Box<dyn Dataset>,
    train: ClassTable,
}

impl Mixed {
    /// `own` with the training part of `other`, which has images of the same shape and classes of other names.
    pub fn new(own: Box<dyn Dataset>, other: Box<dyn Dataset>) -> Self {
        let mut train = ClassTable::new();
        for table in [own.classes(Part::Train), other.classes(Part::Train)] {
            for (name, range) in table.groups() {
                train.push_group(name.clone(), table.classes()[range.clone()].iter().cloned());
            }
        }
        Self { own, other, train }
    }
}

impl Dataset for Mixed {
    fn name(&self) -> &str {
        self.own.name()
    }

    fn is_line_drawing(&self) -> bool {
        self.own.is_line_drawing()
    }

    fn partition(&self) -> &str {
        self.own.partition()
    }

    fn shape(&self) -> ImageShape {
        self.own.shape()
    }

    fn classes(&self, part: Part) -> &ClassTable {
        match part {
            Part::Train => &self.train,
            Part::Val | Part::Test => self.own.classes(part),
        }
    }

    fn read(&self, part: Part, class: usize, example: usize, pixels: &mut [f32]) -> Result<(), DataError> {
        let n_own = self.own.classes(part).len();
        if part == Part::Train && class >= n_own {
            return self.other.read(part, class - n_own, example, pixels);
        }
        self.own.read(part, class, example, pixels)
    }

    fn warnings(&self) -> &[String] {
        self.own.warnings()
    }
}
