#!/usr/bin/env python3
"""A store of 10,000 classes of 5 examples: what adding a class and recognising a picture take, over HTTP.

    cargo build --release
    bench/large_store.py --kshot target/release/kshot [--classes 10000] [--examples 5]

The server makes the store and its model; the classes are then written into its file: embeddings drawn around centres of
their own, with the mean and deviation of real ones, beside one and the same picture. What is measured then is all real: new
classes of 5 drawings that nobody has seen are sent, decoded, embedded and on the disk when they are answered, and
drawings are recognised against all classes, with one request after the other on one connection.

    quiet          recognising, nothing else going on
    after adding   the one request after each new class
    while adding   recognising, while another connection adds a class every 200 ms
"""

import argparse
import http.client
import json
import os
import random
import sqlite3
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import zlib
from array import array
from pathlib import Path

from serve import free_port, start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kshot", required=True, help="the binary")
    parser.add_argument("--classes", type=int, default=10_000)
    parser.add_argument("--examples", type=int, default=5, help="of each class")
    parser.add_argument("--requests", type=int, default=500, help="pictures recognised in each measurement")
    parser.add_argument("--added", type=int, default=30, help="classes added")
    parser.add_argument("--store", help="keep the filled store there, and use it if it is there")
    parser.add_argument("--json", metavar="FILE", help="write the numbers there, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(options.store or Path(folder) / "large.kshot")
        if not store.exists():
            fill(store, options)
        results = measure(store, options)
    for name, times in results.items():
        print(f"{name:14} p50 {times['p50']:7.2f} ms   p99 {times['p99']:7.2f} ms   greatest {times['max']:7.2f} ms   of {times['n']}")
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1))


def serve(store, options):
    port = free_port()
    limits = ["--max-classes", str(4 * options.classes), "--max-examples", str(4 * options.classes * options.examples)]
    return start([options.kshot, "serve", str(store), "--addr", f"127.0.0.1:{port}", "--log", "warn", *limits], port), port


def stop(process):
    process.terminate()
    process.wait()


def fill(store, options):
    """A store with a model and real embeddings, then the others like them."""
    process, port = serve(store, options)
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        make_random = random.Random(1)
        for index in range(20):
            add_class(connection, f"real {index}", [drawing(make_random) for _ in range(5)])
    finally:
        stop(process)
    with sqlite3.connect(store) as database:
        picture, = database.execute("SELECT bytes FROM pictures LIMIT 1").fetchone()
        real = [array("f", row[0]) for row in database.execute("SELECT embedding FROM examples")]
        columns = list(zip(*real))
        means, deviations = [statistics.mean(c) for c in columns], [statistics.pstdev(c) for c in columns]
        gauss = random.Random(2).gauss
        hashes = random.Random(3)
        for number in range(options.classes - 20):
            centre = [gauss(mean, deviation) for mean, deviation in zip(means, deviations)]
            added = database.execute("INSERT INTO classes (name, created) VALUES (?, 0)", (f"class {number:06}",))
            for example in range(options.examples):
                values = array("f", (gauss(c, 0.3 * deviation) for c, deviation in zip(centre, deviations)))
                row = (added.lastrowid, f"{example}.png", hashes.randbytes(16), len(picture), values.tobytes())
                one = database.execute(
                    "INSERT INTO examples (class_id, name, hash, size, embedding, added) VALUES (?, ?, ?, ?, ?, 0)", row)
                database.execute("INSERT INTO pictures VALUES (?, ?)", (one.lastrowid, picture))


def measure(store, options):
    began = time.perf_counter()
    process, port = serve(store, options)
    try:
        print(f"ready after {time.perf_counter() - began:.1f} s", file=sys.stderr)
        connection = http.client.HTTPConnection("127.0.0.1", port)
        make_random = random.Random(4)
        stem = f"new {os.getpid()}"
        pictures = [drawing(make_random) for _ in range(64)]
        first = timed(lambda: classify(connection, pictures[0]))
        print(f"the first answer took {first:.1f} ms", file=sys.stderr)

        def recognise(count):
            return [timed(lambda: classify(connection, pictures[n % len(pictures)])) for n in range(count)]

        quiet = recognise(options.requests)
        adding, after = [], []
        for index in range(options.added):
            drawings = [drawing(make_random) for _ in range(options.examples)]
            adding.append(timed(lambda: add_class(connection, f"{stem} {index}", drawings)))
            after += recognise(1)
        done = threading.Event()

        def keep_adding():
            own = http.client.HTTPConnection("127.0.0.1", port)
            index = options.added
            while not done.wait(0.2):
                add_class(own, f"{stem} {index}", [drawing(make_random) for _ in range(options.examples)])
                index += 1

        writer = threading.Thread(target=keep_adding)
        writer.start()
        try:
            busy = recognise(options.requests)
        finally:
            done.set()
            writer.join()
    finally:
        stop(process)
    named = {"adding a class": adding, "quiet": quiet, "after adding": after, "while adding": busy}
    return {name: summary(times) for name, times in named.items()}


def summary(times):
    ordered = sorted(times)
    at = lambda share: ordered[min(int(share * len(ordered)), len(ordered) - 1)]
    return {"p50": at(0.5), "p99": at(0.99), "max": ordered[-1], "n": len(ordered)}


def timed(call):
    began = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - began)


def classify(connection, picture):
    ask(connection, "/classify", picture, "image/png")


def add_class(connection, name, pictures):
    ask(connection, "/v1/classes", json.dumps({"name": name}).encode(), "application/json")
    boundary = "a-boundary-that-no-picture-holds"
    parts = [f'--{boundary}\r\ncontent-disposition: form-data; name="images"; filename="{n}.png"\r\n\r\n'.encode() + picture + b"\r\n"
             for n, picture in enumerate(pictures)]
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    ask(connection, f"/v1/classes/{urllib.parse.quote(name)}/examples", body, f"multipart/form-data; boundary={boundary}")


def ask(connection, path, body, kind):
    connection.request("POST", path, body, {"content-type": kind})
    response = connection.getresponse()
    answer = response.read()
    if response.status >= 300:
        sys.exit(f"{path}: {response.status} {answer[:300].decode(errors='replace')}")


def drawing(make_random, side=56):
    """A PNG of a few random strokes."""
    rows = [bytearray(b"\xff" * side) for _ in range(side)]
    x, y = make_random.uniform(8, side - 8), make_random.uniform(8, side - 8)
    for _ in range(4):
        to_x, to_y = make_random.uniform(6, side - 6), make_random.uniform(6, side - 6)
        for step in range(100):
            at_x, at_y = round(x + (to_x - x) * step / 100), round(y + (to_y - y) * step / 100)
            for row in rows[at_y - 1:at_y + 2]:
                row[at_x - 1:at_x + 2] = b"\x00\x00\x00"
        x, y = to_x, to_y
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\x00" + bytes(row) for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


if __name__ == "__main__":
    main()
