//! Hands: how one person draws a program, and how two drawings of one person differ.

use super::chance::{Chance, PI, direction};
use super::program::{Program, Relation, Stroke, bounds};
use super::style::Style;

/// A person's way of drawing an alphabet.
#[derive(Clone, Debug)]
pub struct Hand {
    /// Factor on sizes.
    size: f32,
    /// Factor on width over height.
    aspect: f32,
    /// Horizontal shift per unit of height.
    slant: f32,
    /// Shift, as a fraction of the image.
    offset: [f32; 2],
    /// Width of the pen, as a fraction of the image.
    pub pen: f32,
    /// How much its drawings differ from the plan; 1 is usual, 0 is a machine.
    roughness: f32,
    /// How often a corner comes out round.
    rounding: f32,
    /// Radius of a filled dot in units of the character; 0 taps.
    dot: f32,
}

/// A drawing: strokes of points in the unit square, the image's.
#[derive(Clone, Debug, Default)]
pub struct Drawing {
    /// Points of all strokes.
    pub points: Vec<[f32; 2]>,
    /// Whether the line has a corner at a point.
    pub corners: Vec<bool>,
    /// Where each stroke's points end.
    pub ends: Vec<usize>,
}

/// Width of Omniglot's pen: about 5 of 105 pixels.
const PEN: f32 = 5.0 / 105.0;
/// The mean place of Omniglot's ink, from the middle of the image.
const CENTRE: [f32; 2] = [0.488, 0.48];

impl Hand {
    /// Draws a hand; `noise` is a factor on all that makes hands and drawings differ.
    pub fn draw(noise: f32, chance: &mut Chance) -> Self {
        Self {
            size: chance.factor(0.09 * noise),
            aspect: chance.factor(0.05 * noise),
            slant: 0.07 * noise * chance.normal(),
            offset: [0.026 * noise * chance.normal(), 0.025 * noise * chance.normal()],
            pen: PEN * chance.factor(0.06 * noise),
            roughness: noise * chance.factor(0.3),
            rounding: chance.unit() * chance.unit() * 0.8,
            dot: if chance.happens(0.6) {
                0.0
            } else {
                chance.range(0.02, 0.06)
            },
        }
    }

    /// A machine, which draws to plan.
    pub fn exact() -> Self {
        Self {
            size: 1.0,
            aspect: 1.0,
            slant: 0.0,
            offset: [0.0, 0.0],
            pen: PEN,
            roughness: 0.0,
            rounding: 0.0,
            dot: 0.0,
        }
    }

    /// Draws `program` once.
    pub fn trace(&self, program: &Program, style: &Style, chance: &mut Chance) -> Drawing {
        let mut drawing = Drawing::default();
        let n = program.strokes.len();
        let missed = n > 1 && chance.happens(0.008 * self.roughness);
        for stroke in &program.strokes[..n - usize::from(missed)] {
            self.stroke(stroke, &mut drawing, chance);
        }
        self.place(program, style, &mut drawing, chance);
        drawing
    }

    /// Draws `program` in its own units, not yet placed in the image.
    pub fn plan(&self, program: &Program, chance: &mut Chance) -> Drawing {
        let mut drawing = Drawing::default();
        for stroke in &program.strokes {
            self.stroke(stroke, &mut drawing, chance);
        }
        drawing
    }

    /// Adds one stroke, in the program's own units.
    fn stroke(&self, stroke: &Stroke, drawing: &mut Drawing, chance: &mut Chance) {
        let rough = self.roughness;
        let start = drawing.points.len();
        let (mut place, mut heading) = ([0.0f32, 0.0f32], stroke.heading + 0.07 * rough * chance.normal());
        drawing.points.push(place);
        drawing.corners.push(true);
        let scale = chance.factor(0.08 * rough);
        for sub in &stroke.subs {
            if sub.corner != 0.0 {
                heading += sub.corner + 0.1 * rough * chance.normal();
                let round = sub.corner.abs() < 2.3 && chance.happens(self.rounding);
                if let Some(corner) = drawing.corners.last_mut() {
                    *corner = !round;
                }
            }
            let n = sub.intervals();
            let mut shape = sub.shape;
            shape.length *= scale * chance.factor(0.11 * rough);
            shape.turn += (0.09 + 0.07 * shape.turn.abs()) * rough * chance.normal();
            for i in 0..n {
                let (chord, turn) = shape.step(i, n);
                let turn = turn + 0.05 * rough * chance.normal();
                let [x, y] = direction(heading + turn / 2.0);
                place = [place[0] + chord * x, place[1] + chord * y];
                heading += turn;
                drawing.points.push(place);
                drawing.corners.push(false);
            }
        }
        if stroke.dot && self.dot > 0.0 {
            drawing.fill_dot(start, self.dot * chance.factor(0.25 * rough), chance);
        }
        if stroke.closed {
            drawing.close(start, 1.0 + 0.06 * rough * chance.normal());
        }
        for point in &mut drawing.points[start + 1..] {
            // The tremor of a mouse.
            *point = [
                point[0] + 0.009 * rough * chance.normal(),
                point[1] + 0.009 * rough * chance.normal(),
            ];
        }
        let jitter = 0.03 * rough;
        let shift = drawing.shift(stroke, start);
        let shift = [
            shift[0] + jitter * chance.normal(),
            shift[1] + jitter * chance.normal(),
        ];
        for point in &mut drawing.points[start..] {
            *point = [point[0] + shift[0], point[1] + shift[1]];
        }
        if let Some(corner) = drawing.corners.last_mut() {
            *corner = true;
        }
        drawing.ends.push(drawing.points.len());
    }

