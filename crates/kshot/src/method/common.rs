//! Sums over classes and losses that several methods share.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData};

use super::Preset;
use crate::error::Error;
use crate::options::{OptionKind, OptionSpec};

/// The protocol under which all methods can be compared.
pub const STRICT: Preset = Preset {
    name: "strict",
    summary: "official 30/20 alphabet split, no rotated test classes, running statistics",
    settings: &[
        ("data", "omniglot"),
        ("split", "official"),
        ("rotations", "train"),
        ("norm", "running"),
    ],
};

/// Settings that let a training shorter than a paper's come to rest.
pub const COSINE: (&str, &str) = ("schedule", "cosine");
/// See [`COSINE`].
pub const AVERAGE: (&str, &str) = ("average", "0.998");

/// The papers' division of Omniglot with one training for all columns of their table: 60-way 1-shot, affine
/// augmentation, a cosine schedule and the average of the weights.
pub const TUNED: Preset = Preset {
    name: "tuned",
    summary: "the paper's protocol with another training: 60-way 1-shot, affine augmentation, a cosine schedule and the \
              average of the weights",
    settings: &[
        ("data", "omniglot"),
        ("split", "vinyals"),
        ("rotations", "all"),
        ("train-on", "trainval"),
        ("way", "60"),
        ("query", "5"),
        ("episodes", "12000"),
        ("average", "0.999"),
        ("rotate", "10"),
        ("shear", "0.15"),
        ("scale", "0.15"),
        ("shift", "2"),
        ("val-interval", "1000"),
    ],
};

/// The training of [`TUNED`] under the protocol of [`STRICT`].
pub const TUNED_STRICT: Preset = Preset {
    name: "strict",
    summary: "the tuned training under the strict protocol: official 30/20 alphabet split, no rotated test \
              classes, the validation alphabets held out, running statistics",
    settings: &[
        ("data", "omniglot"),
        ("split", "official"),
        ("rotations", "train"),
        ("way", "60"),
        ("query", "5"),
        ("episodes", "12000"),
        ("average", "0.999"),
        ("rotate", "10"),
        ("shear", "0.15"),
        ("scale", "0.15"),
        ("shift", "2"),
        ("val-interval", "1000"),
        ("norm", "running"),
    ],
};

/// 1 where example i has label k: `[examples, n_way]`.
pub fn one_hot(labels: &[usize], n_way: usize, device: &Device) -> Tensor<2> {
    let mut values = vec![0.0f32; labels.len() * n_way];
    for (example, &label) in labels.iter().enumerate() {
        values[example * n_way + label] = 1.0;
    }
    Tensor::from_data(TensorData::new(values, [labels.len(), n_way]), device)
}

/// Mean of each class's rows: `rows` `[examples, features]` → `[n_way, features]`.
pub fn class_means(rows: Tensor<2>, labels: &[usize], n_way: usize) -> Tensor<2> {
    let members = one_hot(labels, n_way, &rows.device()).transpose();
    let counts = members.clone().sum_dim(1).clamp_min(1.0);
    (members / counts).matmul(rows)
}

/// Sum of each class's rows: `rows` `[examples, features]` → `[n_way, features]`.
pub fn class_sums(rows: Tensor<2>, labels: &[usize], n_way: usize) -> Tensor<2> {
    one_hot(labels, n_way, &rows.device()).transpose().matmul(rows)
}

/// Greatest score among each class's support images: `scores` `[n_query, n_support]` → `[n_query, n_way]`.
pub fn class_maxima(scores: Tensor<2>, labels: &[usize], n_way: usize) -> Tensor<2> {
    let [n_query, n_support] = scores.dims();
    let members = one_hot(labels, n_way, &scores.device());
    // Where an example is of another class it must not win.
    let out = (members.ones_like() - members)
        .mul_scalar(-1e9)
        .unsqueeze_dim::<3>(0);
    let scores = scores.unsqueeze_dim::<3>(2).expand([n_query, n_support, n_way]);
    (scores + out).max_dim(1).reshape([n_query, n_way])
}

/// −|aᵢ − bⱼ|² of all rows: `a` `[m, features]`, `b` `[n, features]` → `[m, n]`.
pub fn negative_squared_distances(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    let cross = a.clone().matmul(b.clone().transpose());
    let (a, b) = (a.square().sum_dim(1), b.square().sum_dim(1).transpose());
    cross.mul_scalar(2.0) - a - b
}

/// Rows of length 1 (a zero row stays zero).
pub fn unit(rows: Tensor<2>) -> Tensor<2> {
    let length = rows.clone().square().sum_dim(1).add_scalar(1e-16).sqrt();
    rows / length
}

/// Mean over the queries of −log P(y | x̂, S): `logits` `[n_query, n_way]` → `[1]`.
pub fn negative_log_likelihood(logits: Tensor<2>, labels: &[usize]) -> Tensor<1> {
    let [n_query, n_way] = logits.dims();
    let truth = one_hot(labels, n_way, &logits.device());
    (log_softmax(logits, 1) * truth)
        .sum()
        .mul_scalar(-1.0 / n_query as f32)
}

/// `--label-smoothing`.
pub const LABEL_SMOOTHING: OptionSpec = OptionSpec {
    name: "label-smoothing",
    kind: OptionKind::Number(0.0, 0.99),
    default: "0",
    help: "share of a query's label that is spread evenly over all classes in training",
};

/// The [`negative_log_likelihood`] of labels of which a share `smoothing` = ε is spread evenly over all classes (Szegedy
/// et al. 2016, section 7): −(1 − ε) log P(y | x̂, S) − ε/N Σₖ log P(k | x̂, S). `logits` `[n_query, n_way]` → `[1]`.
pub fn smoothed_negative_log_likelihood(logits: Tensor<2>, labels: &[usize], smoothing: f32) -> Tensor<1> {
    if smoothing == 0.0 {
        return negative_log_likelihood(logits, labels);
    }
    let even = log_softmax(logits.clone(), 1).mean().mul_scalar(-smoothing);
    negative_log_likelihood(logits, labels).mul_scalar(1.0 - smoothing) + even
}

/// Whether a head with `outputs` classes can answer `n_way` of them.
///
/// # Errors
/// More classes than outputs.
pub fn check_ways(n_way: usize, outputs: usize) -> Result<(), Error> {
    if n_way <= outputs {
        return Ok(());
    }
    Err(Error::Setting {
        name: "way",
        problem: format!(
            "this method has one output per class and was trained with {outputs} (its --way), found {n_way} classes; \
             train it with --way {n_way}"
        ),
    })
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::{negative_log_likelihood, smoothed_negative_log_likelihood};

    /// Logits 0 and ln 3 give 1/4 and 3/4. With ε = 0.2: −0.8 ln ¾ − 0.1 (ln ¼ + ln ¾).
    #[test]
    fn smoothed_labels_by_hand() {
        let device = Device::flex();
        let logits = Tensor::<2>::from_floats([[0.0, 3.0f32.ln()]], &device);
        let loss = |smoothing| {
            smoothed_negative_log_likelihood(logits.clone(), &[1], smoothing).into_scalar::<f32>()
        };
        let expected = -0.8 * 0.75f32.ln() - 0.1 * (0.25f32.ln() + 0.75f32.ln());
        assert!(
            (loss(0.2) - expected).abs() < 1e-6,
            "{} for {expected}",
            loss(0.2)
        );
        let plain = negative_log_likelihood(logits.clone(), &[1]).into_scalar::<f32>();
        assert_eq!(loss(0.0), plain);
    }
}
