"""Golden files of one Matching Network episode (Vinyals et al. 2016), by plain PyTorch.

f' = g' is Conv4 (see prototypical.py); support and query go through it together, in one pass, normalised by
the statistics of that batch. A query attends over the support set (section 2.1.1),

    a(x, x_i) = softmax_i(t cos(f(x), g(x_i))),   y(x) = sum_i a(x, x_i) y_i   (eq. 1)

and the loss is the mean of -log y(x) at the true class. t = exp(log_factor). In matching.safetensors f = f'
and g = g'. In matching-fce.safetensors they see the support set (appendix A):

    g(x_i, S) = h_i forwards + h_i backwards + g'(x_i)                         (eq. 6)
        of a bidirectional LSTM over g'(x_1), ..., g'(x_n), in the order of the images
    f(x, S) = h_K, with h_0 = c_0 = 0 and for k = 1..K                         (eqs. 2 to 5)
        r_{k-1} = sum_i softmax_i(h_{k-1} . g(x_i)) g(x_i)
        ^h_k, c_k = LSTM(f'(x), [h_{k-1}, r_{k-1}], c_{k-1});  h_k = ^h_k + f'(x)

The LSTM is torch.lstm_cell. Its weights lie here as one matrix, [inputs, 4 F]: rows are the step's input, then h,
then (for f) r; columns are the input, forget, candidate and output gates.

common.py says how the images are ordered.

Tensors of the files (F filters, n images, i = 0..3 the block, w empty or `fixed.`, which has t = 1; no `fixed.` with
full-context embeddings):

    images                                   [n, 28, 28, 1]         NHWC, in [0, 1]
    encoder.blocks.{i}.weight                [3, 3, c_in, F]        height, width, in, out
    encoder.blocks.{i}.gamma | beta          [F]                    batch norm's scale and shift
    encoder.blocks.{i}.running_mean | _variance   [F]               given running statistics
    log_factor                               [1]                    log t
    context.forward | backward.weight        [2 F, 4 F]             full context only, as all of context
    context.query.weight                     [3 F, 4 F]
    context.forward | backward | query.bias  [4 F]
    {w}loss, {w}loss_float64                 [1]                    in f32 and f64
    {w}logits                                [n_way * n_query, n_way]   log y of that same pass
    {w}grad.*                                as the parameter       of {w}loss; fixed. has none of log_factor
    stats.encoder.blocks.{i}.running_*       [F]                    the batch's mean and unbiased variance
    {w}running.scores                        [n_way * n_query, n_way]   log y, normalised by the running statistics
    {w}episode.scores                        [n_way * n_query, n_way]   support by its own statistics, query by its own
    {w}{norm}.attention                      [n_way * n_query, n_support]   a of the scores

Run it from anywhere: python bench/reference/matching.py
"""

import torch
import torch.nn.functional as F

import common
from common import N_QUERIES, N_SHOT, N_WAY

N_FILTERS = 8
# Not 5, the default.
READS = 3


def random_inputs(seed):
    rng = common.generator(seed)
    arrays = {"images": common.random_images(rng)}
    arrays |= common.random_blocks(rng, "encoder.blocks", 1, N_FILTERS, 4)
    common.place_running(arrays, common.CONV4, lambda t, trace: common.embed(t["images"], t, "batch", trace))
    arrays["log_factor"] = rng.uniform(1.5, 2.5, 1)
    return arrays


def random_inputs_with_context(seed):
    """The same, with LSTMs whose gates are neither shut nor open."""
    rng = common.generator(seed + 1_000_000)
    arrays = random_inputs(seed)
    for cell, inputs in (("forward", 2), ("backward", 2), ("query", 3)):
        arrays[f"context.{cell}.weight"] = rng.uniform(-0.5, 0.5, (inputs * N_FILTERS, 4 * N_FILTERS))
        arrays[f"context.{cell}.bias"] = rng.uniform(-0.5, 0.5, 4 * N_FILTERS)
    return arrays


def lstm(step_input, hidden, cell, tensors, name):
    """One step. Where more than the input and h are read, the rest of `step_input` lies in the weights' last rows."""
    features = hidden.shape[1]
    weight = tensors[f"context.{name}.weight"]
    of_hidden = weight[features : 2 * features]
    of_input = torch.cat([weight[:features], weight[2 * features :]])
    bias = tensors[f"context.{name}.bias"]
    return torch.lstm_cell(step_input, (hidden, cell), of_input.T, of_hidden.T, bias, torch.zeros_like(bias))


def full_context_support(support, tensors):
    """g: [n_support, F] -> [n_support, F]."""
    outputs = list(support)
    for name, order in (("forward", range(len(support))), ("backward", reversed(range(len(support))))):
        hidden = cell = support.new_zeros(1, support.shape[1])
        for i in order:
            hidden, cell = lstm(support[i : i + 1], hidden, cell, tensors, name)
            outputs[i] = outputs[i] + hidden[0]
    return torch.stack(outputs)


def full_context_query(query, support, tensors):
    """f: f'(x) [n_query, F] and g [n_support, F] -> [n_query, F]."""
    hidden = cell = torch.zeros_like(query)
    for _ in range(READS):
        read = torch.softmax(hidden @ support.T, dim=1) @ support
        output, cell = lstm(torch.cat([query, read], dim=1), hidden, cell, tensors, "query")
        hidden = output + query
    return hidden


def attend(support, query, tensors, factor):
    """log y [n_query, n_way] and the attention [n_query, n_support]."""
    if "context.query.weight" in tensors:
        support = full_context_support(support, tensors)
        query = full_context_query(query, support, tensors)
    cosines = F.cosine_similarity(query[:, None], support[None], dim=-1)
    attention = torch.softmax(factor * cosines, dim=1)
    return attention.reshape(N_QUERIES, N_WAY, N_SHOT).sum(dim=2).log(), attention


def evaluate(tensors):
    parameters = common.trainable(tensors)
    trace = common.Trace()
    batch = common.split(common.embed(tensors["images"], tensors, "batch", trace))
    results = common.running_targets(trace, common.CONV4)
    norms = {
        "running": common.split(common.embed(tensors["images"], tensors, "running")),
        "episode": [common.embed(images, tensors, "batch") for images in common.split(tensors["images"])],
    }
    factors = {"": tensors["log_factor"].exp()}
    if "context.query.weight" not in tensors:
        factors["fixed."] = 1.0
    for prefix, factor in factors.items():
        logits, _ = attend(*batch, tensors, factor)
        loss = F.nll_loss(logits, common.query_labels())
        results[f"{prefix}loss"], results[f"{prefix}logits"] = loss.reshape(1), logits
        learned = {name: t for name, t in parameters.items() if not prefix or name != "log_factor"}
        results |= common.gradients(loss, learned, prefix)
        for norm, embeddings in norms.items():
            scores, attention = attend(*embeddings, tensors, factor)
            results[f"{prefix}{norm}.scores"], results[f"{prefix}{norm}.attention"] = scores, attention
    return results, trace.margin


if __name__ == "__main__":
    files = {
        "matching": (random_inputs, evaluate, {}),
        "matching-fce": (random_inputs_with_context, evaluate, {"reads": READS}),
    }
    common.main("matching.py", __doc__, files, 21, "21 keeps every pooling window's margin above 4e-5")
