//! The parts of a layer-augmented network: convolutions without a norm whose weights may differ from group to group of
//! the images, and a pool that stands alone, so that several convolutions can be summed before it.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn::tensor::module::{conv2d, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn_flex::FlexTensor;
use kshot_kernels::{self as kernels, BlockShape, Saved};

use super::flex::{dims, floats, is_on_cpu, tensor};

/// ReLU of a 3×3 convolution with a padding of 1. The images are as many equal groups as there are weights; each group
/// has its own.
///
/// # Shapes
/// `input` `[n, height, width, c_in]`, `weight` `[groups, 3, 3, c_in, c_out]` → `[n, height, width, c_out]`, with half the
/// height and width behind a 2×2 max-pool where `pool` says so.
pub fn convolution(input: Tensor<4>, weight: Tensor<5>, pool: bool) -> Tensor<4> {
    if is_on_cpu(&input.device()) {
        return Tensor::from_dispatch(<Dispatch as Layered>::layered_convolution(
            input.into_dispatch(),
            weight.into_dispatch(),
            pool,
        ));
    }
    composed_convolution(input, weight, pool)
}

/// The largest of each 2×2 window, an odd last row or column left out: `[n, height, width, c]` → `[n, height / 2, width / 2, c]`.
pub fn max_pool(input: Tensor<4>) -> Tensor<4> {
    if is_on_cpu(&input.device()) {
        return Tensor::from_dispatch(<Dispatch as Layered>::layered_pool(input.into_dispatch()));
    }
    composed_pool(input)
}

/// [`convolution`] out of stock operations.
fn composed_convolution(input: Tensor<4>, weight: Tensor<5>, pool: bool) -> Tensor<4> {
    let [groups, _, _, c_in, c_out] = weight.dims();
    let [n, ..] = input.dims();
    let of_group = |group: usize| {
        let images = input.clone().narrow(0, group * (n / groups), n / groups);
        let weight = weight.clone().narrow(0, group, 1).reshape([3, 3, c_in, c_out]);
        conv2d(
            images.permute([0, 3, 1, 2]),
            weight.permute([3, 2, 0, 1]),
            None,
            ConvOptions::new([1, 1], [1, 1], [1, 1], 1),
        )
    };
    let maps = relu(Tensor::cat((0..groups).map(of_group).collect(), 0)).permute([0, 2, 3, 1]);
    if pool { composed_pool(maps) } else { maps }
}

/// [`max_pool`] out of stock operations.
fn composed_pool(input: Tensor<4>) -> Tensor<4> {
    max_pool2d(input.permute([0, 3, 1, 2]), MaxPoolOptions::new([2, 2])).permute([0, 2, 3, 1])
}

/// The parts as operations of the tensor engine.
#[backend_extension(Flex, Autodiff)]
pub trait Layered: Backend {
    /// See [`convolution`].
    fn layered_convolution(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        pool: bool,
    ) -> FloatTensor<Self>;

