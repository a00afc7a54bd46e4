#!/usr/bin/env python3
"""Compares kshot with PyTorch, side by side on this machine, and prints how many times as fast it is.

    cargo build --release -p kshot-bench
    bench/run.py --ours target/release/kshot-bench

For each case: every PyTorch mode (and JAX, with --jax) is measured a few times in turn; the fastest, and
those near it, stay loaded; then kshot and they run alternately, --pairs times, and each pair gives
one ratio. Without --ours only the peers are measured. See bench/README.md.
"""

import argparse
import os
import shlex
import shutil
import sys
from datetime import datetime
from pathlib import Path

from compare import machine, report
from compare.cases import ALL_MODES, CASES, ON_DEVICES
from compare.programs import Failed, ours, peer

BENCH = Path(__file__).resolve().parent
# A mode whose fastest qualifying run is within this factor of the best one's goes on to the pairs.
NEAR_THE_BEST = 1.10
# What the results say about how they came to be.
SETTINGS = ("pairs", "qualifying", "threads", "iterations", "device", "peer_device", "tf32")


def main():
    options = arguments()
    comparison = {
        "date": datetime.now().astimezone().isoformat(timespec="minutes"),
        "machine": machine.facts(options.python, options.ours, options.threads),
        "settings": {name: getattr(options, name) for name in SETTINGS},
        "cases": [],
    }
    for name in options.case:
        result = compare(CASES[name], options)
        report.summarise(result)
        comparison["cases"].append(result)
        # After every case, so that an interruption loses one case and not the afternoon.
        paths = report.write(comparison, options.out, options.name)
    print(report.markdown(comparison))
    say(f"written: {paths[0]} and {paths[1]}")
    if any(result["summary"] is None for result in comparison["cases"]):
        sys.exit(1)


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ours", metavar="COMMAND", help="kshot's benchmark binary, with leading arguments if any")
    parser.add_argument("--case", action="append", choices=CASES, help="only this case (repeatable; default all)")
    parser.add_argument("--mode", action="append", choices=ALL_MODES, help="only this mode of PyTorch (repeatable)")
    parser.add_argument("--device", default="flex", metavar="NAME", help="where kshot computes, as kshot-bench has it")
    parser.add_argument("--peer-device", choices=("cpu", "cuda"), default="cpu", help="where PyTorch computes")
    parser.add_argument("--tf32", choices=("on", "off"), default="on", help="PyTorch's convolutions on cuda; on is its default")
    parser.add_argument("--iterations", type=int, metavar="STEPS", help="of a run, in place of each case's own number")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--qualifying", type=int, default=3, metavar="RUNS", help="runs of every mode before the pairs")
    parser.add_argument("--jax", action="store_true", help="measure JAX among the modes, too")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--timeout", type=int, default=900, metavar="SECONDS", help="for one run, compilation included")
    parser.add_argument("--python", default=default_python(), help="of the peers' virtual environment")
    parser.add_argument("--out", type=Path, default=BENCH / "results", metavar="FOLDER")
    parser.add_argument("--name", default=f"{datetime.now():%Y-%m-%d-%H%M}", help="of the files written there")
    options = parser.parse_args()
    if min(options.pairs, options.qualifying, options.threads, options.iterations or 1) < 1 or options.iterations == 0:
        parser.error("--pairs, --qualifying, --threads and --iterations are at least 1")
    on_host = (options.device, options.peer_device) == ("flex", "cpu")
    known = [name for name, case in CASES.items() if on_host or case.task in ON_DEVICES]
    if options.case and not set(options.case) <= set(known):
        parser.error(f"beside the CPU there are only the cases {', '.join(known)}")
    options.case = options.case or known
    for name in options.case:
        modes = CASES[name].modes(options.peer_device)
        if options.mode and not set(options.mode) & set(modes):
            parser.error(f"--mode: {name} has the modes {', '.join(modes)}")
    if options.jax and not on_host:
        parser.error("--jax is for the CPU")
    if options.threads > len(os.sched_getaffinity(0)):
        parser.error(f"--threads {options.threads}: this machine lends {len(os.sched_getaffinity(0))} cores")
    if options.ours is not None:
        program = (shlex.split(options.ours) or [""])[0]
        if shutil.which(program) is None:
            parser.error(f"--ours {options.ours!r}: no such program; build it with cargo build --release -p kshot-bench")
    return options


