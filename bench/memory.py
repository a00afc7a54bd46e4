#!/usr/bin/env python3
"""Peak memory and speed of exact second-order MAML over the number of inner steps, kshot's and PyTorch's.

    cargo build --release -p kshot-bench
    bench/memory.py --ours target/release/kshot-bench --python bench/.venv/bin/python --out bench/results/memory.csv

Each line is a process of its own: program, mode, inner steps, peak resident MiB, tasks per second. Without --python
only kshot is measured. kshot's peak is that of its whole process, PyTorch's that of its timed steps.
"""

import argparse
import csv
import json
import shlex
import subprocess
import sys
from pathlib import Path

STEP = Path(__file__).resolve().parent / "peers/step.py"
COLUMNS = ("program", "mode", "inner_steps", "peak_rss_mib", "tasks_per_second")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", required=True, metavar="COMMAND", help="kshot's benchmark binary")
    parser.add_argument("--python", help="of the peers' virtual environment; without it only kshot is measured")
    parser.add_argument("--modes", nargs="+", default=["eager", "vmap"], help="PyTorch's modes")
    parser.add_argument("--steps", nargs="+", type=int, default=[1, 2, 5, 10, 20], help="numbers of inner steps")
    parser.add_argument("--tasks", type=int, default=4, help="tasks per meta-step")
    parser.add_argument("--query", type=int, default=15, help="queries per class")
    parser.add_argument("--iterations", type=int, default=3, help="timed steps per process")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="a CSV file; without it the lines go to standard output")
    options = parser.parse_args()

    programs = [("kshot", "", shlex.split(options.ours))]
    if options.python:
        programs += [("pytorch", mode, [options.python, str(STEP), "--mode", mode]) for mode in options.modes]
    rows = [measure(*program, steps, options) for program in programs for steps in options.steps]
    with open(options.out, "w", newline="") if options.out else sys.stdout as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def measure(program, mode, command, steps, options):
    flags = ["--task", "maml", "--way", "5", "--shot", "1", "--inner-steps", str(steps)]
    for name in ("query", "tasks", "iterations", "threads"):
        flags += [f"--{name}", str(getattr(options, name))]
    done = subprocess.run([*command, *flags], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{shlex.join([*command, *flags])}: exit code {done.returncode}: {done.stderr[-300:]}")
    report = json.loads(done.stdout.strip().splitlines()[-1])
    row = {"program": program, "mode": mode, "inner_steps": steps}
    row |= {"peak_rss_mib": round(report["peak_rss_mib"], 1), "tasks_per_second": round(report["tasks_per_second"], 2)}
    print(row, file=sys.stderr, flush=True)
    return row


if __name__ == "__main__":
    main()
