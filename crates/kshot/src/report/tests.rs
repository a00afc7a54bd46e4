//! What every report promises: see `tests/fixture.rs` for what they are made from.

mod fixture;
pub(crate) mod well_formed;

use crate::norm::Norm;
use crate::trace::Line;
use fixture::{Noise, report, small, trace};

#[test]
fn the_page_is_well_formed_and_says_what_was_measured() {
    let report = small(&trace());
    let html = report.to_html();
    well_formed::check(&html).unwrap();
    let accuracy = 100.0 * report.record.accuracy;
    for golden in [
        &format!(
            "<p class=\"result\">{accuracy:.2} % <small>± {:.2} %",
            100.0 * report.record.ci95
        ),
        "<dt>classes</dt><dd>seeded:test</dd>",
        "<dt>task</dt><dd>5-way 2-shot</dd>",
        "No query sees another one",
        "<code>kshot eval &#39;runs/a &lt;b&gt; &amp; &#39;\\&#39;&#39;c&#39;\\&#39;&#39;&#39; <span class=\"unbroken\">--split seeded:test</span>",
        "100 training episodes in 10.0 s; the checkpoint after 50, the best in validation, was tested.",
        "tested: 50</text>",
        "<caption>Validations</caption>",
        "<caption>Training and test</caption>",
        "<th scope=\"row\" class=\"mono\">filters</th><td class=\"value\"><b><bdi>8<wbr/></bdi></b></td>",
        "<td class=\"quiet\">classes per training episode, N or LOW-HIGH; default 20</td>",
        "Embedding of 10 classes",
    ] {
        assert!(html.contains(golden), "{golden}");
    }
    assert_eq!(
        html.matches("<details class=\"sample\" open=\"open\">").count(),
        3
    );
    assert_eq!(html.matches("<svg class=\"chart\"").count(), 4);
    assert_eq!(html.matches("<image ").count(), 150);
    assert_eq!(
        html.matches("class=\"right\"").count() + html.matches("class=\"wrong\"").count(),
        3 * 25
    );
}

#[test]
fn nothing_from_outside_is_markup_anywhere() {
    let report = small(&trace());
    let html = report.to_html();
    assert!(html.contains("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &#39;x&#39;"));
    for forbidden in [
        "<script", "<b>&\"", "\u{202e}", "\u{0}", "http://", "https://", "url(",
    ] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    let markdown = report.to_markdown();
    assert!(!markdown.contains("<script") && !markdown.contains('\u{0}'));
    assert!(markdown.contains("&lt;script&gt;alert(\"1\")&lt;/script&gt; &amp; 'x' \\| \\`y\\`"));
    assert!(!report.to_text().contains('\u{0}') && !report.to_text().contains('\u{202e}'));
}

#[test]
fn the_sample_episodes_are_the_ones_that_were_tested() {
    let report = small(&[]);
    let shown: usize = report
        .samples
        .iter()
        .flat_map(|sample| &sample.rows)
        .flat_map(|row| &row.queries)
        .count();
    let right: usize = report.samples.iter().map(|sample| sample.right).sum();
    let marked = report
        .samples
        .iter()
        .flat_map(|sample| &sample.rows)
        .flat_map(|row| &row.queries);
    assert_eq!((shown, right), (75, marked.filter(|query| query.right).count()));
    assert!(report.pairs.len() == 12 && report.mixed_up >= 12);
    for query in report.samples[0].rows.iter().flat_map(|row| &row.queries) {
        assert!(query.probability >= 0.2 - 1e-9 && query.probability <= 1.0);
    }
}

#[test]
fn a_training_without_a_trace_has_a_report_too() {
    let report = small(&[]);
    let html = report.to_html();
    well_formed::check(&html).unwrap();
    assert!(html.contains("No line of the training was recorded"));
    assert!(!html.contains("class=\"chart\""));
    assert!(html.contains("<dt>training time</dt><dd>5.0 s</dd>"));
}

#[test]
fn one_episode_under_the_transductive_policy_is_said_in_words() {
    let report = report(
        Noise::dataset(28, 1, 12, true),
        5,
        1,
        1,
        Norm::Episode,
        &trace()[..1],
    );
    let html = report.to_html();
    well_formed::check(&html).unwrap();
    assert!(html.contains("This is transductive"));
    assert!(html.contains("one episode has no interval"));
    assert_eq!(report.samples.len(), 1);
    assert!(report.to_text().contains("transductive") && report.to_markdown().contains("transductive"));
}

#[test]
fn the_worst_pictures_stay_below_two_megabytes() {
    let report = report(
        Noise::dataset(84, 3, 25, false),
        20,
        5,
        3,
        Norm::Running,
        &trace(),
    );
    let html = report.to_html();
    well_formed::check(&html).unwrap();
    assert!(html.len() < 2_000_000, "{}", html.len());
    assert!(html.len() > 500_000, "{}", html.len());
    assert!(html.contains("Shown: 3 of 5 labelled examples per class, 3 of 5 queries per class."));
}

#[test]
fn a_long_trace_is_thinned() {
    let line = |index: u64| Line::Training {
        episode: 25 * index,
        loss: 3.0 / (1.0 + index as f64),
        accuracy: 0.5,
        lr: 1e-5,
        images_per_second: 1e6,
        seconds: index as f64,
    };
    let validation = |index: u64| Line::Validation {
        episode: 250 * index,
        val_accuracy: 0.5,
        val_ci95: 0.6,
        seconds: 1.0,
    };
    let trace: Vec<Line> = (1..=50_000)
        .map(line)
        .chain((1..=5_000).map(validation))
        .collect();
    let (long, short) = (small(&trace).to_html(), small(&[]).to_html());
    well_formed::check(&long).unwrap();
    assert!(long.len() - short.len() < 60_000, "{}", long.len() - short.len());
    assert!(long.contains("5000 validations, of which every 250th"));
}

#[test]
fn the_markdown_has_the_result_and_every_setting() {
    let report = small(&trace());
    let markdown = report.to_markdown();
    let command = r"kshot eval 'runs/a <b> & '\''c'\''' --split seeded:test --way 5 --shot 2 --query 5 --episodes 20 --seed 1 --norm running";
    assert!(
        markdown.contains(&format!("\n```sh\n{command}\n```\n")),
        "{markdown}"
    );
    assert!(markdown.contains(&format!(
        "**{:.2} ± {:.2} %** (95 % interval)",
        100.0 * report.record.accuracy,
        100.0 * report.record.ci95
    )));
    for group in &report.settings {
        for row in &group.rows {
            assert!(markdown.contains(&format!("\n| {} | ", row.name)), "{}", row.name);
        }
    }
}
