"""The cost of the log line and the metrics: `python -m benchmarks.observability`.

The service and the service without both take turns; then four workers are scraped.
"""

from __future__ import annotations

import http.client
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .bench import bodies
from .contenders import KEY, ROOT, service, without
from .load import Scenario, run

if TYPE_CHECKING:
    from .contenders import Contender

SCENARIOS = (Scenario(1, 8), Scenario(1, 64), Scenario(1, 64, keep_alive=False), Scenario(1_000, 8))
SCRAPES = 200


@click.command()
@click.option("--rounds", default=7, show_default=True)
def observability(rounds: int) -> None:
    """Print the CPU per request with and without, and how long a scrape takes."""
    with tempfile.TemporaryDirectory(prefix="bench-") as work:
        files = bodies(Path(work))
        compare(files, rounds)
        scrape(files[1])


def compare(files: dict[int, Path], rounds: int) -> None:
    """Print a table of the CPU per request with and without log line and metrics.

    Other programs on the machine only add to a figure, so the lowest of the rounds is nearest to
    the cost itself.
    """
    on, off = service(ROOT / "model"), without("records")
    click.echo("| load | with, CPU µs | without | difference | of the lowest of each |")
    click.echo("|---|---:|---:|---:|---:|")
    try:
        for server in (on, off):
            server.start()
        for scenario in SCENARIOS:
            cpu: dict[str, list[float]] = {on.name: [], off.name: []}
            for _ in range(rounds):
                for server in (on, off):
                    sample = run(server, scenario, files[scenario.rows], seconds=2)
                    cpu[server.name].append(sample.cpu_us)
            with_both, without_both = (statistics.median(values) for values in cpu.values())
            difference = statistics.median(a - b for a, b in zip(*cpu.values(), strict=True))
            lowest = min(cpu[on.name]) - min(cpu[off.name])
            figures = f"{with_both:.0f} | {without_both:.0f} | {difference:.0f} | {lowest:.0f}"
            click.echo(f"| {scenario.label} | {figures} |")
    finally:
        for server in (on, off):
            server.stop()


def scrape(body: Path) -> None:
    """Print CPU and latency of a scrape of four workers that have predicted."""
    server = service(ROOT / "model", workers=4)
    try:
        server.start()
        run(server, Scenario(1, 64), body, seconds=3)
        times = sorted(_scrape_seconds(server) for _ in range(SCRAPES))
        before = server.cpu_seconds()
        for _ in range(SCRAPES):
            _scrape_seconds(server)
        cpu_ms = (server.cpu_seconds() - before) / SCRAPES * 1000
    finally:
        server.stop()
    p50, p99 = times[SCRAPES // 2] * 1000, times[int(SCRAPES * 0.99)] * 1000
    click.echo(
        f"\nA scrape of 4 workers: {cpu_ms:.1f} ms of CPU, p50 {p50:.1f} ms, p99 {p99:.1f} ms."
    )


def _scrape_seconds(server: Contender) -> float:
    started = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", "/metrics", headers={"X-API-Key": KEY})
    response = connection.getresponse()
    size = len(response.read())
    connection.close()
    if response.status != 200 or size < 1000:
        raise click.ClickException(f"the scrape failed: {response.status}")
    return time.perf_counter() - started


if __name__ == "__main__":
    observability()
