//! Line charts as SVG.
//!
//! Written here, not drawn by a plotting crate: what is wanted are lines, a band and two axes that take their colours
//! from the page (light and dark), carry titles for screen readers, and are laid out for a column that is as narrow as
//! a phone. `plotters` writes fixed colours and sizes, and no titles.

use std::fmt::Write;

use super::axis::{Axis, Scale};
use super::escape;

/// Size of the picture in its own units; text is 13 of them high.
const SIZE: [f64; 2] = [400.0, 250.0];
/// Left, right, top and bottom of the plot inside it.
const LEFT: f64 = 50.0;
const RIGHT: f64 = 380.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 206.0;
/// Points of a line that are drawn; more are averaged in groups.
const POINTS: usize = 240;
/// Points of a line that get a mark each.
const MARKS: usize = 60;

/// A chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// What it shows, for those who can't see it.
    pub description: String,
    /// What goes to the right.
    pub x_label: String,
    /// How.
    pub scale: Scale,
    /// Largest y that makes sense: 100 for per cent.
    pub ceiling: f64,
    /// The lines.
    pub lines: Vec<Series>,
    /// A place on the x axis and what is there.
    pub mark: Option<(f64, String)>,
}

/// A line of a chart: the first is drawn solid with discs, the second dashed with squares.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// x, y, and half the width of the band around it (0 for none).
    pub points: Vec<[f64; 3]>,
}

impl Chart {
    /// The SVG; `None` when there is no point.
    pub fn svg(&self) -> Option<String> {
        let lines: Vec<Vec<[f64; 3]>> = self.lines.iter().map(|line| thinned(&line.points)).collect();
        let all = || lines.iter().flatten();
        let bounds = |values: &dyn Fn(&[f64; 3]) -> [f64; 2]| {
            all().map(values).reduce(|a, b| [a[0].min(b[0]), a[1].max(b[1])])
        };
        let [_, last] = bounds(&|point| [point[0]; 2])?;
        let [low, high] = bounds(&|point| [point[1] - point[2], point[1] + point[2]])?;
        let x = Axis::new(0.0, last, Scale::FromZero, 4);
        let x = Axis {
            ends: [0.0, last.max(f64::MIN_POSITIVE)],
            ..x
        };
        let floor = if low < 0.0 && all().all(|point| point[1] >= 0.0) {
            0.0
        } else {
            low
        };
        let y = Axis::new(floor, high.min(self.ceiling), self.scale, 4);
        let place = |point_x: f64, point_y: f64| {
            [
                LEFT + x.place(point_x) * (RIGHT - LEFT),
                BOTTOM - y.place(point_y) * (BOTTOM - TOP),
            ]
        };
        let mut svg = format!(
            "<svg class=\"chart\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n",
            SIZE[0],
            SIZE[1],
            escape::html(&self.description)
        );
        self.axes(&mut svg, &x, &y);
        for (line, class) in lines.iter().zip(["first", "second"]) {
            band(&mut svg, line, class, place);
        }
        if let Some((at, label)) = &self.mark {
            mark(&mut svg, place(*at, y.ends[0])[0], label);
        }
        // The first line is drawn last, on top.
        for (line, class) in lines.iter().zip(["first", "second"]).rev() {
            path(&mut svg, line, class, place);
        }
        svg.push_str("</svg>");
        Some(svg)
    }

