"""The cost of each part of a request: `python -m benchmarks.parts`.

The service, the service without one or more parts, an empty Flask view and the floor take turns.
"""

from __future__ import annotations

import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

import click

from .bench import bodies
from .contenders import ROOT, on_our_gunicorn, service, without
from .load import Scenario, run

PARTS = ("log", "records", "keys", "answer", "records,keys,answer")
SCENARIO = Scenario(1, 64)


@click.command()
@click.option("--rounds", default=7, show_default=True)
def parts(rounds: int) -> None:
    """Print the CPU of a request of one row with and without each part."""
    servers = [
        service(ROOT / "model"),
        *map(without, PARTS),
        on_our_gunicorn("empty Flask view", "benchmarks.rivals.empty_flask:app"),
        on_our_gunicorn("bare WSGI floor", "benchmarks.rivals.floor:app"),
    ]
    cpu: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="bench-") as work:
        body = bodies(Path(work))[1]
        try:
            for server in servers:
                server.start()
            with click.progressbar(servers * rounds, label="Measuring") as turns:
                for server in turns:
                    cpu[server.name].append(run(server, SCENARIO, body, seconds=1).cpu_us)
        finally:
            for server in servers:
                server.stop()
    medians = {name: statistics.median(values) for name, values in cpu.items()}
    click.echo("| server | CPU, µs | less than ours |")
    click.echo("|---|---:|---:|")
    for name, median in medians.items():
        click.echo(f"| {name} | {median:.0f} | {medians['ours'] - median:.0f} |")


if __name__ == "__main__":
    parts()
