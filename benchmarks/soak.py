"""Whether memory grows over a million requests: `python -m benchmarks.soak`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from .bench import bodies
from .contenders import ROOT, service
from .load import Scenario, run

WARM_UP_SECONDS = 5
STEP_SECONDS = 20


@click.command()
@click.option("--requests", default=1_000_000, show_default=True)
def soak(requests: int) -> None:
    """Print the PSS of the process tree after the warm-up, and again every few seconds."""
    server = service(ROOT / "model")
    with tempfile.TemporaryDirectory(prefix="bench-") as work:
        body = bodies(Path(work))[1]
        server.start()
        try:
            run(server, Scenario(1, 64), body, seconds=WARM_UP_SECONDS)
            first, done = server.pss_mebibytes(), 0.0
            click.echo(f"{first:.1f} MiB after the warm-up")
            while done < requests:
                done += (
                    run(server, Scenario(1, 64), body, seconds=STEP_SECONDS).per_second
                    * STEP_SECONDS
                )
                now = server.pss_mebibytes()
                click.echo(f"{now:.1f} MiB ({now / first - 1:+.1%}) after {done:,.0f} requests")
        finally:
            server.stop()


if __name__ == "__main__":
    soak()
