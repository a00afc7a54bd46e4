//! Batch norm → ReLU → 2×2 max-pool over all pairs of two sets of maps: one pass without the pairs' maps on the CPU, stock
//! operations elsewhere.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use kshot_kernels::{PairsSaved, PairsShape, pairs_backward, pairs_forward, pairs_infer};

use super::composed;
use super::conv_block::{EPSILON, Normalised};
use super::flex::{dims, floats, is_on_cpu, tensor};

/// Under the statistics of all pairs: `left` `[m, height, width, c]` and `right` `[n, height, width, c]` →
/// `[n * m, height / 2, width / 2, c]`, the left map changing fastest.
pub fn with_batch_statistics(
    left: Tensor<4>,
    right: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
) -> Normalised {
    if !is_on_cpu(&left.device()) {
        return composed::norm_relu_pool(sums(left, right), gamma, beta);
    }
    let (output, mean, variance) = <Dispatch as FusedPairs>::pairs_with_batch_statistics(
        left.into_dispatch(),
        right.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
    );
    Normalised {
        output: Tensor::from_dispatch(output),
        mean: Tensor::from_dispatch(mean),
        variance: Tensor::from_dispatch(variance),
    }
}

/// Under a given scale and shift: shapes as in [`with_batch_statistics`].
pub fn with_fixed_statistics(
    left: Tensor<4>,
    right: Tensor<4>,
    scale: Tensor<1>,
    shift: Tensor<1>,
) -> Tensor<4> {
    // The kernel carries no gradient here, so tracked tensors take the composed form.
    if left.device().is_autodiff() || !is_on_cpu(&left.device()) {
        return composed::affine_relu_pool(sums(left, right), scale, shift);
    }
    Tensor::from_dispatch(<Dispatch as FusedPairs>::pairs_with_fixed_statistics(
        left.into_dispatch(),
        right.into_dispatch(),
        scale.into_dispatch(),
        shift.into_dispatch(),
    ))
}

/// The sums of all pairs, `[n * m, height, width, c]`.
fn sums(left: Tensor<4>, right: Tensor<4>) -> Tensor<4> {
    let [m, height, width, channels] = left.dims();
    let n = right.dims()[0];
    (left.unsqueeze_dim::<5>(0) + right.unsqueeze_dim::<5>(1)).reshape([n * m, height, width, channels])
}

