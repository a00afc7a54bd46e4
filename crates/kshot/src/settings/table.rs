//! The settings that every training has, in the order of the help.

use crate::options::{OptionKind, OptionSpec};

const fn setting(
    name: &'static str,
    kind: OptionKind,
    default: &'static str,
    help: &'static str,
) -> OptionSpec {
    OptionSpec {
        name,
        kind,
        default,
        help,
    }
}

/// The settings that every training has. `auto` stands for a value that follows from others.
pub static SETTINGS: &[OptionSpec] = &[
    setting("method", OptionKind::Text, "prototypical", "the method"),
    setting(
        "data",
        OptionKind::Text,
        "glyphs",
        "dataset: glyphs, omniglot, folder:DIR, features:FILE; for maml alone: sinusoid, a regression",
    ),
    setting(
        "data-dir",
        OptionKind::Text,
        "",
        "where real datasets lie (also KSHOT_DATA)",
    ),
    setting(
        "split",
        OptionKind::Text,
        "auto",
        "how the classes are divided: official, vinyals, ...",
    ),
    setting(
        "image-size",
        OptionKind::Text,
        "auto",
        "side of the square images in pixels",
    ),
    setting("channels", OptionKind::Text, "auto", "1 grey or 3 colour"),
    setting("encoder", OptionKind::Text, "conv4", "the encoder"),
    setting(
        "init-encoder",
        OptionKind::Text,
        "",
        "run, checkpoint, model file or built-in model whose trained encoder is the starting point",
    ),
    setting(
        "way",
        OptionKind::Range(1, 10_000),
        "20",
        "classes per training episode, N or LOW-HIGH",
    ),
    setting(
        "shot",
        OptionKind::Range(1, 10_000),
        "1",
        "labelled examples per class, K or LOW-HIGH",
    ),
    setting("query", OptionKind::Integer(1, 10_000), "5", "queries per class"),
    setting(
        "within-alphabet",
        OptionKind::Flag,
        "false",
        "draw each training episode from one alphabet",
    ),
    setting(
        "few-alphabets",
        OptionKind::Number(0.0, 1.0),
        "0",
        "share of the training episodes from as few alphabets as fill the way",
    ),
    setting(
        "episodes",
        OptionKind::Integer(0, 1_000_000_000),
        "2000",
        "training episodes",
    ),
    setting(
        "meta-batch",
        OptionKind::Integer(1, 10_000),
        "1",
        "episodes per weight update",
    ),
    setting(
        "lr",
        OptionKind::Number(0.0, 10.0),
        "0.001",
        "learning rate of the optimizer",
    ),
    setting(
        "optimizer",
        OptionKind::Choice(&["adam", "sgd"]),
        "adam",
        "how gradients move the weights: Adam, or plain gradient descent",
    ),
    setting(
        "schedule",
        OptionKind::Choice(&["constant", "halving", "linear", "cosine"]),
        "cosine",
        "learning rate over time",
    ),
    setting(
        "halve-every",
        OptionKind::Integer(1, 1_000_000_000),
        "2000",
        "episodes between halvings",
    ),
    setting(
        "average",
        OptionKind::Number(0.0, 0.999_999),
        "0",
        "decay of a running average of the weights, 0 for none",
    ),
    setting(
        "rotate",
        OptionKind::Number(0.0, 180.0),
        "0",
        "augmentation: rotation within ± degrees",
    ),
    setting(
        "shear",
        OptionKind::Number(0.0, 1.0),
        "0",
        "augmentation: shear within ±",
    ),
    setting(
        "scale",
        OptionKind::Number(0.0, 0.9),
        "0",
        "augmentation: size within a factor of 1 ±",
    ),
    setting(
        "shift",
        OptionKind::Number(0.0, 14.0),
        "0",
        "augmentation: shift within ± 28ths of the side",
    ),
    setting(
        "elastic",
        OptionKind::Number(0.0, 4.0),
        "0",
        "augmentation: smooth displacement within ± 28ths of the side",
    ),
    setting(
        "stroke",
        OptionKind::Number(0.0, 1.0),
        "0",
        "augmentation: strokes wider or thinner by up to this many 28ths of the side",
    ),
    setting(
        "augment-chance",
        OptionKind::Number(0.0, 1.0),
        "1",
        "augmentation: chance of each of these changes, drawn for each image",
    ),
    setting(
        "val-way",
        OptionKind::Text,
        "auto",
        "classes per validation episode; auto: as in training, at most 20",
    ),
    setting(
        "val-shot",
        OptionKind::Text,
        "auto",
        "labelled examples per class in validation; auto: as in training",
    ),
    setting(
        "val-query",
        OptionKind::Integer(1, 10_000),
        "5",
        "queries per class in validation",
    ),
    setting(
        "val-episodes",
        OptionKind::Integer(1, 1_000_000),
        "100",
        "episodes of each validation, always the same ones",
    ),
    setting(
        "val-interval",
        OptionKind::Integer(1, 1_000_000_000),
        "500",
        "training episodes between validations",
    ),
    setting(
        "patience",
        OptionKind::Integer(0, 1_000_000),
        "0",
        "stop after so many validations without a better one, 0 never",
    ),
    setting(
        "report-interval",
        OptionKind::Integer(1, 1_000_000_000),
        "25",
        "training episodes between lines of trace.jsonl",
    ),
    setting(
        "test-way",
        OptionKind::Text,
        "auto",
        "classes per test episode at the end; auto: as in validation",
    ),
    setting(
        "test-shot",
        OptionKind::Text,
        "auto",
        "labelled examples per class in the test; auto: as in validation",
    ),
    setting(
        "test-query",
        OptionKind::Integer(1, 10_000),
        "15",
        "queries per class in the test",
    ),
    setting(
        "test-episodes",
        OptionKind::Integer(1, 1_000_000),
        "1000",
        "episodes of the test at the end",
    ),
    setting(
        "norm",
        OptionKind::Choice(&["running", "episode"]),
        "running",
        "whose statistics normalise in evaluation",
    ),
    setting(
        "seed",
        OptionKind::Integer(0, i64::MAX),
        "1",
        "seed of everything random",
    ),
    setting(
        "device",
        OptionKind::Text,
        "flex",
        "where the tensors live: flex (CPU), or a device feature of this build",
    ),
];
