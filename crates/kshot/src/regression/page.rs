//! The report of a regression: its errors, and test tasks before and after adaptation.

use std::fmt::Write;

use super::{Outcome, Regression, SHOTS, STEPS, grid};
use crate::data::sinusoid::INPUTS;
use crate::inner::Order;
use crate::report::escape;
use crate::report::html::document;
use crate::report::numbers::{count, duration};

/// Tasks that are drawn, and the points that each is seen through.
const DRAWN: [(u64, usize); 4] = [(0, 5), (0, 10), (1, 5), (1, 10)];
/// Places on a curve.
const PLACES: usize = 121;
/// Values beyond it are cut.
const HIGHEST: f32 = 6.0;
/// Size of a picture in its own units.
const SIZE: [f32; 2] = [400.0, 250.0];
const MARGIN: f32 = 24.0;

impl Regression {
    /// The report as one page.
    pub fn page(&self, outcome: &Outcome) -> String {
        let training = &outcome.training;
        let mut html = format!(
            "<header>\n<h1>kshot: regression on sinusoids by MAML</h1>\n<p>Finn, Abbeel, Levine 2017, section 5.1. {} updates of {} \
             tasks, {} inner {} of {} on {} points, {}, Adam {}, seed {}; {}. Mean squared error over {} new sinusoids, \
             with its 95 % interval:</p>\n</header>\n",
            count(training.updates),
            training.tasks,
            training.inner_steps,
            if training.inner_steps == 1 {
                "step"
            } else {
                "steps"
            },
            training.inner_lr,
            training.shots,
            match training.order {
                Order::First => "first-order meta-gradient (order 1)",
                Order::Second => "exact meta-gradient (order 2)",
            },
            training.lr,
            training.seed,
            escape::html(&duration(outcome.seconds)),
            outcome.test_tasks,
        );
        html.push_str(
            "<div class=\"scroll\"><table class=\"numbers\">\n<thead><tr><th scope=\"col\">points seen</th>",
        );
        for steps in STEPS {
            let _ = write!(html, "<th scope=\"col\" class=\"count\">{}</th>", after(steps));
        }
        html.push_str("</tr></thead>\n<tbody>\n");
        for shots in SHOTS {
            let _ = write!(html, "<tr><th scope=\"row\">{shots}</th>");
            for error in outcome.errors.iter().filter(|error| error.shots == shots) {
                let _ = write!(
                    html,
                    "<td class=\"count\" data-label=\"{}\">{:.3} ± {:.3}</td>",
                    after(error.steps),
                    error.mse,
                    error.ci95
                );
            }
            html.push_str("</tr>\n");
        }
        html.push_str(
            "</tbody></table></div>\n<section aria-labelledby=\"tasks\">\n<h2 id=\"tasks\">Before and after adaptation</h2>\n\
             <p>Grey: the function. Discs: the points that are seen. Dotted: before adaptation. Dashed: after 1 step. \
             Solid: after 10 steps.</p>\n<div class=\"charts\">\n",
        );
        for (task, shots) in DRAWN {
            let _ = writeln!(
                html,
                "<figure><figcaption>{shots} points</figcaption>\n{}</figure>",
                self.picture(task, shots)
            );
        }
        html.push_str("</div>\n</section>\n");
        document("regression on sinusoids", &html)
    }

    /// A test task: the function, its points, and the network before and after.
    fn picture(&self, task: u64, shots: usize) -> String {
        let start = self.start();
        let (sinusoid, support) = self.test_task(task, shots);
        let x = grid(PLACES);
        let truth: Vec<f32> = x.iter().map(|x| sinusoid.at(*x)).collect();
        let mut svg = format!(
            "<svg class=\"chart\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"A sinusoid of amplitude {:.1}, {shots} points of it, and \
             the network before adaptation, after 1 step and after 10 steps\">\n<path class=\"axis\" d=\"M{MARGIN} {}H{}\"/>\n",
            SIZE[0],
            SIZE[1],
            sinusoid.amplitude,
            SIZE[1] / 2.0,
            SIZE[0] - MARGIN
        );
        let mut line = |values: &[f32], style: &str, title: &str| {
            let points: String = x
                .iter()
                .zip(values)
                .map(|(x, y)| place(*x, *y))
                .map(|[x, y]| format!("{x:.1},{y:.1} "))
                .collect();
            let _ = writeln!(
                svg,
                "<polyline class=\"line\" style=\"{style}\" points=\"{}\"><title>{title}</title></polyline>",
                points.trim_end()
            );
        };
        line(&truth, "stroke:var(--rule);stroke-width:6", "the function");
        for (steps, style) in [
            (0, "stroke:var(--quiet);stroke-dasharray:2 4"),
            (1, "stroke:var(--second);stroke-dasharray:8 4"),
            (10, "stroke:var(--first)"),
        ] {
            line(&self.predict(&start, &support, steps, &x), style, &after(steps));
        }
        for (x, y) in support.x.iter().zip(&support.y) {
            let [x, y] = place(*x, *y);
            let _ = writeln!(
                svg,
                "<circle class=\"flag\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>"
            );
        }
        svg.push_str("</svg>");
        svg
    }
}

fn after(steps: usize) -> String {
    match steps {
        0 => "before adaptation".to_owned(),
        1 => "after 1 step".to_owned(),
        _ => format!("after {steps} steps"),
    }
}

fn place(x: f32, y: f32) -> [f32; 2] {
    let (from, to) = (*INPUTS.start(), *INPUTS.end());
    let share = (x - from) / (to - from);
    let height = y.clamp(-HIGHEST, HIGHEST) / HIGHEST;
    [
        MARGIN + share * (SIZE[0] - 2.0 * MARGIN),
        SIZE[1] / 2.0 * (1.0 - height),
    ]
}
