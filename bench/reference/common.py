"""What the programs of this folder share: the episode, the convolution block, and how a golden file is written.

The episode is 5-way 2-shot with 3 queries per class. Images are ordered support first, then query, each
class by class: image s of class c is support c * n_shot + s; query q of class c is
n_way * n_shot + c * n_query + q. Class c has label c.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

N_WAY, N_SHOT, N_QUERY = 5, 2, 3
N_SUPPORT, N_QUERIES = N_WAY * N_SHOT, N_WAY * N_QUERY
IMAGE_SIZE = 28
BATCH_NORM_EPS = 1e-5
GOLDEN = Path(__file__).resolve().parents[2] / "crates/kshot/tests/golden"


def generator(seed):
    """The one stream from which a file's inputs come."""
    return np.random.Generator(np.random.PCG64(seed))


def random_images(rng):
    """[n_support + n_queries, 28, 28, 1], uniform in [0, 1]."""
    return rng.random((N_SUPPORT + N_QUERIES, IMAGE_SIZE, IMAGE_SIZE, 1))


def random_block(rng, channels_in, filters):
    """Parameters and running statistics of one 3x3 block."""
    return {
        "weight": rng.standard_normal((3, 3, channels_in, filters)) * np.sqrt(2 / (9 * channels_in)),
        # Not 1 and 0: a program that forgot the scale or the shift must not pass.
        "gamma": rng.uniform(0.5, 1.5, filters),
        "beta": 0.1 * rng.standard_normal(filters),
        "running_mean": 0.3 * rng.standard_normal(filters),
        "running_variance": rng.uniform(0.5, 2.0, filters),
    }


def random_blocks(rng, name, channels, filters, count):
    """`count` blocks as {name}.{i}.weight, ...; the first takes `channels`."""
    arrays = {}
    for i in range(count):
        block = random_block(rng, channels, filters)
        arrays |= {f"{name}.{i}.{part}": array for part, array in block.items()}
        channels = filters
    return arrays


def place_running(arrays, names, encode):
    """Makes the drawn running statistics of the blocks `names` relative to those of the batch, in place.

    Far from the batch's they would leave deep blocks nothing but zeros. `encode` takes (tensors, trace).
    """
    trace = Trace()
    encode({name: torch.tensor(array) for name, array in arrays.items()}, trace)
    for name, (mean, variance, _) in zip(names, trace.statistics, strict=True):
        arrays[f"{name}.running_mean"] = mean.numpy() + arrays[f"{name}.running_mean"] * variance.sqrt().numpy()
        arrays[f"{name}.running_variance"] = variance.numpy() * arrays[f"{name}.running_variance"]


def trainable(tensors):
    """The parameters among a file's inputs: all but the images and the running statistics."""
    return {name: t for name, t in tensors.items() if name != "images" and "running" not in name}


CONV4 = [f"encoder.blocks.{i}" for i in range(4)]


class Trace:
    """What a forward pass met: each block's batch statistics (mean, biased variance, count), and its nearest call.

    The margin says by how much the winner of a pooling window beats the runner-up (or zero, at the
    ReLU): where it is not far above f32 rounding, two correct programs may route a gradient differently
    (prototypical.py's seed 7, at 1.6e-6, shows it: f32 and f64 differ by 0.7 % there), so choose a seed
    with a wide one.
    """

    def __init__(self):
        self.statistics, self.margin = [], float("inf")

    def call(self, margin):
        self.margin = min(self.margin, margin)

    def kink(self, values):
        """Notes a pass through a function with a kink at 0; exact zeros are beyond doubt in every program."""
        distance = values.detach().abs()
        self.call(distance[distance > 0].min().item())


