"""Facts about the machine that a reader needs to judge a measurement."""

import os
import platform
import subprocess


def facts(python, ours, threads):
    """CPU, memory, threads and versions as a dictionary of plain values."""
    cpu = cpu_info()
    return {
        "cpu": cpu.get("model name", platform.processor()),
        "cpu_family_model_stepping": "/".join(cpu.get(key, "?") for key in ("cpu family", "model", "stepping")),
        "cpu_features": [f for f in ("avx2", "fma", "avx512f", "avx512_bf16", "amx_tile") if f in cpu.get("flags", "").split()],
        "cores": len(os.sched_getaffinity(0)),
        "threads_used": threads,
        "gpu": output(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}, {' '.join(platform.libc_ver())}",
        "load_average_before": round(os.getloadavg()[0], 2),
        "python": output([python, "--version"]),
        "torch": package_version(python, "torch"),
        "jax": package_version(python, "jax"),
        "ours": ours,
        "commit": output(["git", "-C", os.path.dirname(__file__), "describe", "--always", "--dirty"]),
    }


def cpu_info():
    """The first processor's entry in /proc/cpuinfo; empty where there is none."""
    info = {}
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                name, separator, value = line.partition(":")
                if not separator:
                    break
                info[name.strip()] = value.strip()
    except OSError:
        pass
    return info


def package_version(python, package):
    return output([python, "-c", f"import importlib.metadata as m; print(m.version({package!r}))"])


def output(command):
    """What a command prints, or None where it can't be run."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
