//! The convolution block through the kernels of `kshot-kernels`: for tensors on the CPU device.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use kshot_kernels::{self as kernels, BlockShape, Saved};

use super::conv_block::{BlockForm, EPSILON, Normalised, kernel_shape};
use super::flex::{dims, floats, is_on_cpu, tensor};

/// The block as an operation of the tensor engine.
#[backend_extension(Flex, Autodiff)]
pub trait FusedBlock: Backend {
    /// Output, mean and biased variance under the batch's own statistics.
    fn block_with_batch_statistics(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        form: BlockForm,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Output under a given scale and shift; carries no gradient.
    fn block_with_fixed_statistics(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        form: BlockForm,
    ) -> FloatTensor<Self>;
}

/// Whether the kernels can do a block of this form on these tensors.
pub fn applies(form: BlockForm, input: &Tensor<4>, weight: &Tensor<4>) -> bool {
    let kernel = weight.dims()[0];
    is_on_cpu(&input.device()) && (kernel == 1 || kernel == 3) && form.padding < kernel
}

/// See [`super::conv_block::with_batch_statistics`].
pub fn with_batch_statistics(
    form: BlockForm,
    input: Tensor<4>,
    weight: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
) -> Normalised {
    let (output, mean, variance) = <Dispatch as FusedBlock>::block_with_batch_statistics(
        input.into_dispatch(),
        weight.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        form,
    );
    Normalised {
        output: Tensor::from_dispatch(output),
        mean: Tensor::from_dispatch(mean),
        variance: Tensor::from_dispatch(variance),
    }
}

/// See [`super::conv_block::with_fixed_statistics`].
pub fn with_fixed_statistics(
    form: BlockForm,
    input: Tensor<4>,
    weight: Tensor<4>,
    scale: Tensor<1>,
    shift: Tensor<1>,
) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as FusedBlock>::block_with_fixed_statistics(
        input.into_dispatch(),
        weight.into_dispatch(),
        scale.into_dispatch(),
        shift.into_dispatch(),
        form,
    ))
}

impl FusedBlock for Flex {
    fn block_with_batch_statistics(
        input: FlexTensor,
        weight: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        form: BlockForm,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let call = Call::new(input, weight, gamma, form);
        let (output, saved) = call.forward(&beta.to_contiguous());
        let [mean, variance] = call.statistics(&saved);
        (output, mean, variance)
    }

    fn block_with_fixed_statistics(
        input: FlexTensor,
        weight: FlexTensor,
        scale: FlexTensor,
        shift: FlexTensor,
        form: BlockForm,
    ) -> FlexTensor {
        let call = Call::new(input, weight, scale, form);
        let (x, w) = (floats(&call.input), floats(&call.weight));
        let shift = shift.to_contiguous();
        let output = kernels::infer_new(&call.shape, x, w, floats(&call.gamma), floats(&shift));
        tensor(output, call.output_dims())
    }
}

impl<C: CheckpointStrategy> FusedBlock for Autodiff<Flex, C> {
    fn block_with_batch_statistics(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        form: BlockForm,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [input.node(), weight.node(), gamma.node(), beta.node()];
        let call = Call::new(
            input.into_primitive(),
            weight.into_primitive(),
            gamma.into_primitive(),
            form,
        );
        let (output, saved) = call.forward(&beta.into_primitive().to_contiguous());
        let [mean, variance] = call
            .statistics(&saved)
            .map(<Self as burn::backend::AutodiffBackend>::from_inner);
        let output = match BlockBackward.prepare::<C>(nodes).compute_bound().stateful() {
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

    fn block_with_fixed_statistics(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        form: BlockForm,
    ) -> FloatTensor<Self> {
        let output = Flex::block_with_fixed_statistics(
            input.into_primitive(),
            weight.into_primitive(),
            scale.into_primitive(),
            shift.into_primitive(),
            form,
        );
        <Self as burn::backend::AutodiffBackend>::from_inner(output)
    }
}

/// The operands of a block, contiguous, with their shape in the kernels' terms.
#[derive(Clone)]
struct Call {
    input: FlexTensor,
    weight: FlexTensor,
    gamma: FlexTensor,
    shape: BlockShape,
}

impl Call {
    fn new(input: FlexTensor, weight: FlexTensor, gamma: FlexTensor, form: BlockForm) -> Self {
        let (input, weight, gamma) = (
            input.to_contiguous(),
            weight.to_contiguous(),
            gamma.to_contiguous(),
        );
        let [kernel, _, _, c_out] = dims(&weight);
        let shape = kernel_shape(dims(&input), [kernel, c_out], form, 1);
        Self {
            input,
            weight,
            gamma,
            shape,
        }
    }

    fn forward(&self, beta: &FlexTensor) -> (FlexTensor, Saved) {
        let (x, w, gamma) = (floats(&self.input), floats(&self.weight), floats(&self.gamma));
        let (output, saved) = kernels::forward_new(&self.shape, x, w, gamma, floats(beta), EPSILON);
        (tensor(output, self.output_dims()), saved)
    }

    fn statistics(&self, saved: &Saved) -> [FlexTensor; 2] {
        [saved.mean(), saved.variance()].map(|values| tensor(values.to_vec(), vec![self.shape.c_out]))
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
        f.debug_struct("State")
            .field("shape", &self.call.shape)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct BlockBackward;

impl Backward<Flex, 4> for BlockBackward {
    type State = State;

    fn backward(self, ops: Ops<State, 4>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let output_gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let [input, weight, gamma, beta] = ops.parents;
        let Call {
            input: x,
            weight: w,
            gamma: g,
            shape,
        } = &ops.state.call;
        let found = kernels::backward(
            shape,
            floats(x),
            floats(w),
            floats(g),
            &ops.state.saved,
            floats(&output_gradient),
            input.is_some(),
        );
        if let (Some(node), Some(values)) = (input, found.input) {
            grads.register::<Flex>(node.id, tensor(values, dims::<4>(x)));
        }
        if let Some(node) = weight {
            grads.register::<Flex>(node.id, tensor(found.weight, dims::<4>(w)));
        }
        if let Some(node) = gamma {
            grads.register::<Flex>(node.id, tensor(found.gamma, vec![shape.c_out]));
        }
        if let Some(node) = beta {
            grads.register::<Flex>(node.id, tensor(found.beta, vec![shape.c_out]));
        }
    }
}
