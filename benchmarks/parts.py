"""What each part of a request costs: `python -m benchmarks.parts`.

The service, the service without one part or several, an empty Flask view and the floor take turns.
"""

from __future__ import annotations

import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

import click

from .bench import bodies
from .contenders import ROOT, on_our_gunicorn, ours, without
from .load import Scenario, run

PARTS = ("logs", "metrics", "auth", "answer", "logs,metrics,auth,answer")
SCENARIO = Scenario(1, 64)


@click.command()
@click.option("--rounds", default=7, show_default=True)
def parts(rounds: int) -> None:
    """Print the CPU of a request of one row with and without each part."""
    servers = [
        ours(ROOT / "model"),
        *map(without, PARTS),
        on_our_gunicorn("empty Flask view", "benchmarks.rivals.empty_flask:app"),
        on_our_gunicorn("bare WSGI floor", "benchmarks.rivals.floor:app"),
    ]
    taken: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="bench-") as work:
        body = bodies(Path(work))[1]
        try:
            for server in servers:
                server.start()
            with click.progressbar(servers * rounds, label="Measuring") as turns:
                for server in turns:
                    taken[server.name].append(run(server, SCENARIO, body, seconds=1).cpu_us)
        finally:
            for server in servers:
                server.stop()
    medians = {name: statistics.median(values) for name, values in taken.items()}
    click.echo("| server | CPU, µs | less than ours |")
    click.echo("|---|---:|---:|")
    for name, cpu in medians.items():
        click.echo(f"| {name} | {cpu:.0f} | {medians['ours'] - cpu:.0f} |")


if __name__ == "__main__":
    parts()
