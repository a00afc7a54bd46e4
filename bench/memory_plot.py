#!/usr/bin/env python3
"""Draws what bench/memory.py has measured: peak memory over the number of inner steps, as SVG.

    bench/memory_plot.py memory.csv memory.svg
"""

import csv
import sys
from collections import defaultdict

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 360, 70, 150, 20, 50
COLOURS = ["#0b5cad", "#a85200", "#a40e26", "#116329"]


def main():
    source, target = sys.argv[1:]
    lines = defaultdict(list)
    with open(source, newline="") as file:
        for row in csv.DictReader(file):
            name = " ".join(filter(None, [row["program"], row["mode"]]))
            lines[name].append((int(row["inner_steps"]), float(row["peak_rss_mib"])))
    most_steps = max(x for points in lines.values() for x, _ in points)
    most = max(y for points in lines.values() for _, y in points) * 1.05
    place_x = lambda x: LEFT + (WIDTH - LEFT - RIGHT) * x / most_steps
    place_y = lambda y: HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y / most
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
        "<title>Peak memory of exact MAML over the number of inner steps</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for tick in range(0, int(most) + 1, 1000):
        y = place_y(tick)
        svg.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#d5dbe1"/>')
        svg.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#57606a">{tick:,} MiB</text>')
    for steps in sorted({x for points in lines.values() for x, _ in points}):
        svg.append(f'<text x="{place_x(steps):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle" fill="#57606a">{steps}</text>')
    svg.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end" fill="#57606a">inner steps</text>')
    for (name, points), colour in zip(lines.items(), COLOURS):
        path = "L".join(f"{place_x(x):.1f} {place_y(y):.1f}" for x, y in points)
        svg.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        svg += [f'<circle cx="{place_x(x):.1f}" cy="{place_y(y):.1f}" r="3.5" fill="{colour}"/>' for x, y in points]
        x, y = points[-1]
        svg.append(f'<text x="{place_x(x) + 10:.1f}" y="{place_y(y) + 4:.1f}" fill="{colour}">{name}, {y:,.0f}</text>')
    svg.append("</svg>")
    with open(target, "w") as file:
        file.write("\n".join(svg) + "\n")


main()