def conv_block(activation, block, trace=None, running=None, padding=1, pool=True):
    """3x3 convolution, batch norm, ReLU and 2x2 max-pool of NCHW maps. `block` holds weight, gamma, beta.

    Normalised by the statistics of the batch, or by `running`, a (mean, variance).
    """
    convolved = F.conv2d(activation, block["weight"].permute(3, 2, 0, 1), padding=padding)
    mean, variance = running if running else (None, None)
    normalised = F.batch_norm(
        convolved, mean, variance, block["gamma"], block["beta"], training=running is None, eps=BATCH_NORM_EPS
    )
    if trace is not None:
        mean, variance = convolved.mean(dim=(0, 2, 3)), convolved.var(dim=(0, 2, 3), unbiased=False)
        trace.statistics.append((mean, variance, convolved.numel() // convolved.shape[1]))
        trace.call(smallest_margin(normalised.detach()) if pool else normalised.detach().abs().min().item())
    activated = F.relu(normalised)
    return F.max_pool2d(activated, 2) if pool else activated


def smallest_margin(normalised):
    """How near the nearest call of ReLU and 2x2 max-pool is, over all windows with a positive winner."""
    n, channels, height, width = normalised.shape
    height, width = height // 2 * 2, width // 2 * 2
    windows = normalised[:, :, :height, :width].unfold(2, 2, 2).unfold(3, 2, 2).reshape(-1, 4)
    top = windows.sort(dim=1, descending=True).values
    live = top[:, 0] > 0
    runner_up = top[live, 1].clamp(min=0)
    return min((top[live, 0] - runner_up).min().item(), top[:, 0].abs().min().item())


def conv_blocks(maps, tensors, name, forms, norm, trace=None):
    """NHWC maps through the blocks {name}.{i}, with `forms` their keywords. `norm` is "batch" or "running"."""
    activation = maps.permute(0, 3, 1, 2)
    for i, form in enumerate(forms):
        prefix = f"{name}.{i}."
        block = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
        running = (block["running_mean"], block["running_variance"]) if norm == "running" else None
        activation = conv_block(activation, block, trace, running, **form)
    return activation.permute(0, 2, 3, 1)


def embed(images, tensors, norm, trace=None):
    """Conv4's feature vectors [n, F] of NHWC images, by the blocks encoder.blocks.{0..3}."""
    return conv_blocks(images, tensors, "encoder.blocks", [{}] * 4, norm, trace).flatten(1)


def running_targets(trace, names):
    """What each block's running averages move towards: the batch's mean and its *unbiased* variance."""
    targets = {}
    for name, (mean, variance, count) in zip(names, trace.statistics, strict=True):
        targets[f"stats.{name}.running_mean"] = mean
        targets[f"stats.{name}.running_variance"] = variance * count / (count - 1)
    return targets


def split(rows):
    """The rows of the support images and those of the queries."""
    return rows[:N_SUPPORT], rows[N_SUPPORT:]


def query_labels():
    return torch.arange(N_WAY).repeat_interleave(N_QUERY)


def gradients(loss, parameters, prefix=""):
    """{prefix}grad.{name} for every parameter; the graph is kept."""
    values = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True)
    return {f"{prefix}grad.{name}": value for name, value in zip(parameters, values, strict=True)}


def evaluated(evaluate, arrays, dtype):
    """What `evaluate` gives in `dtype`, as numpy arrays, and its smallest margin."""
    tensors = {name: torch.tensor(array, dtype=dtype) for name, array in arrays.items()}
    for parameter in trainable(tensors).values():
        parameter.requires_grad_()
    results, margin = evaluate(tensors)
    return {name: np.ascontiguousarray(t.detach().numpy()) for name, t in results.items()}, margin


def write_golden(path, program, inputs, evaluate, seed, facts):
    """Writes inputs and results; every result named loss or *.loss also as `_float64`."""
    inputs = {name: np.asarray(array).astype(np.float32) for name, array in inputs.items()}
    results, _ = evaluated(evaluate, inputs, torch.float32)
    exact, margin = evaluated(evaluate, inputs, torch.float64)
    # Relative to the largest entry of the tensor.
    noise = {name: float(np.abs(results[name] - exact[name]).max() / np.abs(exact[name]).max()) for name in results}

    losses = [name for name in results if name.split(".")[-1] == "loss"]
    arrays = inputs | results | {f"{name}_float64": exact[name] for name in losses}
    metadata = {
        "program": f"bench/reference/{program}",
        "torch": torch.__version__.split("+")[0],
        "numpy": np.__version__,
        "command": f"python bench/reference/{program} --seed {seed}",
        "seed": str(seed),
        "n_way": str(N_WAY),
        "n_shot": str(N_SHOT),
        "n_query": str(N_QUERY),
        "batch_norm_eps": str(BATCH_NORM_EPS),
        "f32_noise": json.dumps({name: float(f"{value:.2e}") for name, value in sorted(noise.items())}),
        "smallest_pooling_margin": f"{margin:.2e}",
    }
    metadata |= {name: str(value) for name, value in facts.items()}
    metadata |= {f"{name.replace('.', '_')}_float64": repr(float(exact[name][0])) for name in losses}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(arrays, path, metadata=metadata)

    worst = max(noise, key=noise.get)
    print(f"{path}: {path.stat().st_size} bytes, {len(arrays)} tensors")
    for name in losses:
        print(f"{name} {results[name][0]:.7f} (f64 {exact[name][0]:.12f})")
    print(f"largest f32 noise {noise[worst]:.1e} in {worst}; smallest pooling margin {margin:.1e}")


def main(program, description, files, seed, why):
    """The command line of a program. `files`: name of each golden file -> (inputs of a seed, evaluate, facts)."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--seed", type=int, default=seed, help=why)
    parser.add_argument("--out", type=Path, default=GOLDEN, help="folder of the golden files")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, (random_inputs, evaluate, facts) in files.items():
        path = options.out / f"{name}.safetensors"
        write_golden(path, program, random_inputs(options.seed), evaluate, options.seed, facts)
