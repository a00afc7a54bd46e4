//! The style of an alphabet: what its characters have in common.

use super::chance::{Chance, PI};

/// A piece of a stroke in one movement of the hand: its length, and how far its heading turns on the way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Primitive {
    /// Arc length, in units of the character's size.
    pub length: f32,
    /// Total turn in radians; positive is clockwise on the page. 0 is a straight line.
    pub turn: f32,
    /// From -1 to 1: how much more of the turn happens late (a hook) than early.
    pub skew: f32,
}

/// Small marks beside the body of a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A dot, tapped or filled.
    Dot,
    /// A short straight line.
    Dash,
    /// A small circle.
    Ring,
    /// A small arc.
    Arc,
}

/// How a character is made out of an earlier one of its alphabet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variation {
    /// A mark more.
    Mark,
    /// A stroke more.
    Add,
    /// A stroke less.
    Remove,
    /// Left and right exchanged.
    Mirror,
    /// Turned by a quarter or upside down.
    Turn,
    /// One sub-stroke replaced.
    Replace,
    /// The last stroke goes on.
    Extend,
}

/// Everything that the characters of one alphabet share. Angles in radians, probabilities in `[0, 1]`.
#[derive(Clone, Debug)]
pub struct Style {
    /// Weights of one, two, three, four strokes.
    pub strokes: [f32; 4],
    /// Mean number of sub-strokes in a character.
    pub complexity: f32,
    /// The sub-strokes that recur.
    pub primitives: Vec<Primitive>,
    /// How often a sub-stroke is none of these.
    pub fresh: f32,
    /// How often a sub-stroke is curved.
    pub curved: f32,
    /// Usual turn of a curved one.
    pub turn: f32,
    /// How often a curve goes clockwise.
    pub clockwise: f32,
    /// How often two sub-strokes meet in a corner.
    pub sharp: f32,
    /// Corners that recur.
    pub corners: Vec<f32>,
    /// How often a smooth joint changes the sense of the curve.
    pub inflect: f32,
    /// Headings at which strokes begin.
    pub headings: Vec<f32>,
    /// How far from these they begin.
    pub heading_spread: f32,
    /// How often a stroke as a whole, rather than its beginning, points that way.
    pub upright: f32,
    /// How often a stroke returns to its start.
    pub closed: f32,
    /// How often a stroke is its own mirror image.
    pub symmetric: f32,
    /// How often a stroke repeats or mirrors an earlier one.
    pub repeat: f32,
    /// Weights of: apart from the others, at the start, at the end, along, across an earlier stroke.
    pub relations: [f32; 5],
    /// How often strokes that lie apart lie above each other rather than beside.
    pub stacked: f32,
    /// How often a character has a mark, or two.
    pub marked: f32,
    /// The marks that it may have.
    pub marks: [Mark; 2],
    /// Whether characters consist of marks alone.
    pub only_marks: bool,
    /// Whether nearly every character shares one stroke.
    pub radical: bool,
    /// How often a character is a variation of an earlier one.
    pub varied: f32,
    /// Weights of the variations, in the order of [`VARIATIONS`].
    pub variations: [f32; 7],
    /// Extent of a character, as a fraction of the image.
    pub size: f32,
    /// Width over height of the same shape, as a factor.
    pub aspect: f32,
    /// Horizontal shift per unit of height.
    pub slant: f32,
    /// Where the characters' middle lies, from the image's middle.
    pub offset: [f32; 2],
}

/// All variations.
pub const VARIATIONS: [Variation; 7] = [
    Variation::Mark,
    Variation::Add,
    Variation::Remove,
    Variation::Mirror,
    Variation::Turn,
    Variation::Replace,
    Variation::Extend,
];

