//! Kernels over embeddings on plain slices: scores of one query, and of an example that is left out.

use super::class::{Class, mean};
use crate::method::Kernel;

/// Whether rows are compared by their directions only.
pub fn compares_directions(kernel: Kernel) -> bool {
    matches!(kernel, Kernel::Cosine { .. } | Kernel::Attention { .. })
}

/// A query as the kernel takes it.
pub fn as_taken(kernel: Kernel, embedding: &[f32]) -> Vec<f32> {
    if compares_directions(kernel) {
        unit(embedding)
    } else {
        embedding.to_vec()
    }
}

/// How near two rows are, both as the kernel takes them: greater is nearer.
pub fn similarity(kernel: Kernel, query: &[f32], row: &[f32]) -> f32 {
    match kernel {
        Kernel::SquaredEuclidean | Kernel::Nearest => -squared_distance(query, row),
        Kernel::Cosine { factor } | Kernel::Attention { factor } => factor * dot(query, row),
    }
}

/// The logit of a class; `similarities` are those of its examples to the query.
pub fn logit(kernel: Kernel, query: &[f32], class: &Class, similarities: &[f32]) -> f32 {
    match kernel {
        Kernel::SquaredEuclidean | Kernel::Cosine { .. } => similarity(kernel, query, class.prototype()),
        Kernel::Attention { .. } => log_sum_exp(similarities.iter().copied()),
        Kernel::Nearest => similarities.iter().copied().fold(f32::NEG_INFINITY, f32::max),
    }
}

/// As [`logit`], where the similarities aren't wanted otherwise.
pub fn logit_alone(kernel: Kernel, query: &[f32], class: &Class) -> f32 {
    match kernel {
        Kernel::SquaredEuclidean | Kernel::Cosine { .. } => similarity(kernel, query, class.prototype()),
        Kernel::Attention { .. } | Kernel::Nearest => {
            let rows = class.rows().chunks_exact(query.len());
            let similarities: Vec<f32> = rows.map(|row| similarity(kernel, query, row)).collect();
            logit(kernel, query, class, &similarities)
        }
    }
}

/// The logit that example `left_out` of `class` has for its class without it: −∞ if it is the only one.
pub fn logit_without(kernel: Kernel, class: &Class, left_out: usize) -> f32 {
    let examples = class.examples();
    if examples.len() < 2 {
        return f32::NEG_INFINITY;
    }
    let others = || (0..examples.len()).filter(|&other| other != left_out);
    let features = class.prototype().len();
    let row = |index: usize| &class.rows()[index * features..][..features];
    let query = row(left_out);
    match kernel {
        Kernel::SquaredEuclidean | Kernel::Cosine { .. } => {
            let rest = mean(others().map(|other| examples[other].embedding()));
            similarity(kernel, query, &as_taken(kernel, &rest))
        }
        Kernel::Attention { .. } => {
            let similarities: Vec<f32> = others()
                .map(|other| similarity(kernel, query, row(other)))
                .collect();
            log_sum_exp(similarities.iter().copied())
        }
        Kernel::Nearest => others()
            .map(|other| similarity(kernel, query, row(other)))
            .fold(f32::NEG_INFINITY, f32::max),
    }
}

/// A row of length 1; a zero row stays zero.
pub fn unit(row: &[f32]) -> Vec<f32> {
    let length = row
        .iter()
        .map(|&x| f64::from(x) * f64::from(x))
        .sum::<f64>()
        .sqrt();
    let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
    row.iter().map(|&x| (f64::from(x) * scale) as f32).collect()
}

/// Sums run in so many lanes, which the compiler turns into vectors.
const LANES: usize = 16;

fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum_of(a, b, |x, y| x * y)
}

fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    sum_of(a, b, |x, y| (x - y) * (x - y))
}

fn sum_of(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0f32; LANES];
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] += term(a[lane], b[lane]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(&x, &y)| term(x, y)).sum();
    sums.iter().sum::<f32>() + rest
}

/// log Σ exp, without overflow; −∞ for nothing.
pub fn log_sum_exp(values: impl Iterator<Item = f32> + Clone) -> f32 {
    let greatest = values.clone().fold(f32::NEG_INFINITY, f32::max);
    if !greatest.is_finite() {
        return greatest;
    }
    greatest + values.map(|value| (value - greatest).exp()).sum::<f32>().ln()
}
