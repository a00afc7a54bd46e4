//! The convolution block as a layer: weights, normalisation and its running averages.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use crate::inner::Layer;
use crate::norm::Pass;
use crate::ops::chain::{self, Link};
use crate::ops::conv_block::{self, BlockForm, Normalised};
use crate::ops::convolution::convolution;
use crate::ops::pairs;

/// Convolution → batch normalisation → activation → 2×2 max-pool, with the parts that `form` names.
///
/// The convolution has no bias: the normalisation's shift takes its place.
#[derive(Module, Debug)]
pub struct ConvBlock {
    /// `[k, k, c_in, c_out]`.
    pub weight: Param<Tensor<4>>,
    /// Scale of the normalised values, `[c_out]`.
    pub gamma: Param<Tensor<1>>,
    /// Shift of the normalised values, `[c_out]`.
    pub beta: Param<Tensor<1>>,
    /// Running average of the batch means, `[c_out]`.
    pub running_mean: Param<Tensor<1>>,
    /// Running average of the (unbiased) batch variances, `[c_out]`.
    pub running_variance: Param<Tensor<1>>,
    #[module(skip)]
    form: BlockForm,
}

impl ConvBlock {
    /// A `kernel`×`kernel` block with weights drawn from N(0, 2 / fan-in) (He et al. 2015, eq. 10).
    pub fn new(
        kernel: usize,
        c_in: usize,
        c_out: usize,
        form: BlockForm,
        rng: &mut ChaCha8Rng,
        device: &Device,
    ) -> Self {
        let fan_in = kernel * kernel * c_in;
        let values = he_normal(fan_in, fan_in * c_out, rng);
        let weight = TensorData::new(values, [kernel, kernel, c_in, c_out]);
        Self {
            weight: Param::from_data(weight, device),
            gamma: Param::from_tensor(Tensor::ones([c_out], device)),
            beta: Param::from_tensor(Tensor::zeros([c_out], device)),
            running_mean: constant(Tensor::zeros([c_out], device)),
            running_variance: constant(Tensor::ones([c_out], device)),
            form,
        }
    }

    /// `[n, height, width, c_in]` → `[n, out_height, out_width, c_out]`.
    pub fn forward(&self, input: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        let weight = self.weight.val();
        if pass.uses_running() {
            let [scale, shift] = self.link().affine();
            return conv_block::with_fixed_statistics(self.form, input, weight, scale, shift);
        }
        let (gamma, beta) = (self.gamma.val(), self.beta.val());
        let [n, height, width, _] = input.dims();
        let kernel = weight.dims()[0];
        let values =
            n * (height + 2 * self.form.padding + 1 - kernel) * (width + 2 * self.form.padding + 1 - kernel);
        let out = conv_block::with_batch_statistics(self.form, input, weight, gamma, beta);
        self.record(out, values, pass)
    }

    /// The block over every pair of a left map `[m, height, width, c]` and a right map `[n, height, width, d]`, joined in
    /// depth (`c + d = c_in`, the left one first): `[n * m, out_height, out_width, c_out]`, the left map changing fastest.
    ///
    /// A convolution of joined maps is the sum of a convolution of each, so that every map is convolved once and not
    /// once for each pair. For blocks with ReLU and pool.
    pub fn forward_pairs(&self, left: Tensor<4>, right: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        let weight = self.weight.val();
        let (c, d) = (left.dims()[3], right.dims()[3]);
        let left = convolution(self.form.padding, left, weight.clone().narrow(2, 0, c));
        let right = convolution(self.form.padding, right, weight.narrow(2, c, d));
        if pass.uses_running() {
            let [scale, shift] = self.link().affine();
            return pairs::with_fixed_statistics(left, right, scale, shift);
        }
        let [m, height, width, _] = left.dims();
        let values = m * right.dims()[0] * height * width;
        let out = pairs::with_batch_statistics(left, right, self.gamma.val(), self.beta.val());
        self.record(out, values, pass)
    }

    /// Blocks one after another.
    pub fn forward_all(blocks: &[Self], input: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        if pass.uses_running() {
            return chain::forward(input, blocks.iter().map(Self::link).collect());
        }
        blocks.iter().fold(input, |maps, block| block.forward(maps, pass))
    }

    /// The block under its running averages.
    fn link(&self) -> Link {
        let norm = [
            &self.gamma,
            &self.beta,
            &self.running_mean,
            &self.running_variance,
        ];
        Link {
            form: self.form,
            weight: self.weight.val(),
            norm: norm.map(Param::val),
        }
    }

    /// Notes statistics that were taken over so many `values` of each channel.
    fn record(&self, out: Normalised, values: usize, pass: &mut Pass) -> Tensor<4> {
        let unbiased = values as f64 / (values.max(2) - 1) as f64;
        pass.record(self.running_mean.id, out.mean);
        pass.record(self.running_variance.id, out.variance.mul_scalar(unbiased));
        out.output
    }

    /// Blocks that follow one another, as a chain for inputs of `(height, width)`.
    pub fn chain(blocks: &[Self], mut size: (usize, usize)) -> Vec<Layer> {
        let layer = |block: &Self| {
            let (weight, form) = (block.weight.dims(), block.form);
            let layer = Layer::Block { size, weight, form };
            let side = |side| Self::output_side(side, weight[0], form);
            size = (side(size.0), side(size.1));
            layer
        };
        blocks.iter().map(layer).collect()
    }

    /// Height or width of the output for an input of `side`.
    pub fn output_side(side: usize, kernel: usize, form: BlockForm) -> usize {
        let convolved = (side + 2 * form.padding + 1).saturating_sub(kernel);
        if form.pool { convolved / 2 } else { convolved }
    }
}

/// A parameter that gradients don't change.
fn constant(value: Tensor<1>) -> Param<Tensor<1>> {
    Param::from_tensor(value).set_require_grad(false)
}

/// `count` draws from N(0, 2 / `fan_in`).
pub fn he_normal(fan_in: usize, count: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let deviation = (2.0 / fan_in as f32).sqrt();
    let normal = Normal::new(0.0, deviation).unwrap_or_else(|_| unreachable!("a positive deviation"));
    (0..count).map(|_| normal.sample(rng)).collect()
}
