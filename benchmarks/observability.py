"""What the log line and the metrics cost: `python -m benchmarks.observability`.

The service as it ships and the service without them take turns; then scrapes of four workers.
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
from .contenders import KEY, ROOT, ours, without
from .load import Scenario, run

if TYPE_CHECKING:
    from .contenders import Contender

SCENARIOS = (Scenario(1, 8), Scenario(1, 64), Scenario(1, 64, keep_alive=False), Scenario(1_000, 8))
SCRAPES = 200


@click.command()
@click.option("--rounds", default=7, show_default=True)
def observability(rounds: int) -> None:
    """Print CPU per request with and without, and how long a scrape takes.

    The machine's neighbours only ever add: the lowest of the rounds is nearest to the cost itself.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as work:
        files = bodies(Path(work))
        on, off = ours(ROOT / "model"), without("logs,metrics")
        for server in (on, off):
            server.start()
        click.echo("| load | with, CPU µs | without | difference | of the lowest of each |")
        click.echo("|---|---:|---:|---:|---:|")
        try:
            for scenario in SCENARIOS:
                cpu: dict[str, list[float]] = {on.name: [], off.name: []}
                for _ in range(rounds):
                    for server in (on, off):
                        body = files[scenario.rows]
                        cpu[server.name].append(run(server, scenario, body, seconds=2).cpu_us)
                with_, off_cpu = (statistics.median(values) for values in cpu.values())
                extra = statistics.median(a - b for a, b in zip(*cpu.values(), strict=True))
                least = min(cpu[on.name]) - min(cpu[off.name])
                figures = f"{with_:.0f} | {off_cpu:.0f} | {extra:.0f} | {least:.0f}"
                click.echo(f"| {scenario.label} | {figures} |")
        finally:
            for server in (on, off):
                server.stop()
        four = ours(ROOT / "model", workers=4)
        four.start()
        try:
            run(four, Scenario(1, 64), files[1], seconds=3)
            times = sorted(_scrape_seconds(four) for _ in range(SCRAPES))
            cpu_before = four.cpu_seconds()
            for _ in range(SCRAPES):
                _scrape_seconds(four)
            cpu_ms = (four.cpu_seconds() - cpu_before) / SCRAPES * 1000
        finally:
            four.stop()
    middle, late = times[SCRAPES // 2] * 1000, times[int(SCRAPES * 0.99)] * 1000
    click.echo(
        f"\nA scrape of 4 workers: {cpu_ms:.1f} ms of CPU, p50 {middle:.1f} ms, p99 {late:.1f} ms."
    )


def _scrape_seconds(server: Contender) -> float:
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", "/metrics", headers={"X-API-Key": KEY})
    response = connection.getresponse()
    size = len(response.read())
    connection.close()
    if response.status != 200 or size < 1000:
        raise click.ClickException(f"the scrape failed: {response.status}")
    return time.perf_counter() - began


if __name__ == "__main__":
    observability()
