"""The results as a Markdown table and as an SVG chart."""

from __future__ import annotations

from math import log10
from typing import Any

ONE_ROW = "1 row, 64 connections, keep-alive"
"""With 8 connections all may be on one worker, of any server: such figures can't be compared."""
BATCH = "{} rows, 8 connections, keep-alive"
COLOURS = {"ours": "#0b6e6e", "ours behind nginx": "#4f9d9d"}
OTHERS = "#9aa3ab"
LOW, HIGH = 100.0, 50_000.0
"""Microseconds at both ends of the chart's scale."""
WIDTH, LEFT, RIGHT, TOP, STEP = 760, 150, 90, 52, 30
"""Of the chart, in pixels."""


def targets(results: dict[str, Any]) -> list[tuple[str, float, str]]:
    """The targets of the service: name, measured figure, target."""
    load, other = results["load"], results["other"]

    def cpu(name: str, scenario: str = ONE_ROW) -> float:
        microseconds: float = load[scenario][name]["cpu_us"]
        return microseconds

    thousand, ten_thousand = BATCH.format("1,000"), BATCH.format("10,000")
    onnx = other["bare ONNX Runtime, 10,000 rows, CPU us"]
    start = other["start to first answer, s"] / other["import flask, onnxruntime, s"]
    return [
        ("CPU per request / empty Flask view", cpu("ours") / cpu("empty Flask view"), "<= 1.35"),
        ("CPU per request / bare WSGI floor", cpu("ours") / cpu("bare WSGI floor"), "<= 2.0"),
        ("CPU per request: strong FastAPI / ours", cpu("strong FastAPI") / cpu("ours"), ">= 1.25"),
        (
            "CPU per request: tutorial FastAPI / ours",
            cpu("tutorial FastAPI") / cpu("ours"),
            ">= 35",
        ),
        (
            "CPU per 1,000 rows: strong FastAPI / ours",
            cpu("strong FastAPI", thousand) / cpu("ours", thousand),
            ">= 2.5",
        ),
        (
            "CPU per 10,000 rows / bare ONNX Runtime call",
            cpu("ours", ten_thousand) / onnx,
            "<= 1.8",
        ),
        ("p99 / p50, 64 connections at 70 % of capacity", other["paced p99/p50"], "<= 4"),
        ("start to first answer / importing flask and onnxruntime", start, "<= 2.0"),
        ("PSS per added worker, MiB", other["PSS per added worker, MiB"], "<= 15"),
    ]


def table(results: dict[str, Any]) -> str:
    """A table of the ratios, then the absolute figures."""
    lines = [
        f"Measured {results['date']} by `{results['command']}` on {results['machine']}; "
        + ", ".join(f"{name} {version}" for name, version in results["versions"].items())
        + ". Medians; CPU is of the server's whole process tree.",
        "",
        "| ratio | measured | target |",
        "|---|---:|---:|",
    ]
    lines += [f"| {what} | {value:.2f} | {target} |" for what, value, target in targets(results)]
    for scenario, by_name in results["load"].items():
        lines += [
            "",
            f"**{scenario}**",
            "",
            "| server | CPU per request, µs | requests/s | p50, ms | p99, ms | p99.9, ms |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        for name, row in by_name.items():
            latency = " | ".join(f"{row[p] / 1000:.2f}" for p in ("p50", "p99", "p999"))
            rate = f"{row['per_second']:,.0f}"
            lines.append(f"| {name} | {row['cpu_us']:,.0f} | {rate} | {latency} |")
    lines += ["", "| figure | value |", "|---|---:|"]
    lines += [f"| {name} | {value:,.3f} |" for name, value in results["other"].items()]
    lines += [f"| PSS of {name}, MiB | {v:.0f} |" for name, v in results["pss_mib"].items()]
    return "\n".join(lines) + "\n"


def chart(results: dict[str, Any]) -> str:
    """CPU per single-row request as bars on a logarithmic scale, cheapest first."""
    rows = sorted(
        ((name, row["cpu_us"]) for name, row in results["load"][ONE_ROW].items()),
        key=lambda item: item[1],
    )
    height = TOP + STEP * len(rows) + 40
    head = (
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            'font-family="system-ui, sans-serif" font-size="13" role="img" '
            'aria-label="CPU per single-row request, by server">'
        ),
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        (
            '<text x="16" y="26" font-size="15" font-weight="600" fill="#1c2226">'
            "CPU per single-row request, whole process tree (µs, logarithmic)</text>"
        ),
    )
    ticks = (_tick(value, height) for value in (100, 300, 1_000, 3_000, 10_000, 30_000))
    bars = (_bar(name, value, TOP + STEP * number) for number, (name, value) in enumerate(rows))
    return "\n".join([*head, *ticks, *bars, "</svg>"]) + "\n"


def _x(value: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * log10(value / LOW) / log10(HIGH / LOW)


def _tick(value: float, height: int) -> str:
    return (
        f'<line x1="{_x(value):.1f}" y1="{TOP - 8}" x2="{_x(value):.1f}" y2="{height - 34}" '
        'stroke="#e3e6e8"/>'
        f'<text x="{_x(value):.1f}" y="{height - 16}" text-anchor="middle" fill="#5b656d">'
        f"{value:,}</text>"
    )


def _bar(name: str, value: float, y: int) -> str:
    return (
        f'<text x="{LEFT - 10}" y="{y + 15}" text-anchor="end" fill="#1c2226">{name}</text>'
        f'<rect x="{LEFT}" y="{y}" width="{_x(value) - LEFT:.1f}" height="20" rx="2" '
        f'fill="{COLOURS.get(name, OTHERS)}"/>'
        f'<text x="{_x(value) + 8:.1f}" y="{y + 15}" fill="#1c2226">{value:,.0f}</text>'
    )