impl Style {
    /// Draws a style.
    pub fn draw(chance: &mut Chance) -> Self {
        let usual_strokes = chance.range(0.6, 3.6);
        let strokes = std::array::from_fn(|n| {
            let off = (n as f32 + 1.0 - usual_strokes) / 0.8;
            1.0 / (1.0 + off * off * off * off) + 0.02
        });
        let curved = swing(chance);
        let turn = chance.range(0.9, 4.2);
        let clockwise = chance.range(0.15, 0.85);
        let mut style = Self {
            strokes,
            complexity: chance.range(2.0, 6.5),
            primitives: Vec::with_capacity(10),
            fresh: chance.range(0.05, 0.4),
            curved,
            turn,
            clockwise,
            sharp: swing(chance),
            corners: Vec::with_capacity(3),
            inflect: chance.range(0.1, 0.9),
            headings: Vec::with_capacity(4),
            heading_spread: chance.unit() * chance.unit() * chance.unit() * 0.5,
            upright: chance.range(0.2, 0.9),
            closed: chance.unit() * chance.unit() * 0.25,
            symmetric: chance.unit() * chance.unit() * 0.8,
            repeat: chance.unit() * chance.unit() * 0.5,
            relations: [0.3, 0.8, 0.8, 1.3, 0.8].map(|usual| usual * chance.unit() * chance.unit()),
            stacked: swing(chance),
            marked: (chance.range(-0.3, 1.0) * chance.unit()).max(0.0) * 0.7,
            marks: [mark(chance), mark(chance)],
            only_marks: chance.happens(0.015),
            radical: chance.happens(0.08),
            varied: chance.unit() * 0.55,
            variations: [1.2, 1.5, 0.6, 0.6, 0.6, 1.5, 1.2]
                .map(|usual| usual * chance.unit() * chance.unit()),
            size: chance.range(0.44, 0.6),
            aspect: chance.factor(0.15),
            slant: 0.065 * chance.normal(),
            offset: [0.012 * chance.normal(), 0.018 * chance.normal()],
        };
        for _ in 0..3 + chance.below(8) {
            let primitive = style.primitive(chance);
            style.primitives.push(primitive);
        }
        for _ in 0..1 + chance.below(3) {
            let angle = [
                PI / 3.0,
                PI / 2.0,
                PI / 2.0,
                0.6 * PI,
                0.75 * PI,
                0.85 * PI,
                0.4 * PI,
            ][chance.below(7)];
            style.corners.push(angle);
        }
        let diagonal = chance.happens(0.5);
        for _ in 0..2 + chance.below(3) {
            // Most strokes of most scripts go down or to the right.
            let eighths = if diagonal {
                [2, 0, 1, 3, 4, 6, 7][chance.weighted(&[4., 3., 2., 2., 1., 1., 1.])]
            } else {
                [2, 0, 4, 6][chance.weighted(&[4., 3., 1., 0.7])]
            };
            style.headings.push(eighths as f32 * PI / 4.0);
        }
        style
    }

    /// Draws a primitive of this style that need not be one of its recurring ones.
    pub fn primitive(&self, chance: &mut Chance) -> Primitive {
        let length = chance.range(0.3, 1.0);
        if !chance.happens(self.curved) {
            return Primitive {
                length,
                turn: 0.0,
                skew: 0.0,
            };
        }
        let size = (self.turn * chance.factor(0.4)).min(6.0);
        let sign = if chance.happens(self.clockwise) { 1.0 } else { -1.0 };
        Primitive {
            length: length * (0.7 + 0.25 * size),
            turn: sign * size,
            skew: chance.range(-0.8, 0.8),
        }
    }

    /// One of the recurring primitives, or now and then a fresh one.
    pub fn recurring(&self, chance: &mut Chance) -> Primitive {
        if self.primitives.is_empty() || chance.happens(self.fresh) {
            return self.primitive(chance);
        }
        self.primitives[chance.below(self.primitives.len())]
    }

    /// A corner of this style.
    pub fn corner(&self, chance: &mut Chance) -> f32 {
        let usual = self
            .corners
            .get(chance.below(self.corners.len()))
            .copied()
            .unwrap_or(PI / 2.0);
        chance.sign() * usual * chance.factor(0.05)
    }

    /// A heading at which a stroke begins.
    pub fn heading(&self, chance: &mut Chance) -> f32 {
        let usual = self
            .headings
            .get(chance.below(self.headings.len()))
            .copied()
            .unwrap_or(0.0);
        usual + self.heading_spread * chance.normal()
    }
}

/// A probability that is rather near 0 or 1 than near a half.
fn swing(chance: &mut Chance) -> f32 {
    let x = chance.unit();
    let smooth = x * x * (3.0 - 2.0 * x);
    0.04 + 0.92 * smooth
}

fn mark(chance: &mut Chance) -> Mark {
    [Mark::Dot, Mark::Dash, Mark::Ring, Mark::Arc][chance.weighted(&[4.0, 2.0, 1.0, 1.0])]
}
