//! A long short-term memory that reads one sequence, as one operation of the tensor engine: through the kernels on the CPU,
//! out of stock operations elsewhere.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use kshot_kernels::{MemoryNetwork, MemoryTape};

use super::flex::{dims, floats, is_on_cpu, tensor};
use crate::layers::LstmCell;

/// The hidden states of `cell`, which sees `[x, h]`, after each row of `x`, from a state of zeros: `[steps, inputs]` →
/// `[steps, hidden]`.
pub fn read(x: &Tensor<2>, cell: &LstmCell) -> Tensor<2> {
    if !is_on_cpu(&x.device()) {
        return composed(x, cell);
    }
    let (inputs, hidden) = (x.dims()[1], cell.bias.dims()[0] / 4);
    let weight = kernel_order(cell.weight.val(), hidden);
    let bias = kernel_order(cell.bias.val().unsqueeze(), hidden);
    let gates = x.clone().matmul(weight.clone().narrow(0, 0, inputs)) + bias;
    let recurrent = weight.narrow(0, inputs, hidden);
    Tensor::from_dispatch(<Dispatch as Lstm>::lstm(
        gates.into_dispatch(),
        recurrent.into_dispatch(),
    ))
}

/// Columns of input, forget, candidate and output gates, with the last two in turn, as the kernel has them.
fn kernel_order(gates: Tensor<2>, hidden: usize) -> Tensor<2> {
    let gate = |index: usize, count: usize| gates.clone().narrow(1, index * hidden, count * hidden);
    Tensor::cat(vec![gate(0, 2), gate(3, 1), gate(2, 1)], 1)
}

/// [`read`] out of stock operations.
fn composed(x: &Tensor<2>, cell: &LstmCell) -> Tensor<2> {
    let hidden = cell.bias.dims()[0] / 4;
    let mut output = Tensor::<2>::zeros([1, hidden], &x.device());
    let mut state = output.clone();
    let mut outputs = Vec::new();
    for row in 0..x.dims()[0] {
        let seen = Tensor::cat(vec![x.clone().narrow(0, row, 1), output], 1);
        (output, state) = cell.forward(seen, state);
        outputs.push(output.clone());
    }
    Tensor::cat(outputs, 0)
}

/// The recurrence as an operation of the tensor engine.
#[backend_extension(Flex, Autodiff)]
pub trait Lstm: Backend {
    /// `gates` `[steps, 4 * hidden]`, what the inputs add to input, forget, output and candidate gates; `recurrent`
    /// `[hidden, 4 * hidden]` → `[steps, hidden]`.
    fn lstm(gates: FloatTensor<Self>, recurrent: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl Lstm for Flex {
    fn lstm(gates: FlexTensor, recurrent: FlexTensor) -> FlexTensor {
        forward(&gates, &recurrent.to_contiguous()).0
    }
}

impl<C: CheckpointStrategy> Lstm for Autodiff<Flex, C> {
    fn lstm(gates: FloatTensor<Self>, recurrent: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [gates.node(), recurrent.node()];
        let recurrent = recurrent.into_primitive().to_contiguous();
        let (output, tape) = forward(&gates.into_primitive(), &recurrent);
        match LstmBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((recurrent, Arc::new(tape)), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

fn forward(gates: &FlexTensor, recurrent: &FlexTensor) -> (FlexTensor, MemoryTape) {
    let (output, tape) = network(recurrent).forward(1, floats(&gates.to_contiguous()));
    (
        tensor(output, [dims::<2>(gates)[0], dims::<2>(recurrent)[0]]),
        tape,
    )
}

/// The network with a memory, without the memory.
fn network(recurrent: &FlexTensor) -> MemoryNetwork<'_> {
    MemoryNetwork {
        hidden: dims::<2>(recurrent)[0],
        rows: 0,
        width: 0,
        heads: 0,
        usage_decay: 0.0,
        vectors: false,
        sharpened: false,
        recurrent: floats(recurrent),
        emit: &[],
        emit_bias: &[],
    }
}

#[derive(Debug)]
struct LstmBackward;

impl Backward<Flex, 2> for LstmBackward {
    type State = (FlexTensor, Arc<MemoryTape>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let slope = grads.consume::<Flex>(&ops.node).to_contiguous();
        let (recurrent, tape) = &ops.state;
        let found = network(recurrent).backward(tape, floats(&slope));
        let [steps, hidden] = dims::<2>(&slope);
        for (node, values, rows) in [(0, found.gates, steps), (1, found.recurrent, hidden)] {
            if let Some(node) = &ops.parents[node] {
                grads.register::<Flex>(node.id, tensor(values, [rows, 4 * hidden]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Param;
    use burn::tensor::Device;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::layers::uniform;

    #[test]
    fn the_recurrence_agrees_with_stock_operations_and_so_do_its_gradients() {
        let device = Device::flex().autodiff();
        for (steps, inputs, hidden) in [(1, 3, 5), (7, 64, 64), (25, 20, 33)] {
            let mut rng = ChaCha8Rng::seed_from_u64(hidden as u64);
            let (x, slope) = (
                uniform(steps, inputs, 4, &mut rng, &device).val(),
                uniform(steps, hidden, 4, &mut rng, &device).val(),
            );
            let mut cell = LstmCell::new(inputs + hidden, hidden, &mut rng, &device);
            let bias = uniform(1, 4 * hidden, 4, &mut rng, &device)
                .val()
                .reshape([4 * hidden]);
            cell.bias = Param::from_data(bias.into_data(), &device);
            let results = |run: fn(&Tensor<2>, &LstmCell) -> Tensor<2>| {
                let output = run(&x, &cell);
                let gradients = (output.clone() * slope.clone()).sum().backward();
                let of = |tensor: Tensor<2>| tensor.grad(&gradients).unwrap();
                let bias = cell.bias.val().grad(&gradients).unwrap().unsqueeze();
                [output.inner(), of(x.clone()), of(cell.weight.val()), bias]
            };
            let pairs = results(read).into_iter().zip(results(composed));
            for (what, (found, expected)) in ["outputs", "x", "weight", "bias"].into_iter().zip(pairs) {
                assert_close(what, found, expected);
            }
        }
    }

    fn assert_close(what: &str, found: Tensor<2>, expected: Tensor<2>) {
        assert_eq!(found.dims(), expected.dims(), "{what}");
        let scale: f32 = expected.clone().abs().max().into_scalar();
        let difference: f32 = (found - expected).abs().max().into_scalar();
        assert!(difference <= 1e-5 * scale, "{what}: {difference} of {scale}");
    }
}
