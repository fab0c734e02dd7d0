"""More than it can do: what is taken is answered in time, what is not is told so at once."""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import pytest

from tests.conftest import ROOT

from .conftest import pss_mebibytes
from .slow import SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .conftest import Server

pytestmark = pytest.mark.system

STEADY = 30.0 if os.environ.get("CI") else 5.0
WORKERS, THREADS = 2, 4
CAPACITY = WORKERS * THREADS / SECONDS
"""Requests a second: each holds a thread for so long."""
QUEUE = 1.0
"""IRIS_MAX_QUEUE_MS, in seconds."""
RATES = {"rate=2000r/s": "rate=1000000r/s"}
"""All of the load has one address and one key."""


@dataclass
class Crowd:
    """Clients that ask again as soon as they are answered, refused or not, beside this process."""

    url: str
    key: str
    clients: int
    pause: float = 0.0
    """Seconds that a client waits after it was refused."""
    taken: list[float] = field(init=False)
    refused: list[float] = field(init=False)
    """Seconds that requests took."""
    other: dict[str, int] = field(init=False)
    """All that was wrong."""

    def __enter__(self) -> Self:
        address = urlsplit(self.url)
        command = [sys.executable, "-m", "tests.system.crowd", address.hostname or ""]
        command += [str(address.port), self.key, str(self.clients), str(self.pause)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n"
        self._began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._began
        result = self._process.communicate()[0]
        self.taken, self.refused, self.other = json.loads(result)

    @property
    def times_capacity(self) -> float:
        """How much they asked for, of what the server can do."""
        return (len(self.taken) + len(self.refused)) / self.seconds / CAPACITY


def report(text: str) -> None:
    """Figures for who runs it with -s."""
    sys.stdout.write(f"\n{text}\n")


def p99(times: list[float]) -> float:
    return sorted(times)[int(0.99 * (len(times) - 1))]


def probe(server: Server, url: str, enough: threading.Event) -> list[float]:
    """Times of probes, straight and through nginx, until it is enough."""
    times = []
    while not enough.wait(0.1):
        for base in (server.url, url):
            address = urlsplit(base)
            for path in ("/health/live", "/health/ready"):
                began = time.monotonic()
                connection = http.client.HTTPConnection(address.hostname or "", address.port)
                connection.request("GET", path)
                assert connection.getresponse().status == 200
                connection.close()
                times.append(time.monotonic() - began)
    return times


# Refusals come back in a millisecond: clients that wait a little before they ask again.
@pytest.mark.parametrize(("times", "clients", "pause"), [(5, 200, 0.1), (20, 350, 0.08)])
def test_an_overload_is_refused_and_goes_by(
    start: Callable[..., Server], nginx: Callable[..., str], times: int, clients: int, pause: float
) -> None:
    """What is taken keeps its time, probes answer, memory stays, and soon it is as before."""
    server = start("tests.system.slow:app", WEB_CONCURRENCY=str(WORKERS))
    url = nginx(server.port, **RATES)
    with Crowd(url, server.key, clients=4) as before:
        time.sleep(2)
    memory = pss_mebibytes(server)
    enough, probes = threading.Event(), list[float]()
    prober = threading.Thread(target=lambda: probes.extend(probe(server, url, enough)))
    prober.start()
    with Crowd(url, server.key, clients, pause) as crowd:
        time.sleep(STEADY)
    enough.set()
    prober.join()
    time.sleep(5)
    with Crowd(url, server.key, clients=4) as after:
        time.sleep(2)
    report(
        f"offered {crowd.times_capacity:.1f} times the capacity; taken {len(crowd.taken)}, "
        f"p99 {p99(crowd.taken):.3f} s; refused {len(crowd.refused)}, "
        f"median {statistics.median(crowd.refused):.4f} s, p99 {p99(crowd.refused):.3f} s; "
        f"probes {len(probes)}, slowest {max(probes):.3f} s; memory {memory:.0f} MiB, then "
        f"{pss_mebibytes(server):.0f}; median before {statistics.median(before.taken):.4f} s, "
        f"after {statistics.median(after.taken):.4f} s"
    )
    assert not crowd.other
    assert crowd.times_capacity > times
    assert len(crowd.taken) > 0.5 * CAPACITY * STEADY
    assert p99(crowd.taken) <= 1.5 * QUEUE
    assert statistics.median(crowd.refused) < 0.1
    assert max(probes) < 0.5
    assert pss_mebibytes(server) < memory * 1.2 + 10
    assert statistics.median(after.taken) < 1.5 * statistics.median(before.taken)
    server.stop()


def test_straight_to_it_what_waited_too_long_is_refused(start: Callable[..., Server]) -> None:
    """Without a proxy to stop them, all wait; none for much longer than is allowed."""
    server = start("tests.system.slow:app", WEB_CONCURRENCY="1")
    with Crowd(server.url, server.key, clients=150, pause=0.2) as crowd:
        time.sleep(6)
    assert not crowd.other
    assert crowd.refused
    assert p99(crowd.taken) <= 1.5 * QUEUE
    server.stop()


SLOW = 500


def test_slow_clients_leave_the_others_alone(
    start: Callable[..., Server], nginx: Callable[..., str]
) -> None:
    """500 that send a byte a second, stall in their bodies, or closed one half, through nginx."""
    server = start()
    url = nginx(server.port, **RATES)
    quiet, crowded = [], []
    for _ in range(3):
        quiet.append(p99_of_a_few(url, server))
        with slow_clients(urlsplit(url).port or 0, server.headers["X-API-Key"]):
            crowded.append(p99_of_a_few(url, server))
    alone, beside = statistics.median(quiet), statistics.median(crowded)
    report(f"p99 {alone:.4f} s alone, {beside:.4f} s beside {SLOW} slow clients")
    assert beside < 2 * alone
    server.stop()


def p99_of_a_few(url: str, server: Server) -> float:
    """Of clients that have all their answers."""
    with Crowd(url, server.key, clients=4) as few:
        time.sleep(STEADY / 6)
    assert not few.other
    assert not few.refused
    return p99(few.taken)


@contextmanager
def slow_clients(port: int, key: str) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.system.dripping", str(port), str(SLOW), key]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        yield
        process.kill()
