//! One column of the table as a picture: a mark for each number on one axis, with its interval.
//!
//! The numbers lie within a few per cent of each other below 100, so the axis does not begin at zero, and marks stand
//! for them, not bars.

use std::fmt::Write;

use crate::report::axis::{Axis, Scale};
use crate::report::escape;

/// Width of the picture in its own units, as of the charts; text is 13 high.
const WIDTH: f64 = 400.0;
const LEFT: f64 = 118.0;
const RIGHT: f64 = 376.0;
/// Height of a row's title and of a mark's line.
const TITLE: f64 = 24.0;
const LINE: f64 = 18.0;

/// What a mark stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A published number.
    Published,
    /// Ours under the paper's protocol.
    Paper,
    /// Ours, strict.
    Strict,
}

/// A number with its interval, both in per cent.
#[derive(Clone, Debug)]
pub struct Dot {
    /// What stands left of it.
    pub label: &'static str,
    /// What it is.
    pub mark: Mark,
    /// Mean.
    pub value: f64,
    /// Half the width of its interval, 0 for none.
    pub half: f64,
    /// Whether it is of a training that had not ended.
    pub partial: bool,
}

/// Numbers that belong together.
#[derive(Clone, Debug)]
pub struct Group {
    /// Of what.
    pub title: String,
    /// From top to bottom.
    pub dots: Vec<Dot>,
}

/// The SVG; `None` when there is no number.
pub fn svg(description: &str, groups: &[Group]) -> Option<String> {
    let dots = || groups.iter().flat_map(|group| &group.dots);
    let low = dots().map(|dot| dot.value - dot.half).reduce(f64::min)?;
    let high = dots().map(|dot| dot.value + dot.half).reduce(f64::max)?;
    let axis = Axis::new(low.max(0.0), high.min(100.0), Scale::Close, 4);
    let bottom = 6.0
        + groups
            .iter()
            .map(|group| TITLE + LINE * group.dots.len() as f64)
            .sum::<f64>();
    let x = |value: f64| LEFT + axis.place(value) * (RIGHT - LEFT);
    let mut svg = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{}\">\n",
        bottom + 26.0,
        escape::html(description)
    );
    for &tick in &axis.ticks {
        let at = x(tick);
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{at:.1} 0V{bottom}\"/><text class=\"middle\" x=\"{at:.1}\" y=\"{}\">{}</text>",
            bottom + 19.0,
            axis.label(tick)
        );
    }
    let mut y = 0.0;
    for group in groups {
        let _ = writeln!(
            svg,
            "<text class=\"strong\" x=\"0\" y=\"{:.1}\">{}</text>",
            y + TITLE - 8.0,
            escape::html(&group.title)
        );
        y += TITLE;
        for dot in &group.dots {
            draw(&mut svg, dot, y + LINE / 2.0, x);
            y += LINE;
        }
    }
    svg.push_str("</svg>");
    Some(svg)
}

fn draw(svg: &mut String, dot: &Dot, y: f64, x: impl Fn(f64) -> f64) {
    let class = match dot.mark {
        Mark::Published => "printed",
        Mark::Paper => "first",
        Mark::Strict => "second",
    };
    let _ = writeln!(
        svg,
        "<text class=\"end\" x=\"{}\" y=\"{:.1}\">{}</text>",
        LEFT - 10.0,
        y + 4.5,
        dot.label
    );
    if dot.half > 0.0 {
        let (from, to) = (x(dot.value - dot.half), x(dot.value + dot.half));
        let _ = writeln!(
            svg,
            "<path class=\"whisker {class}\" d=\"M{from:.1} {y}H{to:.1}M{from:.1} {}v8M{to:.1} {}v8\"/>",
            y - 4.0,
            y - 4.0
        );
    }
    let hollow = if dot.partial { " hollow" } else { "" };
    let at = x(dot.value);
    let _ = match dot.mark {
        Mark::Published => writeln!(
            svg,
            "<path class=\"dot {class}\" d=\"M{at:.1} {}l5 5l-5 5l-5 -5z\"/>",
            y - 5.0
        ),
        Mark::Paper => writeln!(
            svg,
            "<circle class=\"dot {class}{hollow}\" cx=\"{at:.1}\" cy=\"{y}\" r=\"4\"/>"
        ),
        Mark::Strict => writeln!(
            svg,
            "<rect class=\"dot {class}{hollow}\" x=\"{:.1}\" y=\"{}\" width=\"7\" height=\"7\"/>",
            at - 3.5,
            y - 3.5
        ),
    };
}
