//! A character as a program: which strokes, out of which sub-strokes, in which relation to each other.

use super::chance::{Chance, PI, angle, direction};
use super::hand::Hand;
use super::style::{Mark, Primitive, Style};

/// How to draw a character.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// Strokes in the order of drawing; each relates to earlier ones only.
    pub strokes: Vec<Stroke>,
    /// Factor on its width, and divisor of its height, that brings long and flat characters nearer to their neighbours.
    pub stretch: f32,
    /// Extent against its alphabet's usual one, as a factor.
    pub size: f32,
    /// Where its middle lies against its alphabet's usual place, as a fraction of the image.
    pub offset: [f32; 2],
}

/// One movement from pen down to pen up.
#[derive(Clone, Debug, PartialEq)]
pub struct Stroke {
    /// Where it lies.
    pub relation: Relation,
    /// Heading at its start, in radians; 0 is right, π/2 is down.
    pub heading: f32,
    /// Its sub-strokes, at least one.
    pub subs: Vec<Sub>,
    /// Whether it returns to its start.
    pub closed: bool,
    /// Whether it is a dot, which each hand makes in its own way.
    pub dot: bool,
}

/// A sub-stroke: a primitive and how it joins the one before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sub {
    /// Its shape.
    pub shape: Primitive,
    /// Turn on the spot before it, in radians; 0 is a smooth joint.
    pub corner: f32,
}

/// Where a stroke lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Relation {
    /// Apart from the earlier ones: per axis, -1 or 1 lies just beside them, 0 at their middle.
    Apart([f32; 2]),
    /// Its point at fraction `own` lies on the point at fraction `at` of stroke `stroke`.
    Attached {
        /// An earlier stroke.
        stroke: usize,
        /// From 0, the start of that stroke, to 1, its end.
        at: f32,
        /// From 0, the start of this stroke, to 1.
        own: f32,
    },
}

impl Sub {
    /// Number of straight intervals in which it is drawn; it doesn't depend on the hand, so that a relation
    /// means the same place in every drawing.
    pub fn intervals(&self) -> usize {
        (2 + (self.shape.turn.abs() / 0.55) as usize).min(12)
    }
}

impl Stroke {
    /// The points of the stroke as planned, from the origin.
    pub fn plan(&self) -> Vec<[f32; 2]> {
        let mut points = vec![[0.0, 0.0]];
        let (mut place, mut heading) = ([0.0f32, 0.0f32], self.heading);
        for sub in &self.subs {
            heading += sub.corner;
            let n = sub.intervals();
            for i in 0..n {
                let (chord, turn) = sub.shape.step(i, n);
                let [x, y] = direction(heading + turn / 2.0);
                place = [place[0] + chord * x, place[1] + chord * y];
                heading += turn;
                points.push(place);
            }
        }
        points
    }

    /// Total turn from start to end.
    fn total_turn(&self) -> f32 {
        self.subs.iter().map(|sub| sub.corner + sub.shape.turn).sum()
    }

    /// Mirrors it: angles change sign, and the heading with them about the vertical axis.
    pub fn mirror(&mut self) {
        self.heading = PI - self.heading;
        for sub in &mut self.subs {
            sub.corner = -sub.corner;
            sub.shape.turn = -sub.shape.turn;
        }
    }

    /// Scales its lengths so that it extends `extent` along its longer axis.
    fn scale_to(&mut self, extent: f32) {
        let [low, high] = bounds(&self.plan());
        let factor = extent / (high[0] - low[0]).max(high[1] - low[1]).max(0.05);
        for sub in &mut self.subs {
            sub.shape.length *= factor;
        }
    }
}

impl Primitive {
    /// Chord and turn of interval `i` of `n`.
    pub fn step(&self, i: usize, n: usize) -> (f32, f32) {
        let middle = (2 * i + 1) as f32 / n as f32 - 1.0;
        let turn = self.turn / n as f32 * (1.0 + self.skew * middle);
        (self.length / n as f32 * (1.0 - turn * turn / 24.0), turn)
    }
}

/// The box around points: lower and upper corner.
pub fn bounds(points: &[[f32; 2]]) -> [[f32; 2]; 2] {
    let mut corners = [[f32::MAX; 2], [f32::MIN; 2]];
    for point in points {
        for axis in 0..2 {
            corners[0][axis] = corners[0][axis].min(point[axis]);
            corners[1][axis] = corners[1][axis].max(point[axis]);
        }
    }
    corners
}

