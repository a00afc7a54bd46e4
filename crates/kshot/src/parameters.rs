//! A module's numbers as named flat vectors, in a fixed order.
//!
//! Optimizers, checkpoints, weight averages and gradient sums all see a model this way, so none of
//! them needs to know what the model is.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Gradients, Tensor};

/// One named vector of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Path of fields: `encoder.blocks.0.weight`.
    pub name: String,
    /// Shape before flattening.
    pub shape: Vec<usize>,
    /// The tensor engine's identity for it.
    pub id: ParamId,
    /// Whether training changes it by gradients (a running average is not).
    pub trainable: bool,
}

impl Parameter {
    /// Whether it is the running mean or variance of a normalisation.
    pub fn is_running_average(&self) -> bool {
        self.name.ends_with("running_mean") || self.name.ends_with("running_variance")
    }
}

/// Every float parameter of `module` in the order of its fields.
pub fn list<M: Module>(module: &M) -> Vec<Parameter> {
    #[derive(Default)]
    struct List {
        path: Vec<String>,
        found: Vec<Parameter>,
    }
    impl ModuleVisitor for List {
        // An enum's variant says which encoder it is, not where: it is no part of the name.
        fn enter_module(&mut self, name: &str, container: &str) {
            if !container.starts_with("Enum:") {
                self.path.push(name.to_owned());
            }
        }
        fn exit_module(&mut self, _name: &str, container: &str) {
            if !container.starts_with("Enum:") {
                self.path.pop();
            }
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            self.found.push(Parameter {
                name: self.path.join("."),
                shape: value.dims().to_vec(),
                id: param.id,
                trainable: value.is_require_grad(),
            });
        }
    }
    let mut list = List::default();
    module.visit(&mut list);
    list.found
}

/// The values of [`list`], flat, without gradient tracking.
pub fn read<M: Module>(module: &M) -> Vec<Tensor<1>> {
    struct Read(Vec<Tensor<1>>);
    impl ModuleVisitor for Read {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            let count = value.shape().num_elements();
            let value = if value.device().is_autodiff() {
                value.inner()
            } else {
                value
            };
            self.0.push(value.reshape([count]));
        }
    }
    let mut read = Read(Vec::new());
    module.visit(&mut read);
    read.0
}

/// `module` with its numbers replaced by `values`, as [`read`] gives them.
///
/// # Panics
/// When `values` are not as many or not as long as the module's; callers check files first.
pub fn write<M: Module>(module: M, values: &[Tensor<1>]) -> M {
    struct Write<'a>(std::slice::Iter<'a, Tensor<1>>);
    impl ModuleMapper for Write<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let value = self.0.next().expect("one value per parameter").clone();
            param.map(|old| {
                let new = value.reshape(old.shape());
                if old.device().is_autodiff() {
                    Tensor::from_inner(new).set_require_grad(old.is_require_grad())
                } else {
                    new
                }
            })
        }
    }
    module.map(&mut Write(values.iter()))
}

/// The gradients of a backward pass in the order of [`list`], flat; `None` where there is none.
pub fn gradients<M: Module>(module: &M, gradients: &mut Gradients) -> Vec<Option<Tensor<1>>> {
    struct Take<'a>(&'a mut Gradients, Vec<Option<Tensor<1>>>);
    impl ModuleVisitor for Take<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            let count = value.shape().num_elements();
            self.1.push(
                value
                    .grad_remove(self.0)
                    .map(|gradient| gradient.reshape([count])),
            );
        }
    }
    let mut take = Take(gradients, Vec::new());
    module.visit(&mut take);
    take.1
}

/// Σ w² over the parameters called `weight`, differentiable, `[1]`: for an L2 penalty. Scales, shifts and
/// biases are not penalised.
pub fn squared_weights<M: Module>(module: &M, device: &burn::tensor::Device) -> Tensor<1> {
    struct Sum {
        name: String,
        total: Tensor<1>,
    }
    impl ModuleVisitor for Sum {
        fn enter_module(&mut self, name: &str, container: &str) {
            if !container.starts_with("Enum:") {
                name.clone_into(&mut self.name);
            }
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if self.name == "weight" {
                self.total = self.total.clone() + param.val().square().sum();
            }
        }
    }
    let mut sum = Sum {
        name: String::new(),
        total: Tensor::zeros([1], device),
    };
    module.visit(&mut sum);
    sum.total
}
