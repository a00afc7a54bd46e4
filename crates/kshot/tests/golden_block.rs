//! The convolution block in every form against PyTorch: values, statistics and gradients of the kernels with every set of
//! instructions and by either algorithm, and of the tensor operations.
//!
//! `golden/block.safetensors` was made by `bench/reference/block.py`; its metadata says with which version, command and seed.

#[path = "common/golden.rs"]
mod golden;

use burn::tensor::{Device, Gradients, Tensor, TensorData};
use golden::{Golden, assert_close};
use kshot::learner::logits_on_host;
use kshot::named::Named;
use kshot::ops::conv_block::{
    Activation, BlockForm, EPSILON, kernel_shape, with_batch_statistics, with_fixed_statistics,
};
use kshot_kernels::{Algorithm, BlockShape, SimdLevel, with_algorithm, with_simd_level};

/// Relative to the largest of a tensor; PyTorch's own noise is up to 9e-7.
const TOLERANCE: f32 = 1e-5;

/// A case of the file with its operands.
struct Case<'a> {
    golden: &'a Golden,
    name: String,
    form: BlockForm,
    norm: bool,
    shape: BlockShape,
    input: Named,
    weight: Named,
    gamma: Named,
    beta: Named,
    slope: Named,
}

/// The numbers of `array` from `from` on along each axis, as many as `shape` says.
fn part(array: &Named, from: &[usize], shape: &[usize]) -> Named {
    let count = shape.iter().product();
    let value = |place: usize| {
        let (mut rest, mut stride, mut at) = (place, 1, 0);
        for axis in (0..shape.len()).rev() {
            at += stride * (from[axis] + rest % shape[axis]);
            rest /= shape[axis];
            stride *= array.shape[axis];
        }
        array.values[at]
    };
    Named {
        name: array.name.clone(),
        shape: shape.to_vec(),
        values: (0..count).map(value).collect(),
    }
}

impl<'a> Case<'a> {
    /// Of `{k}-{p}-{activation}-{pool or whole}-{norm or bias}-{c_in}-{c_out}`.
    fn new(golden: &'a Golden, name: &str) -> Self {
        let parts: Vec<&str> = name.split('-').collect();
        let [kernel, padding, activation, pool, norm, c_in, c_out] = parts[..] else {
            panic!("{name}");
        };
        let number = |text: &str| text.parse::<usize>().unwrap();
        let (kernel, c_in, c_out) = (number(kernel), number(c_in), number(c_out));
        let form = BlockForm {
            padding: number(padding),
            activation: match activation {
                "identity" => Activation::Identity,
                "relu" => Activation::Relu,
                _ => Activation::LeakyRelu(0.2),
            },
            pool: pool == "pool",
        };
        let array = |name: &str| &golden.arrays[name];
        let [n, height, width, _] = array("input").shape[..] else {
            panic!("four axes");
        };
        let mut shape = kernel_shape([n, height, width, c_in], [kernel, c_out], form, 1);
        shape.norm = norm == "norm";
        let corner = [(3 - kernel) / 2, (3 - kernel) / 2, 0, 0];
        let mut weight = part(array("weight"), &corner, &[kernel, kernel, c_in, c_out]);
        let size = ((9 * c_in) as f32).sqrt();
        weight.values.iter_mut().for_each(|value| *value /= size);
        let output = [n, shape.out_height(), shape.out_width(), c_out];
        Self {
            golden,
            name: name.to_owned(),
            form,
            norm: shape.norm,
            input: part(array("input"), &[0; 4], &[n, height, width, c_in]),
            weight,
            gamma: part(array("gamma"), &[0], &[c_out]),
            beta: part(array("beta"), &[0], &[c_out]),
            slope: part(array("slope"), &[0; 4], &output),
            shape,
        }
    }

    fn assert(&self, how: &str, what: &str, found: &[f32]) {
        let expected = self.golden.values(&format!("{}.{what}", self.name));
        assert_close(
            &format!("{} {how}: {what}", self.name),
            found,
            expected,
            TOLERANCE,
        );
    }

    fn assert_kernels(&self, how: &str) {
        let (x, w, gamma, beta) = (
            &self.input.values,
            &self.weight.values,
            &self.gamma.values,
            &self.beta.values,
        );
        let (output, saved) = kshot_kernels::forward_new(&self.shape, x, w, gamma, beta, EPSILON);
        self.assert(how, "output", &output);
        let found = kshot_kernels::backward(&self.shape, x, w, gamma, &saved, &self.slope.values, true);
        self.assert(how, "grad.input", &found.input.unwrap());
        self.assert(how, "grad.weight", &found.weight);
        self.assert(how, "grad.beta", &found.beta);
        if self.norm {
            self.assert(how, "grad.gamma", &found.gamma);
            self.assert(how, "mean", saved.mean());
            self.assert(how, "variance", saved.variance());
        }
    }

    fn assert_operations(&self) {
        let device = Device::flex().autodiff();
        let (input, weight): (Tensor<4>, Tensor<4>) =
            (tracked(&self.input, &device), tracked(&self.weight, &device));
        let (gamma, beta): (Tensor<1>, Tensor<1>) =
            (tracked(&self.gamma, &device), tracked(&self.beta, &device));
        let slope = tracked::<4>(&self.slope, &device).detach();
        let (x, w, b) = (input.clone(), weight.clone(), beta.clone());
        let output = if self.norm {
            let found = with_batch_statistics(self.form, x, w, gamma.clone(), b);
            self.assert("operation", "mean", &logits_on_host(found.mean));
            self.assert("operation", "variance", &logits_on_host(found.variance));
            found.output
        } else {
            with_fixed_statistics(self.form, x, w, beta.ones_like(), b)
        };
        self.assert("operation", "output", &logits_on_host(output.clone()));
        let gradients = (output * slope).sum().backward();
        self.assert("operation", "grad.input", &gradient(&input, &gradients));
        self.assert("operation", "grad.weight", &gradient(&weight, &gradients));
        self.assert("operation", "grad.beta", &gradient(&beta, &gradients));
        if self.norm {
            self.assert("operation", "grad.gamma", &gradient(&gamma, &gradients));
        }
    }
}

fn tracked<const D: usize>(array: &Named, device: &Device) -> Tensor<D> {
    let data = TensorData::new(array.values.clone(), array.shape.clone());
    Tensor::from_data(data, device).require_grad()
}

fn gradient<const D: usize>(of: &Tensor<D>, gradients: &Gradients) -> Vec<f32> {
    logits_on_host(of.grad(gradients).unwrap())
}

#[test]
fn every_form_agrees_with_pytorch() {
    let golden = Golden::read("block");
    let mut names: Vec<&str> = golden
        .arrays
        .keys()
        .filter_map(|name| name.strip_suffix(".output"))
        .collect();
    names.sort_unstable();
    // Three windows, three activations, with and without a pool, with and without a norm.
    assert_eq!(names.len(), 36);
    for name in names {
        let case = Case::new(&golden, name);
        case.shape.validate().unwrap();
        case.assert_operations();
        for level in SimdLevel::ALL.into_iter().filter(|level| level.is_available()) {
            for algorithm in [Algorithm::Direct, Algorithm::Winograd] {
                let how = format!("{}, {algorithm:?}", level.name());
                with_simd_level(level, || with_algorithm(algorithm, || case.assert_kernels(&how))).unwrap();
            }
        }
    }
}
