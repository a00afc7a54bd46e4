"""How a step is timed, and the one JSON line in which every program of the comparison reports it.

Keys of the line: program, version, mode, device, task, way, shot, query, tasks, inner_steps, images (per step),
iterations, threads, seconds_per_step (median), seconds_min, seconds_max, images_per_second,
tasks_per_second (MAML, evaluation), peak_rss_mib, loss (of the last step; null for inference).
"""

import argparse
import json
import os
import resource
import statistics
import sys
import time

TASKS = ("train", "infer", "resnet12", "maml", "eval")
# Tasks that a step on a GPU is written for.
DEVICE_TASKS = ("train", "infer", "resnet12")
METHODS = ("prototypical", "siamese", "matching", "relation")


def add_step_flags(parser):
    """The flags that every side of the comparison understands, ours included."""
    parser.add_argument("--task", choices=TASKS, default="train")
    parser.add_argument("--way", type=positive, default=60, help="classes per episode")
    parser.add_argument("--shot", type=positive, default=5, help="support images per class")
    parser.add_argument("--query", type=positive, default=5, help="query images per class")
    parser.add_argument("--images", type=positive, help="infer, resnet12: images per step in all")
    parser.add_argument("--tasks", type=positive, default=32, help="maml, eval: tasks per step")
    parser.add_argument("--method", choices=METHODS, default="prototypical", help="eval: whose episodes are answered")
    parser.add_argument("--inner-steps", type=positive, default=1, help="maml: inner steps per task")
    parser.add_argument("--iterations", type=positive, default=20, help="timed steps per run")
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help=f"cuda: for {', '.join(DEVICE_TASKS)}")
    parser.add_argument(
        "--on-demand",
        action="store_true",
        help="after warming up print a line 'ready', then do one run per line read from standard input",
    )


def positive(text):
    """An integer of at least 1, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def images_per_step(options):
    """How many images one step sees."""
    if options.task == "infer":
        return options.images or options.way * (options.shot + options.query)
    if options.task == "resnet12" and options.images:
        return options.images
    episode = options.way * (options.shot + options.query)
    return episode * options.tasks if options.task in ("maml", "eval") else episode


def use_threads(count):
    """Keeps this process on its first `count` cores. Call it before a library starts its threads."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def run(step, options, program, version, mode, warm_up):
    """Warms up, then measures `step()` once, or once per line of standard input with --on-demand."""
    for _ in range(warm_up):
        step()
    if not options.on_demand:
        print(json.dumps(measure(step, options, program, version, mode)), flush=True)
        return
    print("ready", flush=True)
    for _ in sys.stdin:
        step()  # the other program has had the caches since
        print(json.dumps(measure(step, options, program, version, mode)), flush=True)


def measure(step, options, program, version, mode):
    """One run: `options.iterations` steps, each timed by itself."""
    reset_peak_memory()
    seconds, loss = [], None
    for _ in range(options.iterations):
        start = time.perf_counter()
        loss = step()
        seconds.append(time.perf_counter() - start)
    median, n_images = statistics.median(seconds), images_per_step(options)
    many = options.task in ("maml", "eval")
    maml = options.task == "maml"
    return {
        "program": program,
        "version": version,
        "mode": mode,
        "device": options.device,
        "task": options.task,
        "way": options.way,
        "shot": options.shot,
        "query": options.query,
        "tasks": options.tasks if many else None,
        "inner_steps": options.inner_steps if maml else None,
        "images": n_images,
        "iterations": options.iterations,
        "threads": options.threads,
        "seconds_per_step": median,
        "seconds_min": min(seconds),
        "seconds_max": max(seconds),
        "images_per_second": n_images / median,
        "tasks_per_second": options.tasks / median if many else None,
        "peak_rss_mib": peak_memory_mib(),
        "loss": None if loss is None else float(loss),
    }


def reset_peak_memory():
    """Makes the kernel forget the peak so far (compilation and warm-up have one of their own)."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass  # peak_memory_mib then reports the peak of the whole process


def peak_memory_mib():
    """Largest resident memory since the reset, in MiB."""
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return round(int(line.split()[1]) / 1024, 1)
    except OSError:
        pass
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
