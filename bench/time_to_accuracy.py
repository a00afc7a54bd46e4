#!/usr/bin/env python3
"""Seconds from a fresh network to a validation accuracy on Omniglot, kshot's and PyTorch's.

    bench/time_to_accuracy.py --kshot target/release/kshot --data-dir DIR [--python bench/.venv/bin/python] [--runs 1]

The same recipe on both sides: Prototypical networks, 60-way 1-shot episodes with 5 queries of Vinyals' training
classes (turned characters are classes of their own), Adam 1e-3 halved every 2,000 episodes, no augmentation; after every 50
episodes 100 validation episodes of 20-way 1-shot of the validation classes. The clock runs from the first episode on, validation
included, until the accuracy is reached. Prints a line per run, which differ in their seed, and the median of the ratios.
"""

import argparse
import json
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main():
    options = arguments()
    rows = []
    for seed in range(1, options.runs + 1):
        rows.append((seed, ours(options, seed), theirs(options, seed)))
        kshot, pytorch = rows[-1][1:]
        print(
            f"seed {seed}: kshot {kshot[0]:.1f} s ({kshot[1]} episodes), PyTorch {pytorch[0]:.1f} s ({pytorch[1]} episodes), "
            f"{pytorch[0] / kshot[0]:.2f} times as fast",
            flush=True,
        )
    ratio = statistics.median(pytorch[0] / kshot[0] for _, kshot, pytorch in rows)
    print(f"{options.target:.0%} of 20-way 1-shot: {ratio:.2f} times as fast (median of {len(rows)})")


def ours(options, seed):
    """(seconds, episodes) until the trace has the accuracy; then the training is interrupted."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [options.kshot, "train", "prototypical", "--data", "omniglot", "--data-dir", options.data_dir, "--out", run]
        command += ["--split", "vinyals", "--rotations", "all", "--train-on", "train", "--way", 60, "--shot", 1, "--query", 5]
        command += ["--schedule", "halving", "--halve-every", 2000, "--val-way", 20, "--val-shot", 1, "--val-query", 5]
        command += ["--val-episodes", 100, "--val-interval", 50, "--episodes", 20000, "--threads", options.threads, "--seed", seed]
        process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            while process.poll() is None:
                found = reached(run / "trace.jsonl", options.target)
                if found:
                    return found
                time.sleep(0.2)
            found = reached(run / "trace.jsonl", options.target)
            if not found:
                sys.exit(f"kshot did not get there: {process.stderr.read()[-2000:]}")
            return found
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def reached(trace, target):
    if not trace.is_file():
        return None
    for line in trace.read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # a line that is being written
            continue
        if entry.get("val_accuracy", 0.0) >= target:
            return entry["seconds"], entry["episode"]
    return None


def theirs(options, seed):
    command = [options.python, HERE / "peers" / "time_to_accuracy.py", "--data-dir", options.data_dir, "--mode", options.mode, "--partition", "vinyals"]
    command += ["--target", options.target, "--threads", options.threads, "--seed", seed]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"PyTorch's program failed: {done.stderr[-2000:]}")
    answer = json.loads(done.stdout.splitlines()[-1])
    if not answer["reached"]:
        sys.exit(f"PyTorch's program did not get there: {answer}")
    return answer["seconds"], answer["episodes"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kshot", required=True, help="the binary")
    parser.add_argument("--data-dir", required=True, help="folder that holds omniglot/ with its zip files")
    parser.add_argument("--python", default=str(HERE / ".venv" / "bin" / "python"), help="one with PyTorch")
    parser.add_argument("--mode", default="channels_last", help="PyTorch's, see peers/step.py; take the one that bench/run.py finds fastest")
    parser.add_argument("--target", type=float, default=0.95)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    for name in ("kshot", "python"):
        if not shutil.which(getattr(options, name)):
            parser.error(f"--{name}: {getattr(options, name)} is no program; build or install it first (see bench/README.md)")
    if not (Path(options.data_dir) / "omniglot").is_dir():
        parser.error(f"--data-dir: {options.data_dir} has no omniglot/")
    if options.runs < 1:
        parser.error("--runs: at least 1")
    return options


if __name__ == "__main__":
    main()