def default_python():
    python = BENCH / ".venv/bin/python"
    return str(python) if python.exists() else sys.executable


def compare(case, options):
    """All runs of one case: `qualifying` of every mode, then `peers` and `ours` in pairs."""
    result = {
        "case": case.name, "says": case.says, "flags": case.flags, "iterations": options.iterations or case.iterations,
        "qualifying": [], "peers": {}, "ours": [], "load_average": [], "failures": [],
    }  # fmt: skip
    say(f"{case.name}: {case.says}")
    contenders = []
    try:
        contenders = start_all(case, options, result)
        finalists = qualify(contenders, options, result)
        if finalists and options.ours:
            play_pairs(case, finalists, options, result)
        else:
            result["peers"] = {run["mode"]: run["reports"] for run, _ in finalists}
    finally:
        for _, program in contenders:
            program.close()
    return result


def start_all(case, options, result):
    """Starts every mode, one after the other, and returns those that work with their (empty) records."""
    modes = [mode for mode in case.modes(options.peer_device) if not options.mode or mode in options.mode]
    wanted = [("pytorch", "step.py", mode) for mode in modes]
    if options.jax:
        wanted += [("jax", "step_jax.py", mode) for mode in ("jit", "jit+map")[: 2 if case.task == "maml" else 1]]
    contenders = []
    for program, script, mode in wanted:
        say(f"  starting {program} {mode}")
        record = {"program": program, "mode": mode, "reports": []}
        try:
            contenders.append((record, peer(script, mode, case, options)))
        except Failed as failure:
            note_failure(result, failure)
            continue
        result["qualifying"].append(record)
    return contenders


def qualify(contenders, options, result):
    """Measures every mode in turn and returns the PyTorch modes that may be the best."""
    for _ in range(options.qualifying):
        for record, program in contenders:
            try:
                record["reports"].append(program.run())
            except Failed as failure:
                note_failure(result, failure)
    torch = [entry for entry in contenders if entry[0]["program"] == "pytorch" and entry[0]["reports"]]
    for record, _ in contenders:
        if record["reports"]:
            say(f"  {record['program']} {record['mode']}: {fastest(record):.4g} s at best")
    if not torch:
        return []
    limit = NEAR_THE_BEST * min(fastest(record) for record, _ in torch)
    finalists = [entry for entry in torch if fastest(entry[0]) <= limit]
    for _, program in contenders:
        if all(program is not finalist for _, finalist in finalists):
            program.close()
    contenders[:] = finalists
    return finalists


def fastest(record):
    return min(report["seconds_per_step"] for report in record["reports"])


def play_pairs(case, finalists, options, result):
    """Ours and the finalists, alternately; ours is first in every other pair."""
    try:
        program = ours(case, options)
    except Failed as failure:
        note_failure(result, failure)
        return
    sides = [("ours", program)] + [(record["mode"], finalist) for record, finalist in finalists]
    try:
        for pair in range(options.pairs):
            play_pair(pair, sides, result)
    except Failed as failure:
        note_failure(result, failure)
    finally:
        program.close()


def play_pair(pair, sides, result):
    result["load_average"].append(os.getloadavg()[0])
    reports = {side: program.run() for side, program in (sides if pair % 2 == 0 else sides[::-1])}
    check_same_work(reports)
    result["ours"].append(reports.pop("ours"))
    for mode, peer_report in reports.items():
        result["peers"].setdefault(mode, []).append(peer_report)
    best = min(peer_report["seconds_per_step"] for peer_report in reports.values())
    say(f"  pair {pair + 1}: {best / result['ours'][-1]['seconds_per_step']:.2f} times as fast")


def check_same_work(reports):
    """Both sides must have seen the same number of images per step, or the ratio means nothing."""
    counts = {side: side_report["images"] for side, side_report in reports.items()}
    if len(set(counts.values())) != 1:
        sys.exit(f"the sides did different work: images per step {counts}")


def note_failure(result, failure):
    say(f"  failed: {failure}")
    result["failures"].append(str(failure))


def say(text):
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
