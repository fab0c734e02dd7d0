"""Overload: accepted requests are answered in time, the others are refused at once."""

from __future__ import annotations

import http.client
import json
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

from tests.constants import FULL_LOAD, ROOT

from .apps import MODEL_SECONDS
from .conftest import pss_mebibytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .conftest import Server

pytestmark = [pytest.mark.system, pytest.mark.load]

SLOW_MODEL = "tests.system.apps.slow_model:app"
LOAD_SECONDS = 30.0 if FULL_LOAD else 4.0
WORKERS, THREADS = 2, 4
CAPACITY = WORKERS * THREADS / MODEL_SECONDS
"""Requests a second that the server can answer: each occupies a thread for MODEL_SECONDS."""
MAX_QUEUE_SECONDS = 1.0
"""Longest wait of an accepted request: the default of IRIS_MAX_QUEUE_MS."""
MAX_QUEUE = {"IRIS_MAX_QUEUE_MS": f"{1000 * MAX_QUEUE_SECONDS:.0f}"}
UNLIMITED = {"rate=2000r/s": "rate=1000000r/s"}
"""Changes to nginx.conf: here all load comes from one address with one key."""
SLOW_CLIENTS = 500


@dataclass
class ClosedLoop:
    """Clients in another process that send their next request as soon as they have an answer."""

    url: str
    key: str
    clients: int
    pause: float = 0.0
    """Seconds that a client waits after a refusal."""
    accepted: list[float] = field(init=False)
    """Seconds that each accepted request took."""
    refused: list[float] = field(init=False)
    errors: dict[str, int] = field(init=False)

    def __enter__(self) -> Self:
        address = urlsplit(self.url)
        command = [sys.executable, "-m", "tests.system.closed_loop", address.hostname or ""]
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
        output = self._process.communicate()[0]
        self.accepted, self.refused, self.errors = json.loads(output)

    @property
    def times_capacity(self) -> float:
        """The request rate, as a multiple of what the server can answer."""
        return (len(self.accepted) + len(self.refused)) / self.seconds / CAPACITY


def report(text: str) -> None:
    """Print figures; pytest shows them with -s."""
    sys.stdout.write(f"\n{text}\n")


def p99(seconds: list[float]) -> float:
    return sorted(seconds)[int(0.99 * (len(seconds) - 1))]


def probe(server: Server, url: str, end: threading.Event) -> list[float]:
    """Send health probes straight and through nginx until the end; returns their times."""
    times = []
    while not end.wait(0.1):
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


@dataclass(frozen=True)
class Baseline:
    """A server and its nginx, and what its latency and memory were before any overload."""

    server: Server
    url: str
    median: float
    mebibytes: float


@pytest.fixture(scope="module")
def baseline(start: Callable[..., Server], nginx: Callable[..., str]) -> Baseline:
    server = start(SLOW_MODEL, WEB_CONCURRENCY=str(WORKERS), **MAX_QUEUE)
    url = nginx(server.port, **UNLIMITED)
    return Baseline(server, url, median_latency(url, server.key), pss_mebibytes(server))


def median_latency(url: str, key: str) -> float:
    """Median latency of four clients, which are no overload."""
    with ClosedLoop(url, key, clients=4) as load:
        time.sleep(2)
    return statistics.median(load.accepted)


# A refusal takes a millisecond, so the clients pause after each.
@pytest.mark.parametrize(("times", "clients", "pause"), [(5, 200, 0.1), (20, 350, 0.08)])
def test_an_overloaded_server_keeps_its_promises_and_recovers(
    baseline: Baseline, times: int, clients: int, pause: float
) -> None:
    """Accepted requests stay fast, probes answer, memory stays flat, and latency recovers."""
    server, url = baseline.server, baseline.url
    end, probes = threading.Event(), list[float]()
    prober = threading.Thread(target=lambda: probes.extend(probe(server, url, end)))
    prober.start()
    with ClosedLoop(url, server.key, clients, pause) as overload:
        time.sleep(LOAD_SECONDS)
    end.set()
    prober.join()
    time.sleep(5 if FULL_LOAD else 2)
    recovered = median_latency(url, server.key)
    memory = pss_mebibytes(server)
    report(
        f"offered {overload.times_capacity:.1f} times the capacity; accepted "
        f"{len(overload.accepted)}, p99 {p99(overload.accepted):.3f} s; refused "
        f"{len(overload.refused)}, median {statistics.median(overload.refused):.4f} s, p99 "
        f"{p99(overload.refused):.3f} s; probes {len(probes)}, slowest {max(probes):.3f} s; memory "
        f"{baseline.mebibytes:.0f} MiB, then {memory:.0f}; median before {baseline.median:.4f} s, "
        f"after {recovered:.4f} s"
    )
    assert not overload.errors
    assert overload.times_capacity > times
    assert len(overload.accepted) > 0.5 * CAPACITY * LOAD_SECONDS
    assert p99(overload.accepted) <= 1.5 * MAX_QUEUE_SECONDS
    assert statistics.median(overload.refused) < 0.1
    assert max(probes) < 0.5
    assert memory < baseline.mebibytes * 1.2 + 10
    assert recovered < 1.5 * baseline.median


def test_without_a_proxy_no_request_waits_much_longer_than_allowed(
    start: Callable[..., Server],
) -> None:
    """All requests queue in the server, which refuses those that waited too long."""
    server = start(SLOW_MODEL, WEB_CONCURRENCY="1", **MAX_QUEUE)
    with ClosedLoop(server.url, server.key, clients=150, pause=0.2) as load:
        time.sleep(6 if FULL_LOAD else 3)
    assert not load.errors
    assert load.refused
    assert p99(load.accepted) <= 1.5 * MAX_QUEUE_SECONDS
    server.stop()


def test_slow_clients_do_not_delay_others(
    start: Callable[..., Server], nginx: Callable[..., str]
) -> None:
    """500 clients that send a byte a second, stall or half-close do not double others' p99."""
    server = start(**MAX_QUEUE)
    url = nginx(server.port, **UNLIMITED)
    quiet, crowded = [], []
    for _ in range(3):
        quiet.append(p99_of_four_clients(url, server))
        with slow_clients(urlsplit(url).port or 0, server.key):
            crowded.append(p99_of_four_clients(url, server))
    alone, beside = statistics.median(quiet), statistics.median(crowded)
    report(f"p99 {alone:.4f} s alone, {beside:.4f} s beside {SLOW_CLIENTS} slow clients")
    assert beside < 2 * alone
    server.stop()


def p99_of_four_clients(url: str, server: Server) -> float:
    with ClosedLoop(url, server.key, clients=4) as load:
        time.sleep(LOAD_SECONDS / 6)
    assert not load.errors
    assert not load.refused
    return p99(load.accepted)


@contextmanager
def slow_clients(port: int, key: str) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.system.slow_clients", str(port), str(SLOW_CLIENTS), key]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        yield
        process.kill()
