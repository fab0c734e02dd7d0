"""Compares Gunicorn workers and numbers of threads: `python -m benchmarks.workers`.

The service, an empty Flask view and the bare floor take turns under each kind of worker. The
service is also measured with batches, which its own worker hands to threads.
"""

from __future__ import annotations

import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

import click

from .bench import bodies
from .contenders import ROOT, on_our_gunicorn, service
from .load import Sample, Scenario, run

KINDS = (
    "--threads 4",
    "--threads 1",
    "--threads 2",
    "--threads 8",
    "--worker-class gthread --threads 4",
    "--worker-class sync --threads 1",
)
"""The first four use the service's own worker."""
SCENARIOS = (Scenario(1, 8), Scenario(1, 64), Scenario(1, 64, keep_alive=False), Scenario(1_000, 8))


@click.command()
@click.option("--rounds", default=5, show_default=True)
def workers(rounds: int) -> None:
    """Print a table of CPU, rate and latency by kind of worker."""
    with tempfile.TemporaryDirectory(prefix="bench-") as work:
        files = bodies(Path(work))
        servers = []
        for kind in KINDS:
            for server in (
                service(ROOT / "model"),
                on_our_gunicorn("empty Flask view", "benchmarks.rivals.empty_flask:app"),
                on_our_gunicorn("bare WSGI floor", "benchmarks.rivals.floor:app"),
            ):
                server.environment["GUNICORN_CMD_ARGS"] = kind
                server.start()
                servers.append((kind, server))
        samples: dict[tuple[str, str, str], list[Sample]] = defaultdict(list)
        try:
            for _ in range(rounds):
                for scenario in SCENARIOS:
                    for kind, server in servers:
                        if scenario.rows > 1 and server.name != "ours":
                            continue
                        sample = run(server, scenario, files[scenario.rows], seconds=1)
                        samples[scenario.label, kind, server.name].append(sample)
        finally:
            for _, server in servers:
                server.stop()
    click.echo("| load | worker | server | CPU, µs | requests/s | p50, ms | p99, ms |")
    click.echo("|---|---|---|---:|---:|---:|---:|")
    for (load, kind, name), runs in samples.items():
        cpu = statistics.median(sample.cpu_us for sample in runs)
        rate = statistics.median(sample.per_second for sample in runs)
        p50 = statistics.median(sample.p50 for sample in runs) / 1000
        p99 = statistics.median(sample.p99 for sample in runs) / 1000
        figures = f"{cpu:.0f} | {rate:,.0f} | {p50:.2f} | {p99:.2f}"
        click.echo(f"| {load} | `{kind}` | {name} | {figures} |")


if __name__ == "__main__":
    workers()
