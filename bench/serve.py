#!/usr/bin/env python3
"""Throughput and latency of `POST /classify`: `kshot serve` beside the same model behind FastAPI and PyTorch.

    cargo build --release
    bench/serve.py --kshot target/release/kshot [--model MODEL] [--seconds 8]

Both get the same classes (generated signs, 20 of 5 examples) and the same pictures, one per request, from `wrk` over 1,
16 and 256 connections, in turn, on one machine. Before anything is timed, both must say the same of every picture.
"""

import argparse
import base64
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

BENCH = Path(__file__).resolve().parent
CONNECTIONS = (1, 16, 256)

# wrk's script: the pictures in turn, and the result as one line of JSON.
SCRIPT = """
local requests, at = {}, 0
init = function(args)
  for i, path in ipairs(args) do
    local file = io.open(path, "rb")
    requests[i] = wrk.format("POST", "/classify?evidence=0", {["content-type"] = "image/png"}, file:read("*a"))
    file:close()
  end
end
request = function() at = at % #requests + 1; return requests[at] end
done = function(summary, latency)
  io.write(string.format('RESULT {"requests": %d, "seconds": %.4f, "p50": %.4f, "p99": %.4f, "max": %.4f, "errors": %d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout))
end
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kshot", required=True, help="the binary")
    parser.add_argument("--model", help="for the store; default: kshot's own")
    parser.add_argument("--seconds", type=int, default=8, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=1, help="how often each is measured; the median counts")
    parser.add_argument("--python", default=os.environ.get("KSHOT_BENCH_PYTHON", str(BENCH / ".venv/bin/python")))
    parser.add_argument("--json", metavar="FILE", help="write the numbers there, too")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed (Debian: apt install wrk)")
    with tempfile.TemporaryDirectory() as folder:
        results = compare(Path(folder), options)
    print(table(results))
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1))


def compare(folder, options):
    script = folder / "load.lua"
    script.write_text(SCRIPT)
    port = free_port()
    command = [options.kshot, "serve", str(folder / "bench.kshot"), "--addr", f"127.0.0.1:{port}", "--log", "warn"]
    kshot = start(command + (["--model", options.model] if options.model else []), port)
    results, peers = {}, []
    try:
        pictures, weights = prepare(folder, port)
        targets = {"kshot serve": port}
        for workers in (1, 2):
            peer_port = free_port()
            peers.append(start(
                [options.python, str(BENCH / "peers/serve_fastapi.py"), "--weights", str(weights), "--examples",
                 str(folder / "examples"), "--port", str(peer_port), "--workers", str(workers)], peer_port))
            targets[f"FastAPI + PyTorch, {workers} worker{'s' * (workers > 1)}"] = peer_port
        check(pictures, targets)
        for connections in CONNECTIONS:
            runs = {name: [] for name in targets}
            for _ in range(options.rounds):
                for name, at in targets.items():
                    runs[name].append(load(script, at, connections, pictures, options.seconds))
            for name, all_runs in runs.items():
                all_runs.sort(key=lambda run: run["per_second"])
                results.setdefault(name, {})[connections] = all_runs[len(all_runs) // 2]
    finally:
        for process in (kshot, *peers):
            process.terminate()
            process.wait()
    return results


def prepare(folder, port):
    """Classes for both; gives the pictures to ask about and the weights."""
    made = ask(port, "POST", "/v1/samples", {"n_classes": 20, "n_examples": 5})
    for one in made["classes"]:
        place = folder / "examples" / one["name"]
        place.mkdir(parents=True)
        listed = ask(port, "GET", f"/v1/classes/{urllib.request.quote(one['name'])}/examples?pictures=true")
        for index, example in enumerate(listed["examples"]):
            (place / f"{index}.png").write_bytes(decoded(example["picture"]))
    pictures = []
    for index, one in enumerate(made["unseen"]):
        pictures.append(folder / f"query{index}.png")
        pictures[-1].write_bytes(decoded(one["picture"]))
    store = folder / "copy.kshot"
    store.write_bytes(ask(port, "GET", "/v1/store", raw=True))
    weights = folder / "weights.safetensors"
    with sqlite3.connect(store) as database:
        weights.write_bytes(database.execute("SELECT bytes FROM model").fetchone()[0])
    return pictures, weights


def check(pictures, targets):
    """All must say the same, or they don't serve the same model."""
    said = {
        name: [ask(port, "POST", "/classify", path.read_bytes())["ranked"][0]["label"] for path in pictures]
        for name, port in targets.items()
    }
    first, *others = said.values()
    for name, labels in zip(list(said)[1:], others):
        same = sum(a == b for a, b in zip(first, labels))
        print(f"{name}: {same} of {len(labels)} answers as kshot's", file=sys.stderr)
        if same < 0.95 * len(labels):
            sys.exit("that is another model")


def load(script, port, connections, pictures, seconds):
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script), f"http://127.0.0.1:{port}/", "--"]
    output = subprocess.run([*command, *map(str, pictures)], capture_output=True, text=True, check=True).stdout
    result = json.loads(re.search(r"RESULT (.*)", output).group(1))
    result["per_second"] = result["requests"] / result["seconds"]
    print(f"port {port}, {connections} connections: {result['per_second']:.0f} requests/s, p99 {result['p99']:.2f} ms", file=sys.stderr)
    return result


def table(results):
    lines = ["| | connections | requests/s | p50, ms | p99, ms | errors |", "|---|---|---|---|---|---|"]
    for name, by_connections in results.items():
        for connections, run in by_connections.items():
            lines.append(f"| {name} | {connections} | {run['per_second']:,.0f} | {run['p50']:.2f} | {run['p99']:.2f} | {run['errors']} |")
    ours = results["kshot serve"]
    for connections in CONNECTIONS:
        best = max((other[connections] for name, other in results.items() if name != "kshot serve"), key=lambda run: run["per_second"])
        ratio = ours[connections]["per_second"] / best["per_second"]
        lines.append(f"\n{connections} connections: {ratio:.1f} times the better FastAPI, p99 {ours[connections]['p99']:.2f} ms to {best['p99']:.2f} ms")
    return "\n".join(lines)


def ask(port, method, path, body=None, raw=False):
    data, kind = (body, "image/png") if isinstance(body, bytes) else (json.dumps(body).encode() if body else None, "application/json")
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=data, method=method, headers={"content-type": kind})
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = response.read()
    return answer if raw else json.loads(answer)


def decoded(address):
    return base64.b64decode(address.split(",", 1)[1])


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def start(command, port):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    for _ in range(600):
        if process.poll() is not None:
            sys.exit(f"{command[0]} ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return process
        except OSError:
            time.sleep(0.1)
    sys.exit(f"{command[0]} does not listen on port {port}")


if __name__ == "__main__":
    main()
