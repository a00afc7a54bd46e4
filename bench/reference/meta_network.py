"""Reference values for a meta network (Munkhdalai & Yu 2017) on one 5-way 2-shot episode.

Writes meta-network.safetensors. All tensors are float32. Two networks of five 3x3 blocks of F = 8 filters (ReLU, 2x2
max-pool but in the fifth, whose maps are one pixel), a dense layer and a classifier; no norm, no bias. Fast weights come
from gradients of the support set under slow weights, as in meta_network.rs: an LSTM of 20 units over 5 parts of 2
images (class by class) for the embedding, a perceptron 2-20-20-1 for each image for the base network; one of each for
convolutions ("0") and one for dense layers ("1"). Gradients of these inner losses are numbers, not differentiated.

images                                  [25, 28, 28, 1]  support first, then query, see common.py
encoder.blocks.{0..4}                   [3, 3, c_in, F]  the embedding
encoder.dense, representation           [F, F], [F, 5]
base.blocks.{0..4}, base.dense, output  as above         the base network
task_level.{0,1}.cell.weight, .bias     [22, 80], [80]   gates input, forget, candidate, output
task_level.{0,1}.output.weight, .bias   [20, 1], [1]
example_level.{0,1}.{first,second,output}.weight, .bias
loss [1], scores [15, 5], attention [15, 10]
grad.<parameter>                        gradient of the loss, for all but `representation`

Run it from anywhere: python bench/reference/meta_network.py
"""

import math

import torch
import torch.nn.functional as F

import common
from common import N_SHOT, N_SUPPORT, N_WAY

FILTERS, BLOCKS, HIDDEN, PARTS, P = 8, 5, 20, 5, 7


def network_shapes(name):
    shapes = {f"{name}.blocks.{i}": (3, 3, 1 if i == 0 else FILTERS, FILTERS) for i in range(BLOCKS)}
    return shapes | {f"{name}.dense": (FILTERS, FILTERS)}


def random_inputs(seed):
    rng = common.generator(seed)
    arrays = {"images": common.random_images(rng)}
    shapes = network_shapes("encoder") | {"representation": (FILTERS, N_WAY)}
    shapes |= network_shapes("base") | {"output": (FILTERS, N_WAY)}
    for name, shape in shapes.items():
        arrays[name] = math.sqrt(2 / math.prod(shape[:-1])) * rng.standard_normal(shape)
    for kind in range(2):
        arrays[f"task_level.{kind}.cell.weight"] = rng.uniform(-0.5, 0.5, (2 + HIDDEN, 4 * HIDDEN))
        arrays[f"task_level.{kind}.cell.bias"] = rng.uniform(-0.5, 0.5, 4 * HIDDEN)
        arrays[f"task_level.{kind}.output.weight"] = rng.uniform(-0.03, 0.03, (HIDDEN, 1))
        # Positive, so that no path of fast weights is dead behind ReLU.
        arrays[f"task_level.{kind}.output.bias"] = rng.uniform(0.01, 0.02, 1)
        for layer, shape in (("first", (2, HIDDEN)), ("second", (HIDDEN, HIDDEN)), ("output", (HIDDEN, 1))):
            scale = 0.02 if layer == "output" else 0.5
            arrays[f"example_level.{kind}.{layer}.weight"] = rng.uniform(-scale, scale, shape)
            arrays[f"example_level.{kind}.{layer}.bias"] = rng.uniform(0, scale, shape[1])
    return arrays


def slow(tensors, name, classifier):
    """The weights of a network in order: five blocks, the dense layer, the classifier."""
    return [*(tensors[f"{name}.blocks.{i}"] for i in range(BLOCKS)), tensors[f"{name}.dense"], tensors[classifier]]


def convolve(x, weight):
    return F.conv2d(x, weight.permute(3, 2, 0, 1), padding=1)


def features(images, weights, fast=None):
    """[n, F]: slow and fast path of each block are summed behind ReLU, before the pool."""
    x = images.permute(0, 3, 1, 2)
    for i in range(BLOCKS):
        y = F.relu(convolve(x, weights[i]))
        if fast is not None:
            y = y + F.relu(convolve(x, fast[i]))
        x = F.max_pool2d(y, 2) if min(y.shape[2:]) > 1 else y
    return x.flatten(1)


