"""Golden file of Reptile (Nichol, Achiam, Schulman 2018), by plain PyTorch.

The network is that of maml.py. The images of a task are its support and query images together, all of them in each
of K = 3 steps of torch's Adam with beta1 = 0, whose second moments go on from 12 steps of earlier tasks;
theta - phi is what the outer step descends by.

Tensors of the file: images, encoder.*, head.* as in maml.py;

    moments.*              as the parameter    Adam's second moments before the task
    moments.seen           [1]                 how many gradients they have seen
    loss, loss_float64     [1]                 the mean of the K losses, each before its step
    after.*                as moments.*        what the moments are after the K steps
    grad.*                 as the parameter    theta - phi

Run it from anywhere: python bench/reference/reptile.py
"""

import numpy as np
import torch
import torch.nn.functional as F

import common
import maml
from common import N_QUERY, N_SHOT, N_WAY

STEPS, INNER_LR = 3, 0.001


def random_inputs(seed):
    arrays = maml.random_inputs(seed)
    arrays = {name: array for name, array in arrays.items() if not name.startswith("rates.")}
    rng = common.generator(seed + 1)
    for name, array in common.trainable(arrays).items():
        # Of the size that squared gradients have here.
        arrays[f"moments.{name}"] = 1e-4 * rng.uniform(0.25, 4.0, array.shape)
    return arrays | {"moments.seen": np.array([12.0])}


def evaluate(tensors):
    labels = torch.cat([torch.arange(N_WAY).repeat_interleave(n) for n in (N_SHOT, N_QUERY)])
    start = {name: t for name, t in common.trainable(tensors).items() if not name.startswith("moments.")}
    weights = {name: t.detach().clone().requires_grad_() for name, t in start.items()}
    optimizer = torch.optim.Adam(weights.values(), lr=INNER_LR, betas=(0.0, 0.999), eps=1e-8)
    for name, weight in weights.items():
        optimizer.state[weight] = {
            "step": tensors["moments.seen"].detach()[0].clone().float(),
            "exp_avg": torch.zeros_like(weight),
            "exp_avg_sq": tensors[f"moments.{name}"].detach().clone(),
        }
    trace, losses = common.Trace(), []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = F.cross_entropy(maml.network(tensors["images"], weights, trace), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    results = {"loss": torch.stack(losses).mean().reshape(1)}
    results |= {f"grad.{name}": start[name] - weights[name] for name in start}
    moments = {name: optimizer.state[weight]["exp_avg_sq"] for name, weight in weights.items()}
    results |= {f"after.moments.{name}": moment for name, moment in moments.items()}
    results["after.moments.seen"] = tensors["moments.seen"].detach() + STEPS
    return results, trace.margin


if __name__ == "__main__":
    files = {"reptile": (random_inputs, evaluate, {"inner_steps": STEPS, "inner_lr": INNER_LR})}
    common.main("reptile.py", __doc__, files, 2, "2 keeps every pooling window's winner beyond doubt")
