"""Golden file of the convolution block in every form, by plain PyTorch.

convolution -> batch norm (optional) -> activation -> 2x2 max-pool (optional), with 1x1 windows, with 3x3 windows and a
padding of 0 or 1, without an activation, with ReLU, with leaky ReLU; without a norm `beta` is the bias and there is no gamma.
Channels go around CHANNELS from form to form. Maps have an odd height, so that the pool drops a row.

The case {k}-{p}-{activation}-{pool or whole}-{norm or bias}-{c_in}-{c_out} takes the first of the given numbers that it needs
along each axis, the middle of the window where it is 1x1. Its loss is the sum over its outputs times `slope`.

Tensors of the file:

    input                   [2, 7, 6, 64]       NHWC
    weight                  [3, 3, 64, 64]      height, width, in, out; a case with c_in inputs divides by sqrt(9 c_in)
    gamma | beta            [64]
    slope                   [2, 7, 6, 64]       gradient of the output
    {case}.output           [2, height, width, c_out]
    {case}.mean | variance  [c_out]             the batch's, biased; with a norm
    {case}.grad.input | weight | gamma | beta   as what the case takes; weight's before the division

Run it from anywhere: python bench/reference/block.py
"""

import itertools
import math

import torch
import torch.nn.functional as F

import common

WINDOWS = [(1, 0), (3, 0), (3, 1)]
ACTIVATIONS = ["identity", "relu", "leaky"]
SLOPE = 0.2
# One input of a 1x1 window meets no norm: it would take the weight's size out again, and leave a gradient of rounding alone.
CHANNELS = [(16, 16), (3, 16), (1, 16), (64, 16), (1, 64), (3, 3), (16, 64), (64, 3), (16, 1), (3, 64), (1, 1)]
# The block of the encoders, whose gradient is the largest array here.
ENCODERS = (3, 1, "relu", "pool", "norm", 64, 64)


def cases():
    forms = itertools.product(WINDOWS, ACTIVATIONS, ("whole", "pool"), ("bias", "norm"))
    channels = itertools.cycle(CHANNELS)
    for (kernel, padding), *form in forms:
        case = (kernel, padding, *form)
        yield ENCODERS if case == ENCODERS[:5] else (*case, *next(channels))


def random_inputs(seed):
    rng = common.generator(seed)
    return {
        "input": rng.standard_normal((2, 7, 6, 64)),
        "weight": rng.standard_normal((3, 3, 64, 64)),
        "gamma": rng.uniform(0.5, 1.5, 64) * rng.choice([-1.0, 1.0], 64),
        "beta": 0.3 * rng.standard_normal(64),
        "slope": rng.standard_normal((2, 7, 6, 64)),
    }


def evaluate(tensors):
    trace, results = common.Trace(), {}
    for kernel, padding, activation, pool, norm, c_in, c_out in cases():
        name = f"{kernel}-{padding}-{activation}-{pool}-{norm}-{c_in}-{c_out}"
        window = slice(0, 3) if kernel == 3 else slice(1, 2)
        taken = {
            "input": tensors["input"][..., :c_in],
            "weight": tensors["weight"][window, window, :c_in, :c_out] / math.sqrt(9 * c_in),
            "gamma": tensors["gamma"][:c_out],
            "beta": tensors["beta"][:c_out],
        }
        taken = {part: t.detach().clone().requires_grad_() for part, t in taken.items() if norm == "norm" or part != "gamma"}
        maps = F.conv2d(taken["input"].permute(0, 3, 1, 2), taken["weight"].permute(3, 2, 0, 1).contiguous(), padding=padding)
        if norm == "norm":
            results[f"{name}.mean"] = maps.mean(dim=(0, 2, 3))
            results[f"{name}.variance"] = maps.var(dim=(0, 2, 3), unbiased=False)
            maps = F.batch_norm(maps, None, None, taken["gamma"], taken["beta"], training=True, eps=common.BATCH_NORM_EPS)
        else:
            maps = maps + taken["beta"][:, None, None]
        trace.call(margin(maps.detach(), activation, pool))
        maps = {"identity": lambda t: t, "relu": F.relu, "leaky": lambda t: F.leaky_relu(t, SLOPE)}[activation](maps)
        maps = (F.max_pool2d(maps, 2) if pool == "pool" else maps).permute(0, 2, 3, 1)
        results[f"{name}.output"] = maps
        slope = tensors["slope"][:, : maps.shape[1], : maps.shape[2], :c_out].detach()
        found = torch.autograd.grad((maps * slope).sum(), list(taken.values()))
        results |= {f"{name}.grad.{part}": t for part, t in zip(taken, found, strict=True)}
    return results, trace.margin


def margin(values, activation, pool):
    """How near the nearest call of activation and pool is."""
    if pool == "whole":
        return values.abs().min().item() if activation != "identity" else math.inf
    if activation == "relu":
        return common.smallest_margin(values)
    n, channels, height, width = values.shape
    windows = values[:, :, : height // 2 * 2, : width // 2 * 2].unfold(2, 2, 2).unfold(3, 2, 2).reshape(-1, 4)
    top = windows.sort(dim=1, descending=True).values
    nearest = (top[:, 0] - top[:, 1]).min().item()
    return nearest if activation == "identity" else min(nearest, top[:, 0].abs().min().item())


if __name__ == "__main__":
    files = {"block": (random_inputs, evaluate, {"leaky_slope": SLOPE})}
    common.main("block.py", __doc__, files, 3, "3 keeps every call of activation and pool further than 1e-4 from the other")
