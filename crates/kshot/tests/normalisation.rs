//! What a learner says of its normalisation is what it does, for every registered method, and every report says it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Tensor;
use kshot::checkpoint::Progress;
use kshot::data::{Dataset, ImageShape, Part};
use kshot::episode::{Support, images};
use kshot::learner::{Learner, logits_on_host};
use kshot::method::METHODS;
use kshot::norm::{Norm, NormalisedBy};
use kshot::record::{Evaluation, Record};
use kshot::report::{Findings, Kept, Report, Sources};
use kshot::settings::Settings;
use kshot::{model, named, random};
use rand::RngExt;

const IMAGE: ImageShape = ImageShape::square(28, 1);
const N_WAY: usize = 3;
const N_SHOT: usize = 2;
const N_QUERY: usize = 4;

/// Small, where the method and its encoder have these options.
const SMALL: [(&str, &str); 9] = [
    ("filters", "4"),
    ("units", "8"),
    ("base-classes", "3"),
    ("way", "3"),
    ("val-way", "3"),
    ("test-query", "2"),
    ("test-episodes", "2"),
    ("test-steps", "3"),
    ("controller", "16"),
];

fn settings(method: &str, more: &[(&str, &str)]) -> Option<Settings> {
    let mut layer = BTreeMap::from([("method".to_owned(), method.to_owned())]);
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    layer.extend(more.iter().map(owned));
    let known = Settings::resolve(&[&layer]).ok()?.layer();
    let small = SMALL.iter().filter(|(name, _)| known.contains_key(*name));
    layer.extend(small.map(owned));
    Settings::resolve(&[&layer]).ok()
}

/// Every method in the forms that normalise differently: as it is, joining queries with the support set, and with an
/// encoder that has statistics or none.
fn cases() -> Vec<(String, Settings)> {
    let forms: [&[(&str, &str)]; 4] = [
        &[],
        &[("query-norm", "support")],
        &[("encoder", "mlp")],
        &[("encoder", "conv4")],
    ];
    let mut cases = Vec::new();
    for method in METHODS {
        for form in forms {
            let settings =
                settings(method.name, form).filter(|settings| model::fresh(settings, IMAGE).is_ok());
            assert!(settings.is_some() || !form.is_empty(), "{}", method.name);
            cases.extend(settings.map(|settings| (format!("{} {form:?}", method.name), settings)));
        }
    }
    cases
}

fn pictures(seed: u64, count: usize) -> Vec<f32> {
    let mut rng = random::stream(seed, &[]);
    (0..count * IMAGE.len()).map(|_| rng.random::<f32>()).collect()
}

/// Logits of `queries`, by `scores` of the task that `adapts` adapted to.
fn answers(adapts: &dyn Learner, scores: &dyn Learner, queries: &[f32], norm: Norm) -> Vec<f32> {
    let device = adapts.device();
    let labels = (0..N_WAY).flat_map(|label| [label; N_SHOT]).collect();
    let support = Support {
        images: images(&pictures(1, N_WAY * N_SHOT), IMAGE, device),
        labels,
        n_way: N_WAY,
    };
    let task = adapts.adapt(&support, norm).unwrap();
    let found = scores.score(&task, images(queries, IMAGE, device), norm).unwrap();
    logits_on_host(found.logits)
}

fn differ(a: &[f32], b: &[f32]) -> bool {
    a.iter()
        .zip(b)
        .any(|(a, b)| (a - b).abs() > 1e-4 * (1.0 + b.abs()))
}

/// A fresh learner with other running averages.
fn moved(settings: &Settings) -> Box<dyn Learner> {
    let mut learner = model::fresh(settings, IMAGE).unwrap();
    let values: Vec<Tensor<1>> = learner
        .parameters()
        .iter()
        .zip(learner.read())
        .map(|(parameter, value)| {
            let values = logits_on_host(value);
            let changed: Vec<f32> = if parameter.is_running_average() {
                let place = |index: usize| 0.5 + 0.3 * (index % 3) as f32;
                (0..values.len()).map(place).collect()
            } else {
                values
            };
            named::on_device(&changed, learner.device())
        })
        .collect();
    learner.write(&values);
    learner
}

