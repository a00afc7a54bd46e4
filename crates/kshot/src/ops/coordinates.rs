//! Networks with shared weights on each of many coordinates, as tensor operations: through the kernels on the CPU, out of
//! stock operations elsewhere. The inputs are numbers; only the weights have gradients.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn_flex::FlexTensor;
use kshot_kernels::{CoordinateLstm, CoordinateMlp};

use super::flex::{dims, floats, is_on_cpu, tensor};
use crate::layers::{Linear, LstmCell};

/// Hidden units that the networks have.
pub const HIDDEN: usize = kshot_kernels::COORDINATE_HIDDEN;

/// An LSTM over the steps of `x` and a linear output after the last: `x` `[steps, 2, n]` → `[n]`.
pub fn lstm(x: Tensor<3>, cell: &LstmCell, output: &Linear) -> Tensor<1> {
    if !is_on_cpu(&x.device()) {
        return composed_lstm(x, cell, output);
    }
    Tensor::from_dispatch(<Dispatch as Coordinates>::coordinate_lstm(
        x.into_dispatch(),
        cell.weight.val().into_dispatch(),
        cell.bias.val().into_dispatch(),
        output.weight.val().into_dispatch(),
        output.bias.val().into_dispatch(),
    ))
}

/// Two layers with ReLU and a linear output: `x` `[2, n]` → `[n]`.
pub fn mlp(x: Tensor<2>, layers: [&Linear; 3]) -> Tensor<1> {
    if !is_on_cpu(&x.device()) {
        return composed_mlp(x, layers);
    }
    let [first, second, output] = layers;
    Tensor::from_dispatch(<Dispatch as Coordinates>::coordinate_mlp(
        x.into_dispatch(),
        first.weight.val().into_dispatch(),
        first.bias.val().into_dispatch(),
        second.weight.val().into_dispatch(),
        second.bias.val().into_dispatch(),
        output.weight.val().into_dispatch(),
        output.bias.val().into_dispatch(),
    ))
}

/// [`lstm`] out of stock operations.
fn composed_lstm(x: Tensor<3>, cell: &LstmCell, output: &Linear) -> Tensor<1> {
    let [steps, _, n] = x.dims();
    let mut hidden = Tensor::zeros([n, HIDDEN], &x.device());
    let mut state = hidden.clone();
    for step in 0..steps {
        let inputs = x.clone().narrow(0, step, 1).reshape([2, n]).transpose();
        (hidden, state) = cell.forward(Tensor::cat(vec![inputs, hidden], 1), state);
    }
    output.forward(hidden).reshape([n])
}

/// [`mlp`] out of stock operations.
fn composed_mlp(x: Tensor<2>, [first, second, output]: [&Linear; 3]) -> Tensor<1> {
    let n = x.dims()[1];
    let hidden = relu(second.forward(relu(first.forward(x.transpose()))));
    output.forward(hidden).reshape([n])
}

/// The networks as operations of the tensor engine.
#[backend_extension(Flex, Autodiff)]
pub trait Coordinates: Backend {
    /// See [`lstm`].
    fn coordinate_lstm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        output: FloatTensor<Self>,
        output_bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// See [`mlp`].
    fn coordinate_mlp(
        x: FloatTensor<Self>,
        first: FloatTensor<Self>,
        first_bias: FloatTensor<Self>,
        second: FloatTensor<Self>,
        second_bias: FloatTensor<Self>,
        output: FloatTensor<Self>,
        output_bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

impl Coordinates for Flex {
    fn coordinate_lstm(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        output: FlexTensor,
        output_bias: FlexTensor,
    ) -> FlexTensor {
        Call::new(x, [weight, bias, output, output_bias]).lstm()
    }

    fn coordinate_mlp(
        x: FlexTensor,
        first: FlexTensor,
        first_bias: FlexTensor,
        second: FlexTensor,
        second_bias: FlexTensor,
        output: FlexTensor,
        output_bias: FlexTensor,
    ) -> FlexTensor {
        Call::new(x, [first, first_bias, second, second_bias, output, output_bias]).mlp()
    }
}

impl<C: CheckpointStrategy> Coordinates for Autodiff<Flex, C> {
    fn coordinate_lstm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        output: FloatTensor<Self>,
        output_bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let weights = [weight, bias, output, output_bias];
        let nodes = weights.each_ref().map(|weight| weight.node());
        let call = Call::new(x.into_primitive(), weights.map(|weight| weight.into_primitive()));
        let y = call.lstm();
        match LstmBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(call, y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }

    fn coordinate_mlp(
        x: FloatTensor<Self>,
        first: FloatTensor<Self>,
        first_bias: FloatTensor<Self>,
        second: FloatTensor<Self>,
        second_bias: FloatTensor<Self>,
        output: FloatTensor<Self>,
        output_bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let weights = [first, first_bias, second, second_bias, output, output_bias];
        let nodes = weights.each_ref().map(|weight| weight.node());
        let call = Call::new(x.into_primitive(), weights.map(|weight| weight.into_primitive()));
        let y = call.mlp();
        match MlpBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(call, y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }
}

/// Inputs and weights, contiguous.
#[derive(Clone, Debug)]
struct Call<const N: usize> {
    x: FlexTensor,
    weights: [FlexTensor; N],
}

impl<const N: usize> Call<N> {
    fn new(x: FlexTensor, weights: [FlexTensor; N]) -> Self {
        Self {
            x: x.to_contiguous(),
            weights: weights.map(|weight| weight.to_contiguous()),
        }
    }

    /// Gives each weight that is tracked its gradient.
    fn register(&self, nodes: [Option<NodeId>; N], found: [Vec<f32>; N], grads: &mut Gradients) {
        for ((node, values), weight) in nodes.into_iter().zip(found).zip(&self.weights) {
            if let Some(node) = node {
                let dims: Vec<usize> = weight.layout().shape().iter().copied().collect();
                grads.register::<Flex>(node, tensor(values, &dims));
            }
        }
    }
}

impl Call<4> {
    fn steps(&self) -> usize {
        dims::<3>(&self.x)[0]
    }

    fn network(&self) -> CoordinateLstm<'_> {
        let [weight, bias, output, output_bias] = self.weights.each_ref().map(floats);
        CoordinateLstm {
            weight,
            bias,
            output,
            output_bias,
        }
    }

    fn lstm(&self) -> FlexTensor {
        let n = dims::<3>(&self.x)[2];
        tensor(self.network().forward(self.steps(), floats(&self.x)), [n])
    }
}

impl Call<6> {
    fn network(&self) -> CoordinateMlp<'_> {
        let [first, first_bias, second, second_bias, output, output_bias] =
            self.weights.each_ref().map(floats);
        CoordinateMlp {
            first,
            first_bias,
            second,
            second_bias,
            output,
            output_bias,
        }
    }

    fn mlp(&self) -> FlexTensor {
        let n = dims::<2>(&self.x)[1];
        tensor(self.network().forward(floats(&self.x)), [n])
    }
}

#[derive(Debug)]
struct LstmBackward;

impl Backward<Flex, 4> for LstmBackward {
    type State = Call<4>;

