"""The programs that are timed: ours, and peers, which are kept running."""

import json
import select
import shlex
import subprocess
import tempfile
import time
from pathlib import Path

PEERS = Path(__file__).resolve().parents[1] / "peers"
KEYS = ("seconds_per_step", "images", "images_per_second", "peak_rss_mib")


class Failed(Exception):
    """A program could not be measured; the message says which and why, in one line."""


def ours(case, options):
    """kshot's benchmark binary. On a device it stays loaded: there a start compiles every kernel."""
    command = [*shlex.split(options.ours), *case.arguments(options)]
    if options.device == "flex":
        return StartedAnew(command, options.timeout)
    return Loaded([*command, "--device", options.device, "--on-demand"], options.timeout)


def peer(script, mode, case, options):
    """One of the Python programs in `peers/`."""
    command = [options.python, str(PEERS / script), "--mode", mode, "--on-demand", *case.arguments(options)]
    if options.peer_device != "cpu":
        command += ["--device", options.peer_device, "--tf32", options.tf32]
    return Loaded(command, options.timeout)


class StartedAnew:
    """A program that warms up by itself and prints one JSON line."""

    def __init__(self, command, timeout):
        self.command = command
        self.timeout = timeout

    def run(self):
        try:
            done = subprocess.run(self.command, capture_output=True, text=True, timeout=self.timeout)
        except OSError as error:
            raise Failed(f"{self.command[0]}: {error.strerror}; build it first, or give --ours another") from error
        except subprocess.TimeoutExpired as error:
            raise Failed(f"{shown(self.command)}: no result in {self.timeout} s") from error
        if done.returncode != 0:
            raise Failed(f"{shown(self.command)}: exit code {done.returncode}: {last_line(done.stderr)}")
        return parse(last_line(done.stdout), self.command)

    def close(self):
        pass


class Loaded:
    """A program that stays loaded and compiled, and does one run whenever it is asked."""

    def __init__(self, command, timeout):
        self.command = command
        self.timeout = timeout
        self.errors = tempfile.TemporaryFile("w+")
        try:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True
            )
        except OSError as error:
            raise Failed(f"{command[0]}: {error.strerror}; make it first, see bench/README.md") from error
        try:
            if self.read_line() != "ready":
                raise Failed(f"{shown(self.command)}: did not say 'ready' first")
        except Failed:
            self.close()
            raise

    def run(self):
        try:
            self.process.stdin.write("run\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Failed(f"{shown(self.command)}: it ended") from None
        return parse(self.read_line(), self.command)

    def read_line(self):
        readable, _, _ = select.select([self.process.stdout], [], [], self.timeout)
        if not readable:
            raise Failed(f"{shown(self.command)}: no answer in {self.timeout} s")
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(10)
            self.errors.seek(0)
            reason = last_line(self.errors.read()[-20_000:])
            raise Failed(f"{shown(self.command)}: exit code {self.process.returncode}: {reason}")
        return line.strip()

    def close(self):
        """Ends the program by closing its input, or by force if it does not listen."""
        try:
            self.process.stdin.close()
            self.process.wait(10)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()


def parse(line, command):
    """The report in a program's JSON line, checked."""
    try:
        report = json.loads(line)
        missing = [key for key in KEYS if not isinstance(report.get(key), (int, float))]
    except (ValueError, AttributeError):
        raise Failed(f"{shown(command)}: expected a JSON line, found {line[:120]!r}") from None
    if missing:
        raise Failed(f"{shown(command)}: its JSON line lacks numbers for {', '.join(missing)}")
    if report["seconds_per_step"] <= 0:
        raise Failed(f"{shown(command)}: seconds_per_step is not above 0")
    return report | {"at": round(time.time(), 1)}


def shown(command):
    """A command for a message, without the folders of the machine that ran it."""
    return shlex.join(part.rpartition("/")[2] for part in command)


def last_line(text):
    lines = text.strip().splitlines()
    return lines[-1][:300] if lines else "(nothing printed)"
