//! What a method's file says of its paper's table: the published numbers, and how they are reproduced.

use std::fmt;

use crate::norm::Norm;

/// A column of the table: N-way K-shot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Classes per test episode.
    pub way: usize,
    /// Labelled examples per class.
    pub shot: usize,
}

/// 5-way 1-shot.
pub const W5S1: Column = Column { way: 5, shot: 1 };
/// 5-way 5-shot.
pub const W5S5: Column = Column { way: 5, shot: 5 };
/// 20-way 1-shot.
pub const W20S1: Column = Column { way: 20, shot: 1 };
/// 20-way 5-shot.
pub const W20S5: Column = Column { way: 20, shot: 5 };

/// The columns in their order.
pub const COLUMNS: [Column; 4] = [W5S1, W5S5, W20S1, W20S5];

impl Column {
    /// `5w1s`.
    pub fn short(self) -> String {
        format!("{}w{}s", self.way, self.shot)
    }
}

/// What a number of the table measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Accuracy in N-way K-shot episodes: a column.
    Task(Column),
    /// Lake's benchmark.
    Lake,
    /// Accuracy by the n-th presentation of a class, see [`crate::presentations`].
    Presentations,
}

impl Measure {
    /// `5w1s`, `lake` or `presentations`, as in the table's JSON.
    pub fn name(self) -> String {
        match self {
            Self::Task(column) => column.short(),
            Self::Lake => "lake".to_owned(),
            Self::Presentations => "presentations".to_owned(),
        }
    }

    /// The column of an N-way K-shot accuracy.
    pub const fn column(self) -> Option<Column> {
        match self {
            Self::Task(column) => Some(column),
            Self::Lake | Self::Presentations => None,
        }
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-way {}-shot", self.way, self.shot)
    }
}

/// A row of a paper's table, in one form of the method.
pub struct Row {
    /// Which form: empty for the only or the main one, else a word for names of folders: `fce`.
    pub variant: &'static str,
    /// What was printed.
    pub published: Published,
    /// Ours under the paper's protocol; its first test is the paper's own.
    pub paper: Setup,
    /// Ours under the protocol that is the same for all methods: official split, no rotated test classes, no query sees
    /// another one.
    pub strict: Setup,
}

/// Published numbers.
pub struct Published {
    /// Where they stand: `Snell et al. 2017, table 1`.
    pub source: &'static str,
    /// How they were measured: split, rotated classes, normalisation, queries.
    pub protocol: &'static str,
    /// Column, accuracy in per cent, and half the width of the printed interval (0 where none was printed).
    pub accuracy: &'static [(Column, f64, f64)],
    /// n and the accuracy in per cent at the n-th presentation of a class in 5-way episodes; empty where the paper has
    /// none, and then ours are not measured.
    pub presentations: &'static [(usize, f64)],
}

impl Published {
    /// Accuracy in per cent and half the width of its interval (0 for none) in `column`, where the paper has it.
    pub fn of(&self, column: Column) -> Option<(f64, f64)> {
        self.accuracy
            .iter()
            .find(|(printed, ..)| *printed == column)
            .map(|&(_, accuracy, ci95)| (accuracy, ci95))
    }
}

/// Trainings under one protocol, and how they are tested.
pub struct Setup {
    /// What is not as in the paper, in a sentence or two.
    pub note: &'static str,
    /// The trainings; together they serve the columns.
    pub trainings: &'static [Planned],
    /// Each gives a line of the table.
    pub tests: &'static [Test],
}

/// A training.
pub struct Planned {
    /// Tells it apart from the others of its setup: empty for the only one, else a word: `5-shot`.
    pub name: &'static str,
    /// The method's preset that it starts from.
    pub preset: &'static str,
    /// Settings over the preset that it has in common with others, as on the command line.
    pub common: &'static [(&'static str, &'static str)],
    /// Its own.
    pub settings: &'static [(&'static str, &'static str)],
    /// The columns that it serves.
    pub columns: &'static [Column],
    /// Minutes of training that it should take on two cores with AVX-512 that have nothing else to do.
    pub minutes: f64,
}

impl Planned {
    /// A training that serves `columns`; see the fields.
    pub const fn new(
        name: &'static str,
        preset: &'static str,
        settings: &'static [(&'static str, &'static str)],
        columns: &'static [Column],
        minutes: f64,
    ) -> Self {
        Self {
            name,
            preset,
            common: &[],
            settings,
            columns,
            minutes,
        }
    }

    /// The same with settings that it has in common with others.
    pub const fn with(self, common: &'static [(&'static str, &'static str)]) -> Self {
        Self { common, ..self }
    }
}

/// How the models of a setup are tested.
pub struct Test {
    /// The policy of batch normalisation.
    pub norm: Norm,
    /// Queries per class, in the order of [`COLUMNS`].
    pub query: [usize; 4],
}

/// No query sees another one, and 15 queries per class.
pub const RUNNING: Test = Test {
    norm: Norm::Running,
    query: [15; 4],
};

/// Every set its own statistics and as many queries per class as shots: the test of MAML's authors and of those of Relation
/// networks.
pub const TRANSDUCTIVE: Test = Test {
    norm: Norm::Episode,
    query: [1, 5, 1, 5],
};

/// No query sees another one, and one query per class: for methods that normalise each together with the support set.
pub const ALONE: Test = Test {
    norm: Norm::Running,
    query: [1; 4],
};
