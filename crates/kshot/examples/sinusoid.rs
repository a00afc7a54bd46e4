//! The regression experiment of Finn, Abbeel, Levine 2017 (section 5.1): a network of two layers of 40 ReLU units is
//! meta-trained on sinusoids seen through K points, and then adapts to new ones.
//!
//! ```text
//! cargo run --release -p kshot --example sinusoid -- [UPDATES] [FILE.html]
//! ```
//!
//! prints the mean squared error after 0, 1, 5 and 10 steps on 5, 10 and 20 points as JSON, and draws one task before
//! and after adaptation. The paper: one inner step of 0.01 on 10 points, 25 tasks per update, Adam 1e-3.

use std::fmt::Write;

use burn::tensor::Device;
use kshot::block::he_normal;
use kshot::data::sinusoid::{INPUTS, Points, Sinusoid};
use kshot::eval::Accuracy;
use kshot::inner::{Batch, Descent, Layer, Network, Normalisation, Order, Rates, Targets, Weights};
use kshot::learner::logits_on_host;
use kshot::optimizer::Adam;
use kshot::{named, random};

const UNITS: usize = 40;
const TASKS: usize = 25;
const SHOTS: usize = 10;
const INNER_LR: f32 = 0.01;
const LR: f64 = 1e-3;
/// Points of a test task on which its error is measured, and test tasks.
const TEST_POINTS: usize = 100;
const TEST_TASKS: u64 = 600;
const TEST_SEED: u64 = 77;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let updates: u64 = arguments.next().map_or(Ok(10_000), |text| text.parse())?;
    let file = arguments.next();
    let network = network();
    let values = train(&network, updates);
    let mut errors = Vec::new();
    for shots in [5, 10, 20] {
        for steps in [0, 1, 5, 10] {
            let all: Vec<f64> = (0..TEST_TASKS)
                .map(|task| error(&network, &values, task, shots, steps))
                .collect();
            let error = Accuracy::of(&all);
            errors.push(serde_json::json!({
                "shots": shots, "steps": steps, "mse": error.mean, "ci95": error.ci95, "tasks": TEST_TASKS,
            }));
        }
    }
    println!("{}", serde_json::json!({"updates": updates, "errors": errors}));
    if let Some(file) = file {
        std::fs::write(file, page(&network, &values, updates)?)?;
    }
    Ok(())
}

fn network() -> Network {
    let layer = |inputs, outputs, relu| Layer::Linear {
        weight: [inputs, outputs],
        relu,
    };
    Network::new(vec![
        layer(1, UNITS, true),
        layer(UNITS, UNITS, true),
        layer(UNITS, 1, false),
    ])
}

fn descent(network: &Network, steps: usize) -> Descent<'_> {
    Descent {
        network,
        rates: Rates::One(INNER_LR),
        steps,
    }
}

fn batch(points: &Points, tasks: usize) -> Batch<'_> {
    Batch {
        tasks,
        inputs: &points.x,
        targets: Targets::Values(&points.y),
    }
}

/// Meta-trains from fresh weights.
fn train(network: &Network, updates: u64) -> Vec<Vec<f32>> {
    let mut rng = random::stream(1, &[]);
    let mut start = Vec::new();
    for layer in network.layers() {
        start.push(he_normal(
            layer.inputs(),
            layer.inputs() * layer.outputs(),
            &mut rng,
        ));
        start.push(vec![0.0; layer.outputs()]);
    }
    let device = Device::flex();
    let mut values: Vec<_> = start
        .iter()
        .map(|value| named::on_device(value, &device))
        .collect();
    let mut optimizer = Adam::new(values.len());
    for update in 0..updates {
        let (mut support, mut query) = (Points::default(), Points::default());
        for task in 0..TASKS as u64 {
            let (sinusoid, mut stream) = Sinusoid::draw(2, update * TASKS as u64 + task);
            for set in [&mut support, &mut query] {
                let points = sinusoid.points(SHOTS, &mut stream);
                set.x.extend(points.x);
                set.y.extend(points.y);
            }
        }
        let weights = Weights::repeat(&start, TASKS);
        let (support, query) = (batch(&support, TASKS), batch(&query, TASKS));
        let found = descent(network, 1).meta_gradient(weights, &support, &query, Order::Second, false);
        let gradients = found.start.sum().into_iter().map(|sum| {
            let mean: Vec<f32> = sum.into_iter().map(|value| value / TASKS as f32).collect();
            Some(named::on_device(&mean, &device))
        });
        optimizer.step(LR, &mut values, gradients.collect());
        start = values.iter().map(|value| logits_on_host(value.clone())).collect();
    }
    start
}