    /// See [`max_pool`].
    fn layered_pool(input: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl Layered for Flex {
    fn layered_convolution(input: FlexTensor, weight: FlexTensor, pool: bool) -> FlexTensor {
        Call::new(input, weight, pool).forward().0
    }

    fn layered_pool(input: FlexTensor) -> FlexTensor {
        pooled(&input.to_contiguous()).0
    }
}

impl<C: CheckpointStrategy> Layered for Autodiff<Flex, C> {
    fn layered_convolution(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        pool: bool,
    ) -> FloatTensor<Self> {
        let nodes = [input.node(), weight.node()];
        let call = Call::new(input.into_primitive(), weight.into_primitive(), pool);
        let (output, saved) = call.forward();
        match ConvolutionBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(
                Convolved {
                    call,
                    saved: Arc::new(saved),
                },
                output,
            ),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }

    fn layered_pool(input: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [input.node()];
        let input = input.into_primitive().to_contiguous();
        let (output, winners) = pooled(&input);
        match PoolBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(
                Pooled {
                    dims: dims(&input),
                    winners: Arc::new(winners),
                },
                output,
            ),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

/// The operands of a convolution, contiguous, with their shape in the kernels' terms.
#[derive(Clone, Debug)]
struct Call {
    input: FlexTensor,
    weight: FlexTensor,
    shape: BlockShape,
}

impl Call {
    fn new(input: FlexTensor, weight: FlexTensor, pool: bool) -> Self {
        let (input, weight) = (input.to_contiguous(), weight.to_contiguous());
        let [images, height, width, c_in] = dims(&input);
        let [groups, kernel, _, _, c_out] = dims(&weight);
        let shape = BlockShape {
            images,
            height,
            width,
            c_in,
            c_out,
            kernel,
            padding: 1,
            pool,
            norm: false,
            groups,
            activation: kernels::Activation::Relu,
        };
        Self { input, weight, shape }
    }

    fn forward(&self) -> (FlexTensor, Saved) {
        let shape = &self.shape;
        let unused = vec![0.0; shape.groups * shape.c_out];
        let (x, w) = (floats(&self.input), floats(&self.weight));
        let (output, saved) = kernels::forward_new(shape, x, w, &unused, &unused, 0.0);
        let dims = [shape.images, shape.out_height(), shape.out_width(), shape.c_out];
        (tensor(output, dims), saved)
    }
}

/// What the convolution's backward pass needs.
#[derive(Clone)]
struct Convolved {
    call: Call,
    saved: Arc<Saved>,
}

impl std::fmt::Debug for Convolved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Convolved")
            .field("shape", &self.call.shape)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct ConvolutionBackward;

impl Backward<Flex, 2> for ConvolutionBackward {
    type State = Convolved;

    fn backward(self, ops: Ops<Convolved, 2>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let output_gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let [input, weight] = ops.parents;
        let Call {
            input: x,
            weight: w,
            shape,
        } = &ops.state.call;
        let unused = vec![0.0; shape.groups * shape.c_out];
        let found = kernels::backward(
            shape,
            floats(x),
            floats(w),
            &unused,
            &ops.state.saved,
            floats(&output_gradient),
            input.is_some(),
        );
        if let (Some(node), Some(values)) = (input, found.input) {
            grads.register::<Flex>(node.id, tensor(values, dims::<4>(x)));
        }
        if let Some(node) = weight {
            grads.register::<Flex>(node.id, tensor(found.weight, dims::<5>(w)));
        }
    }
}

/// What the pool's backward pass needs: the input's shape, and which of its window's four pixels each output is.
#[derive(Clone, Debug)]
struct Pooled {
    dims: [usize; 4],
    winners: Arc<Vec<u8>>,
}

/// The first of the largest of each window, and its number.
fn pooled(input: &FlexTensor) -> (FlexTensor, Vec<u8>) {
    let [n, height, width, channels] = dims(input);
    let (rows, columns) = (height / 2, width / 2);
    let x = floats(input);
    let mut output = Vec::with_capacity(n * rows * columns * channels);
    let mut winners = Vec::with_capacity(output.capacity());
    for [image, row, column] in windows(n, rows, columns) {
        let corner = ((image * height + 2 * row) * width + 2 * column) * channels;
        let pixel = |index: usize| &x[corner + offset(index, width, channels)..][..channels];
        let (a, b, c, d) = (pixel(0), pixel(1), pixel(2), pixel(3));
        for channel in 0..channels {
            let (mut best, mut winner) = (a[channel], 0);
            for (number, value) in [(1, b[channel]), (2, c[channel]), (3, d[channel])] {
                // Not-a-number wins, as in the kernels' pool.
                let wins = value > best || (value.is_nan() && !best.is_nan());
                best = if wins { value } else { best };
                winner = if wins { number } else { winner };
            }
            output.push(best);
            winners.push(winner);
        }
    }
    (tensor(output, [n, rows, columns, channels]), winners)
}

#[derive(Debug)]
struct PoolBackward;

impl Backward<Flex, 1> for PoolBackward {
    type State = Pooled;

    fn backward(self, ops: Ops<Pooled, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let output_gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let [input] = ops.parents;
        let Some(node) = input else { return };
        let [n, height, width, channels] = ops.state.dims;
        let mut gradient = vec![0.0; n * height * width * channels];
        let outputs = floats(&output_gradient).chunks_exact(channels);
        let winners = ops.state.winners.chunks_exact(channels);
        let windows = windows(n, height / 2, width / 2);
        for ([image, row, column], (values, winners)) in windows.zip(outputs.zip(winners)) {
            let corner = ((image * height + 2 * row) * width + 2 * column) * channels;
            for (channel, (value, winner)) in values.iter().zip(winners).enumerate() {
                gradient[corner + offset(usize::from(*winner), width, channels) + channel] = *value;
            }
        }
        grads.register::<Flex>(node.id, tensor(gradient, ops.state.dims));
    }
}

/// Image, row and column of every window, in the order of the output.
fn windows(n: usize, rows: usize, columns: usize) -> impl Iterator<Item = [usize; 3]> {
    (0..n).flat_map(move |image| {
        (0..rows).flat_map(move |row| (0..columns).map(move |column| [image, row, column]))
    })
}

/// Where pixel `index` of a window lies from its first.
fn offset(index: usize, width: usize, channels: usize) -> usize {
    (index / 2 * width + index % 2) * channels
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};
    use rand::RngExt;

    fn random<const D: usize>(seed: u64, dims: [usize; D]) -> Tensor<D> {
        let mut rng = crate::random::stream(seed, &[]);
        let values: Vec<f32> = (0..dims.iter().product())
            .map(|_| rng.random_range(-1.0..1.0))
            .collect();
        let tensor = Tensor::from_data(TensorData::new(values, dims), &Device::flex().autodiff());
        tensor.require_grad()
    }

    fn assert_close<const D: usize>(what: &str, found: Tensor<D>, expected: Tensor<D>) {
        let scale: f32 = expected.clone().abs().max().into_scalar();
        let difference: f32 = (found - expected).abs().max().into_scalar();
        assert!(difference <= 1e-5 * scale, "{what}: {difference} of {scale}");
    }

    #[test]
    fn grouped_convolution_and_pool_agree_with_stock_operations_and_so_do_their_gradients() {
        for (groups, side, pool) in [(1, 7, false), (3, 6, false), (3, 7, true), (6, 4, true)] {
            let outputs = [true, false].map(|fused| {
                let (x, w) = (random(1, [6, side, side, 5]), random(2, [groups, 3, 3, 5, 4]));
                let y = if fused {
                    convolution(x.clone(), w.clone(), pool)
                } else {
                    composed_convolution(x.clone(), w.clone(), pool)
                };
                let z = if fused {
                    max_pool(y.clone())
                } else {
                    composed_pool(y.clone())
                };
                let weights = random(3, z.dims()).detach();
                let gradients = (z.clone() * weights).sum().backward();
                (
                    z.inner(),
                    x.grad(&gradients).unwrap(),
                    w.grad(&gradients).unwrap(),
                )
            });
            let [(y, dx, dw), (y_stock, dx_stock, dw_stock)] = outputs;
            assert_close("output", y, y_stock);
            assert_close("gradient of the input", dx, dx_stock);
            assert_close("gradient of the weights", dw, dw_stock);
        }
    }
}
