//! The end of a residual block: `pool(leaky(a + b))`, one pass over the maps on the CPU, stock operations elsewhere.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, DispatchDevice, Flex, backend_extension};
use burn::tensor::Tensor;
use burn::tensor::activation::leaky_relu;
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn_flex::FlexTensor;
use kshot_kernels::{JoinShape, join_backward, join_forward};

use super::flex::{dims, floats, tensor};

/// `a` and `b` `[n, height, width, channels]` → `[n, height / 2, width / 2, channels]`; `slope` is that of the leaky ReLU.
pub fn join(a: Tensor<4>, b: Tensor<4>, slope: f32) -> Tensor<4> {
    let device = a.device().without_autodiff();
    if matches!(device.as_dispatch(), DispatchDevice::Flex(_)) {
        let joined = <Dispatch as FusedJoin>::join(a.into_dispatch(), b.into_dispatch(), slope);
        Tensor::from_dispatch(joined)
    } else {
        composed(a, b, slope)
    }
}

/// Out of stock operations, whose pool is channels-first.
fn composed(a: Tensor<4>, b: Tensor<4>, slope: f32) -> Tensor<4> {
    let active = leaky_relu(a + b, f64::from(slope));
    let pooled = max_pool2d(active.permute([0, 3, 1, 2]), MaxPoolOptions::new([2, 2]));
    pooled.permute([0, 2, 3, 1])
}

/// The join as an operation of the tensor engine.
#[backend_extension(Flex, Autodiff)]
pub trait FusedJoin: Backend {
    /// See [`join`].
    fn join(a: FloatTensor<Self>, b: FloatTensor<Self>, slope: f32) -> FloatTensor<Self>;
}

impl FusedJoin for Flex {
    fn join(a: FlexTensor, b: FlexTensor, slope: f32) -> FlexTensor {
        forward(&a, &b, slope).0
    }
}

/// The output, and what its backward pass needs.
fn forward(a: &FlexTensor, b: &FlexTensor, slope: f32) -> (FlexTensor, Won) {
    let (a, b) = (a.to_contiguous(), b.to_contiguous());
    let [images, height, width, channels] = dims(&a);
    let shape = JoinShape {
        images,
        height,
        width,
        channels,
        slope,
    };
    let (out, codes) = join_forward(&shape, floats(&a), floats(&b));
    (
        tensor(out, vec![images, height / 2, width / 2, channels]),
        Won { shape, codes },
    )
}

/// Which pixel won in each window.
#[derive(Clone, Debug)]
struct Won {
    shape: JoinShape,
    codes: Vec<u8>,
}

impl<C: CheckpointStrategy> FusedJoin for Autodiff<Flex, C> {
    fn join(a: FloatTensor<Self>, b: FloatTensor<Self>, slope: f32) -> FloatTensor<Self> {
        let nodes = [a.node(), b.node()];
        let (output, won) = forward(&a.into_primitive(), &b.into_primitive(), slope);
        match JoinBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(won, output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

#[derive(Debug)]
struct JoinBackward;

impl Backward<Flex, 2> for JoinBackward {
    type State = Won;

    fn backward(self, ops: Ops<Won, 2>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let output_gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let Won { shape, codes } = &ops.state;
        let gradient = tensor(
            join_backward(shape, codes, floats(&output_gradient)),
            vec![shape.images, shape.height, shape.width, shape.channels],
        );
        for node in ops.parents.into_iter().flatten() {
            grads.register::<Flex>(node.id, gradient.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn one_pass_agrees_with_stock_operations_and_so_do_the_gradients() {
        let device = Device::flex().autodiff();
        let values = |factor: usize| {
            (0..2 * 5 * 4 * 3)
                .map(|i| ((i * factor) % 127) as f32 / 60.0 - 1.0)
                .collect::<Vec<_>>()
        };
        let map = |factor| {
            Tensor::<4>::from_data(TensorData::new(values(factor), [2, 5, 4, 3]), &device).require_grad()
        };
        let run = |how: fn(Tensor<4>, Tensor<4>, f32) -> Tensor<4>| {
            let (a, b) = (map(37), map(53));
            let out = how(a.clone(), b.clone(), 0.1);
            let gradients = (out.clone() * out.clone()).sum().backward();
            let host = |tensor: Tensor<4>| tensor.into_data().iter::<f32>().collect::<Vec<_>>();
            let gradient = |of: &Tensor<4>| host(of.grad(&gradients).unwrap());
            (host(out.inner()), gradient(&a), gradient(&b))
        };
        assert_eq!(run(join), run(composed));
    }
}
