"""How long PyTorch takes from a fresh network to a validation accuracy on Omniglot.

    python time_to_accuracy.py --data-dir DIR --shot 1

The recipe of Prototypical Networks (Snell et al. 2017): 60-way episodes with 5 queries, Adam 1e-3 halved
every 2,000 episodes. Every --every episodes the network is tested on 20-way 1-shot episodes of classes
that it was not trained on, in eval mode (running batch-norm statistics). It stops at --target and prints
one JSON line: seconds (all of it, from the start of training, compilation and validation included),
and what of that was training, compiling and validating; progress goes to standard error.
"""

import argparse
import json
import sys
import time

from measure import peak_memory_mib, positive, use_threads
from step import MODES, restart_tuned

VALIDATION_WAY, VALIDATION_SHOT, VALIDATION_QUERY = 20, 1, 5


def main():
    options = arguments()
    restart_tuned(options.threads)
    use_threads(options.threads)

    import numpy as np
    import torch

    import omniglot
    from models import Conv4, prototypical_loss, query_labels
    from steps import compile_whole, memory_format

    torch.set_flush_denormal(True)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)

    start = time.perf_counter()
    train, validation = omniglot.load(options.data_dir, options.partition)
    loading = time.perf_counter() - start
    say(f"{len(train)} training and {len(validation)} validation classes read in {loading:.1f} s")

    parts = options.mode.split("+")
    layout = memory_format("channels_last" in parts)
    model = Conv4().to(memory_format=layout)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2000, gamma=0.5)
    labels = query_labels(options.way, options.way * options.query)

    def loss_of(images):
        return prototypical_loss(model(images), options.way, options.shot, labels)

    loss_of = compile_whole(loss_of, "compile" in parts)
    # The same episodes at every validation.
    validation_rng = np.random.default_rng(options.seed + 1)
    validation_shape = (VALIDATION_WAY, VALIDATION_SHOT, VALIDATION_QUERY)
    validation_episodes = [
        omniglot.draw_episode(validation, *validation_shape, validation_rng).contiguous(memory_format=layout)
        for _ in range(options.validation_episodes)
    ]

    def train_episode():
        images = omniglot.draw_episode(train, options.way, options.shot, options.query, rng)
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(images.contiguous(memory_format=layout))
        loss.backward()
        optimizer.step()
        schedule.step()
        return loss.item()

    start, seconds = time.perf_counter(), {"training": 0.0, "compiling": 0.0, "validating": 0.0}
    accuracy, episode, loss = 0.0, 0, float("nan")
    model.train()
    while accuracy < options.target and episode < options.max_episodes:
        before = time.perf_counter()
        loss = train_episode()
        episode += 1
        # The first step compiles, where the mode does; in the other modes it is a step like any.
        first = episode == 1 and "compile" in parts
        seconds["compiling" if first else "training"] += time.perf_counter() - before
        if episode % options.every == 0:
            before = time.perf_counter()
            accuracy = validate(model, validation_episodes)
            seconds["validating"] += time.perf_counter() - before
            say(f"episode {episode}: loss {loss:.3f}, validation accuracy {accuracy:.4f}, {seconds['training']:.1f} s")
    total = time.perf_counter() - start
    print(
        json.dumps({
            "program": "pytorch", "version": torch.__version__.split("+")[0], "mode": options.mode,
            "partition": options.partition, "way": options.way, "shot": options.shot, "query": options.query,
            "seed": options.seed, "threads": options.threads, "target": options.target,
            "reached": accuracy >= options.target, "accuracy": accuracy, "episodes": episode, "loss": loss,
            "seconds": total, "seconds_training": seconds["training"], "seconds_compiling": seconds["compiling"],
            "seconds_validating": seconds["validating"], "seconds_loading": loading,
            "peak_rss_mib": peak_memory_mib(),
        })
    )  # fmt: skip


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", required=True, help="folder that holds omniglot/ with its zip files")
    parser.add_argument("--partition", choices=("official", "vinyals"), default="official")
    parser.add_argument("--mode", choices=MODES, default="compile+channels_last")
    parser.add_argument("--way", type=positive, default=60)
    parser.add_argument("--shot", type=positive, default=1)
    parser.add_argument("--query", type=positive, default=5)
    parser.add_argument("--target", type=float, default=0.95)
    parser.add_argument("--every", type=positive, default=50, help="episodes between validations")
    parser.add_argument("--validation-episodes", type=positive, default=100)
    parser.add_argument("--max-episodes", type=positive, default=20_000)
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def validate(model, episodes):
    """Mean accuracy over 20-way 1-shot episodes."""
    import torch

    from models import query_labels

    labels = query_labels(VALIDATION_WAY, VALIDATION_WAY * VALIDATION_QUERY)
    model.eval()
    with torch.inference_mode():
        right = 0
        for images in episodes:
            support, query = model(images).split([VALIDATION_WAY * VALIDATION_SHOT, len(labels)])
            right += (torch.cdist(query, support).argmin(dim=1) == labels).sum().item()
    model.train()
    return right / (len(episodes) * len(labels))


def say(text):
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
