"""Which Gunicorn worker, and how many threads: `python -m benchmarks.workers`.

The service, an empty Flask view and the bare floor under each kind of worker, taking turns.
"""

from __future__ import annotations

import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

import click

from .bench import bodies
from .contenders import ROOT, on_our_gunicorn, ours
from .load import Sample, Scenario, run

KINDS = (
    "--worker-class sync --threads 1",
    "--threads 1",
    "--threads 2",
    "--threads 4",
    "--threads 8",
)


@click.command()
@click.option("--rounds", default=5, show_default=True)
def workers(rounds: int) -> None:
    """Print a table of CPU, rate and latency by kind of worker."""
    with tempfile.TemporaryDirectory(prefix="bench-") as work:
        body = bodies(Path(work))[1]
        servers = []
        for kind in KINDS:
            for server in (
                ours(ROOT / "model"),
                on_our_gunicorn("empty Flask view", "benchmarks.rivals.empty_flask:app"),
                on_our_gunicorn("bare WSGI floor", "benchmarks.rivals.floor:app"),
            ):
                server.environment["GUNICORN_CMD_ARGS"] = kind
                server.start()
                servers.append((kind, server))
        samples: dict[tuple[int, str, str], list[Sample]] = defaultdict(list)
        try:
            for _ in range(rounds):
                for connections in (8, 64):
                    for kind, server in servers:
                        taken = run(server, Scenario(1, connections), body, seconds=1)
                        samples[connections, kind, server.name].append(taken)
        finally:
            for _, server in servers:
                server.stop()
    click.echo("| connections | worker | server | CPU, µs | requests/s | p50, ms | p99, ms |")
    click.echo("|---:|---|---|---:|---:|---:|---:|")
    for connections, kind, name in sorted(samples):
        runs = samples[connections, kind, name]
        cpu = statistics.median(sample.cpu_us for sample in runs)
        rate = statistics.median(sample.per_second for sample in runs)
        p50 = statistics.median(sample.p50 for sample in runs) / 1000
        p99 = statistics.median(sample.p99 for sample in runs) / 1000
        figures = f"{cpu:.0f} | {rate:,.0f} | {p50:.2f} | {p99:.2f}"
        click.echo(f"| {connections} | `{kind}` | {name} | {figures} |")


if __name__ == "__main__":
    workers()
