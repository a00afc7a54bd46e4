//! A convolution alone, with gradients: through the kernels on the CPU, a stock operation elsewhere.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn_flex::FlexTensor;
use kshot_kernels::{self as kernels, BlockShape, Saved};

use super::conv_block::{Activation, BlockForm};
use super::flex::{dims, floats, tensor};
use super::fused;

/// `input` `[n, height, width, c_in]`, `weight` `[k, k, c_in, c_out]` → `[n, out_height, out_width, c_out]`.
pub fn convolution(padding: usize, input: Tensor<4>, weight: Tensor<4>) -> Tensor<4> {
    let form = BlockForm {
        padding,
        activation: Activation::Identity,
        pool: false,
    };
    if fused::applies(form, &input, &weight) {
        let (input, weight) = (input.into_dispatch(), weight.into_dispatch());
        Tensor::from_dispatch(<Dispatch as FusedConvolution>::convolution(
            input, weight, padding,
        ))
    } else {
        composed(padding, input, weight)
    }
}

/// The stock operation, which is channels-first.
fn composed(padding: usize, input: Tensor<4>, weight: Tensor<4>) -> Tensor<4> {
    let options = ConvOptions::new([1, 1], [padding, padding], [1, 1], 1);
    let (input, weight) = (input.permute([0, 3, 1, 2]), weight.permute([3, 2, 0, 1]));
    conv2d(input, weight, None, options).permute([0, 2, 3, 1])
}

/// The convolution as an operation of the tensor engine.
#[backend_extension(Flex, Autodiff)]
pub trait FusedConvolution: Backend {
    /// See [`convolution`].
    fn convolution(input: FloatTensor<Self>, weight: FloatTensor<Self>, padding: usize) -> FloatTensor<Self>;
}

impl FusedConvolution for Flex {
    fn convolution(input: FlexTensor, weight: FlexTensor, padding: usize) -> FlexTensor {
        let call = Call::new(&input, &weight, padding);
        let channels = call.shape.c_out;
        let output = kernels::infer_new(
            &call.shape,
            floats(&call.input),
            floats(&call.weight),
            &vec![1.0; channels],
            &vec![0.0; channels],
        );
        tensor(output, call.output_dims())
    }
}

/// The operands, contiguous, with their shape in the kernels' terms.
#[derive(Clone, Debug)]
struct Call {
    input: FlexTensor,
    weight: FlexTensor,
    shape: BlockShape,
}

impl Call {
    fn new(input: &FlexTensor, weight: &FlexTensor, padding: usize) -> Self {
        let (input, weight) = (input.to_contiguous(), weight.to_contiguous());
        let [images, height, width, c_in] = dims(&input);
        let [kernel, _, _, c_out] = dims(&weight);
        let shape = BlockShape {
            images,
            height,
            width,
            c_in,
            c_out,
            kernel,
            padding,
            pool: false,
            norm: false,
            groups: 1,
            activation: kernels::Activation::Identity,
        };
        Self { input, weight, shape }
    }

    fn output_dims(&self) -> Vec<usize> {
        let shape = &self.shape;
        vec![shape.images, shape.out_height(), shape.out_width(), shape.c_out]
    }
}

/// What the backward pass needs.
#[derive(Clone)]
struct State {
    call: Call,
    saved: Arc<Saved>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.call.fmt(f)
    }
}

impl<C: CheckpointStrategy> FusedConvolution for Autodiff<Flex, C> {
    fn convolution(input: FloatTensor<Self>, weight: FloatTensor<Self>, padding: usize) -> FloatTensor<Self> {
        let nodes = [input.node(), weight.node()];
        let call = Call::new(&input.into_primitive(), &weight.into_primitive(), padding);
        let zeros = vec![0.0; call.shape.c_out];
        let (output, saved) = kernels::forward_new(
            &call.shape,
            floats(&call.input),
            floats(&call.weight),
            &[],
            &zeros,
            0.0,
        );
        let output = tensor(output, call.output_dims());
        match ConvolutionBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(
                State {
                    call,
                    saved: Arc::new(saved),
                },
                output,
            ),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

#[derive(Debug)]
struct ConvolutionBackward;

impl Backward<Flex, 2> for ConvolutionBackward {
    type State = State;

    fn backward(self, ops: Ops<State, 2>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let output_gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let [input, weight] = ops.parents;
        let call = &ops.state.call;
        let found = kernels::backward(
            &call.shape,
            floats(&call.input),
            floats(&call.weight),
            &[],
            &ops.state.saved,
            floats(&output_gradient),
            input.is_some(),
        );
        if let (Some(node), Some(values)) = (input, found.input) {
            grads.register::<Flex>(node.id, tensor(values, dims::<4>(&call.input)));
        }
        if let Some(node) = weight {
            grads.register::<Flex>(node.id, tensor(found.weight, dims::<4>(&call.weight)));
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn kernels_and_stock_operation_agree_and_so_do_the_gradients() {
        let device = Device::flex().autodiff();
        let values = |factor: usize, len: usize| -> Vec<f32> {
            (0..len)
                .map(|i| ((i * factor) % 127) as f32 / 60.0 - 1.0)
                .collect()
        };
        let of = |factor, shape: [usize; 4]| {
            let data = TensorData::new(values(factor, shape.iter().product()), shape);
            Tensor::<4>::from_data(data, &device).require_grad()
        };
        let run = |how: fn(usize, Tensor<4>, Tensor<4>) -> Tensor<4>| {
            let (input, weight) = (of(37, [3, 5, 6, 4]), of(53, [3, 3, 4, 16]));
            let out = how(1, input.clone(), weight.clone());
            let gradients = out.clone().square().sum().backward();
            let host = |tensor: Tensor<4>| tensor.into_data().iter::<f32>().collect::<Vec<_>>();
            let gradient = |of: &Tensor<4>| host(of.grad(&gradients).unwrap());
            [host(out.inner()), gradient(&input), gradient(&weight)]
        };
        for (ours, stock) in run(convolution).iter().zip(&run(composed)) {
            let scale = stock.iter().fold(0.0f32, |scale, value| scale.max(value.abs()));
            for (ours, stock) in ours.iter().zip(stock) {
                assert!((ours - stock).abs() < 1e-5 * scale, "{ours} {stock}");
            }
        }
    }
}
