//! Sums over classes and losses that several methods share.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData};

use super::{Method, Preset};
use crate::episode::Support;
use crate::error::Error;
use crate::norm::Norm;

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

/// [`Method::present`] for a method that knows support sets alone: each image against all before it.
pub fn present_by_adapting<M: Method>(
    method: &M,
    sequence: &Support,
    norm: Norm,
) -> Result<Tensor<2>, Error> {
    let (n_way, device) = (sequence.n_way, sequence.images.device());
    let mut rows = vec![Tensor::zeros([1, n_way], &device)];
    for t in 1..sequence.labels.len() {
        let before = Support {
            images: sequence.images.clone().narrow(0, 0, t),
            labels: sequence.labels[..t].to_vec(),
            n_way,
        };
        let task = method.adapt(&before, norm)?;
        let logits = method
            .score(&task, sequence.images.clone().narrow(0, t, 1), norm)?
            .logits;
        let seen = one_hot(&before.labels, n_way, &device).max_dim(0);
        let below_all = logits.clone().min_dim(1).sub_scalar(1.0);
        rows.push(logits * seen.clone() + (seen.ones_like() - seen) * below_all);
    }
    Ok(Tensor::cat(rows, 0))
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
