"""Golden file of Koch's encoder as a Siamese network's (Koch, Zemel, Salakhutdinov 2015, figure 4), by plain PyTorch.

Convolutions of 10x10, 7x7, 4x4 and 4x4 without padding, each with a bias and ReLU, the first three with a 2x2 max-pool, then
fully connected sigmoid units on the maps in the order height, width, channel. No norm anywhere. On 73x73 images the last
maps have 2x2 pixels, so that the order shows.

The loss is siamese.py's, of one episode of 2 classes with one support image and one query each: images are ordered
support of class 0, of class 1, query of class 0, of class 1. Each query makes a pair with either support image.

Tensors of the file (F filters, U units, i = 0..3 the convolution):

    images                                  [4, 73, 73, 1]           NHWC, in [0, 1]
    encoder.convolutions.{i}.weight         [k, k, c_in, c_out]      height, width, in, out; F, 2 F, 2 F and 4 F outputs
    encoder.convolutions.{i}.bias           [c_out]
    encoder.units.weight | bias             [2 * 2 * 4 F, U] | [U]
    head.weight | bias                      [U, 1] | [1]             w and b of siamese.py
    features                                [4, U]                   of the images
    loss, loss_float64                      [1]                      in f32 and f64
    logits                                  [2, 2]                   log-odds of each query with each support image
    grad.*                                  as the parameter         of loss

Run it from anywhere: python bench/reference/koch.py
"""

import numpy as np
import torch
import torch.nn.functional as F

import common
from siamese import L2, log_odds

N_FILTERS, UNITS, SIDE = 2, 5, 73
# Window, multiple of the filters, and whether a pool follows.
CONVOLUTIONS = [(10, 1, True), (7, 2, True), (4, 2, True), (4, 4, False)]


def random_inputs(seed):
    rng = common.generator(seed)
    arrays, c_in = {"images": rng.random((4, SIDE, SIDE, 1))}, 1
    for i, (window, multiple, _) in enumerate(CONVOLUTIONS):
        c_out, fan_in = multiple * N_FILTERS, window * window * c_in
        arrays[f"encoder.convolutions.{i}.weight"] = rng.standard_normal((window, window, c_in, c_out)) * np.sqrt(2 / fan_in)
        arrays[f"encoder.convolutions.{i}.bias"] = 0.3 * rng.standard_normal(c_out)
        c_in = c_out
    features = 2 * 2 * c_in
    arrays["encoder.units.weight"] = 2 * rng.standard_normal((features, UNITS)) / np.sqrt(features)
    arrays["encoder.units.bias"] = 0.3 * rng.standard_normal(UNITS)
    arrays["head.weight"] = 3 * rng.standard_normal((UNITS, 1))
    arrays["head.bias"] = rng.standard_normal(1)
    return arrays


def embed(images, tensors, trace):
    maps = images.permute(0, 3, 1, 2)
    for i, (_, _, pool) in enumerate(CONVOLUTIONS):
        weight, bias = (tensors[f"encoder.convolutions.{i}.{part}"] for part in ("weight", "bias"))
        maps = F.conv2d(maps, weight.permute(3, 2, 0, 1), bias)
        trace.call(common.smallest_margin(maps.detach()) if pool else maps.detach().abs().min().item())
        maps = F.max_pool2d(F.relu(maps), 2) if pool else F.relu(maps)
    rows = maps.permute(0, 2, 3, 1).flatten(1)
    return torch.sigmoid(rows @ tensors["encoder.units.weight"] + tensors["encoder.units.bias"])


def evaluate(tensors):
    parameters, trace = common.trainable(tensors), common.Trace()
    features = embed(tensors["images"], tensors, trace)
    support, query = features[:2], features[2:]
    trace.kink(query[:, None] - support[None])
    odds = log_odds(query[:, None], support[None], tensors, "l1")
    same = torch.eye(2, dtype=odds.dtype)
    penalty = sum((t**2).sum() for name, t in parameters.items() if name.endswith(".weight"))
    loss = F.binary_cross_entropy(torch.sigmoid(odds), same) + L2 * penalty
    results = {"features": features, "loss": loss.reshape(1), "logits": odds}
    return results | common.gradients(loss, parameters), trace.margin


if __name__ == "__main__":
    facts = {"l2": L2, "n_way": 2, "n_shot": 1, "n_query": 1}
    common.main("koch.py", __doc__, {"koch": (random_inputs, evaluate, facts)}, 4, "4 keeps every pooling window's margin above 1e-4")
