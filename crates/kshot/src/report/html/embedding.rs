//! The embedding of a few classes, drawn as their pictures.

use std::fmt::Write;

use super::name;
use crate::report::embedding::{COLOURS, Cluster, Embedding};
use crate::report::numbers::{count, whole_percent};
use crate::report::picture::{Look, Picture};
use crate::report::{Report, escape};

/// Width of the plot in its own units.
const WIDTH: f64 = 480.0;
/// Side of a picture in it.
const SIDE: f64 = 23.0;
/// Space around the pictures' centres.
const EDGE: f64 = 22.0;
/// Radius of a class's number.
const DISC: f64 = 9.5;

pub fn write(html: &mut String, report: &Report) {
    let Some(embedding) = &report.embedding else {
        return;
    };
    let examples: usize = embedding
        .clusters
        .iter()
        .map(|cluster| cluster.examples.len())
        .sum();
    let _ = writeln!(
        html,
        "<section aria-labelledby=\"embedding\">\n<h2 id=\"embedding\">Embedding of {} classes</h2>\n\
         <p>{examples} examples of {} of the {} {} classes, drawn by chance, where the trained model puts them. Its {} \
         numbers per picture are reduced to two by principal component analysis, so classes that overlap here may be \
         apart in a direction that isn't shown. A number marks the middle of its class.</p>",
        embedding.clusters.len(),
        embedding.clusters.len(),
        count(embedding.classes as u64),
        escape::html(&report.record.split),
        embedding.features,
    );
    plane(html, embedding);
    legend(html, embedding);
    html.push_str("</section>\n");
}

fn plane(html: &mut String, embedding: &Embedding) {
    let places = || {
        embedding
            .clusters
            .iter()
            .flat_map(|cluster| cluster.examples.iter().map(|example| example.1))
    };
    let bounds = |axis: usize| {
        let values = places().map(|place| place[axis]);
        values.fold([f64::INFINITY, f64::NEG_INFINITY], |ends, value| {
            [ends[0].min(value), ends[1].max(value)]
        })
    };
    let ([left, right], [bottom, top]) = (bounds(0), bounds(1));
    let scale = (WIDTH - 2.0 * EDGE) / (right - left).max(top - bottom);
    let height = ((top - bottom) * scale + 2.0 * EDGE).max(WIDTH / 3.0);
    let lower = (height - (top - bottom) * scale) / 2.0;
    let middle = (WIDTH - (right - left) * scale) / 2.0;
    let at = |place: [f64; 2]| {
        [
            middle + (place[0] - left) * scale,
            height - lower - (place[1] - bottom) * scale,
        ]
    };
    let _ = write!(
        html,
        "<figure>\n<svg class=\"plane\" viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\" aria-label=\"Pictures of {} classes, placed by the first \
         two principal components of their embeddings\">\n<rect class=\"frame\" x=\".5\" y=\".5\" width=\"{}\" height=\"{:.0}\" rx=\"8\"/>\n",
        height,
        embedding.clusters.len(),
        WIDTH - 1.0,
        height - 1.0
    );
    // By example, not by class, so that no class as a whole lies on top of another.
    let most = embedding
        .clusters
        .iter()
        .map(|cluster| cluster.examples.len())
        .max();
    for example in 0..most.unwrap_or(0) {
        for (index, cluster) in embedding.clusters.iter().enumerate() {
            if let Some((picture, place)) = cluster.examples.get(example) {
                let title = format!("{}: {}", index + 1, cluster.name);
                one(html, picture, at(*place), index, &title, embedding.look);
            }
        }
    }
    let middles: Vec<[f64; 2]> = embedding
        .clusters
        .iter()
        .map(|cluster| at(mean(cluster)))
        .collect();
    for (index, [x, y]) in apart(middles, height).into_iter().enumerate() {
        let _ = writeln!(
            html,
            "<circle class=\"disc\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{DISC}\" stroke=\"{}\"/><text class=\"number-text\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
            hex(index),
            y + 4.2,
            index + 1
        );
    }
    let [first, second] = embedding
        .explained
        .map(whole_percent)
        .map(|share| escape::html(&share));
    let _ = writeln!(
        html,
        "</svg>\n<figcaption class=\"plane-axes\">→ first component, {first} of the variance; ↑ second, {second}</figcaption>\n</figure>"
    );
}