/// The weights adapted to `shots` points of a test task, with that task and those points.
fn adapted(
    network: &Network,
    values: &[Vec<f32>],
    task: u64,
    shots: usize,
    steps: usize,
) -> (Weights, Sinusoid, Points) {
    let (sinusoid, mut stream) = Sinusoid::draw(TEST_SEED, task);
    let support = sinusoid.points(shots, &mut stream);
    let start = Weights::repeat(values, 1);
    let weights = descent(network, steps).run(start, &batch(&support, 1));
    (weights, sinusoid, support)
}

/// Places evenly over the inputs' range.
fn grid(count: usize) -> Vec<f32> {
    let (from, to) = (*INPUTS.start(), *INPUTS.end());
    let place = |index: usize| from + (to - from) * index as f32 / (count - 1) as f32;
    (0..count).map(place).collect()
}

fn error(network: &Network, values: &[Vec<f32>], task: u64, shots: usize, steps: usize) -> f64 {
    let (weights, sinusoid, _) = adapted(network, values, task, shots, steps);
    let x = grid(TEST_POINTS);
    let found = network.infer(&weights, &x, Normalisation::Groups(1));
    let errors = x
        .iter()
        .zip(found)
        .map(|(x, y)| f64::from(y - sinusoid.at(*x)).powi(2));
    errors.sum::<f64>() / TEST_POINTS as f64
}

/// A page with one test task: the function, ten of its points, and the network before and after adaptation to them.
fn page(network: &Network, values: &[Vec<f32>], updates: u64) -> Result<String, std::fmt::Error> {
    let x = grid(TEST_POINTS);
    let place = |x: f32, y: f32| (20.0 + 36.0 * (x + 5.0), 130.0 - 20.0 * y.clamp(-6.0, 6.0));
    let path = |values: &[f32]| -> String {
        let points = x.iter().zip(values).map(|(x, y)| place(*x, *y));
        points.map(|(x, y)| format!("{x:.1},{y:.1} ")).collect()
    };
    let mut svg = String::new();
    let (_, sinusoid, support) = adapted(network, values, 0, SHOTS, 0);
    let truth: Vec<f32> = x.iter().map(|x| sinusoid.at(*x)).collect();
    let mut line = |values: &[f32], style: &str, title: &str| {
        let points = path(values);
        writeln!(
            svg,
            "<polyline fill=\"none\" {style} points=\"{points}\"><title>{title}</title></polyline>"
        )
    };
    line(
        &truth,
        "stroke=\"#888\" stroke-width=\"4\" opacity=\".5\"",
        "the function",
    )?;
    for (steps, style, title) in [
        (0, "stroke=\"#c50\" stroke-dasharray=\"3 4\"", "before adaptation"),
        (1, "stroke=\"#06c\" stroke-dasharray=\"8 4\"", "after 1 step"),
        (10, "stroke=\"#063\" stroke-width=\"2\"", "after 10 steps"),
    ] {
        let (weights, ..) = adapted(network, values, 0, SHOTS, steps);
        line(
            &network.infer(&weights, &x, Normalisation::Groups(1)),
            style,
            title,
        )?;
    }
    for (x, y) in support.x.iter().zip(&support.y) {
        let (x, y) = place(*x, *y);
        writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>")?;
    }
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Sinusoids</title>\n<h1>Adapting to a \
         sinusoid</h1>\n<p>After {updates} updates. Grey: the function; discs: the {SHOTS} points that are seen; dotted: \
         before adaptation; dashed: after 1 step; solid: after 10 steps.</p>\n<svg viewBox=\"0 0 400 260\" width=\"800\" \
         role=\"img\" aria-label=\"A sinusoid, ten of its points, and the network before and after adaptation\">\n{svg}\
         </svg>\n</html>\n"
    ))
}
