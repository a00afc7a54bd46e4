"""Golden file of Reptile (Nichol, Achiam, Schulman 2018), by plain PyTorch.

The network is that of maml.py. The images of a task are its support and query images together, all of them in each
of K = 3 steps of torch's Adam with beta1 = 0, whose second moments go on from 12 steps of earlier tasks;
theta - phi is what the outer step descends by.

mini.* are the same with mini-batches of 10: each step takes the next images of a shuffle, and of another one when it is
through. test.* is the test: 4 steps with mini-batches of 4 on the support set alone, with the same moments before it.
The shuffles are inputs here: kshot draws them from the images, which a test in reptile.rs compares with these.

Tensors of the file: images, encoder.*, head.* as in maml.py;

    moments.*              as the parameter    Adam's second moments before the task
    moments.seen           [1]                 how many gradients they have seen
    order.train            [K, 10]             the images of each mini-batch by their places among all
    order.test             [4, 4]              alike, by their places in the support set
    {m}loss, {m}loss_float64   [1]             m empty or `mini.`: the mean of the K losses, each before its step
    {m}after.*             as moments.*        what the moments are after the K steps
    {m}grad.*              as the parameter    theta - phi
    test.episode.scores    [n_way * n_query, n_way]   logits after the test's steps, the queries normalised together
    test.running.scores    [n_way * n_query, n_way]   each query normalised with the support set alone

Run it from anywhere: python bench/reference/reptile.py
"""

import numpy as np
import torch
import torch.nn.functional as F

import common
import maml
from common import N_QUERY, N_SHOT, N_WAY

STEPS, INNER_LR = 3, 0.001
ORDER = {
    "train": [
        [5, 17, 0, 20, 11, 15, 7, 13, 2, 1],
        [21, 6, 23, 14, 3, 4, 22, 18, 9, 16],
        [8, 12, 19, 10, 24, 15, 13, 11, 23, 10],
    ],
    "test": [[3, 0, 6, 1], [9, 2, 7, 4], [5, 8, 2, 5], [1, 4, 6, 8]],
}


def random_inputs(seed):
    arrays = maml.random_inputs(seed)
    arrays = {name: array for name, array in arrays.items() if not name.startswith("rates.")}
    rng = common.generator(seed + 1)
    for name, array in common.trainable(arrays).items():
        # Of the size that squared gradients have here.
        arrays[f"moments.{name}"] = 1e-4 * rng.uniform(0.25, 4.0, array.shape)
    arrays |= {f"order.{name}": np.array(order) for name, order in ORDER.items()}
    return arrays | {"moments.seen": np.array([12.0])}


def train(tensors, start, batches, trace):
    """Weights and moments by name, and the loss before each step, after a step on each of `batches`: images and labels."""
    weights = {name: t.detach().clone().requires_grad_() for name, t in start.items()}
    optimizer = torch.optim.Adam(weights.values(), lr=INNER_LR, betas=(0.0, 0.999), eps=1e-8)
    for name, weight in weights.items():
        optimizer.state[weight] = {
            "step": tensors["moments.seen"].detach()[0].clone().float(),
            "exp_avg": torch.zeros_like(weight),
            "exp_avg_sq": tensors[f"moments.{name}"].detach().clone(),
        }
    losses = []
    for images, labels in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(maml.network(images, weights, trace), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return weights, {name: optimizer.state[weight]["exp_avg_sq"] for name, weight in weights.items()}, losses


def evaluate(tensors):
    images = tensors["images"]
    support, query = common.split(images)
    labels = torch.cat([torch.arange(N_WAY).repeat_interleave(n) for n in (N_SHOT, N_QUERY)])
    start = {name: t for name, t in common.trainable(tensors).items() if not name.startswith(("moments.", "order."))}
    trace, results = common.Trace(), {}
    mini = [(images[order], labels[order]) for order in ORDER["train"]]
    for prefix, batches in (("", [(images, labels)] * STEPS), ("mini.", mini)):
        weights, moments, losses = train(tensors, start, batches, trace)
        results[f"{prefix}loss"] = torch.stack(losses).mean().reshape(1)
        results |= {f"{prefix}grad.{name}": start[name] - weights[name] for name in start}
        results |= {f"{prefix}after.moments.{name}": moment for name, moment in moments.items()}
        results[f"{prefix}after.moments.seen"] = tensors["moments.seen"].detach() + STEPS
    end, _, _ = train(tensors, start, [(support[order], labels[order]) for order in ORDER["test"]], trace)
    results["test.episode.scores"] = maml.network(query, end, trace)
    results["test.running.scores"] = torch.stack([maml.network(torch.cat([support, one[None]]), end)[-1] for one in query])
    return results, trace.margin


if __name__ == "__main__":
    files = {"reptile": (random_inputs, evaluate, {"inner_steps": STEPS, "inner_lr": INNER_LR})}
    common.main("reptile.py", __doc__, files, 7, "7 keeps every pooling window's margin above 1e-5; another one takes other shuffles")