/// One example at its place.
fn one(html: &mut String, picture: &Picture, at: [f64; 2], index: usize, title: &str, look: Look) {
    let [x, y] = at.map(|centre| centre - SIDE / 2.0);
    let _ = write!(
        html,
        "<image x=\"{x:.1}\" y=\"{y:.1}\" width=\"{SIDE}\" height=\"{SIDE}\" href=\"{}\"><title>{}</title></image>",
        picture.address(),
        escape::html(title)
    );
    if look == Look::Photo {
        let _ = write!(
            html,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{SIDE}\" height=\"{SIDE}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>",
            hex(index)
        );
    }
    html.push('\n');
}

fn legend(html: &mut String, embedding: &Embedding) {
    html.push_str("<ol class=\"legend\">\n");
    for (index, cluster) in embedding.clusters.iter().enumerate() {
        let _ = writeln!(
            html,
            "<li><span class=\"number\" style=\"border-color:{}\">{}</span><img class=\"px paper\" width=\"42\" height=\"42\" \
             alt=\"an example\" src=\"{}\"/><span>{}</span></li>",
            hex(index),
            index + 1,
            cluster.picture.address(),
            name(&cluster.name)
        );
    }
    html.push_str("</ol>\n");
}

fn mean(cluster: &Cluster) -> [f64; 2] {
    let n = cluster.examples.len().max(1) as f64;
    [0, 1].map(|axis| {
        cluster
            .examples
            .iter()
            .map(|example| example.1[axis])
            .sum::<f64>()
            / n
    })
}

/// Moves places until the discs around them don't overlap.
fn apart(mut places: Vec<[f64; 2]>, height: f64) -> Vec<[f64; 2]> {
    const DISTANCE: f64 = 2.0 * DISC + 2.0;
    for _ in 0..200 {
        for one in 0..places.len() {
            for other in one + 1..places.len() {
                let [dx, dy] = [0, 1].map(|axis| places[other][axis] - places[one][axis]);
                let distance = dx.hypot(dy);
                if distance >= DISTANCE {
                    continue;
                }
                let [ux, uy] = if distance > 1e-6 {
                    [dx / distance, dy / distance]
                } else {
                    [1.0, 0.0]
                };
                let push = (DISTANCE - distance) / 2.0 + 0.01;
                places[one] = [places[one][0] - push * ux, places[one][1] - push * uy];
                places[other] = [places[other][0] + push * ux, places[other][1] + push * uy];
            }
        }
        for [x, y] in &mut places {
            *x = x.clamp(DISC + 2.0, WIDTH - DISC - 2.0);
            *y = y.clamp(DISC + 2.0, height - DISC - 2.0);
        }
    }
    places
}

fn hex(index: usize) -> String {
    let [red, green, blue] = COLOURS[index % COLOURS.len()];
    format!("#{red:02x}{green:02x}{blue:02x}")
}

#[cfg(test)]
mod tests {
    use super::{DISC, apart};

    #[test]
    fn numbers_do_not_cover_each_other() {
        let places = apart(
            vec![[100.0, 100.0], [100.0, 100.0], [105.0, 100.0], [479.0, 3.0]],
            300.0,
        );
        for (index, one) in places.iter().enumerate() {
            for other in &places[index + 1..] {
                assert!(
                    (one[0] - other[0]).hypot(one[1] - other[1]) >= 2.0 * DISC,
                    "{places:?}"
                );
            }
            assert!(one[0] <= 480.0 - DISC && one[1] >= DISC);
        }
    }
}