/// The operation of the tensor engine.
#[backend_extension(Flex, Autodiff)]
pub trait FusedPairs: Backend {
    /// Output, mean and biased variance; see [`with_batch_statistics`].
    fn pairs_with_batch_statistics(
        left: FloatTensor<Self>,
        right: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// See [`with_fixed_statistics`]; carries no gradient.
    fn pairs_with_fixed_statistics(
        left: FloatTensor<Self>,
        right: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// The operands, contiguous, with their shape.
#[derive(Clone, Debug)]
struct Call {
    left: FlexTensor,
    right: FlexTensor,
    gamma: FlexTensor,
    shape: PairsShape,
}

impl Call {
    fn new(left: &FlexTensor, right: &FlexTensor, gamma: &FlexTensor) -> Self {
        let (left, right) = (left.to_contiguous(), right.to_contiguous());
        let [m, height, width, channels] = dims(&left);
        let shape = PairsShape {
            left: m,
            right: dims::<4>(&right)[0],
            height,
            width,
            channels,
        };
        Self {
            left,
            right,
            gamma: gamma.to_contiguous(),
            shape,
        }
    }

    fn forward(&self, beta: &FlexTensor) -> (FlexTensor, PairsSaved) {
        let (output, saved) = pairs_forward(
            &self.shape,
            floats(&self.left),
            floats(&self.right),
            floats(&self.gamma),
            floats(&beta.to_contiguous()),
            EPSILON,
        );
        (self.output(output), saved)
    }

    fn output(&self, values: Vec<f32>) -> FlexTensor {
        let shape = &self.shape;
        let pairs = shape.left * shape.right;
        tensor(
            values,
            vec![pairs, shape.height / 2, shape.width / 2, shape.channels],
        )
    }

    fn statistics(&self, saved: &PairsSaved) -> [FlexTensor; 2] {
        [&saved.mean, &saved.variance].map(|values| tensor(values.clone(), vec![self.shape.channels]))
    }
}

impl FusedPairs for Flex {
    fn pairs_with_batch_statistics(
        left: FlexTensor,
        right: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let call = Call::new(&left, &right, &gamma);
        let (output, saved) = call.forward(&beta);
        let [mean, variance] = call.statistics(&saved);
        (output, mean, variance)
    }

    fn pairs_with_fixed_statistics(
        left: FlexTensor,
        right: FlexTensor,
        scale: FlexTensor,
        shift: FlexTensor,
    ) -> FlexTensor {
        let call = Call::new(&left, &right, &scale);
        let shift = shift.to_contiguous();
        let (left, right) = (floats(&call.left), floats(&call.right));
        call.output(pairs_infer(
            &call.shape,
            left,
            right,
            floats(&call.gamma),
            floats(&shift),
        ))
    }
}

/// What the backward pass needs.
#[derive(Clone, Debug)]
struct State {
    call: Call,
    saved: Arc<PairsSaved>,
}

impl<C: CheckpointStrategy> FusedPairs for Autodiff<Flex, C> {
    fn pairs_with_batch_statistics(
        left: FloatTensor<Self>,
        right: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [left.node(), right.node(), gamma.node(), beta.node()];
        let call = Call::new(
            &left.into_primitive(),
            &right.into_primitive(),
            &gamma.into_primitive(),
        );
        let (output, saved) = call.forward(&beta.into_primitive());
        let [mean, variance] = call.statistics(&saved).map(<Self as AutodiffBackend>::from_inner);
        let output = match PairsBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(
                State {
                    call,
                    saved: Arc::new(saved),
                },
                output,
            ),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        };
        (output, mean, variance)
    }

    fn pairs_with_fixed_statistics(
        left: FloatTensor<Self>,
        right: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let output = Flex::pairs_with_fixed_statistics(
            left.into_primitive(),
            right.into_primitive(),
            scale.into_primitive(),
            shift.into_primitive(),
        );
        <Self as AutodiffBackend>::from_inner(output)
    }
}

#[derive(Debug)]
struct PairsBackward;

impl Backward<Flex, 4> for PairsBackward {
    type State = State;

    fn backward(self, ops: Ops<State, 4>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let output_gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let Call {
            left,
            right,
            gamma,
            shape,
        } = &ops.state.call;
        let found = pairs_backward(
            shape,
            floats(left),
            floats(right),
            floats(gamma),
            &ops.state.saved,
            floats(&output_gradient),
        );
        let [left_node, right_node, gamma_node, beta_node] = ops.parents;
        let channels = vec![shape.channels];
        for (node, values, shape) in [
            (left_node, found.left, dims::<4>(left).to_vec()),
            (right_node, found.right, dims::<4>(right).to_vec()),
            (gamma_node, found.gamma, channels.clone()),
            (beta_node, found.beta, channels),
        ] {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, tensor(values, shape));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    fn values<const D: usize>(factor: usize, shape: [usize; D], device: &Device) -> Tensor<D> {
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|i| ((i * factor) % 1021) as f32 / 500.0 - 1.0)
            .collect();
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().iter::<f32>().collect()
    }

    fn assert_close(ours: &[f32], stock: &[f32]) {
        assert_eq!(ours.len(), stock.len());
        let scale = stock.iter().fold(1e-6f32, |scale, value| scale.max(value.abs()));
        for (ours, stock) in ours.iter().zip(stock) {
            assert!((ours - stock).abs() < 2e-5 * scale, "{ours} {stock}");
        }
    }

    #[test]
    fn kernels_and_stock_operations_agree_and_so_do_the_gradients() {
        let device = Device::flex().autodiff();
        let run = |ours: bool| {
            let left = values(37, [3, 5, 4, 16], &device).require_grad();
            let right = values(53, [4, 5, 4, 16], &device).require_grad();
            let gamma = values(71, [16], &device).require_grad();
            let beta = values(29, [16], &device).require_grad();
            let operands = (left.clone(), right.clone(), gamma.clone(), beta.clone());
            let found = if ours {
                with_batch_statistics(operands.0, operands.1, operands.2, operands.3)
            } else {
                composed::norm_relu_pool(sums(operands.0, operands.1), operands.2, operands.3)
            };
            let gradients = found.output.clone().square().sum().backward();
            [
                host(found.output.inner()),
                host(found.mean.inner()),
                host(found.variance.inner()),
                host(left.grad(&gradients).unwrap()),
                host(right.grad(&gradients).unwrap()),
                host(gamma.grad(&gradients).unwrap()),
                host(beta.grad(&gradients).unwrap()),
            ]
        };
        for (ours, stock) in run(true).iter().zip(&run(false)) {
            assert_close(ours, stock);
        }
    }

    #[test]
    fn fixed_statistics_give_what_stock_operations_give() {
        let device = Device::flex();
        let operands = || {
            (
                values(37, [3, 4, 5, 16], &device),
                values(53, [2, 4, 5, 16], &device),
                values(71, [16], &device),
                values(29, [16], &device),
            )
        };
        let (left, right, scale, shift) = operands();
        let ours = host(with_fixed_statistics(left, right, scale, shift));
        let (left, right, scale, shift) = operands();
        assert_close(
            &ours,
            &host(composed::affine_relu_pool(sums(left, right), scale, shift)),
        );
    }
}
