//! Convolution blocks under running statistics, one after another: what an encoder does once it is trained.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use kshot_kernels::{BlockShape, Inference, InferenceBlock};

use super::conv_block::{BlockForm, EPSILON, kernel_shape, with_fixed_statistics};
use super::flex::{dims, floats, from_cpu, on_cpu, tensor};
use super::fused;

/// One block of a chain.
#[derive(Clone)]
pub struct Link {
    /// What surrounds its convolution.
    pub form: BlockForm,
    /// `[k, k, c_in, c_out]`
    pub weight: Tensor<4>,
    /// Scale, shift, running mean and running variance, `[c_out]` each.
    pub norm: [Tensor<1>; 4],
}

impl Link {
    /// What the convolution is multiplied by, γ / √(σ² + ε), and what is added then, β − μ · scale.
    pub fn affine(&self) -> [Tensor<1>; 2] {
        let [gamma, beta, mean, variance] = self.norm.clone();
        let scale = gamma / variance.add_scalar(EPSILON).sqrt();
        let shift = beta - mean * scale.clone();
        [scale, shift]
    }
}

/// The blocks on `input`, `[n, height, width, c_in]`; carries no gradient on the CPU device.
pub fn forward(input: Tensor<4>, links: Vec<Link>) -> Tensor<4> {
    let fused = links
        .iter()
        .all(|link| fused::applies(link.form, &input, &link.weight));
    if fused && let (Some(input), Some(chain)) = (on_cpu(&input), Chain::of(input.dims(), &links)) {
        return chain.run(&input);
    }
    links.into_iter().fold(input, |maps, link| {
        let [scale, shift] = link.affine();
        with_fixed_statistics(link.form, maps, link.weight, scale, shift)
    })
}

/// Most chains that are kept ready.
const MOST_KEPT: usize = 8;

/// The chains used last, the latest one first.
static KEPT: Mutex<Vec<Chain>> = Mutex::new(Vec::new());

/// Blocks that are ready for inference, and what they were made of.
///
/// The operands are held on to, so that nobody else can write to their memory or get it for something new: the same memory
/// again is the same numbers.
#[derive(Clone)]
struct Chain {
    operands: Arc<Vec<FlexTensor>>,
    shapes: Vec<BlockShape>,
    inference: Arc<Inference>,
}

impl Chain {
    /// The chain of these blocks for images of this size; none where an operand isn't on the CPU.
    fn of(mut size: [usize; 4], links: &[Link]) -> Option<Self> {
        size[0] = 1;
        let mut shapes = Vec::with_capacity(links.len());
        let mut operands = Vec::with_capacity(5 * links.len());
        for link in links {
            operands.push(on_cpu(&link.weight)?);
            for operand in &link.norm {
                operands.push(on_cpu(operand)?);
            }
            let [kernel, _, _, c_out] = link.weight.dims();
            let shape = kernel_shape(size, [kernel, c_out], link.form, 1);
            size = [1, shape.out_height(), shape.out_width(), c_out];
            shapes.push(shape);
        }
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        let chain = if let Some(at) = kept.iter().position(|chain| chain.is_of(&shapes, &operands)) {
            kept.remove(at)
        } else {
            Self::new(shapes, operands)
        };
        kept.insert(0, chain.clone());
        kept.truncate(MOST_KEPT);
        Some(chain)
    }

    fn new(shapes: Vec<BlockShape>, operands: Vec<FlexTensor>) -> Self {
        let dense: Vec<_> = operands.iter().map(FlexTensor::to_contiguous).collect();
        let affines: Vec<_> = dense
            .chunks_exact(5)
            .map(|link| {
                let [gamma, beta, mean, variance] = [1, 2, 3, 4].map(|k| floats(&link[k]));
                let scale = gamma.iter().zip(variance);
                let scale: Vec<f32> = scale.map(|(gamma, v)| gamma / (v + EPSILON).sqrt()).collect();
                let shift = beta.iter().zip(mean).zip(&scale);
                let shift: Vec<f32> = shift.map(|((beta, mean), scale)| beta - mean * scale).collect();
                (scale, shift)
            })
            .collect();
        let blocks: Vec<_> = shapes
            .iter()
            .zip(dense.chunks_exact(5))
            .zip(&affines)
            .map(|((shape, link), (scale, shift))| InferenceBlock {
                shape: *shape,
                w: floats(&link[0]),
                scale,
                shift,
            })
            .collect();
        Self {
            inference: Arc::new(Inference::new(&blocks)),
            operands: Arc::new(operands),
            shapes,
        }
    }

    /// Whether it was made of these very tensors, for images of this size.
    fn is_of(&self, shapes: &[BlockShape], operands: &[FlexTensor]) -> bool {
        let same = |a: &FlexTensor, b: &FlexTensor| {
            std::ptr::eq(a.bytes(), b.bytes()) && a.layout().start_offset() == b.layout().start_offset()
        };
        self.shapes == shapes && self.operands.iter().zip(operands).all(|(a, b)| same(a, b))
    }

    fn run(&self, input: &FlexTensor) -> Tensor<4> {
        let [images, ..] = dims::<4>(input);
        let output = self.inference.run(floats(&input.to_contiguous()));
        let last = self.shapes[self.shapes.len() - 1];
        from_cpu(tensor(
            output,
            [images, last.out_height(), last.out_width(), last.c_out],
        ))
    }
}
