//! The weights of layer-augmented networks: one set for each group of images, and the gradients that fast weights are made from.

use burn::module::Param;
use burn::tensor::activation::{log_softmax, relu};
use burn::tensor::{Device, Tensor};

use super::super::common::one_hot;
use crate::encoder::conv5::{Conv5, pools};
use crate::ops::layered;

/// Weights of a network in groups: each group of images has its own.
pub struct Weights {
    /// `[groups, 3, 3, c_in, c_out]` each.
    pub blocks: Vec<Tensor<5>>,
    /// `[groups, inputs, outputs]` each.
    pub dense: Vec<Tensor<3>>,
}

impl Weights {
    /// A network's own weights and the dense layers after it, one group.
    pub fn slow(network: &Conv5, after: &[&Param<Tensor<2>>]) -> Self {
        Self {
            blocks: network
                .blocks
                .iter()
                .map(|weight| weight.val().unsqueeze())
                .collect(),
            dense: std::iter::once(&network.dense)
                .chain(after.iter().copied())
                .map(|weight| weight.val().unsqueeze())
                .collect(),
        }
    }

    /// The numbers of `flat`, `groups` rows of convolutions and of dense layers, in the shapes of these weights.
    pub fn like(&self, groups: usize, [blocks, dense]: [Tensor<2>; 2]) -> Self {
        Self {
            blocks: cut(&self.blocks, groups, &blocks),
            dense: cut(&self.dense, groups, &dense),
        }
    }

    /// The gradients of the mean cross-entropy of each of `parts` equal parts of the images, without fast weights:
    /// convolutions and dense layers, `[parts, weights]` each, as numbers.
    pub fn gradients(
        &self,
        images: &Tensor<4>,
        labels: &[usize],
        n_way: usize,
        parts: usize,
    ) -> [Tensor<2>; 2] {
        let blocks: Vec<Tensor<5>> = self.blocks.iter().map(|weight| leaf(weight, parts)).collect();
        let layers: Vec<Tensor<3>> = self.dense.iter().map(|weight| leaf(weight, parts)).collect();
        let maps = blocks
            .iter()
            .fold(Tensor::from_inner(plain(images.clone())), |maps, weight| {
                let [_, height, width, _] = maps.dims();
                layered::convolution(maps, weight.clone(), pools(height, width))
            });
        let hidden = relu(dense(maps.flatten(1, 3), &layers[0]));
        let logits = dense(hidden, &layers[1]).narrow(1, 0, n_way);
        let truth = one_hot(labels, n_way, &logits.device());
        let share = parts as f32 / labels.len() as f32;
        let loss = -(log_softmax(logits, 1) * truth).sum().mul_scalar(share);
        let gradients = loss.backward();
        let device = images.device();
        [
            rows(&blocks, &gradients, &device),
            rows(&layers, &gradients, &device),
        ]
    }
}

/// `flat` `[groups, weights]` in the shapes of `like`, one after the other.
fn cut<const D: usize>(like: &[Tensor<D>], groups: usize, flat: &Tensor<2>) -> Vec<Tensor<D>> {
    let mut start = 0;
    like.iter()
        .map(|weight| {
            let mut shape = weight.dims();
            let count: usize = shape[1..].iter().product();
            shape[0] = groups;
            start += count;
            flat.clone().narrow(1, start - count, count).reshape(shape)
        })
        .collect()
}

/// A copy for each group that gradients are taken of, apart from any graph.
fn leaf<const D: usize>(weight: &Tensor<D>, groups: usize) -> Tensor<D> {
    Tensor::from_inner(plain(weight.clone()).repeat_dim(0, groups)).require_grad()
}

/// The numbers alone.
fn plain<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    if tensor.device().is_autodiff() {
        tensor.inner()
    } else {
        tensor
    }
}

/// The gradients of `leaves` side by side, `[groups, weights]` on `device`.
fn rows<const D: usize>(
    leaves: &[Tensor<D>],
    gradients: &burn::tensor::Gradients,
    device: &Device,
) -> Tensor<2> {
    let row = |leaf: &Tensor<D>| {
        let groups = leaf.dims()[0];
        let count: usize = leaf.dims()[1..].iter().product();
        let gradient = leaf.grad(gradients).unwrap_or_else(|| plain(leaf.zeros_like()));
        gradient.reshape([groups, count])
    };
    let found = Tensor::cat(leaves.iter().map(row).collect(), 1);
    if device.is_autodiff() {
        Tensor::from_inner(found)
    } else {
        found
    }
}

/// A dense layer: `[n, inputs]` in as many groups as there are weights `[groups, inputs, outputs]` → `[n, outputs]`.
pub fn dense(x: Tensor<2>, weight: &Tensor<3>) -> Tensor<2> {
    let [n, inputs] = x.dims();
    let [groups, _, outputs] = weight.dims();
    x.reshape([groups, n / groups, inputs])
        .matmul(weight.clone())
        .reshape([n, outputs])
}
