"""Golden file of one episode of the Siamese network (Koch, Zemel, Salakhutdinov 2015), by plain PyTorch.

The twins are Conv4 (see prototypical.py), then one sigmoid unit over an elementwise comparison (section 3.1):

    p(x1, x2) = sigmoid(sum_j w_j d_j + b)
    l1:       d = |f(x1) - f(x2)|
    squared:  d = (f(x1) - f(x2))^2
    cosine:   d = f(x1) / |f(x1)| * f(x2) / |f(x2)|, elementwise

Query i, of class c, makes two pairs: (query, support example i mod n_shot of class c), target 1, and
(query, support example i mod n_shot of class c + 1 + (i mod (n_way - 1)), modulo n_way; "hardest": the example of
another class that it is most probably the same as, with d = l1), target 0. The
loss (section 3.2) is the mean binary cross-entropy over all pairs plus L2 times the sum of the squares of
every parameter whose name ends in `weight`. Support and query are embedded in one pass, normalised by the
statistics of that batch. A class's logit is the mean ("max": the greatest) of the log-odds of its support
images with the query.

common.py says how the images are ordered.

Tensors of the file (F filters, n images, i = 0..3 the block, d empty, `squared.` or `cosine.`; for hardest.* as
for d, without scores):

    images                                   [n, 28, 28, 1]         NHWC, in [0, 1]
    encoder.blocks.{i}.weight                [3, 3, c_in, F]        height, width, in, out
    encoder.blocks.{i}.gamma | beta          [F]                    batch norm's scale and shift
    encoder.blocks.{i}.running_mean | _variance   [F]               given running statistics
    head.weight | bias                       [F, 1] | [1]           w and b
    {d}loss, {d}loss_float64                 [1]                    in f32 and f64
    {d}logits                                [n_way * n_query, n_way]   of that same pass, mean
    {d}grad.*                                as the parameter       of {d}loss
    stats.encoder.blocks.{i}.running_*       [F]                    the batch's mean and unbiased variance
    {d}running.scores, running.max.scores    [n_way * n_query, n_way]   normalised by the running statistics
    {d}episode.scores                        [n_way * n_query, n_way]   support by its own statistics, query by its own

Run it from anywhere: python bench/reference/siamese.py
"""

import torch
import torch.nn.functional as F

import common
from common import N_QUERIES, N_QUERY, N_SHOT, N_WAY

N_FILTERS = 8
L2 = 1e-5


def random_inputs(seed):
    rng = common.generator(seed)
    arrays = {"images": common.random_images(rng)}
    arrays |= common.random_blocks(rng, "encoder.blocks", 1, N_FILTERS, 4)
    common.place_running(arrays, common.CONV4, lambda t, trace: common.embed(t["images"], t, "batch", trace))
    arrays["head.weight"] = rng.standard_normal((N_FILTERS, 1))
    arrays["head.bias"] = rng.standard_normal(1)
    return arrays


def compare(left, right, distance):
    if distance == "l1":
        return (left - right).abs()
    if distance == "squared":
        return (left - right) ** 2
    return F.normalize(left, dim=-1) * F.normalize(right, dim=-1)


def log_odds(left, right, tensors, distance):
    """Of two images showing one class: [..., F] each -> [...]."""
    return compare(left, right, distance) @ tensors["head.weight"][:, 0] + tensors["head.bias"]


def pair_partners():
    """For each query its partners in the support set, of the same class and of another."""
    same, different = [], []
    for i in range(N_QUERIES):
        own, example = i // N_QUERY, i % N_SHOT
        other = (own + 1 + i % (N_WAY - 1)) % N_WAY
        same.append(own * N_SHOT + example)
        different.append(other * N_SHOT + example)
    return same, different


def class_logits(support, query, tensors, distance, pooling="mean"):
    odds = log_odds(query[:, None], support[None], tensors, distance)
    by_class = odds.reshape(N_QUERIES, N_WAY, N_SHOT)
    return by_class.mean(dim=2) if pooling == "mean" else by_class.max(dim=2).values


def evaluate(tensors):
    parameters = common.trainable(tensors)
    trace = common.Trace()
    support, query = common.split(common.embed(tensors["images"], tensors, "batch", trace))
    results = common.running_targets(trace, common.CONV4)
    same, different = pair_partners()
    partners = torch.cat([support[same], support[different]])
    trace.kink(torch.cat([query, query]) - partners)

    running = common.split(common.embed(tensors["images"], tensors, "running"))
    episode = [common.embed(images, tensors, "batch") for images in common.split(tensors["images"])]
    targets = torch.cat([torch.ones(N_QUERIES), torch.zeros(N_QUERIES)]).to(query.dtype)
    for distance, prefix in (("l1", ""), ("squared", "squared."), ("cosine", "cosine.")):
        odds = log_odds(torch.cat([query, query]), partners, tensors, distance)
        penalty = sum((t**2).sum() for name, t in parameters.items() if name.endswith(".weight"))
        loss = F.binary_cross_entropy(torch.sigmoid(odds), targets) + L2 * penalty
        results[f"{prefix}loss"] = loss.reshape(1)
        results[f"{prefix}logits"] = class_logits(support, query, tensors, distance)
        results |= common.gradients(loss, parameters, prefix)
        if distance == "l1":
            all_odds = log_odds(query[:, None], support[None], tensors, distance)
            classes = torch.arange(N_WAY)
            own = classes.repeat_interleave(N_QUERY)[:, None] == classes.repeat_interleave(N_SHOT)[None]
            hardest = all_odds.masked_fill(own, float("-inf")).topk(2, dim=1).values
            trace.kink(hardest[:, :1] - hardest[:, 1:])
            odds = torch.cat([odds[:N_QUERIES], hardest[:, 0]])
            loss = F.binary_cross_entropy(torch.sigmoid(odds), targets) + L2 * penalty
            results["hardest.loss"] = loss.reshape(1)
            results["hardest.logits"] = results["logits"]
            results |= common.gradients(loss, parameters, "hardest.")
        results[f"{prefix}running.scores"] = class_logits(*running, tensors, distance)
        results[f"{prefix}episode.scores"] = class_logits(*episode, tensors, distance)
    results["running.max.scores"] = class_logits(*running, tensors, "l1", "max")
    return results, trace.margin


if __name__ == "__main__":
    files = {"siamese": (random_inputs, evaluate, {"l2": L2})}
    common.main("siamese.py", __doc__, files, 21, "21 keeps every pooling window's margin above 4e-5")
