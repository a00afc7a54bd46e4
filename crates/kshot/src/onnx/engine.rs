//! ONNX models computed by `tract`.
//!
//! Files are not trusted. What `tract` reports as an error or by a panic becomes a sentence; weights in further files, graphs within
//! graphs and unknown operators are refused first. Constants are computed while a model is read: node by node the sizes of
//! the results are looked at before, so that a few bytes can't ask for all memory.

use std::fmt;
use std::sync::Arc;

use tract_onnx::Onnx;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{Factoid, OutletId, TractErrorContext, bail};

use crate::foreign::guarded;

/// Largest tensor of a model, in bytes.
const MAX_TENSOR: usize = 1 << 30;
/// Longest text of an error that is passed on, in characters.
const MAX_TEXT: usize = 400;

/// A model for one image at a time.
pub struct Engine {
    plan: Arc<TypedRunnableModel>,
    sizes: [usize; 4],
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("sizes", &self.sizes)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// The model in `bytes` for an input of `sizes`; `output` is the tensor that [`Engine::run`] gives.
    pub fn load(bytes: &[u8], sizes: [usize; 4], output: &str) -> Result<Self, String> {
        let plan = sentence(|| load(bytes, sizes, output), "can't be used as an ONNX model")?;
        Ok(Self { plan, sizes })
    }

    /// The output for an input, both row-major.
    pub fn run(&self, values: &[f32]) -> Result<Vec<f32>, String> {
        let run = || {
            let input = Tensor::from_shape(&self.sizes, values)?;
            let outputs = self.plan.run(tvec!(input.into_tvalue()))?;
            let output = outputs.first().context("no output")?;
            Ok(output.to_plain_array_view::<f32>()?.iter().copied().collect())
        };
        sentence(run, "fails on an image")
    }
}

/// What `work` gives, or one line on what is wrong.
fn sentence<T>(work: impl FnOnce() -> TractResult<T>, what: &str) -> Result<T, String> {
    let text = match guarded(work) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => format!("{error:#}"),
        Err(panic) => format!("tract failed: {panic}"),
    };
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut: String = line.chars().take(MAX_TEXT).collect();
    let more = if cut.len() < line.len() { " ..." } else { "" };
    Err(format!("{what}: {cut}{more}"))
}

fn load(bytes: &[u8], sizes: [usize; 4], output: &str) -> TractResult<Arc<TypedRunnableModel>> {
    // What a file says of the shapes within is not needed, and may be wrong.
    let onnx = tract_onnx::onnx()
        .with_ignore_output_shapes(true)
        .with_ignore_value_info(true);
    let mut bytes = bytes;
    let message = onnx.proto_model_for_read(&mut bytes)?;
    check_message(&onnx, &message)?;
    let mut model = onnx.model_for_proto_model(&message)?;
    drop(message);
    model.select_outputs_by_name([output])?;
    let mut model = model.into_compact()?;
    if model.input_outlets()?.len() != 1 {
        bail!("its output `{output}` doesn't follow from its image alone");
    }
    model.set_input_fact(0, f32::fact(sizes).into())?;
    infer_within_bounds(&mut model)?;
    let typed = model.into_typed()?;
    check_sizes(&typed)?;
    let kind = typed.output_fact(0)?.datum_type;
    if kind != f32::datum_type() {
        bail!("its output `{output}` holds {kind:?}, expected 32-bit floats");
    }
    let optimized = typed.into_optimized()?;
    check_sizes(&optimized)?;
    optimized.into_runnable()
}

fn check_message(onnx: &Onnx, message: &ModelProto) -> TractResult<()> {
    let graph = message.graph.as_ref().context("no model is in it")?;
    let GraphProto {
        node, initializer, ..
    } = graph;
    for NodeProto {
        op_type, attribute, ..
    } in node
    {
        if !onnx.op_register.0.contains_key(op_type) {
            bail!("the operator `{op_type}` is not supported");
        }
        if attribute.iter().any(|a| a.g.is_some() || !a.graphs.is_empty()) {
            bail!(
                "the operator `{op_type}` holds a graph of its own, which is not supported; export the model without it"
            );
        }
    }
    let constants = node
        .iter()
        .flat_map(|node| &node.attribute)
        .flat_map(|attribute| attribute.t.iter().chain(&attribute.tensors));
    for TensorProto {
        name, external_data, ..
    } in initializer.iter().chain(constants)
    {
        if !external_data.is_empty() {
            bail!(
                "its weights (`{name}`) lie in another file; save it as one: onnx.save(onnx.load(PATH), OTHER_PATH)"
            );
        }
    }
    Ok(())
}

/// Finds what can be known of each node's results in order, computing constants, whose sizes are looked at first.
fn infer_within_bounds(model: &mut InferenceModel) -> TractResult<()> {
    for id in model.eval_order()? {
        let node = model.node(id);
        let mut op = node.op.clone();
        let observed: Vec<InferenceFact> = op
            .observe_outlets(model, node)?
            .into_iter()
            .map(|outlet| model.outlet_fact(outlet).cloned())
            .collect::<TractResult<_>>()?;
        let (inputs, outputs) = model.node_facts(id)?;
        // Where nothing can be found yet, the analysis of the whole says why.
        let Ok((_, sized, _)) = op.infer_facts(inputs.clone(), outputs.clone(), observed.iter().collect())
        else {
            continue;
        };
        for fact in &sized {
            let size = fact.datum_type.concretize().map_or(8, |kind| kind.size_of());
            if let Some(shape) = fact.shape.as_concrete_finite()? {
                check_size(&node.name, &shape, size)?;
            }
        }
        let Ok((_, found, _)) = op.infer(inputs, outputs, observed.iter().collect()) else {
            continue;
        };
        for (slot, fact) in found.into_iter().enumerate() {
            model.set_outlet_fact(OutletId::new(id, slot), fact)?;
        }
    }
    Ok(())
}

fn check_sizes(model: &TypedModel) -> TractResult<()> {
    for node in model.nodes() {
        for output in &node.outputs {
            match output.fact.shape.as_concrete() {
                Some(shape) => check_size(&node.name, shape, output.fact.datum_type.size_of())?,
                None => bail!(
                    "the size of `{}` depends on more than the size of the image",
                    node.name
                ),
            }
        }
    }
    Ok(())
}

fn check_size(name: &str, shape: &[usize], size: usize) -> TractResult<()> {
    let bytes = shape
        .iter()
        .try_fold(size, |product, &side| product.checked_mul(side));
    if bytes.is_none_or(|bytes| bytes > MAX_TENSOR) {
        bail!(
            "`{name}` has the shape {shape:?}, and tensors take at most {} MiB",
            MAX_TENSOR >> 20
        );
    }
    Ok(())
}