impl Program {
    /// Draws a character in `style`; `radical` is the stroke that the alphabet's characters share.
    pub fn draw(style: &Style, radical: Option<&Stroke>, chance: &mut Chance) -> Self {
        let mut strokes: Vec<Stroke> = Vec::with_capacity(6);
        if style.only_marks {
            for _ in 0..1 + chance.below(5) {
                let stroke = mark(style, strokes.len(), chance);
                strokes.push(stroke);
            }
        } else {
            if let Some(radical) = radical.filter(|_| chance.happens(0.92)) {
                strokes.push(radical.clone());
            }
            let n_strokes = chance.weighted(&style.strokes) + 1;
            let usual = style.complexity / n_strokes as f32;
            for _ in 0..n_strokes {
                let stroke = another(style, &strokes, usual, chance);
                strokes.push(stroke);
            }
            if chance.happens(style.marked) {
                for _ in 0..1 + usize::from(chance.happens(0.35)) {
                    let stroke = mark(style, strokes.len(), chance);
                    strokes.push(stroke);
                }
            }
        }
        let mut program = Self {
            strokes,
            stretch: 1.0,
            size: chance.factor(0.07),
            offset: [0.018 * chance.normal(), 0.022 * chance.normal()],
        };
        program.fit();
        program
    }

    /// Sets the stretch.
    pub fn fit(&mut self) {
        let drawing = Hand::exact().plan(self, &mut Chance::new(0, &[]));
        let [low, high] = bounds(&drawing.points);
        let ratio = (high[1] - low[1] + 0.15) / (high[0] - low[0] + 0.15);
        let root = ratio.clamp(0.35, 2.8).sqrt();
        self.stretch = (root * root.sqrt()).sqrt();
    }
}

/// A stroke of about `usual` sub-strokes in relation to the `earlier` ones.
pub fn another(style: &Style, earlier: &[Stroke], usual: f32, chance: &mut Chance) -> Stroke {
    let mut stroke = if !earlier.is_empty() && chance.happens(style.repeat) {
        let mut copy = earlier[chance.below(earlier.len())].clone();
        match chance.below(3) {
            0 => copy.mirror(),
            1 => copy.heading += PI,
            _ => {}
        }
        copy
    } else {
        let mut stroke = shape(style, usual, chance);
        // A scribble of more than five times its own extent is drawn anew, twice at most.
        for _ in 0..2 {
            let length: f32 = stroke.subs.iter().map(|sub| sub.shape.length).sum();
            let [low, high] = bounds(&stroke.plan());
            if length < 5.0 * (high[0] - low[0]).max(high[1] - low[1]) {
                break;
            }
            stroke = shape(style, usual, chance);
        }
        stroke.scale_to(if earlier.is_empty() {
            1.0
        } else {
            chance.range(0.35, 1.05)
        });
        stroke
    };
    stroke.relation = relation(style, earlier.len(), chance);
    stroke
}

/// A mark as stroke number `n`.
pub fn mark(style: &Style, n: usize, chance: &mut Chance) -> Stroke {
    let kind = style.marks[chance.below(2)];
    let (length, turn) = match kind {
        Mark::Dot => (0.05, 0.0),
        Mark::Dash => (chance.range(0.15, 0.35), 0.0),
        Mark::Ring => (chance.range(0.5, 0.9), 2.0 * PI),
        Mark::Arc => (chance.range(0.25, 0.5), chance.sign() * PI),
    };
    let mut stroke = Stroke {
        relation: apart(style, chance),
        heading: style.heading(chance),
        subs: vec![Sub {
            shape: Primitive {
                length,
                turn,
                skew: 0.0,
            },
            corner: 0.0,
        }],
        closed: kind == Mark::Ring,
        dot: kind == Mark::Dot,
    };
    if let (Relation::Apart(at), true) = (&mut stroke.relation, style.only_marks) {
        *at = at.map(|x| 2.5 * x);
    }
    if n > 0 && kind != Mark::Dot && chance.happens(0.3) {
        stroke.relation = relation(style, n, chance);
    }
    stroke
}

/// A relation for stroke number `n`.
fn relation(style: &Style, n: usize, chance: &mut Chance) -> Relation {
    if n == 0 {
        return Relation::Apart([0.0, 0.0]);
    }
    let stroke = if chance.happens(0.6) { 0 } else { chance.below(n) };
    let somewhere = |chance: &mut Chance| [0.25, 0.33, 0.5, 0.5, 0.67, 0.75][chance.below(6)];
    match chance.weighted(&style.relations) {
        0 => apart(style, chance),
        1 => Relation::Attached {
            stroke,
            at: 0.0,
            own: 0.0,
        },
        2 => Relation::Attached {
            stroke,
            at: 1.0,
            own: 0.0,
        },
        3 => Relation::Attached {
            stroke,
            at: somewhere(chance),
            own: if chance.happens(0.7) { 0.0 } else { 1.0 },
        },
        _ => Relation::Attached {
            stroke,
            at: somewhere(chance),
            own: somewhere(chance),
        },
    }
}

