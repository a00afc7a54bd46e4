//! What a change and an answer cost among many classes: `cargo run --release -p kshot --example many_classes`.
//!
//! Arguments: classes (10000), examples of each (5), features (64).

use std::time::Instant;

use kshot::classifier::{ContentHash, Example, FewShotClassifier, Show};
use kshot::data::ImageShape;
use kshot::model_file::ModelFile;
use kshot::random;
use kshot::settings::{Layer, Settings};
use kshot::trained::Trained;
use kshot::{model, named};
use rand::RngExt;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<usize> = std::env::args()
        .skip(1)
        .map(|text| text.parse())
        .collect::<Result<_, _>>()?;
    let argument = |index: usize, default: usize| arguments.get(index).copied().unwrap_or(default);
    let (n_classes, per_class, features) = (argument(0, 10_000), argument(1, 5), argument(2, 64));
    let mut classifier = FewShotClassifier::new(untrained()?);
    let mut rng = random::stream(1, &[]);
    let mut row = |centre: &[f32]| -> Vec<f32> { centre.iter().map(|x| x + rng.random::<f32>()).collect() };
    let zero = vec![0.0; features];
    let mut class = |number: usize| -> Vec<Example> {
        let centre: Vec<f32> = row(&zero).iter().map(|x| 3.0 * x).collect();
        let example = |place: usize| {
            let hash =
                ((number * 1000 + place) as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            Example::embedded(
                format!("{place}.png"),
                ContentHash(hash.to_le_bytes()),
                row(&centre).into(),
            )
        };
        (0..per_class).map(example).collect()
    };
    for number in 0..n_classes {
        classifier.add_examples(&format!("class {number}"), class(number))?;
    }
    let query = classifier
        .classes()
        .next()
        .map(kshot::classifier::Class::mean)
        .ok_or("no class")?;
    classifier.classify_embedded(&[&query], Show::default())?;
    let mut times = [const { Vec::new() }; 4];
    for round in 0..20 {
        let more = class(n_classes + round);
        let mut timed =
            |place: usize, started: Instant| times[place].push(started.elapsed().as_secs_f64() * 1e3);
        let started = Instant::now();
        classifier.add_examples(&format!("new class {round}"), more)?;
        timed(0, started);
        let started = Instant::now();
        classifier.calibration()?;
        timed(1, started);
        let started = Instant::now();
        classifier.classify_embedded(&[&query], Show::default())?;
        timed(2, started);
        let started = Instant::now();
        std::hint::black_box(classifier.clone());
        timed(3, started);
    }
    println!(
        "{n_classes} classes of {per_class} examples, {features} features; milliseconds, median and longest of 20:"
    );
    for (what, times) in [
        "add a class",
        "calibrate after it",
        "classify one",
        "copy to change",
    ]
    .iter()
    .zip(&mut times)
    {
        times.sort_by(f64::total_cmp);
        println!(
            "  {what:20} {:8.3} {:8.3}",
            times[times.len() / 2],
            times[times.len() - 1]
        );
    }
    Ok(())
}

fn untrained() -> Result<Trained, kshot::Error> {
    let settings = Settings::resolve(&[&Layer::from([("filters".to_owned(), "4".to_owned())])])?;
    let image = ImageShape::square(28, 1);
    let learner = model::fresh(&settings, image)?;
    let file = ModelFile {
        name: "untrained".to_owned(),
        settings: settings.layer(),
        image,
        weights: named::from_parameters(learner.parameters(), &learner.read(), ""),
        encoder: None,
        card: String::new(),
        prototypes: None,
    };
    Trained::new(file, std::path::Path::new("untrained"))
}