def inner_gradients(images, labels, weights):
    """The gradients of the mean cross-entropy under slow weights, as numbers: convolutions and dense layers, flat."""
    weights = [weight.detach().requires_grad_() for weight in weights]
    hidden = F.relu(features(images, weights) @ weights[BLOCKS])
    loss = F.cross_entropy(hidden @ weights[BLOCKS + 1], labels)
    found = [gradient.flatten() for gradient in torch.autograd.grad(loss, weights)]
    return torch.cat(found[:BLOCKS]), torch.cat(found[BLOCKS:])


def log_and_sign(gradient):
    """[weights, 2]."""
    log = ((gradient.abs() + torch.finfo(torch.float32).eps).log() / P).clamp(min=-1)
    return torch.stack([log, (gradient * math.exp(P)).clamp(-1, 1)], dim=1)


def task_level(gradients, tensors, kind):
    """d: a list of [weights] -> [weights]."""
    name = f"task_level.{kind}."
    hidden = cell = gradients[0].new_zeros(len(gradients[0]), HIDDEN)
    for gradient in gradients:
        both = torch.cat([log_and_sign(gradient), hidden], dim=1)
        i, f, g, o = (both @ tensors[name + "cell.weight"] + tensors[name + "cell.bias"]).split(HIDDEN, dim=1)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        hidden = torch.sigmoid(o) * torch.tanh(cell)
    return (hidden @ tensors[name + "output.weight"] + tensors[name + "output.bias"])[:, 0]


def example_level(gradient, tensors, kind):
    """m: [weights] -> [weights]."""
    x = log_and_sign(gradient)
    for layer in ("first", "second", "output"):
        name = f"example_level.{kind}.{layer}."
        x = x @ tensors[name + "weight"] + tensors[name + "bias"]
        x = x if layer == "output" else F.relu(x)
    return x[:, 0]


def shaped(flat, weights):
    """The numbers of `flat` in the shapes of as many `weights` as they fill."""
    parts = flat.split([weight.numel() for weight in weights])
    return [part.reshape(weight.shape) for part, weight in zip(parts, weights, strict=True)]


def evaluate(tensors):
    support, query = common.split(tensors["images"])
    labels = torch.arange(N_WAY).repeat_interleave(N_SHOT)
    q = slow(tensors, "encoder", "representation")
    size = N_SUPPORT // PARTS
    parts = [inner_gradients(support[s : s + size], labels[s : s + size], q) for s in range(0, N_SUPPORT, size)]
    blocks = task_level([part[0] for part in parts], tensors, 0)
    dense = task_level([part[1][: q[BLOCKS].numel()] for part in parts], tensors, 1)
    q_fast = shaped(blocks, q[:BLOCKS]) + shaped(dense, [q[BLOCKS]])

    def embed(images):
        x = features(images, q, q_fast)
        return x @ q[BLOCKS] + x @ q_fast[BLOCKS]

    w = slow(tensors, "base", "output")
    memory = []
    for i in range(N_SUPPORT):
        blocks, dense = inner_gradients(support[i : i + 1], labels[i : i + 1], w)
        memory.append(torch.cat([example_level(blocks, tensors, 0), example_level(dense, tensors, 1)]))
    memory = torch.stack(memory)
    cosines = F.cosine_similarity(embed(query)[:, None], embed(support)[None], dim=-1)
    attention = torch.softmax(cosines, dim=1)
    scores = []
    for i in range(len(query)):
        fast = shaped(attention[i] @ memory, w)
        x = features(query[i : i + 1], w, fast)
        hidden = F.relu(x @ w[BLOCKS]) + F.relu(x @ fast[BLOCKS])
        scores.append(hidden @ w[BLOCKS + 1] + hidden @ fast[BLOCKS + 1])
    scores = torch.cat(scores)
    loss = F.cross_entropy(scores, common.query_labels())
    learned = {name: t for name, t in common.trainable(tensors).items() if name != "representation"}
    results = {"loss": loss.reshape(1), "scores": scores, "attention": attention}
    # ReLUs and pools are many; the noise between f32 and f64 says whether any of them is a near call.
    return results | common.gradients(loss, learned), float("inf")


if __name__ == "__main__":
    facts = {"filters": FILTERS, "parts": PARTS, "p": P}
    files = {"meta-network": (random_inputs, evaluate, facts)}
    common.main("meta_network.py", __doc__, files, 47, "47 keeps f32 and f64 together, and every generated layer alive")
