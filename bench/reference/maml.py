"""Golden file of the methods that adapt their weights by gradient steps, by plain PyTorch autograd.

The network is Conv4 (see prototypical.py) and a linear classifier, every batch normalised by its own statistics. Here the
norm is written out: only so are its second derivatives sure to be right in every way of differentiating it.
With S the support set, Q the queries and L the mean cross-entropy,

    theta_0 = the parameters,   theta_{k+1} = theta_k - rate * grad L_S(theta_k),   loss = L_Q(theta_K)

    maml{K}        K = 1, 3, 5, 11 steps, one rate (RATES); gradient of the loss through the steps
    first{K}       K = 3: grad L_Q at theta_K itself (first order)
    anil{K}        K = 1, 5: only the classifier takes the steps
    meta_sgd{K}    K = 1, 3: a rate for each weight, given; gradients with respect to the weights and to the rates

common.py says how the images are ordered.

Tensors of the file (F filters, n images, i = 0..3 the block, m one of the names above):

    images                                   [n, 28, 28, 1]         NHWC, in [0, 1]
    encoder.blocks.{i}.weight                [3, 3, c_in, F]        height, width, in, out
    encoder.blocks.{i}.gamma | beta          [F]                    batch norm's scale and shift
    encoder.blocks.{i}.running_mean | _variance   [F]               given running statistics
    head.weight | bias                       [F, n_way] | [n_way]   the classifier
    rates.encoder.blocks.{i}.*, rates.head.*   as the parameter     the rates of meta_sgd
    {m}.loss, {m}.loss_float64               [1]                    in f32 and f64
    {m}.logits                               [n_way * n_query, n_way]   of the queries at theta_K
    {m}.grad.*                               as the parameter       of {m}.loss
    stats.encoder.blocks.{i}.running_*       [F]                    of maml1's queries at theta_1: mean, unbiased variance
    running.scores                           [n_way * n_query, n_way]   maml1's, the queries by the running statistics
    joined.scores                            [n_way * n_query, n_way]   each query by the statistics of S and itself

Run it from anywhere: python bench/reference/maml.py
"""

import json

import torch
import torch.nn.functional as F

import common
from common import BATCH_NORM_EPS, N_SHOT, N_WAY

N_FILTERS = 8
RATES = {1: 0.4, 3: 0.1, 5: 0.1, 11: 0.02}


def random_inputs(seed):
    rng = common.generator(seed)
    arrays = {"images": common.random_images(rng)}
    arrays |= common.random_blocks(rng, "encoder.blocks", 1, N_FILTERS, 4)
    common.place_running(arrays, common.CONV4, lambda t, trace: common.embed(t["images"], t, "batch", trace))
    arrays["head.weight"] = 0.5 * rng.standard_normal((N_FILTERS, N_WAY))
    arrays["head.bias"] = 0.1 * rng.standard_normal(N_WAY)
    weights = [name for name in arrays if name != "images" and "running" not in name]
    # Of either sign, as learned rates are.
    arrays |= {f"rates.{name}": rng.uniform(-0.05, 0.2, arrays[name].shape) for name in weights}
    return arrays


def network(images, weights, trace=None, running=None):
    """Logits of NHWC images. `trace` notes statistics and margins; `running` normalises in their place."""
    maps = images.permute(0, 3, 1, 2)
    for block in common.CONV4:
        convolved = F.conv2d(maps, weights[f"{block}.weight"].permute(3, 2, 0, 1), padding=1)
        mean = convolved.mean(dim=(0, 2, 3))
        variance = (convolved - mean[:, None, None]).square().mean(dim=(0, 2, 3))
        if trace is not None:
            trace.statistics.append((mean, variance, convolved.numel() // convolved.shape[1]))
        if running is not None:
            mean, variance = running[f"{block}.running_mean"], running[f"{block}.running_variance"]
        scale = weights[f"{block}.gamma"] / torch.sqrt(variance + BATCH_NORM_EPS)
        normalised = (convolved - mean[:, None, None]) * scale[:, None, None] + weights[f"{block}.beta"][:, None, None]
        if trace is not None:
            trace.call(common.smallest_margin(normalised.detach()))
        maps = F.max_pool2d(F.relu(normalised), 2)
    return maps.permute(0, 2, 3, 1).flatten(1) @ weights["head.weight"] + weights["head.bias"]


def descend(weights, support, rates, steps, trace, only="", create_graph=True):
    """theta_K; only parameters whose name starts with `only` move."""
    labels = torch.arange(N_WAY).repeat_interleave(N_SHOT)
    for _ in range(steps):
        moving = {name: t for name, t in weights.items() if name.startswith(only)}
        loss = F.cross_entropy(network(support, weights, trace), labels)
        slopes = torch.autograd.grad(loss, list(moving.values()), create_graph=create_graph)
        moved = {name: moving[name] - rates[name] * slope for name, slope in zip(moving, slopes, strict=True)}
        weights = weights | moved
    return weights


def evaluate(tensors):
    support, query = common.split(tensors["images"])
    trainable = common.trainable(tensors)
    weights = {name: t for name, t in trainable.items() if not name.startswith("rates.")}
    given = {name: trainable[f"rates.{name}"] for name in weights}
    trace, results = common.Trace(), {}

    def record(name, end, parameters, noted=trace):
        logits = network(query, end, noted)
        loss = F.cross_entropy(logits, common.query_labels())
        results[f"{name}.logits"], results[f"{name}.loss"] = logits, loss.reshape(1)
        results.update(common.gradients(loss, parameters, f"{name}."))

    for steps, rate in RATES.items():
        same = dict.fromkeys(weights, rate)
        record(f"maml{steps}", descend(weights, support, same, steps, trace), weights)
        if steps == 1:
            met = common.Trace()
            met.statistics = trace.statistics[-4:]
            results |= common.running_targets(met, common.CONV4)
            end = descend(weights, support, same, 1, None)
            results["running.scores"] = network(query, end, running=tensors)
            alone = [network(torch.cat([support, image[None]]), end)[-1] for image in query]
            results["joined.scores"] = torch.stack(alone)
        if steps == 3:
            end = descend(weights, support, same, steps, trace)
            end = {name: t.detach().requires_grad_() for name, t in end.items()}
            record(f"first{steps}", end, end)
        if steps in (1, 5):
            record(f"anil{steps}", descend(weights, support, same, steps, trace, only="head."), weights)
        if steps in (1, 3):
            end = descend(weights, support, given, steps, trace)
            record(f"meta_sgd{steps}", end, trainable)
    return results, trace.margin


if __name__ == "__main__":
    files = {"maml": (random_inputs, evaluate, {"inner_lr": json.dumps(RATES)})}
    common.main("maml.py", __doc__, files, 21, "21 keeps every pooling window's margin above 5e-6")
