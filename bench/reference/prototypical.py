"""Golden file of one Prototypical Network episode (Snell, Swersky, Zemel 2017), by plain PyTorch.

Encoder: 4 x [conv 3x3 pad 1 without bias, batch norm (eps 1e-5, biased variance), ReLU, max-pool 2x2].
Support and query go through it together, in one pass, normalised by the statistics of that batch.
A class's prototype is the mean of its support embeddings. The loss is the mean negative log-likelihood
of the queries under softmax(logits), where the logits are

    squared Euclidean:  -|query - prototype|^2
    cosine:             COSINE_SCALE * cos(query, prototype)

Images are ordered support first, then query, each class by class: image s of class c is support
c * n_shot + s; query q of class c is n_way * n_shot + c * n_query + q. Class c has label c.

Tensors of the file (f32 unless said otherwise; F filters, n images, i = 0..3 the block):

    images                                   [n, 28, 28, 1]         NHWC, in [0, 1]
    encoder.blocks.{i}.weight                [3, 3, c_in, F]        height, width, in, out
    encoder.blocks.{i}.gamma | beta          [F]                    batch norm's scale and shift
    stats.{i}.mean | variance                [F]                    of the batch, before the norm; biased
    embeddings                               [n, F]                 flattened as height, width, channel
    logits, cosine.logits                    [n_way * n_query, n_way]
    loss, cosine.loss                        [1]
    loss_float64, cosine.loss_float64        [1], f64               the same evaluated in f64
    grad.encoder.blocks.{i}.*                as the parameter       of loss
    cosine.grad.encoder.blocks.{i}.*         as the parameter       of cosine.loss
    running.{i}.mean | variance              [F]                    given running statistics
    embeddings_running                       [n, F]                 normalised by those instead

Run it from anywhere: python bench/reference/prototypical.py
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

N_WAY, N_SHOT, N_QUERY = 5, 2, 3
N_BLOCKS, N_FILTERS, IMAGE_SIZE = 4, 16, 28
BATCH_NORM_EPS = 1e-5
COSINE_SCALE = 10.0
GOLDEN = Path(__file__).resolve().parents[2] / "crates/kshot/tests/golden/prototypical.safetensors"


def random_inputs(seed):
    """Images, parameters and running statistics as f32 numpy arrays, all from one PCG64 stream."""
    rng = np.random.Generator(np.random.PCG64(seed))
    n_images = N_WAY * (N_SHOT + N_QUERY)
    arrays = {"images": rng.random((n_images, IMAGE_SIZE, IMAGE_SIZE, 1))}
    channels_in = 1
    for i in range(N_BLOCKS):
        fan_in = 9 * channels_in
        block = f"encoder.blocks.{i}"
        arrays[f"{block}.weight"] = rng.standard_normal((3, 3, channels_in, N_FILTERS)) * np.sqrt(2 / fan_in)
        # Not 1 and 0: a program that forgot the scale or the shift must not pass.
        arrays[f"{block}.gamma"] = rng.uniform(0.5, 1.5, N_FILTERS)
        arrays[f"{block}.beta"] = 0.1 * rng.standard_normal(N_FILTERS)
        arrays[f"running.{i}.mean"] = 0.3 * rng.standard_normal(N_FILTERS)
        arrays[f"running.{i}.variance"] = rng.uniform(0.5, 2.0, N_FILTERS)
        channels_in = N_FILTERS
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def encode(images, parameters, running=None):
    """Embeddings [n, h * w * F] of NHWC images, the per-block batch statistics, and the smallest margin.

    The margin says by how much the winner of a pooling window beats the runner-up (or zero, at the
    ReLU): where it is not far above f32 rounding, two correct programs may route a gradient differently
    (seed 7, at 1.6e-6, shows it: f32 and f64 differ by 0.7 % there), so choose a seed with a wide one.
    """
    activation = images.permute(0, 3, 1, 2)
    statistics, margin = [], float("inf")
    for i in range(N_BLOCKS):
        weight, gamma, beta = (parameters[f"encoder.blocks.{i}.{part}"] for part in ("weight", "gamma", "beta"))
        convolved = F.conv2d(activation, weight.permute(3, 2, 0, 1), padding=1)
        statistics.append((convolved.mean(dim=(0, 2, 3)), convolved.var(dim=(0, 2, 3), unbiased=False)))
        mean, variance = running[i] if running else (None, None)
        normalised = F.batch_norm(
            convolved, mean, variance, gamma, beta, training=running is None, eps=BATCH_NORM_EPS
        )
        margin = min(margin, smallest_margin(normalised.detach()))
        activation = F.max_pool2d(F.relu(normalised), 2)
    return activation.permute(0, 2, 3, 1).flatten(1), statistics, margin


def smallest_margin(normalised):
    """How near the nearest call of ReLU and 2x2 max-pool is, over all windows with a positive winner."""
    n, channels, height, width = normalised.shape
    height, width = height // 2 * 2, width // 2 * 2
    windows = normalised[:, :, :height, :width].unfold(2, 2, 2).unfold(3, 2, 2).reshape(-1, 4)
    top = windows.sort(dim=1, descending=True).values
    live = top[:, 0] > 0
    runner_up = top[live, 1].clamp(min=0)
    return min((top[live, 0] - runner_up).min().item(), top[:, 0].abs().min().item())


def class_scores(embeddings, distance):
    """Logits [n_way * n_query, n_way] of the queries against the prototypes."""
    support, query = embeddings.split([N_WAY * N_SHOT, N_WAY * N_QUERY])
    prototypes = support.reshape(N_WAY, N_SHOT, -1).mean(dim=1)
    if distance == "cosine":
        return COSINE_SCALE * F.cosine_similarity(query[:, None], prototypes[None], dim=-1)
    return -((query[:, None] - prototypes[None]) ** 2).sum(dim=-1)


def evaluate(arrays, dtype):
    """Everything the file holds beyond its inputs, evaluated in `dtype`, as numpy arrays of `dtype`."""
    tensors = {name: torch.tensor(array, dtype=dtype) for name, array in arrays.items()}
    parameters = {name: t.requires_grad_() for name, t in tensors.items() if name.startswith("encoder.")}
    labels = torch.arange(N_WAY).repeat_interleave(N_QUERY)
    results = {}

    embeddings, statistics, margin = encode(tensors["images"], parameters)
    results["embeddings"] = embeddings
    for i, (mean, variance) in enumerate(statistics):
        results[f"stats.{i}.mean"], results[f"stats.{i}.variance"] = mean, variance

    for distance, prefix in (("squared_euclidean", ""), ("cosine", "cosine.")):
        logits = class_scores(embeddings, distance)
        loss = F.cross_entropy(logits, labels)
        gradients = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True)
        results[f"{prefix}logits"], results[f"{prefix}loss"] = logits, loss.reshape(1)
        results |= {f"{prefix}grad.{name}": gradient for name, gradient in zip(parameters, gradients)}

    running = [(tensors[f"running.{i}.mean"], tensors[f"running.{i}.variance"]) for i in range(N_BLOCKS)]
    results["embeddings_running"] = encode(tensors["images"], parameters, running)[0]
    return {name: np.ascontiguousarray(t.detach().numpy()) for name, t in results.items()}, margin


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="1 keeps every pooling window's margin above 3e-5")
    parser.add_argument("--out", type=Path, default=GOLDEN)
    options = parser.parse_args()
    torch.set_num_threads(1)

    inputs = random_inputs(options.seed)
    results, _ = evaluate(inputs, torch.float32)
    exact, margin = evaluate(inputs, torch.float64)
    # Relative to the largest entry of the tensor.
    noise = {name: float(np.abs(results[name] - exact[name]).max() / np.abs(exact[name]).max()) for name in results}

    arrays = inputs | results
    for name in ("loss", "cosine.loss"):
        arrays[f"{name}_float64"] = exact[name]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    metadata = {
        "program": "bench/reference/prototypical.py",
        "torch": torch.__version__.split("+")[0],
        "numpy": np.__version__,
        "command": f"python bench/reference/prototypical.py --seed {options.seed}",
        "seed": str(options.seed),
        "n_way": str(N_WAY),
        "n_shot": str(N_SHOT),
        "n_query": str(N_QUERY),
        "batch_norm_eps": str(BATCH_NORM_EPS),
        "cosine_scale": str(COSINE_SCALE),
        "loss_float64": repr(float(exact["loss"][0])),
        "cosine_loss_float64": repr(float(exact["cosine.loss"][0])),
        "f32_noise": json.dumps({name: float(f"{value:.2e}") for name, value in sorted(noise.items())}),
        "smallest_pooling_margin": f"{margin:.2e}",
    }
    save_file(arrays, options.out, metadata=metadata)

    worst = max(noise, key=noise.get)
    print(f"{options.out}: {options.out.stat().st_size} bytes, {len(arrays)} tensors")
    print(f"loss {results['loss'][0]:.7f} (f64 {exact['loss'][0]:.12f}), cosine {results['cosine.loss'][0]:.7f}")
    print(f"largest f32 noise {noise[worst]:.1e} in {worst}; smallest pooling margin {margin:.1e}")


if __name__ == "__main__":
    main()
