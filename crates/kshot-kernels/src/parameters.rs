//! Parameters that all groups of a batch share, or that each group has its own of.

use crate::shape::BlockShape;

/// A block's weight, gamma and beta (or what stands for them), shared or one per group.
#[derive(Clone, Copy, Debug)]
pub struct Parameters<'a> {
    w: &'a [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
    shape: &'a BlockShape,
    per_group: bool,
}

impl<'a> Parameters<'a> {
    /// Panics unless `w` has the shape's elements or so many for each group, and the others accordingly. What is
    /// `None` isn't needed.
    pub fn new(
        shape: &'a BlockShape,
        w: &'a [f32],
        gamma: Option<&'a [f32]>,
        beta: Option<&'a [f32]>,
    ) -> Self {
        let (one, co) = (shape.weight_len(), shape.c_out);
        let per_group = w.len() != one && Some(w.len()) == one.checked_mul(shape.groups);
        let times = if per_group { shape.groups } else { 1 };
        let lengths = [
            ("w", Some(w), one),
            ("gamma (or scale)", gamma, co),
            ("beta (or shift)", beta, co),
        ];
        for (name, found, one) in lengths {
            let found = found.map_or(one * times, <[f32]>::len);
            assert_eq!(
                found,
                one * times,
                "convolution block: elements of `{name}` (found, expected)"
            );
        }
        Self {
            w,
            gamma: gamma.unwrap_or(&[]),
            beta: beta.unwrap_or(&[]),
            shape,
            per_group,
        }
    }

    /// Whether each group has its own; a single group counts as sharing.
    pub fn per_group(&self) -> bool {
        self.per_group
    }

    /// Panics unless `other` is shared as this is.
    pub fn assert_like(&self, other: &Self) {
        assert_eq!(
            self.per_group, other.per_group,
            "convolution block: parameters and their tangents must both be shared or both be per group"
        );
    }

    /// `[kernel, kernel, c_in, c_out]`
    pub fn w(&self, group: usize) -> &'a [f32] {
        self.of(group, self.w, self.shape.weight_len())
    }

    /// `[c_out]`
    pub fn gamma(&self, group: usize) -> &'a [f32] {
        self.of(group, self.gamma, self.shape.c_out)
    }

    /// `[c_out]`
    pub fn beta(&self, group: usize) -> &'a [f32] {
        self.of(group, self.beta, self.shape.c_out)
    }

    fn of(&self, group: usize, values: &'a [f32], len: usize) -> &'a [f32] {
        if self.per_group && !values.is_empty() {
            &values[group * len..][..len]
        } else {
            values
        }
    }
}

/// Sums over the groups of what each contributes to a parameter's gradient, or puts them one after another where each
/// group has its own.
pub fn collect(parts: &[Vec<f64>], per_group: bool) -> Vec<f32> {
    let narrow = |values: &[f64]| values.iter().map(|v| *v as f32).collect::<Vec<f32>>();
    if per_group {
        return parts.iter().flat_map(|part| narrow(part)).collect();
    }
    let mut total = parts.first().cloned().unwrap_or_default();
    for part in parts.iter().skip(1) {
        total.iter_mut().zip(part).for_each(|(sum, v)| *sum += v);
    }
    narrow(&total)
}
