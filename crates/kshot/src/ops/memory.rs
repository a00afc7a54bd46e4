//! A network with a memory over whole sequences, as one operation of the tensor engine; for the CPU alone.

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

use super::flex::{dims, floats, tensor};
use crate::layers::Linear;

pub use super::flex::is_on_cpu;

/// How the network is built, beside the sizes of its weights.
#[derive(Clone, Copy, Debug)]
pub struct MemoryForm {
    /// Rows of the memory.
    pub rows: usize,
    /// Numbers in a row.
    pub width: usize,
    /// Heads that read and write.
    pub heads: usize,
    /// How slowly the use of a row is forgotten.
    pub usage_decay: f32,
    /// Whether what is written is a vector of its own.
    pub vectors: bool,
    /// Whether the cosines have a factor.
    pub sharpened: bool,
}

/// `n` sequences side by side, from a state of zeros: `gates` `[steps * n, 4 * hidden]` → (hₜ, rₜ) of every step,
/// `[steps * n, hidden + heads * width]`. The formulas are [`MemoryNetwork`]'s.
pub fn memory_network(
    form: MemoryForm,
    n: usize,
    gates: Tensor<2>,
    recurrent: Tensor<2>,
    emit: &Linear,
) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as FusedMemory>::memory_network(
        form,
        n,
        gates.into_dispatch(),
        recurrent.into_dispatch(),
        emit.weight.val().into_dispatch(),
        emit.bias.val().into_dispatch(),
    ))
}

/// The network as an operation of the tensor engine.
#[backend_extension(Flex, Autodiff)]
pub trait FusedMemory: Backend {
    /// See [`memory_network`].
    fn memory_network(
        form: MemoryForm,
        n: usize,
        gates: FloatTensor<Self>,
        recurrent: FloatTensor<Self>,
        emit: FloatTensor<Self>,
        emit_bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

impl FusedMemory for Flex {
    fn memory_network(
        form: MemoryForm,
        n: usize,
        gates: FlexTensor,
        recurrent: FlexTensor,
        emit: FlexTensor,
        emit_bias: FlexTensor,
    ) -> FlexTensor {
        Call::new(form, [recurrent, emit, emit_bias]).forward(n, &gates).0
    }
}

impl<C: CheckpointStrategy> FusedMemory for Autodiff<Flex, C> {
    fn memory_network(
        form: MemoryForm,
        n: usize,
        gates: FloatTensor<Self>,
        recurrent: FloatTensor<Self>,
        emit: FloatTensor<Self>,
        emit_bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let nodes = [gates.node(), recurrent.node(), emit.node(), emit_bias.node()];
        let weights = [recurrent, emit, emit_bias].map(|weight| weight.into_primitive());
        let call = Call::new(form, weights);
        let (output, tape) = call.forward(n, &gates.into_primitive());
        match MemoryBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((call, Arc::new(tape)), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

/// The weights, contiguous.
#[derive(Clone, Debug)]
struct Call {
    form: MemoryForm,
    weights: [FlexTensor; 3],
}

impl Call {
    fn new(form: MemoryForm, weights: [FlexTensor; 3]) -> Self {
        Self {
            form,
            weights: weights.map(|weight| weight.to_contiguous()),
        }
    }

    fn hidden(&self) -> usize {
        dims::<2>(&self.weights[1])[0]
    }

    fn network(&self) -> MemoryNetwork<'_> {
        let [recurrent, emit, emit_bias] = self.weights.each_ref().map(floats);
        let MemoryForm {
            rows,
            width,
            heads,
            usage_decay,
            vectors,
            sharpened,
        } = self.form;
        MemoryNetwork {
            hidden: self.hidden(),
            rows,
            width,
            heads,
            usage_decay,
            vectors,
            sharpened,
            recurrent,
            emit,
            emit_bias,
        }
    }

    fn forward(&self, n: usize, gates: &FlexTensor) -> (FlexTensor, MemoryTape) {
        let (output, tape) = self.network().forward(n, floats(&gates.to_contiguous()));
        let [rows, _] = dims::<2>(gates);
        let columns = self.hidden() + self.form.heads * self.form.width;
        (tensor(output, [rows, columns]), tape)
    }
}

#[derive(Debug)]
struct MemoryBackward;

impl Backward<Flex, 4> for MemoryBackward {
    type State = (Call, Arc<MemoryTape>);

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let slope = grads.consume::<Flex>(&ops.node).to_contiguous();
        let (call, tape) = &ops.state;
        let found = call.network().backward(tape, floats(&slope));
        let [recurrent, emit, _] = call.weights.each_ref();
        let gates = vec![dims::<2>(&slope)[0], 4 * call.hidden()];
        let emitted = vec![found.emit_bias.len()];
        for (node, values, shape) in [
            (0, found.gates, gates),
            (1, found.recurrent, dims::<2>(recurrent).to_vec()),
            (2, found.emit, dims::<2>(emit).to_vec()),
            (3, found.emit_bias, emitted),
        ] {
            if let Some(node) = &ops.parents[node] {
                grads.register::<Flex>(node.id, tensor(values, shape));
            }
        }
    }
}
