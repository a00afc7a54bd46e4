//! What a memory-augmented network is shown, and in which order.

use burn::tensor::{Int, Tensor, TensorData};
use rand::seq::SliceRandom;

use crate::random;

/// In which order an episode is shown in training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Order {
    /// Support set and queries at random.
    Mixed,
    /// The support set at random, then the queries at random.
    SupportFirst,
    /// As they were drawn, class by class; the support set of an adapted task too.
    Sampled,
}

impl Order {
    /// The places of an episode's images, support set before queries, in the order in which they are shown.
    pub fn places(self, seed: u64, n_support: usize, n_query: usize) -> Vec<usize> {
        let mut places: Vec<usize> = (0..n_support + n_query).collect();
        let mut rng = random::stream(seed, &[n_support as u64, n_query as u64]);
        match self {
            Self::Mixed => places.shuffle(&mut rng),
            Self::SupportFirst => {
                places[..n_support].shuffle(&mut rng);
                places[n_support..].shuffle(&mut rng);
            }
            Self::Sampled => {}
        }
        places
    }
}

/// Images by their features `[n, features]`, their labels, and the places of both in the order in which they are shown.
pub struct Sequence<'a> {
    pub features: Tensor<2>,
    pub labels: &'a [usize],
    pub order: Vec<usize>,
}

/// `b` sequences of one length: each image with the label of the one before it, (xₜ, yₜ₋₁) of sequence s in row t * b + s;
/// `[length * b, features + outputs]`.
pub fn side_by_side(sequences: &[Sequence<'_>], outputs: usize) -> Tensor<2> {
    let (b, length) = (
        sequences.len(),
        sequences.first().map_or(0, |sequence| sequence.order.len()),
    );
    let features = sequences.iter().map(|sequence| sequence.features.clone());
    let features = Tensor::cat(features.collect(), 0);
    let device = features.device();
    let mut places = vec![0i32; length * b];
    let mut labels = vec![0.0f32; length * b * outputs];
    for (s, sequence) in sequences.iter().enumerate() {
        for (t, &place) in sequence.order.iter().enumerate() {
            places[t * b + s] = (s * length + place) as i32;
            if t > 0 {
                labels[(t * b + s) * outputs + sequence.labels[sequence.order[t - 1]]] = 1.0;
            }
        }
    }
    let shown = features.select(0, Tensor::<1, Int>::from_data(places.as_slice(), &device));
    let labels = Tensor::from_data(TensorData::new(labels, [length * b, outputs]), &device);
    Tensor::cat(vec![shown, labels], 1)
}
