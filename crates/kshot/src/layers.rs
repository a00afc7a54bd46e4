//! Small layers that several methods use, with weights from the seeded generator.

use burn::module::{Module, Param};
use burn::tensor::activation::{sigmoid, tanh};
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::block::he_normal;
use crate::error::Error;

/// Most weights of a layer that are made from nothing: 1 GiB.
pub const MOST_WEIGHTS: usize = 1 << 28;

/// Checks that matrices `[inputs, outputs]` have at most `most` weights each, before anything is made for them.
///
/// # Errors
/// The first one that has more.
pub fn check_sizes(most: usize, matrices: &[(usize, usize)]) -> Result<(), Error> {
    for &(inputs, outputs) in matrices {
        if inputs.checked_mul(outputs).is_none_or(|weights| weights > most) {
            return Err(Error::Setting {
                name: "encoder",
                problem: format!(
                    "a layer of {inputs}x{outputs} weights, more than the {most} that the model may have; take smaller images or layers"
                ),
            });
        }
    }
    Ok(())
}

/// Most numbers that one array of a computation may have: 4 GiB.
const MOST_NUMBERS: usize = 1 << 30;

/// Checks that an array with these sizes, each with the word for what it counts, has no more numbers than memory can be
/// asked for, before it is made; `setting` is the one to lower first.
///
/// # Errors
/// More numbers.
pub fn check_array(setting: &'static str, what: &str, sizes: &[(usize, &str)]) -> Result<(), Error> {
    let numbers = sizes
        .iter()
        .try_fold(1usize, |product, (size, _)| product.checked_mul(*size));
    if numbers.is_some_and(|numbers| numbers <= MOST_NUMBERS) {
        return Ok(());
    }
    let sizes: Vec<String> = sizes
        .iter()
        .map(|(size, word)| format!("{size} {word}"))
        .collect();
    Err(Error::Setting {
        name: setting,
        problem: format!(
            "{what} would take {}, more than the {MOST_NUMBERS} numbers (4 GiB) that one array may have; lower one of these",
            sizes.join(" x ")
        ),
    })
}

/// y = x W + b.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[inputs, outputs]`.
    pub weight: Param<Tensor<2>>,
    /// `[outputs]`.
    pub bias: Param<Tensor<1>>,
}

impl Linear {
    /// Weights uniform within ± 1 / √inputs, biases 0.
    pub fn new(inputs: usize, outputs: usize, rng: &mut ChaCha8Rng, device: &Device) -> Self {
        Self {
            weight: uniform(inputs, outputs, inputs, rng, device),
            bias: Param::from_tensor(Tensor::zeros([outputs], device)),
        }
    }

    /// Weights from N(0, 2 / inputs) (He et al. 2015, eq. 10), for a ReLU that follows; biases 0.
    pub fn for_relu(inputs: usize, outputs: usize, rng: &mut ChaCha8Rng, device: &Device) -> Self {
        let weight = TensorData::new(he_normal(inputs, inputs * outputs, rng), [inputs, outputs]);
        Self {
            weight: Param::from_data(weight, device),
            bias: Param::from_tensor(Tensor::zeros([outputs], device)),
        }
    }

    /// `[n, inputs]` → `[n, outputs]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.weight.val()) + self.bias.val().unsqueeze()
    }
}

/// One step of a long short-term memory (Hochreiter, Schmidhuber 1997, with forget gates).
#[derive(Module, Debug)]
pub struct LstmCell {
    /// `[inputs, 4 * hidden]`: input, forget, candidate and output gates side by side.
    pub weight: Param<Tensor<2>>,
    /// `[4 * hidden]`; the forget gate's starts at 1.
    pub bias: Param<Tensor<1>>,
}

impl LstmCell {
    /// A cell that sees `inputs` numbers at each step, its own former output among them where the caller puts it there.
    pub fn new(inputs: usize, hidden: usize, rng: &mut ChaCha8Rng, device: &Device) -> Self {
        let mut bias = vec![0.0; 4 * hidden];
        bias[hidden..2 * hidden].fill(1.0);
        Self {
            weight: uniform(inputs, 4 * hidden, hidden, rng, device),
            bias: Param::from_data(TensorData::new(bias, [4 * hidden]), device),
        }
    }

    /// `x` `[n, inputs]`, `cell` `[n, hidden]` → new hidden state and cell, `[n, hidden]` each.
    pub fn forward(&self, x: Tensor<2>, cell: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let gates = x.matmul(self.weight.val()) + self.bias.val().unsqueeze();
        let hidden = cell.dims()[1];
        let gate = |index: usize| gates.clone().narrow(1, index * hidden, hidden);
        let cell = sigmoid(gate(1)) * cell + sigmoid(gate(0)) * tanh(gate(2));
        (sigmoid(gate(3)) * tanh(cell.clone()), cell)
    }
}

/// A matrix `[inputs, outputs]`, uniform within ± 1 / √`fan_in`.
pub fn uniform(
    inputs: usize,
    outputs: usize,
    fan_in: usize,
    rng: &mut ChaCha8Rng,
    device: &Device,
) -> Param<Tensor<2>> {
    let bound = 1.0 / (fan_in as f32).sqrt();
    let values: Vec<f32> = (0..inputs * outputs)
        .map(|_| rng.random_range(-bound..=bound))
        .collect();
    Param::from_data(TensorData::new(values, [inputs, outputs]), device)
}
