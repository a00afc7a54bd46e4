"""Golden file of one Prototypical Network episode (Snell, Swersky, Zemel 2017), by plain PyTorch.

Encoder: 4 x [conv 3x3 pad 1 without bias, batch norm (eps 1e-5, biased variance), ReLU, max-pool 2x2].
Support and query go through it together, in one pass, normalised by the statistics of that batch.
A class's prototype is the mean of its support embeddings. The loss is the mean negative log-likelihood
of the queries under softmax(logits), where the logits are

    squared Euclidean:  -|query - prototype|^2
    cosine:             COSINE_SCALE * cos(query, prototype)

common.py says how the images are ordered.

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

import torch.nn.functional as F

import common
from common import N_SHOT, N_WAY

N_BLOCKS, N_FILTERS = 4, 16
COSINE_SCALE = 10.0


def random_inputs(seed):
    """Images, parameters and running statistics."""
    rng = common.generator(seed)
    arrays = {"images": common.random_images(rng)}
    for i in range(N_BLOCKS):
        block = common.random_block(rng, 1 if i == 0 else N_FILTERS, N_FILTERS)
        for part in ("mean", "variance"):
            arrays[f"running.{i}.{part}"] = block.pop(f"running_{part}")
        arrays |= {f"encoder.blocks.{i}.{part}": array for part, array in block.items()}
    return arrays


def class_scores(embeddings, distance):
    """Logits [n_way * n_query, n_way] of the queries against the prototypes."""
    support, query = common.split(embeddings)
    prototypes = support.reshape(N_WAY, N_SHOT, -1).mean(dim=1)
    if distance == "cosine":
        return COSINE_SCALE * F.cosine_similarity(query[:, None], prototypes[None], dim=-1)
    return -((query[:, None] - prototypes[None]) ** 2).sum(dim=-1)


def evaluate(tensors):
    """Everything the file holds beyond its inputs."""
    parameters = common.trainable(tensors)
    trace = common.Trace()
    embeddings = common.embed(tensors["images"], tensors, "batch", trace)
    results = {"embeddings": embeddings}
    for i, (mean, variance, _) in enumerate(trace.statistics):
        results[f"stats.{i}.mean"], results[f"stats.{i}.variance"] = mean, variance

    for distance, prefix in (("squared_euclidean", ""), ("cosine", "cosine.")):
        logits = class_scores(embeddings, distance)
        loss = F.cross_entropy(logits, common.query_labels())
        results[f"{prefix}logits"], results[f"{prefix}loss"] = logits, loss.reshape(1)
        results |= common.gradients(loss, parameters, prefix)

    running = {
        f"encoder.blocks.{i}.running_{part}": tensors[f"running.{i}.{part}"]
        for i in range(N_BLOCKS)
        for part in ("mean", "variance")
    }
    results["embeddings_running"] = common.embed(tensors["images"], tensors | running, "running")
    return results, trace.margin


if __name__ == "__main__":
    files = {"prototypical": (random_inputs, evaluate, {"cosine_scale": COSINE_SCALE})}
    common.main("prototypical.py", __doc__, files, 1, "1 keeps every pooling window's margin above 3e-5")