/// Beside, above or inside the earlier strokes.
fn apart(style: &Style, chance: &mut Chance) -> Relation {
    let across = [-0.7, 0.0, 0.0, 0.7][chance.below(4)] + chance.range(-0.15, 0.15);
    if chance.happens(0.15) {
        return Relation::Apart([across * 0.2, chance.range(-0.2, 0.2)]);
    }
    let beside = chance.sign() * chance.range(0.95, 1.1);
    Relation::Apart(if chance.happens(style.stacked) {
        [across, beside]
    } else {
        [beside, across]
    })
}

/// The shape of a stroke: closed, its own mirror image, or free.
fn shape(style: &Style, usual: f32, chance: &mut Chance) -> Stroke {
    let n_subs = ((usual * chance.range(0.5, 1.5) + 0.5) as usize).clamp(1, 7);
    let relation = Relation::Apart([0.0, 0.0]);
    if chance.happens(style.closed) {
        return Stroke {
            relation,
            heading: style.heading(chance),
            subs: ring(style, chance),
            closed: true,
            dot: false,
        };
    }
    let symmetric = chance.happens(style.symmetric);
    let mut subs = chain(style, if symmetric { n_subs.div_ceil(2) } else { n_subs }, chance);
    if symmetric {
        let middle = if chance.happens(style.sharp) {
            style.corner(chance)
        } else {
            0.0
        };
        mirror_on(&mut subs, middle);
    }
    let mut stroke = Stroke {
        relation,
        heading: style.heading(chance),
        subs,
        closed: false,
        dot: false,
    };
    if symmetric {
        // Level at its middle rather than at its start, so that it stands upright.
        stroke.heading -= stroke.total_turn() / 2.0;
    } else if chance.happens(style.upright) {
        // Its end, not its first movement, lies in the heading's direction.
        let end = stroke.plan().pop().unwrap_or_default();
        stroke.heading += stroke.heading - angle(end);
    }
    stroke
}

/// Sub-strokes one after the other.
fn chain(style: &Style, n: usize, chance: &mut Chance) -> Vec<Sub> {
    let mut subs: Vec<Sub> = Vec::with_capacity(2 * n);
    for _ in 0..n {
        let sub = next(style, subs.last(), chance);
        subs.push(sub);
    }
    subs
}

/// The sub-stroke after `last`.
pub fn next(style: &Style, last: Option<&Sub>, chance: &mut Chance) -> Sub {
    let mut shape = style.recurring(chance);
    let Some(last) = last else {
        return Sub { shape, corner: 0.0 };
    };
    // Two straight lines can only meet in a corner.
    let straight = shape.turn == 0.0 && last.shape.turn == 0.0;
    if straight || chance.happens(style.sharp) {
        return Sub {
            shape,
            corner: style.corner(chance),
        };
    }
    let sense = if chance.happens(style.inflect) { -1.0 } else { 1.0 };
    if last.shape.turn * shape.turn * sense < 0.0 {
        shape.turn = -shape.turn;
    }
    Sub { shape, corner: 0.0 }
}

/// A loop: a circle, an oval with a corner, or a polygon.
fn ring(style: &Style, chance: &mut Chance) -> Vec<Sub> {
    if chance.happens(style.curved) {
        let corner = if chance.happens(style.sharp * 0.5) {
            chance.range(0.3, 0.6) * PI
        } else {
            0.0
        };
        let sign = if chance.happens(style.clockwise) {
            1.0
        } else {
            -1.0
        };
        let shape = Primitive {
            length: 3.0,
            turn: sign * (2.0 * PI - corner),
            skew: 0.0,
        };
        return vec![Sub { shape, corner: 0.0 }];
    }
    let n_sides = 3 + chance.weighted(&[1.0, 1.6, 0.2]);
    let sign = chance.sign();
    let long = chance.factor(0.3);
    let side = |i: usize| {
        let length = if i.is_multiple_of(2) { 1.0 } else { long };
        let corner = if i == 0 {
            0.0
        } else {
            sign * 2.0 * PI / n_sides as f32
        };
        Sub {
            shape: Primitive {
                length,
                turn: 0.0,
                skew: 0.0,
            },
            corner,
        }
    };
    (0..n_sides).map(side).collect()
}

/// Continues with the mirror image, met at the corner `middle`.
fn mirror_on(subs: &mut Vec<Sub>, middle: f32) {
    for i in (0..subs.len()).rev() {
        let mut shape = subs[i].shape;
        shape.skew = -shape.skew;
        let corner = subs.get(i + 1).map_or(middle, |after| after.corner);
        subs.push(Sub { shape, corner });
        if i == 0 {
            break;
        }
    }
}
