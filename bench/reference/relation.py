"""Golden file of one Relation Network episode (Sung et al. 2018), by plain PyTorch.

Encoder (section 3.4): four blocks [conv 3x3 without bias, batch norm (eps 1e-5, biased variance), ReLU]; the
first two without padding and with a 2x2 max-pool, the other two with padding 1 and without a pool. Relation
module: two blocks with padding 1 and a pool, then fully connected layers of 8 (ReLU) and of 1 (sigmoid).

    r(k, x) = g([sum over the support images x_i of class k of f(x_i), f(x)])   (eq. 1 and section 3.2)

joined along the channels, the class first. The loss is the mean over all queries and classes of
(r - 1[k is the query's class])^2 (eq. 2). Support and query are encoded in one pass and all pairs go through
the relation module in one pass, query by query, each normalised by the statistics of its batch.

common.py says how the images are ordered.

Tensors of the file (F and R filters, n images, i the block: 0..3 of the encoder, 0..1 of the relation module):

    images                                   [n, 28, 28, 1]         NHWC, in [0, 1]
    encoder.blocks.{i}.weight                [3, 3, c_in, F]        height, width, in, out
    blocks.{i}.weight                        [3, 3, c_in, R]        c_in = 2 F, then R
    {block}.gamma | beta                     [F] or [R]             batch norm's scale and shift
    {block}.running_mean | running_variance  [F] or [R]             given running statistics
    hidden.weight | bias                     [R, 8] | [8]           [inputs, outputs]
    output.weight | bias                     [8, 1] | [1]
    loss, loss_float64                       [1]                    in f32 and f64
    logits                                   [n_way * n_query, n_way]   log r of that same pass
    grad.*                                   as the parameter       of loss
    stats.{block}.running_*                  [F] or [R]             the batch's mean and unbiased variance
    running.scores                           [n_way * n_query, n_way]   log r, normalised by the running statistics
    episode.scores                           [n_way * n_query, n_way]   support, query and pairs each by its own

Run it from anywhere: python bench/reference/relation.py
"""

import torch
import torch.nn.functional as F

import common
from common import N_QUERIES, N_SHOT, N_WAY

# Different, so that one in the other's place shows.
N_FILTERS, RELATION_FILTERS, HIDDEN = 6, 5, 8
ENCODER = [{"padding": 0}, {"padding": 0}, {"pool": False}, {"pool": False}]
MODULE = [{}, {}]
BLOCKS = common.CONV4 + ["blocks.0", "blocks.1"]


def random_inputs(seed):
    rng = common.generator(seed)
    arrays = {"images": common.random_images(rng)}
    arrays |= common.random_blocks(rng, "encoder.blocks", 1, N_FILTERS, 4)
    arrays |= common.random_blocks(rng, "blocks", 2 * N_FILTERS, RELATION_FILTERS, 2)
    for name, inputs, outputs in (("hidden", RELATION_FILTERS, HIDDEN), ("output", HIDDEN, 1)):
        arrays[f"{name}.weight"] = rng.standard_normal((inputs, outputs)) / inputs**0.5
        arrays[f"{name}.bias"] = 0.3 * rng.standard_normal(outputs)
    common.place_running(arrays, BLOCKS, joint_pass)
    return arrays


def encode(images, tensors, norm, trace=None):
    return common.conv_blocks(images, tensors, "encoder.blocks", ENCODER, norm, trace)


def relation_scores(support, query, tensors, norm, trace=None):
    """r [n_query, n_way] from maps [n, h, w, F]."""
    classes = support.reshape(N_WAY, N_SHOT, *support.shape[1:]).sum(dim=1)
    pairs = torch.stack([torch.cat([maps, image], dim=-1) for image in query for maps in classes])
    joined = common.conv_blocks(pairs, tensors, "blocks", MODULE, norm, trace).flatten(1)
    hidden = joined @ tensors["hidden.weight"] + tensors["hidden.bias"]
    if trace is not None:
        trace.kink(hidden)
    odds = F.relu(hidden) @ tensors["output.weight"] + tensors["output.bias"]
    return torch.sigmoid(odds).reshape(N_QUERIES, N_WAY)


def joint_pass(tensors, trace):
    """r [n_query, n_way], support and query encoded together."""
    support, query = common.split(encode(tensors["images"], tensors, "batch", trace))
    return relation_scores(support, query, tensors, "batch", trace)


def evaluate(tensors):
    trace = common.Trace()
    relations = joint_pass(tensors, trace)
    truth = F.one_hot(common.query_labels(), N_WAY).to(relations.dtype)
    loss = F.mse_loss(relations, truth)
    results = {"loss": loss.reshape(1), "logits": relations.log()}
    results |= common.gradients(loss, common.trainable(tensors))
    results |= common.running_targets(trace, BLOCKS)
    for name, norm in (("running", "running"), ("episode", "batch")):
        support, query = (encode(images, tensors, norm) for images in common.split(tensors["images"]))
        results[f"{name}.scores"] = relation_scores(support, query, tensors, norm).log()
    return results, trace.margin


if __name__ == "__main__":
    files = {"relation": (random_inputs, evaluate, {})}
    common.main("relation.py", __doc__, files, 15, "15 keeps every pooling window's margin above 1e-4")
