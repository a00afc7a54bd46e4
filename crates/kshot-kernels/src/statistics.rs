//! Mean and variance of many pixels from those of few, in `f64` and in a fixed order.

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

    /// Adds `count` values of which `mean` and `squares` are known (Chan, Golub, LeVeque 1979).
    pub fn add(&mut self, count: usize, mean: &[f32], squares: &[f32]) {
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