    fn backward(self, ops: Ops<Call<4>, 4>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let dy = grads.consume::<Flex>(&ops.node).to_contiguous();
        let call = &ops.state;
        let found = call
            .network()
            .gradients(call.steps(), floats(&call.x), floats(&dy));
        call.register(
            ops.parents
                .each_ref()
                .map(|node| node.as_ref().map(|node| node.id)),
            found,
            grads,
        );
    }
}

#[derive(Debug)]
struct MlpBackward;

impl Backward<Flex, 6> for MlpBackward {
    type State = Call<6>;

    fn backward(self, ops: Ops<Call<6>, 6>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let dy = grads.consume::<Flex>(&ops.node).to_contiguous();
        let call = &ops.state;
        let found = call.network().gradients(floats(&call.x), floats(&dy));
        call.register(
            ops.parents
                .each_ref()
                .map(|node| node.as_ref().map(|node| node.id)),
            found,
            grads,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::Param;
    use burn::tensor::{Device, TensorData};
    use rand::RngExt;

    fn random<const D: usize>(seed: u64, dims: [usize; D], device: &Device) -> Tensor<D> {
        let mut rng = crate::random::stream(seed, &[]);
        let values: Vec<f32> = (0..dims.iter().product())
            .map(|_| rng.random_range(-1.0..1.0))
            .collect();
        Tensor::from_data(TensorData::new(values, dims), device)
    }

    fn linear(seed: u64, inputs: usize, outputs: usize, device: &Device) -> Linear {
        Linear {
            weight: Param::from_tensor(random(seed, [inputs, outputs], device)),
            bias: Param::from_tensor(random(seed + 100, [outputs], device)),
        }
    }

    fn assert_close(what: &str, found: Tensor<1>, expected: Tensor<1>) {
        let scale: f32 = expected.clone().abs().max().into_scalar();
        let difference: f32 = (found - expected).abs().max().into_scalar();
        assert!(difference <= 2e-5 * scale, "{what}: {difference} of {scale}");
    }

    fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
        let n = tensor.dims().iter().product::<usize>();
        tensor.reshape([n])
    }

    #[test]
    fn the_networks_agree_with_stock_operations_and_so_do_their_gradients() {
        let device = Device::flex().autodiff();
        // More than one task of blocks, and a last block that is not full.
        for n in [3, 5000] {
            let cell = LstmCell {
                weight: Param::from_tensor(random(1, [2 + HIDDEN, 4 * HIDDEN], &device)),
                bias: Param::from_tensor(random(2, [4 * HIDDEN], &device)),
            };
            let layers = [
                linear(3, 2, HIDDEN, &device),
                linear(4, HIDDEN, HIDDEN, &device),
                linear(5, HIDDEN, 1, &device),
            ];
            let [first, second, output] = &layers;
            let (x, dy) = (random(6, [3, 2, n], &device), random(7, [n], &device));
            let single = x.clone().narrow(0, 0, 1).reshape([2, n]);
            let fused = [
                lstm(x.clone(), &cell, output),
                mlp(single.clone(), [first, second, output]),
            ];
            let stock = [
                composed_lstm(x, &cell, output),
                composed_mlp(single, [first, second, output]),
            ];
            for (fused, stock) in fused.into_iter().zip(stock) {
                assert_close("output", fused.clone().inner(), stock.clone().inner());
                let found = (fused * dy.clone()).sum().backward();
                let expected = (stock * dy.clone()).sum().backward();
                let pairs = |gradients: &burn::tensor::Gradients| {
                    let mut all: Vec<Option<Tensor<1>>> = vec![
                        cell.weight.val().grad(gradients).map(flat),
                        cell.bias.val().grad(gradients),
                    ];
                    for layer in &layers {
                        all.push(layer.weight.val().grad(gradients).map(flat));
                        all.push(layer.bias.val().grad(gradients));
                    }
                    all
                };
                for (found, expected) in pairs(&found).into_iter().zip(pairs(&expected)) {
                    assert_eq!(found.is_some(), expected.is_some());
                    if let (Some(found), Some(expected)) = (found, expected) {
                        assert_close("gradient", found, expected);
                    }
                }
            }
        }
    }
}
