//! The memory of a memory-augmented network: least recently used access (Santoro et al. 2016, eqs. 2 to 8).

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};

/// Added to squared lengths, so that a row of zeros has cosine 0 and a gradient that is not huge.
const EPSILON: f32 = 1e-6;

/// What the controller sends to the heads.
pub struct Emitted {
    /// kₜ, `[b, heads, width]`.
    pub key: Tensor<3>,
    /// What is written, `[b, heads, width]`.
    pub stored: Tensor<3>,
    /// σ(α), `[b, heads, 1]`.
    pub alpha: Tensor<3>,
    /// Of the cosines, `[b, heads, 1]`; 1 where there is none.
    pub factor: Option<Tensor<3>>,
}

/// Writes, then reads (eqs. 2 to 8): from wʳₜ₋₁ `[b, heads, rows]`, Mₜ₋₁ `[b, rows, width]` and wᵘₜ₋₁ `[b * rows]` to those of
/// step t.
pub fn access(
    (read, memory, mut usage): (Tensor<3>, Tensor<3>, Vec<f32>),
    emitted: Emitted,
    usage_decay: f32,
) -> (Tensor<3>, Tensor<3>, Vec<f32>) {
    let (least_used, kept) = least_used(&usage, read.dims(), &read.device());
    let write = emitted.alpha * (read - least_used.clone()) + least_used;
    let memory = memory * kept + write.clone().swap_dims(1, 2).matmul(emitted.stored);
    let cosines = unit(emitted.key).matmul(unit(memory.clone()).swap_dims(1, 2));
    let read = softmax(
        match emitted.factor {
            Some(factor) => cosines * factor,
            None => cosines,
        },
        2,
    );
    let now = (read.clone() + write).detach().sum_dim(1).into_data();
    for (usage, now) in usage.iter_mut().zip(now.iter::<f32>()) {
        *usage = usage_decay * *usage + now;
    }
    (read, memory, usage)
}

/// wˡᵘ `[b, heads, rows]`, 1 for each head at its own of the least used rows (the least for the first head, the lower
/// row among equals), and `[b, rows, 1]`, 0 at all of these and 1 elsewhere.
fn least_used(usage: &[f32], [b, heads, rows]: [usize; 3], device: &Device) -> (Tensor<3>, Tensor<3>) {
    let mut least = vec![0.0f32; b * heads * rows];
    let mut kept = vec![1.0f32; b * rows];
    let mut order: Vec<usize> = Vec::with_capacity(rows);
    for (s, usage) in usage.chunks_exact(rows).enumerate() {
        order.clear();
        order.extend(0..rows);
        let by_use = |a: &usize, b: &usize| usage[*a].total_cmp(&usage[*b]).then(a.cmp(b));
        if heads < rows {
            order.select_nth_unstable_by(heads, by_use);
        }
        order[..heads].sort_unstable_by(by_use);
        for (head, &row) in order[..heads].iter().enumerate() {
            least[(s * heads + head) * rows + row] = 1.0;
            kept[s * rows + row] = 0.0;
        }
    }
    (
        Tensor::from_data(TensorData::new(least, [b, heads, rows]), device),
        Tensor::from_data(TensorData::new(kept, [b, rows, 1]), device),
    )
}

/// Rows of length 1 along the last dimension; a zero row stays zero.
fn unit(rows: Tensor<3>) -> Tensor<3> {
    let length = rows.clone().square().sum_dim(2).add_scalar(EPSILON).sqrt();
    rows / length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor<const D: usize>(values: &[f32], dims: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values.to_vec(), dims), &Device::flex())
    }

    #[track_caller]
    fn assert_near(found: impl IntoIterator<Item = f32>, expected: &[f32]) {
        let found: Vec<f32> = found.into_iter().collect();
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-4, "{found:?} instead of {expected:?}");
        }
    }

    #[test]
    fn one_access_to_a_memory_of_two_rows_is_as_computed_by_hand() {
        // Row 1 is least used: w = 0.25 (1, 0) + 0.75 (0, 1), and M = ((1, 0.5), (0, 1.5)) after writing (0, 2).
        // Cosines with the key: 0.5 / √1.25 = 0.44721 and 1; their softmax: 0.36524 and 0.63476.
        let emitted = Emitted {
            key: tensor(&[0.0, 2.0], [1, 1, 2]),
            stored: tensor(&[0.0, 2.0], [1, 1, 2]),
            alpha: tensor(&[0.25], [1, 1, 1]),
            factor: None,
        };
        let before = (
            tensor(&[1.0, 0.0], [1, 1, 2]),
            tensor(&[1.0, 0.0, 0.0, 1.0], [1, 2, 2]),
            vec![5.0, 1.0],
        );
        let (read, memory, usage) = access(before, emitted, 0.9);
        assert_near(memory.into_data().iter(), &[1.0, 0.5, 0.0, 1.5]);
        assert_near(read.into_data().iter(), &[0.36524, 0.63476]);
        assert_near(usage, &[4.5 + 0.36524 + 0.25, 0.9 + 0.63476 + 0.75]);
    }

    #[test]
    fn each_head_gets_its_own_of_the_least_used_rows() {
        let usage = [3.0, 1.0, 2.0, 1.0, 0.0, 7.0, 6.0, 5.0];
        let (least, kept) = least_used(&usage, [2, 2, 4], &Device::flex());
        let rows = [
            0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0,
        ];
        assert_near(least.into_data().iter(), &rows);
        assert_near(kept.into_data().iter(), &[1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0]);
    }
}