    fn axes(&self, svg: &mut String, x: &Axis, y: &Axis) {
        for &tick in &y.ticks {
            let at = BOTTOM - y.place(tick) * (BOTTOM - TOP);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{RIGHT}\"/><text class=\"end\" x=\"{}\" y=\"{:.1}\">{}</text>",
                LEFT - 7.0,
                at + 4.5,
                y.label(tick)
            );
        }
        for &tick in x.ticks.iter().filter(|tick| **tick <= x.ends[1] * (1.0 + 1e-9)) {
            let at = LEFT + x.place(tick) * (RIGHT - LEFT);
            let _ = writeln!(
                svg,
                "<path class=\"tick\" d=\"M{at:.1} {BOTTOM}v5\"/><text class=\"middle\" x=\"{at:.1}\" y=\"{}\">{}</text>",
                BOTTOM + 19.0,
                x.label(tick)
            );
        }
        let _ = writeln!(
            svg,
            "<path class=\"axis\" d=\"M{LEFT} {BOTTOM}H{RIGHT}\"/><text class=\"end\" x=\"{RIGHT}\" y=\"{}\">{}</text>",
            SIZE[1] - 5.0,
            escape::html(&self.x_label)
        );
    }
}

/// Groups of neighbours, each as its mean, so that at most [`POINTS`] remain; points that are not finite are left out.
fn thinned(points: &[[f64; 3]]) -> Vec<[f64; 3]> {
    let finite: Vec<[f64; 3]> = points
        .iter()
        .filter(|point| point[0].is_finite() && point[1].is_finite())
        .map(|&[x, y, half]| [x, y, if half.is_finite() { half } else { 0.0 }])
        .collect();
    let group = finite.len().div_ceil(POINTS).max(1);
    finite
        .chunks(group)
        .map(|group| {
            let mean = |axis: usize| group.iter().map(|point| point[axis]).sum::<f64>() / group.len() as f64;
            [mean(0), mean(1), mean(2)]
        })
        .collect()
}

fn band(svg: &mut String, line: &[[f64; 3]], class: &str, place: impl Fn(f64, f64) -> [f64; 2]) {
    if line.len() < 2 || line.iter().all(|point| point[2] == 0.0) {
        return;
    }
    let upper = line.iter().map(|point| place(point[0], point[1] + point[2]));
    let lower = line
        .iter()
        .rev()
        .map(|point| place(point[0], point[1] - point[2]));
    let _ = writeln!(
        svg,
        "<path class=\"band {class}\" d=\"{}Z\"/>",
        joined(upper.chain(lower))
    );
}

fn path(svg: &mut String, line: &[[f64; 3]], class: &str, place: impl Fn(f64, f64) -> [f64; 2]) {
    if line.len() > 1 {
        let places = line.iter().map(|point| place(point[0], point[1]));
        let _ = writeln!(svg, "<path class=\"line {class}\" d=\"{}\"/>", joined(places));
    }
    if line.len() <= MARKS {
        for point in line {
            let [x, y] = place(point[0], point[1]);
            let _ = if class == "first" {
                writeln!(
                    svg,
                    "<circle class=\"dot first\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.2\"/>"
                )
            } else {
                writeln!(
                    svg,
                    "<rect class=\"dot second\" x=\"{:.1}\" y=\"{:.1}\" width=\"5\" height=\"5\"/>",
                    x - 2.5,
                    y - 2.5
                )
            };
        }
    }
}

fn mark(svg: &mut String, x: f64, label: &str) {
    let (class, shift) = match x {
        _ if x > RIGHT - 45.0 => ("end", 6.0),
        _ if x < LEFT + 90.0 => ("start", -6.0),
        _ => ("middle", 0.0),
    };
    let _ = writeln!(
        svg,
        "<path class=\"mark\" d=\"M{x:.1} {TOP}V{BOTTOM}\"/><path class=\"flag\" d=\"M{x:.1} {TOP}l-4.5 -7h9z\"/>\
         <text class=\"{class} strong\" x=\"{:.1}\" y=\"13\">{}</text>",
        x + shift,
        escape::html(label)
    );
}

fn joined(places: impl Iterator<Item = [f64; 2]>) -> String {
    let mut path = String::new();
    for (index, [x, y]) in places.enumerate() {
        let _ = write!(path, "{}{x:.1} {y:.1}", if index == 0 { "M" } else { "L" });
    }
    path
}
