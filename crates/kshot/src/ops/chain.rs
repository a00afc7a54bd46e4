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
            Self::new(shapes, operands, links)?
        };
        kept.insert(0, chain.clone());
        kept.truncate(MOST_KEPT);
        Some(chain)
    }

    /// Prepares the blocks; none where a tensor isn't on the CPU.
    fn new(shapes: Vec<BlockShape>, operands: Vec<FlexTensor>, links: &[Link]) -> Option<Self> {
        let dense = |tensor: FlexTensor| tensor.to_contiguous();
        let operand = |link: &Link| {
            let [scale, shift] = link.affine();
            Some([
                dense(on_cpu(&link.weight)?),
                dense(on_cpu(&scale)?),
                dense(on_cpu(&shift)?),
            ])
        };
        let numbers = links.iter().map(operand).collect::<Option<Vec<_>>>()?;
        let blocks: Vec<_> = shapes
            .iter()
            .zip(&numbers)
            .map(|(shape, [w, scale, shift])| InferenceBlock {
                shape: *shape,
                w: floats(w),
                scale: floats(scale),
                shift: floats(shift),
            })
            .collect();
        Some(Self {
            inference: Arc::new(Inference::new(&blocks)),
            operands: Arc::new(operands),
            shapes,
        })
    }

    /// Whether it was made of these very tensors, for images of this size.
    fn is_of(&self, shapes: &[BlockShape], operands: &[FlexTensor]) -> bool {
        let same =
            |a: &FlexTensor, b: &FlexTensor| std::ptr::eq(a.bytes(), b.bytes()) && a.layout() == b.layout();
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

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::ops::conv_block::Activation;

    /// Values that depend on the seed alone, of variances the positive ones.
    fn values(len: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        (0..len).map(|_| next()).collect()
    }

    fn link(c_in: usize, c_out: usize, seed: u32, device: &Device) -> Link {
        let weight = TensorData::new(values(9 * c_in * c_out, seed), [3, 3, c_in, c_out]);
        let norm = [1, 2, 3, 4]
            .map(|k| Tensor::from_data(TensorData::new(values(c_out, seed + k), [c_out]), device));
        Link {
            form: BlockForm {
                padding: 1,
                activation: Activation::Relu,
                pool: true,
            },
            weight: Tensor::from_data(weight, device),
            norm,
        }
    }

    fn numbers(tensor: Tensor<4>) -> Vec<f32> {
        tensor.into_data().iter::<f32>().collect()
    }

    #[test]
    fn a_chain_is_its_blocks_and_follows_their_numbers() {
        let device = Device::flex();
        let input = TensorData::new(values(2 * 12 * 12, 9), [2, 12, 12, 1]);
        let input = Tensor::<4>::from_data(input, &device);
        let apart = |links: &[Link]| {
            links.iter().cloned().fold(input.clone(), |maps, link| {
                let [scale, shift] = link.affine();
                with_fixed_statistics(link.form, maps, link.weight, scale, shift)
            })
        };
        let mut links = vec![link(1, 16, 1, &device), link(16, 16, 20, &device)];
        let mut seen = Vec::new();
        for change in 0..3 {
            match change {
                1 => links[1].weight = links[1].weight.clone().mul_scalar(0.5),
                2 => links[0].norm[2] = links[0].norm[2].clone().add_scalar(1.0),
                _ => {}
            }
            // Twice: made, then found.
            let found = [(); 2].map(|()| numbers(forward(input.clone(), links.clone())));
            assert_eq!(found[0], found[1]);
            let expected = numbers(apart(&links));
            let largest = expected.iter().copied().fold(0.0, f32::max);
            for (f, e) in found[0].iter().zip(&expected) {
                assert!((f - e).abs() < 1e-4 * largest, "change {change}: {f} for {e}");
            }
            assert!(!seen.contains(&expected), "change {change} changed nothing");
            seen.push(expected);
        }
    }
}