    /// Carries the drawing into the image.
    fn place(&self, program: &Program, style: &Style, drawing: &mut Drawing, chance: &mut Chance) {
        let rough = self.roughness;
        let aspect = style.aspect * self.aspect * chance.factor(0.035 * rough);
        let stretch = program.stretch * aspect.sqrt();
        let slant = style.slant + self.slant + 0.04 * rough * chance.normal();
        let [cos, sin] = direction(0.05 * rough * chance.normal());
        for point in &mut drawing.points {
            let (x, y) = (point[0] * stretch, point[1] / stretch);
            let x = x - slant * y;
            *point = [x * cos - y * sin, x * sin + y * cos];
        }
        let [low, high] = bounds(&drawing.points);
        let extent = (high[0] - low[0]).max(high[1] - low[1]).max(1e-3);
        let size = style.size * program.size * self.size * chance.factor(0.05 * rough);
        // Large programs are drawn smaller, so that sizes within an alphabet stay near each other.
        let scale = (size / extent.sqrt().max(0.6)).min((0.9 - 2.0 * PEN) / extent);
        for axis in 0..2 {
            let half = (high[axis] - low[axis]) / 2.0 * scale + PEN / 2.0 + 0.012;
            let wanted = CENTRE[axis]
                + style.offset[axis]
                + program.offset[axis]
                + self.offset[axis]
                + 0.035 * rough * chance.normal();
            let centre = wanted.clamp(half.min(0.5), (1.0 - half).max(0.5));
            let middle = (low[axis] + high[axis]) / 2.0;
            for point in &mut drawing.points {
                point[axis] = (point[axis] - middle) * scale + centre;
            }
        }
    }
}

impl Drawing {
    /// Scales the drawing to fill the unit square but for `margin` on each side.
    pub fn fill(&mut self, margin: f32) {
        let [low, high] = bounds(&self.points);
        let scale = (1.0 - 2.0 * margin) / (high[0] - low[0]).max(high[1] - low[1]).max(0.1);
        for point in &mut self.points {
            for axis in 0..2 {
                point[axis] = (point[axis] - (low[axis] + high[axis]) / 2.0) * scale + 0.5;
            }
        }
    }

    /// Replaces the stroke from `start` on by a filled dot: a small spiral.
    fn fill_dot(&mut self, start: usize, radius: f32, chance: &mut Chance) {
        self.points.truncate(start);
        self.corners.truncate(start);
        let phase = chance.range(0.0, 2.0 * PI);
        let n = 14;
        for i in 0..n {
            let [x, y] = direction(phase + 0.9 * i as f32);
            let r = radius * i as f32 / n as f32;
            self.points.push([r * x, r * y]);
            self.corners.push(i == 0);
        }
    }

    /// Bends the stroke from `start` on so that it ends at the fraction `closure` of the way back to its start.
    fn close(&mut self, start: usize, closure: f32) {
        let points = &mut self.points[start..];
        let (Some(&first), Some(&last)) = (points.first(), points.last()) else {
            return;
        };
        let steps = (points.len() - 1).max(1) as f32;
        for (i, point) in points.iter_mut().enumerate() {
            for axis in 0..2 {
                point[axis] -= (last[axis] - first[axis]) * closure * i as f32 / steps;
            }
        }
    }

    /// How far the stroke from `start` on must move to stand in its relation to the ones before.
    fn shift(&self, stroke: &Stroke, start: usize) -> [f32; 2] {
        let (earlier, own) = self.points.split_at(start);
        match stroke.relation {
            Relation::Attached {
                stroke,
                at,
                own: own_at,
            } if stroke < self.ends.len() => {
                let first = if stroke == 0 { 0 } else { self.ends[stroke - 1] };
                let target = along(&earlier[first..self.ends[stroke]], at);
                let point = along(own, own_at);
                [target[0] - point[0], target[1] - point[1]]
            }
            Relation::Apart(at) if start > 0 => {
                let [low, high] = bounds(earlier);
                let [own_low, own_high] = bounds(own);
                std::array::from_fn(|axis| {
                    let half = (high[axis] - low[axis] + own_high[axis] - own_low[axis]) / 2.0 + 0.12;
                    (high[axis] + low[axis]) / 2.0 + at[axis] * half - (own_high[axis] + own_low[axis]) / 2.0
                })
            }
            _ => [0.0, 0.0],
        }
    }
}

/// The point at a fraction of a polyline, by count of its intervals.
fn along(points: &[[f32; 2]], fraction: f32) -> [f32; 2] {
    let place = fraction * points.len().saturating_sub(1) as f32;
    let index = (place as usize).min(points.len().saturating_sub(2));
    let rest = place - index as f32;
    let (a, b) = (points[index], points[(index + 1).min(points.len() - 1)]);
    [a[0] + (b[0] - a[0]) * rest, a[1] + (b[1] - a[1]) * rest]
}
