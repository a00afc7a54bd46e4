"""From the runs of one comparison to a summary, a Markdown page and a JSON file."""

import json
import statistics


def summarise(result):
    """Adds `summary` to a case's result: the best mode and, where ours ran, the ratios per pair.

    The best mode is the one with the lowest median over the paired runs; each pair's ratio is that
    mode's seconds over ours, from the same pair.
    """
    modes = {mode: reports for mode, reports in result["peers"].items() if reports}
    if not modes:
        result["summary"] = None
        return
    best = min(modes, key=lambda mode: median(modes[mode], "seconds_per_step"))
    summary = {"best_mode": best, "peer": spread(modes[best])}
    if result["ours"]:
        pairs = list(zip(modes[best], result["ours"]))
        summary["ours"] = spread(result["ours"])
        for key, name in (("seconds_per_step", "times_as_fast"), ("peak_rss_mib", "times_less_memory")):
            ratios = [peer[key] / ours[key] for peer, ours in pairs]
            summary[name] = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
        summary["pairs"] = len(pairs)
    result["summary"] = summary


def spread(reports):
    seconds = [report["seconds_per_step"] for report in reports]
    return {
        "seconds_per_step": {"median": statistics.median(seconds), "min": min(seconds), "max": max(seconds)},
        "images_per_second": median(reports, "images_per_second"),
        "peak_rss_mib": median(reports, "peak_rss_mib"),
    }


def median(reports, key):
    return statistics.median(report[key] for report in reports)


def markdown(comparison):
    """The whole comparison as a page."""
    machine, settings = comparison["machine"], comparison["settings"]
    lines = [
        f"# kshot beside PyTorch, {comparison['date']}",
        "",
        f"{machine['cpu']} ({', '.join(machine['cpu_features'])}), {machine['threads_used']} threads, "
        f"{machine['memory_gib']} GiB, {machine['system']}; {machine['python']}, PyTorch {machine['torch']}, "
        f"JAX {machine['jax']}; commit {machine['commit']}; load average before {machine['load_average_before']}.",
        "",
        *devices(machine, settings),
        f"{settings['pairs']} pairs of runs, taken in turn. Ratio = seconds of PyTorch's best mode / seconds of kshot "
        "in the same pair: median (min-max). Memory is the peak resident size of the process, in the host.",
        "",
        "| case | work per step | kshot, s | PyTorch, s | its mode | times as fast | memory, MiB: kshot / PyTorch |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [headline(result) for result in comparison["cases"]]
    lines += [
        "",
        f"## Every mode ({settings['qualifying']} runs each, in turn, before the pairs)",
        "",
        "| case | program | mode | s per step, median (min-max) | images/s | tasks/s | peak MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in comparison["cases"]:
        for (program, mode), reports in sorted(qualifying(result), key=order_of_speed):
            lines.append(f"| {result['case']} | {program} | {mode} | {reports_cells(reports)} |")
    for result in comparison["cases"]:
        lines += [f"\n{result['case']}: {reason}" for reason in result["failures"]]
    return "\n".join(lines) + "\n"


def devices(machine, settings):
    """Where the two sides computed, if not both on the CPU."""
    if (settings["device"], settings["peer_device"]) == ("flex", "cpu"):
        return []
    rounding = f", TF32 in convolutions {settings['tf32']}" if settings["peer_device"] == "cuda" else ""
    sides = f"kshot with --device {settings['device']}, PyTorch with --device {settings['peer_device']}{rounding}"
    return [f"{sides}; GPU and its driver: {machine['gpu']}. A step begins with images in host memory.", ""]


def headline(result):
    summary = result["summary"]
    if summary is None:
        return f"| {result['case']} | {result['says']} | | failed | | | |"
    peer, ours, mode = summary["peer"], summary.get("ours"), summary["best_mode"]
    cells = [result["case"], result["says"], "", seconds(peer["seconds_per_step"]["median"]), mode, "", ""]
    if ours:
        cells[2] = seconds(ours["seconds_per_step"]["median"])
        ratio = summary["times_as_fast"]
        cells[5] = f"**{ratio['median']:.2f}** ({ratio['min']:.2f}-{ratio['max']:.2f})"
        cells[6] = f"{ours['peak_rss_mib']:.0f} / {peer['peak_rss_mib']:.0f}"
    return f"| {' | '.join(cells)} |"


def qualifying(result):
    return [((run["program"], run["mode"]), run["reports"]) for run in result["qualifying"] if run["reports"]]


def order_of_speed(entry):
    return median(entry[1], "seconds_per_step")


def reports_cells(reports):
    shown = spread(reports)
    time = shown["seconds_per_step"]
    tasks = [report.get("tasks_per_second") for report in reports]
    tasks = f"{statistics.median(tasks):.1f}" if all(tasks) else ""
    return (
        f"{seconds(time['median'])} ({seconds(time['min'])}-{seconds(time['max'])}) | "
        f"{shown['images_per_second']:.0f} | {tasks} | {shown['peak_rss_mib']:.0f}"
    )


def seconds(value):
    """Three significant digits, never in exponents."""
    return f"{value:.3g}" if value >= 0.001 else f"{value:.6f}".rstrip("0")


def write(comparison, folder, name):
    """Writes NAME.json and NAME.md and returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / f"{name}.json", folder / f"{name}.md"
    paths[0].write_text(json.dumps(comparison, indent=1) + "\n")
    paths[1].write_text(markdown(comparison))
    return paths
