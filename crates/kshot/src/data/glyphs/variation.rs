//! Characters made out of earlier ones of their alphabet: the hard pairs.

use super::chance::{Chance, PI};
use super::program::{Program, Relation, another, mark, next};
use super::style::{Style, VARIATIONS, Variation};

impl Program {
    /// A character like this one but for one change, now and then two.
    pub fn vary(&self, style: &Style, chance: &mut Chance) -> Self {
        let mut program = self.clone();
        for _ in 0..1 + usize::from(chance.happens(0.25)) {
            program.change(style, VARIATIONS[chance.weighted(&style.variations)], chance);
        }
        program.fit();
        program
    }

    fn change(&mut self, style: &Style, variation: Variation, chance: &mut Chance) {
        let n = self.strokes.len();
        match variation {
            Variation::Mark if n < 7 => self.strokes.push(mark(style, n, chance)),
            Variation::Add if n < 6 => {
                let stroke = another(style, &self.strokes, 1.2, chance);
                self.strokes.push(stroke);
            }
            Variation::Remove if n > 1 => {
                self.strokes.pop();
            }
            Variation::Turn => self.turn([PI / 2.0, PI, 1.5 * PI][chance.below(3)]),
            Variation::Replace => {
                let stroke = &mut self.strokes[chance.below(n)];
                let index = chance.below(stroke.subs.len());
                let length = stroke.subs[index].shape.length;
                stroke.subs[index].shape = style.primitive(chance);
                stroke.subs[index].shape.length = length * chance.factor(0.3);
                stroke.closed &= stroke.subs.len() > 2;
            }
            Variation::Extend => {
                let last = &mut self.strokes[n - 1];
                if last.subs.len() < 8 && !last.closed && !last.dot {
                    let mut sub = next(style, last.subs.last(), chance);
                    let usual =
                        last.subs.iter().map(|sub| sub.shape.length).sum::<f32>() / last.subs.len() as f32;
                    sub.shape.length = usual * chance.range(0.6, 1.2);
                    last.subs.push(sub);
                }
            }
            _ => self.mirror(),
        }
    }

    /// Exchanges left and right.
    fn mirror(&mut self) {
        for stroke in &mut self.strokes {
            stroke.mirror();
            if let Relation::Apart(at) = &mut stroke.relation {
                at[0] = -at[0];
            }
        }
    }

    /// Turns it by a multiple of a right angle, clockwise on the page.
    fn turn(&mut self, angle: f32) {
        let quarters = (angle / (PI / 2.0)).round() as usize;
        for stroke in &mut self.strokes {
            stroke.heading += angle;
            if let Relation::Apart(at) = &mut stroke.relation {
                for _ in 0..quarters {
                    *at = [-at[1], at[0]];
                }
            }
        }
    }
}
