//! Mean and variance of many pixels from those of few, in `f64` and in a fixed order.

use crate::dispatch::Kernels;
use crate::plan::Layout;

/// Per channel: how many values, their mean, and the sum of their squared differences from it.
#[derive(Clone, Debug)]
pub struct Moments {
    count: f64,
    mean: Vec<f64>,
    squares: Vec<f64>,
}

impl Moments {
    /// Of no values.
    pub fn empty(channels: usize) -> Self {
        Self {
            count: 0.0,
            mean: vec![0.0; channels],
            squares: vec![0.0; channels],
        }
    }

    /// Adds the pixels of one map of the convolution's output; `scratch` has two vectors of channels.
    pub fn add_map(&mut self, layout: &Layout, kernels: &Kernels, y: &[f32], scratch: &mut [f32]) {
        let (mean, squares) = scratch.split_at_mut(layout.c_out);
        assert!(y.len() == layout.conv_len() && squares.len() == layout.c_out);
        let size = (layout.conv.0, layout.conv.1, layout.c_out);
        // SAFETY: a whole map and two vectors of channels, as just checked.
        unsafe { (kernels.moments)(size, y.as_ptr(), mean.as_mut_ptr(), squares.as_mut_ptr()) };
        self.add(layout.conv.0 * layout.conv.1, mean, squares);
    }

    /// Adds `count` values of which `mean` and `squares` are known (Chan, Golub, LeVeque 1979).
    fn add(&mut self, count: usize, mean: &[f32], squares: &[f32]) {
        let added = mean
            .iter()
            .zip(squares)
            .map(|(m, s)| (f64::from(*m), f64::from(*s)));
        self.combine(count as f64, added);
    }

    /// Adds the values of another.
    pub fn merge(&mut self, other: &Self) {
        self.combine(
            other.count,
            other.mean.iter().copied().zip(other.squares.iter().copied()),
        );
    }

    fn combine(&mut self, count: f64, added: impl Iterator<Item = (f64, f64)>) {
        let total = self.count + count;
        let (share, weight) = (count / total, self.count * count / total);
        for ((mean, squares), (other_mean, other_squares)) in
            self.mean.iter_mut().zip(&mut self.squares).zip(added)
        {
            let difference = other_mean - *mean;
            *mean += difference * share;
            *squares += other_squares + difference * difference * weight;
        }
        self.count = total;
    }

    /// Mean and biased variance of each channel.
    pub fn settled(&self) -> impl Iterator<Item = (f64, f64)> {
        self.mean
            .iter()
            .zip(&self.squares)
            .map(|(mean, squares)| (*mean, squares / self.count))
    }
}

/// Two maps together, per channel: the moments of the first, the mean of the second, and the sum of the products of
/// both differences from the mean.
#[derive(Clone, Debug)]
pub struct Pairs {
    first: Moments,
    mean: Vec<f64>,
    products: Vec<f64>,
}

impl Pairs {
    /// Of no values.
    pub fn empty(channels: usize) -> Self {
        Self {
            first: Moments::empty(channels),
            mean: vec![0.0; channels],
            products: vec![0.0; channels],
        }
    }

    /// Adds the pixels of a pair of maps; `scratch` has four vectors of channels.
    pub fn add_maps(
        &mut self,
        layout: &Layout,
        kernels: &Kernels,
        maps: (&[f32], &[f32]),
        scratch: &mut [f32],
    ) {
        let channels = layout.c_out;
        assert!(maps.1.len() == layout.conv_len() && scratch.len() == 4 * channels);
        let mut one = Self::empty(channels);
        let (moments, pair) = scratch.split_at_mut(2 * channels);
        one.first.add_map(layout, kernels, maps.0, moments);
        let (mean, products) = pair.split_at_mut(channels);
        let size = (layout.conv.0, layout.conv.1, channels);
        // SAFETY: two whole maps and vectors of channels, as just checked and by `add_map`.
        unsafe {
            let maps = (maps.0.as_ptr(), maps.1.as_ptr());
            (kernels.products)(
                size,
                maps,
                moments.as_ptr(),
                (mean.as_mut_ptr(), products.as_mut_ptr()),
            );
        }
        one.mean
            .iter_mut()
            .zip(mean)
            .for_each(|(to, v)| *to = f64::from(*v));
        one.products
            .iter_mut()
            .zip(products)
            .for_each(|(to, v)| *to = f64::from(*v));
        self.merge(&one);
    }

    /// Adds the values of another.
    pub fn merge(&mut self, other: &Self) {
        let (count, added) = (self.first.count, other.first.count);
        let total = count + added;
        for c in 0..self.mean.len() {
            let first = other.first.mean[c] - self.first.mean[c];
            let second = other.mean[c] - self.mean[c];
            self.mean[c] += second * added / total;
            self.products[c] += other.products[c] + first * second * count * added / total;
        }
        self.first.merge(&other.first);
    }

    /// The moments of the first map.
    pub fn first(&self) -> &Moments {
        &self.first
    }

    /// Mean of the second map and covariance of both, per channel.
    pub fn second(&self) -> impl Iterator<Item = (f64, f64)> {
        self.mean
            .iter()
            .zip(&self.products)
            .map(|(mean, products)| (*mean, products / self.first.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_give_the_moments_of_the_whole() {
        let values = [3.0f32, -1.0, 4.0, 1.0, 5.0, -9.0, 2.0];
        let of = |v: &[f32]| {
            let mean = v.iter().sum::<f32>() / v.len() as f32;
            (
                v.len(),
                [mean],
                [v.iter().map(|x| (x - mean).powi(2)).sum::<f32>()],
            )
        };
        let mut whole = Moments::empty(1);
        let mut rest = Moments::empty(1);
        for (into, part) in [(&mut whole, &values[..3]), (&mut rest, &values[3..6])] {
            let (count, mean, squares) = of(part);
            into.add(count, &mean, &squares);
        }
        rest.add(1, &[2.0], &[0.0]);
        whole.merge(&rest);
        let mean = 5.0 / 7.0;
        let variance = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / 7.0;
        let found = whole.settled().next().unwrap();
        assert!((found.0 - mean).abs() < 1e-6 && (found.1 - variance).abs() < 1e-5);
    }
}
