"""The same steps as step.py in JAX on the CPU: jit, NHWC, one JSON line per run.

    python step_jax.py --task train --way 60 --shot 5 --query 5 --iterations 20

MAML runs its tasks by vmap (--mode jit) or one after the other in one program (--mode jit+map).
"""

import argparse
import os

from measure import add_step_flags, images_per_step, run, use_threads

BATCH_NORM_EPS = 1e-5
N_BATCHES = 4


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_step_flags(parser)
    parser.add_argument("--mode", default="jit", choices=("jit", "jit+map"))
    options = parser.parse_args()
    if options.mode == "jit+map" and options.task != "maml":
        parser.error("--mode jit+map is for --task maml")
    if options.device != "cpu":
        parser.error(f"--device {options.device}: these steps are for the CPU")
    # JAX starts as many threads as it may use cores.
    use_threads(options.threads)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")

    import jax

    run(build(options), options, "jax", jax.__version__, options.mode, warm_up=3)


def build(options):
    import jax
    import jax.numpy as jnp
    from jax import lax

    key = jax.random.key(1)

    def normal(shape, fan_in):
        nonlocal key
        key, used = jax.random.split(key)
        return jax.random.normal(used, shape) * (2 / fan_in) ** 0.5

    def uniform(shape):
        nonlocal key
        key, used = jax.random.split(key)
        return jax.random.uniform(used, shape)

    def conv_norm_weights(side, channels_in, channels_out):
        return {
            "weight": normal((side, side, channels_in, channels_out), side * side * channels_in),
            "gamma": jnp.ones(channels_out),
            "beta": jnp.zeros(channels_out),
        }

    def convolve(x, weight):
        return lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def conv_norm(x, weights):
        x = convolve(x, weights["weight"])
        mean = x.mean(axis=(0, 1, 2))
        variance = jnp.square(x).mean(axis=(0, 1, 2)) - jnp.square(mean)
        scale = weights["gamma"] * lax.rsqrt(variance + BATCH_NORM_EPS)
        return x * scale + (weights["beta"] - mean * scale)

    def max_pool(x):
        # As a maximum of four strided views: its gradient took 2 ms where that of a maximum over axes took 11
        # and reduce_window's 173 (64 images of 28x28x64, the fastest of 30, jax 0.10.2).
        height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
        corners = [x[:, row:height:2, column:width:2] for row in (0, 1) for column in (0, 1)]
        return jnp.maximum(jnp.maximum(*corners[:2]), jnp.maximum(*corners[2:]))

    def conv4_weights():
        return [conv_norm_weights(3, c, 64) for c in (1, 64, 64, 64)]

    def conv4(weights, x):
        for block in weights:
            x = max_pool(jax.nn.relu(conv_norm(x, block)))
        return x.reshape(len(x), -1)

    def resnet12_weights():
        channels = (3, 64, 128, 256, 512)
        return [
            {"layers": [conv_norm_weights(3, c, d) for c, d in ((a, b), (b, b), (b, b))],
             "shortcut": conv_norm_weights(1, a, b)}
            for a, b in zip(channels, channels[1:])
        ]  # fmt: skip

    def leaky(x):
        return jax.nn.leaky_relu(x, 0.1)

    def resnet12(weights, x):
        for block in weights:
            first, second, third = block["layers"]
            inner = conv_norm(leaky(conv_norm(leaky(conv_norm(x, first)), second)), third)
            x = max_pool(leaky(inner + conv_norm(x, block["shortcut"])))
        return x.mean(axis=(1, 2))

    def labels_of(n_queries):
        labels = jnp.arange(options.way)
        if n_queries % options.way == 0:
            return jnp.repeat(labels, n_queries // options.way)
        return jnp.arange(n_queries) % options.way

    def negative_log_likelihood(logits, labels):
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1).mean()

    def adam(weights, gradients, state):
        count, first, second = state
        count = count + 1
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)
        rate = 1e-3 / (1 - 0.9**count)
        correction = 1 / (1 - 0.999**count)
        weights = jax.tree.map(
            lambda w, m, v: w - rate * m / (jnp.sqrt(v * correction) + 1e-8), weights, first, second
        )
        return weights, (count, first, second)

    def training(loss_of, weights, inputs):
        """A step closure of value, gradient and Adam in one compiled program."""
        zeros = jax.tree.map(jnp.zeros_like, weights)
        state = (jnp.zeros(()), zeros, jax.tree.map(jnp.copy, zeros))

        @jax.jit
        def update(weights, state, x):
            loss, gradients = jax.value_and_grad(loss_of)(weights, x)
            return loss, *adam(weights, gradients, state)

        turn = 0

        def step():
            nonlocal weights, state, turn
            loss, weights, state = update(weights, state, inputs[turn % len(inputs)])
            turn += 1
            jax.block_until_ready(weights)
            return loss

        return step

    n_images = images_per_step(options)
    n_support = options.way * options.shot

    if options.task in ("train", "resnet12"):
        size, channels = (28, 1) if options.task == "train" else (84, 3)
        encode = conv4 if options.task == "train" else resnet12
        labels = labels_of(n_images - n_support)

        def metric_loss(weights, images):
            embeddings = encode(weights, images)
            prototypes = embeddings[:n_support].reshape(options.way, options.shot, -1).mean(axis=1)
            logits = 2 * embeddings[n_support:] @ prototypes.T - jnp.square(prototypes).sum(axis=1)
            return negative_log_likelihood(logits, labels)

        weights = conv4_weights() if options.task == "train" else resnet12_weights()
        return training(metric_loss, weights, [uniform((n_images, size, size, channels)) for _ in range(N_BATCHES)])

    if options.task == "infer":
        folded = [(block["weight"], uniform((64,))) for block in conv4_weights()]
        inputs = [uniform((n_images, 28, 28, 1)) for _ in range(N_BATCHES)]

        @jax.jit
        def embed(folded, x):
            for weight, bias in folded:
                x = max_pool(jax.nn.relu(convolve(x, weight) + bias))
            return x.reshape(len(x), -1)

        turn = 0

        def infer():
            nonlocal turn
            embed(folded, inputs[turn % N_BATCHES]).block_until_ready()
            turn += 1

        return infer

    inner_lr = 0.4 if options.inner_steps == 1 else 0.1
    per_task = n_images // options.tasks
    support_labels, labels = labels_of(n_support), labels_of(per_task - n_support)

    def classify_loss(weights, images, labels):
        embeddings = conv4(weights["encoder"], images)
        return negative_log_likelihood(embeddings @ weights["head"] + weights["bias"], labels)

    def adapted_loss(weights, images):
        for _ in range(options.inner_steps):
            gradients = jax.grad(classify_loss)(weights, images[:n_support], support_labels)
            weights = jax.tree.map(lambda w, g: w - inner_lr * g, weights, gradients)
        return classify_loss(weights, images[n_support:], labels)

    def meta_loss(weights, images):
        if options.mode == "jit+map":
            return lax.map(lambda task: adapted_loss(weights, task), images).mean()
        return jax.vmap(adapted_loss, in_axes=(None, 0))(weights, images).mean()

    weights = {
        "encoder": conv4_weights(),
        "head": normal((64, options.way), 64),
        "bias": jnp.zeros(options.way),
    }
    return training(meta_loss, weights, [uniform((options.tasks, per_task, 28, 28, 1)) for _ in range(2)])


if __name__ == "__main__":
    main()
