//! The whole sequence as one operation against the steps out of stock operations.

use std::collections::BTreeMap;

use burn::tensor::Device;
use rand::RngExt;

use super::*;
use crate::data::ImageShape;
use crate::encoder::{self, EncoderRequest};
use crate::options::Options;
use crate::random;

fn random<const D: usize>(seed: u64, dims: [usize; D], device: &Device) -> Tensor<D> {
    let mut rng = random::stream(seed, &[]);
    let values: Vec<f32> = (0..dims.iter().product())
        .map(|_| rng.random_range(-0.5..0.5))
        .collect();
    Tensor::from_data(TensorData::new(values, dims), device)
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter().collect()
}

fn no_encoder(device: &Device) -> Encoder {
    let spec = encoder::find("identity").unwrap();
    let image = ImageShape {
        height: 1,
        width: 1,
        channels: 1,
    };
    let request = EncoderRequest {
        image,
        options: &Options::resolve(spec.options, &BTreeMap::new()).unwrap(),
        external: None,
        device,
        most_weights: 1,
    };
    (spec.build)(&request, &mut random::stream(0, &[]))
        .unwrap()
        .encoder
}

#[test]
fn the_operation_over_a_sequence_and_its_gradients_are_those_of_the_steps() {
    let device = Device::flex().autodiff();
    for (vector_stored, sharpness_learned) in [(false, false), (false, true), (true, true)] {
        let sizes = Sizes {
            hidden: 12,
            rows: 20,
            width: 7,
            heads: 3,
            usage_decay: 0.95,
            sharpness_learned,
            vector_stored,
            order: Order::Mixed,
        };
        let (b, length, fed_back) = (3, 6, sizes.hidden + sizes.heads * sizes.width);
        let parameter = |seed, dims| Param::from_tensor(random(seed, dims, &device));
        let linear = |seed, inputs, outputs| Linear {
            weight: parameter(seed, [inputs, outputs]),
            bias: Param::from_tensor(random(seed + 10, [outputs], &device)),
        };
        let mann = Mann {
            encoder: no_encoder(&device),
            input: linear(1, 9, 4 * sizes.hidden),
            recurrent: parameter(2, [fed_back, 4 * sizes.hidden]),
            heads: linear(3, sizes.hidden, sizes.emitted()),
            output: linear(4, fed_back, 5),
            sizes,
        };
        let gates = random(5, [length * b, 4 * sizes.hidden], &device).require_grad();
        let slope = random(6, [length * b, fed_back], &device);
        let run = |outputs: Tensor<2>| {
            let gradients = (outputs.clone() * slope.clone()).sum().backward();
            [
                host(outputs.inner()),
                host(gates.grad(&gradients).unwrap()),
                host(mann.recurrent.val().grad(&gradients).unwrap()),
                host(mann.heads.weight.val().grad(&gradients).unwrap()),
                host(mann.heads.bias.val().grad(&gradients).unwrap()),
            ]
        };
        let states = mann.states(gates.clone(), b).map(|state| state.output);
        let expected = run(Tensor::cat(states.collect(), 0));
        let recurrent = mann.recurrent.val();
        let found = run(memory_network(
            sizes.form(),
            b,
            gates.clone(),
            recurrent,
            &mann.heads,
        ));
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.len(), expected.len());
            let scale = expected
                .iter()
                .fold(0.1f32, |scale, value| scale.max(value.abs()));
            for (found, expected) in found.iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 2e-5 * scale,
                    "{found} instead of {expected}"
                );
            }
        }
    }
}