#[test]
fn what_a_learner_says_normalises_is_what_does() {
    let mut met = Vec::new();
    for (name, settings) in cases() {
        let (fresh, moved) = (model::fresh(&settings, IMAGE).unwrap(), moved(&settings));
        let learner = fresh.as_ref();
        let queries = pictures(2, N_QUERY);
        let first = &queries[..IMAGE.len()];
        let here = |queries: &[f32], norm| answers(learner, learner, queries, norm);
        let sees_others = |norm| differ(&here(first, norm), &here(&queries, norm)[..N_WAY]);
        let running = here(&queries, Norm::Running);
        let by_adapting = differ(
            &answers(moved.as_ref(), learner, &queries, Norm::Running),
            &running,
        );
        let by_scoring = differ(
            &answers(learner, moved.as_ref(), &queries, Norm::Running),
            &running,
        );
        // A batch of the support set and one query, normalised by itself, is what joining the two means.
        let joined = [pictures(1, N_WAY * N_SHOT), first.to_vec()].concat();
        let joined = here(&joined, Norm::Episode)[N_WAY * N_SHOT * N_WAY..].to_vec();
        let joins = !differ(&joined, &here(first, Norm::Running));

        let claimed = learner.normalised_by(Norm::Running);
        assert!(!sees_others(Norm::Running), "{name}: {claimed:?}");
        let done = match (by_adapting, by_scoring, joins) {
            _ if !differ(&running, &here(&queries, Norm::Episode)) => NormalisedBy::Nothing,
            (true, true, _) => NormalisedBy::RunningAverages,
            (false, true, _) => NormalisedBy::QueryAverages,
            (false, false, true) => NormalisedBy::SupportAndQuery,
            (false, false, false) => NormalisedBy::SupportSteps,
            (true, false, _) => panic!("{name}: only the support set feels running averages"),
        };
        assert_eq!(claimed, done, "{name}");

        let together = learner.normalised_by(Norm::Episode);
        assert_eq!(
            together == NormalisedBy::Episode,
            sees_others(Norm::Episode),
            "{name}"
        );
        assert!(
            [NormalisedBy::Episode, NormalisedBy::Nothing].contains(&together),
            "{name}"
        );
        met.push(claimed);
    }
    for kind in [
        NormalisedBy::Nothing,
        NormalisedBy::RunningAverages,
        NormalisedBy::QueryAverages,
        NormalisedBy::SupportAndQuery,
        NormalisedBy::SupportSteps,
    ] {
        assert!(met.contains(&kind), "{kind:?} is met in the registry");
    }
}

fn escaped(text: &str) -> String {
    text.replace('\'', "&#39;")
}

#[test]
fn every_report_of_every_method_says_what_normalised() {
    let form = [("query-norm", "support")];
    for method in METHODS {
        let settings = settings(method.name, &form)
            .or_else(|| settings(method.name, &[]))
            .unwrap();
        let dataset = (settings.dataset.open)(&settings.open_request().unwrap()).unwrap();
        let dataset: Arc<dyn Dataset> = Arc::from(dataset);
        let learner = model::fresh(&settings, dataset.shape()).unwrap();
        for norm in [Norm::Running, Norm::Episode] {
            let evaluation = Evaluation {
                norm,
                ..Evaluation::of(&settings, dataset.clone(), Part::Test).unwrap()
            };
            let (record, kept) = evaluation.run(learner.as_ref(), Kept::of, |_| true).unwrap();
            let by = learner.normalised_by(norm);
            assert_eq!(record.normalised_by, Some(by), "{}", method.name);
            let json = serde_json::to_value(&record).unwrap();
            assert_eq!(json["normalised_by"], serde_json::to_value(by).unwrap());
            let report = Report::gather(&Sources {
                learner: learner.as_ref(),
                evaluation: &evaluation,
                record: &record,
                findings: &Findings::of(&kept),
                settings: &settings,
                progress: &Progress::default(),
                trace: &[],
                folder: Path::new("run"),
            })
            .unwrap();
            let (words, short) = (by.in_words(), format!("{norm} ({})", by.short()));
            let html = report.to_html();
            assert!(
                html.contains(&escaped(words)) && html.contains(&escaped(&short)),
                "{}: {short}",
                method.name
            );
            let markdown = report.to_markdown();
            assert!(
                markdown.contains(words) && markdown.contains(&short),
                "{}",
                method.name
            );
            assert!(report.to_text().contains(words), "{}", method.name);
        }
    }
}

#[test]
fn a_record_of_an_earlier_version_is_read_and_says_nothing_of_it() {
    let text = r#"{"method":"maml","encoder":"conv4","data":"omniglot","split":"test","partition":"official",
        "protocol":"episodes","norm":"running","way":5,"shot":1,"query":1,"episodes":1000,"seed":1,"accuracy":0.9,
        "ci95":0.01,"seconds":1.0,"episodes_per_second":1000.0}"#;
    let record: Record = serde_json::from_str(text).unwrap();
    assert_eq!(record.normalised_by, None);
    assert!(!serde_json::to_string(&record).unwrap().contains("normalised_by"));
}
