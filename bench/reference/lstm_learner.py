"""Golden file of the LSTM meta-learner (Ravi, Larochelle 2017), by plain PyTorch autograd.

The network is that of maml.py; each of its numbers is a coordinate theta with gradient g of the support loss. K = 3 steps,
every state 0 before the first, U units:

    x       = preprocess(loss), preprocess(g); preprocess(v) = (log|v| / 10, sign v) if |v| >= e^-10, else (-1, e^10 v)
    h, c    = LSTM(x, h, c), gates input, forget, candidate, output side by side; [x, h] @ memory.weight + memory.bias
    f       = sigmoid([h, theta, f] @ forget.weight + forget.bias)
    i       = sigmoid([h, theta, i] @ input.weight + input.bias)
    theta   = f * theta - i * g

Losses and gradients along the way are constants (section 3.4). The result is the query loss at the last theta, its gradient
clipped to a length of CLIP.

Tensors of the file: images, encoder.*, head.* as in maml.py;

    rule.memory.weight | bias     [4 + U, 4 U] | [4 U]
    rule.forget.weight | bias     [U + 2] | [1], and rule.input.* alike
    loss, loss_float64            [1]
    logits                        [n_way * n_query, n_way]
    running.scores                as logits, the queries normalised by averages over the support set's K passes: the first
                                  pass's statistics (mean, unbiased variance), then AVERAGING of the way to each later one's
    grad.*                        as the parameter

Run it from anywhere: python bench/reference/lstm_learner.py
"""

import math

import torch
import torch.nn.functional as F

import common
import maml
from common import N_SHOT, N_WAY

STEPS, UNITS, CLIP = 3, 6, 0.25
AVERAGING = 0.1


def random_inputs(seed):
    arrays = maml.random_inputs(seed)
    arrays = {name: array for name, array in arrays.items() if not name.startswith("rates.")}
    rng = common.generator(seed + 1000)
    arrays["rule.memory.weight"] = 0.5 * rng.standard_normal((4 + UNITS, 4 * UNITS))
    arrays["rule.memory.bias"] = 0.1 * rng.standard_normal(4 * UNITS)
    for gate, bias in (("forget", 4.0), ("input", -2.0)):
        arrays[f"rule.{gate}.weight"] = 0.3 * rng.standard_normal(UNITS + 2)
        arrays[f"rule.{gate}.bias"] = rng.uniform(bias - 0.5, bias + 0.5, 1)
    return arrays


def preprocess(values):
    small = values.abs() < math.exp(-10)
    log = torch.where(small, torch.ones_like(values), values).abs().log() / 10
    return torch.where(small, -1.0, log), torch.where(small, math.exp(10) * values, values.sign())


def evaluate(tensors):
    support, query = common.split(tensors["images"])
    parameters = common.trainable(tensors)
    start = {name: t for name, t in parameters.items() if not name.startswith("rule.")}
    rule = {name.removeprefix("rule."): t for name, t in parameters.items() if name.startswith("rule.")}
    labels = torch.arange(N_WAY).repeat_interleave(N_SHOT)
    sizes, shapes = [t.numel() for t in start.values()], [t.shape for t in start.values()]
    trace, averages = common.Trace(), {}

    def unflatten(theta):
        return {name: part.reshape(shape) for name, part, shape in zip(start, theta.split(sizes), shapes, strict=True)}

    theta = torch.cat([t.flatten() for t in start.values()])
    n = len(theta)
    h, c, f, i = theta.new_zeros(n, UNITS), theta.new_zeros(n, UNITS), theta.new_zeros(n), theta.new_zeros(n)
    for _ in range(STEPS):
        here = theta.detach().requires_grad_()
        loss = F.cross_entropy(maml.network(support, unflatten(here), trace), labels)
        met = common.Trace()
        met.statistics = [tuple(t.detach() for t in one[:2]) + one[2:] for one in trace.statistics[-4:]]
        for name, value in common.running_targets(met, common.CONV4).items():
            before = averages.get(name.removeprefix("stats."), value)
            averages[name.removeprefix("stats.")] = before + AVERAGING * (value - before)
        (g,) = torch.autograd.grad(loss, here)
        fed = [*preprocess(loss.detach().expand(n)), *preprocess(g)]
        gates = torch.cat([torch.stack(fed, dim=1), h], dim=1) @ rule["memory.weight"] + rule["memory.bias"]
        let_in, keep, candidate, out = gates.split(UNITS, dim=1)
        c = keep.sigmoid() * c + let_in.sigmoid() * candidate.tanh()
        h = out.sigmoid() * c.tanh()

        def gate(name, before):
            seen = torch.cat([h, theta[:, None], before[:, None]], dim=1)
            return (seen @ rule[f"{name}.weight"] + rule[f"{name}.bias"]).sigmoid()

        f, i = gate("forget", f), gate("input", i)
        theta = f * theta - i * g
    logits = maml.network(query, unflatten(theta), trace)
    loss = F.cross_entropy(logits, common.query_labels())
    found = torch.autograd.grad(loss, list(parameters.values()))
    length = torch.cat([t.flatten() for t in found]).norm()
    scale = min(1.0, CLIP / length.item())
    results = {"loss": loss.reshape(1), "logits": logits}
    results["running.scores"] = maml.network(query, unflatten(theta), running=averages)
    results |= {f"grad.{name}": scale * t for name, t in zip(parameters, found, strict=True)}
    return results, trace.margin


if __name__ == "__main__":
    files = {"lstm-learner": (random_inputs, evaluate, {"inner_steps": STEPS, "units": UNITS, "clip": CLIP})}
    common.main("lstm_learner.py", __doc__, files, 5, "5 keeps every pooling window's margin above 1e-5")
