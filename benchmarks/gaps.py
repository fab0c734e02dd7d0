"""Clients of nginx that pause for about the keep-alive timeout: `python -m benchmarks.gaps`.

nginx may send a POST on a connection that the server behind it is just closing. It gets no answer
and does not send the POST again: the client sees 503 with `deploy/nginx.conf`, 502 by default. The
pauses here are close to Gunicorn's keep-alive timeout, which is one second so that there are many
of them in a short time.
"""

from __future__ import annotations

import http.client
import random
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import click

from .contenders import KEY, ONE_ROW, ROOT, behind_nginx, service

KEEP_ALIVE_SECONDS = 1.0


@click.command()
@click.option("--requests", default=100_000, show_default=True)
@click.option("--clients", default=400, show_default=True)
def gaps(requests: int, clients: int) -> None:
    """Count the answers by status; clients pause for 0.9 to 1.1 s between their requests."""
    with tempfile.TemporaryDirectory(prefix="bench-") as work:
        backend = service(ROOT / "model")
        backend.environment["GUNICORN_CMD_ARGS"] = f"--keep-alive {KEEP_ALIVE_SECONDS:.0f}"
        server = behind_nginx(backend, Path(work))
        server.start()
        statuses: Counter[str] = Counter()
        try:
            each = requests // clients
            threads = [
                threading.Thread(target=_send_requests, args=(server.port, each, statuses))
                for _ in range(clients)
            ]
            started = time.monotonic()
            for thread in threads:
                thread.start()
            with click.progressbar(length=requests, label="Sending") as progress:
                while any(thread.is_alive() for thread in threads):
                    progress.update(statuses.total() - progress.pos)
                    time.sleep(1)
        finally:
            server.stop()
    click.echo(f"{dict(statuses)} in {time.monotonic() - started:.0f} s, {clients} clients")


def _send_requests(port: int, count: int, statuses: Counter[str]) -> None:
    headers = {"X-API-Key": KEY, "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    time.sleep(KEEP_ALIVE_SECONDS * random.random())  # noqa: S311
    for _ in range(count):
        try:
            connection.request("POST", "/v1/predict", ONE_ROW, headers)
            response = connection.getresponse()
            response.read()
            statuses[str(response.status)] += 1
        except (OSError, http.client.HTTPException) as error:
            statuses[repr(error)] += 1
            connection.close()
        time.sleep(KEEP_ALIVE_SECONDS * random.uniform(0.9, 1.1))  # noqa: S311
    connection.close()


if __name__ == "__main__":
    gaps()
