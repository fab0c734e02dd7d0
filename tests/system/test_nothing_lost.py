"""No request is lost, whatever an operator does: under load every answer is checked."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from iris_api.bundle.store import Bundle
from tests.bundles import reseal
from tests.constants import FLOWER, FULL_LOAD, ROOT

from .conftest import PATIENT, environment, pss_mebibytes, wait_for
from .open_loop import ROWS, Load, Result, capacity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from .conftest import Server

    UnderLoad = Callable[..., AbstractContextManager["Loads"]]

pytestmark = pytest.mark.system
load = pytest.mark.load

LOAD_SECONDS = 20.0 if FULL_LOAD else 2.0
"""Seconds of load for each thing that is done to the server."""
SWAPS = 100 if FULL_LOAD else 10
LOAD_SHARE = 0.5
"""Load as a share of what the server can answer."""
BODY = json.dumps(FLOWER).encode()
PREDICTION_LINE = '"route":"/v1/predict"'


@dataclass
class Loads:
    """The load on a server, directly and through nginx at once."""

    parts: list[Load]

    @property
    def results(self) -> list[Result]:
        return [result for load in self.parts for result in load.results]

    def check(self) -> None:
        """Every request got its right answer, and each way had many."""
        for load in self.parts:
            total = len(load.results)
            assert not load.faults, f"{len(load.faults)} of {total}: {load.faults[:5]}"
            assert total > LOAD_SECONDS * 10


@pytest.fixture(scope="module")
def start(start: Callable[..., Server]) -> Callable[..., Server]:
    """Start servers that refuse a request after a second in the queue, as they do by default."""
    return partial(start, IRIS_MAX_QUEUE_MS="1000")


@pytest.fixture(scope="module")
def urls_of(request: pytest.FixtureRequest) -> Callable[[Server], list[str]]:
    """Where clients reach a server: directly and, if this machine has it, through nginx."""
    if not shutil.which("nginx") and not os.environ.get("CI"):
        return lambda server: [server.url]
    nginx = request.getfixturevalue("nginx")
    return lambda server: [server.url, nginx(server.port)]


@load
def test_load_goes_through_nginx_too(needs: Callable[[str], str]) -> None:
    """Skips without nginx: then all tests below load the server directly alone."""
    needs("nginx")


@pytest.fixture(scope="module")
def capacities(shared: Server, urls_of: Callable[[Server], list[str]]) -> list[float]:
    """Requests a second that a server answers, directly and through nginx."""
    return [capacity(url, shared.headers) for url in urls_of(shared)]


@pytest.fixture
def under_load(urls_of: Callable[[Server], list[str]], capacities: list[float]) -> UnderLoad:
    """Put a server under half of the load that it can answer, in equal shares on both ways."""

    @contextmanager
    def under_load(server: Server, stops: Callable[[], bool] = lambda: False) -> Iterator[Loads]:
        urls = urls_of(server)
        loads = [
            Load(url, server.headers, rate=LOAD_SHARE / len(urls) * rate, stops=stops)
            for url, rate in zip(urls, capacities, strict=True)
        ]
        with ExitStack() as stack:
            yield Loads([stack.enter_context(load) for load in loads])

    return under_load


@pytest.fixture(scope="module")
def shared(
    start: Callable[..., Server], trained: Path, tmp_path_factory: pytest.TempPathFactory
) -> Server:
    """One server for all tests after which it serves on, with a bundle of its own."""
    bundle = shutil.copytree(trained, tmp_path_factory.mktemp("shared") / "model")
    return start(IRIS_MODEL_DIR=str(bundle))


@load
def test_a_stop_answers_every_request(start: Callable[..., Server], under_load: UnderLoad) -> None:
    """Readiness turns to 503 first; requests until then, and for a moment longer, are answered."""
    server = start(IRIS_DRAIN_SECONDS="2")
    seen_draining: list[float] = []

    def balancer_stops() -> bool:
        """A load balancer that probes every 100 ms sends nothing more after the first 503."""
        return bool(seen_draining) and time.monotonic() - seen_draining[0] > 0.1

    with under_load(server, balancer_stops) as loads:
        time.sleep(LOAD_SECONDS)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: server.ask("GET", "/health/ready")[0] == 503, "drain")
        seen_draining.append(time.monotonic())
        assert seen_draining[0] - began < 0.5
        assert server.ask("GET", "/health/live")[0] == 200
        assert server.predicts(), "a draining server still predicts"
        assert server.process.wait(20) == 0
    assert time.monotonic() - began < 2 + 8
    loads.check()


def test_a_stop_answers_connections_that_wait_to_be_accepted(start: Callable[..., Server]) -> None:
    """Also without a drain: the server answers all connections that the kernel has accepted."""
    server = start("tests.system.apps.slow_model:app", IRIS_DRAIN_SECONDS="0", **PATIENT)
    request = (
        f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nX-API-Key: {server.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
    ).encode() + BODY
    for worker in server.workers():
        os.kill(worker, signal.SIGSTOP)
    clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(60)]
    for client in clients:
        client.sendall(request)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    for worker in server.workers():
        os.kill(worker, signal.SIGCONT)
    responses = []
    for client in clients:
        client.settimeout(10)
        with client:
            responses.append(client.recv(65536)[:12])
    assert responses == [b"HTTP/1.1 200"] * 60
    assert server.process.wait(10) == 0


def test_idle_connections_do_not_delay_a_stop(start: Callable[..., Server]) -> None:
    """Neither kept-alive nor silent connections; afterwards the port refuses connections."""
    server = start(IRIS_DRAIN_SECONDS="0")
    kept_alive = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    kept_alive.request("GET", "/health")
    assert kept_alive.getresponse().read()
    with socket.create_connection(("127.0.0.1", server.port)):
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 4
    kept_alive.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))


@load
def test_reloads_lose_no_request(shared: Server, under_load: UnderLoad) -> None:
    """New workers replace the old ones again and again."""
    with under_load(shared) as loads:
        end = time.monotonic() + LOAD_SECONDS
        while time.monotonic() < end:
            before = set(shared.workers())
            shared.process.send_signal(signal.SIGHUP)
            wait_for(partial(are_replaced, shared, before), "new workers")
    loads.check()


def are_replaced(server: Server, before: set[int]) -> bool:
    return not before & set(server.workers())


@load
def test_recycled_workers_lose_no_request(
    start: Callable[..., Server], under_load: UnderLoad
) -> None:
    """Each worker serves a few hundred requests before another replaces it."""
    server = start(GUNICORN_CMD_ARGS="--max-requests 200 --max-requests-jitter 100")
    first = set(server.workers())
    with under_load(server) as loads:
        time.sleep(LOAD_SECONDS)
        wait_for(partial(are_replaced, server, first), "new workers")
    loads.check()
    server.stop()


@load
def test_a_server_that_replaces_another_loses_no_request(
    start: Callable[..., Server], under_load: UnderLoad, tmp_path: Path
) -> None:
    """SIGUSR2 starts a successor, SIGTERM stops the old server; readiness stays 200 throughout."""
    pid = tmp_path / "pid"
    server = start(GUNICORN_CMD_ARGS=f"--pid {pid}")
    with under_load(server) as loads:
        time.sleep(LOAD_SECONDS / 2)
        server.process.send_signal(signal.SIGUSR2)
        new_pid = tmp_path / "pid.2"
        wait_for(lambda: new_pid.exists() and new_pid.read_text(), "successor")
        successor = int(new_pid.read_text())
        wait_for(lambda: len(children(successor)) == 2, "workers of the successor")
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        while server.process.poll() is None:
            assert server.ask("GET", "/health/ready")[0] == 200
            time.sleep(0.02)
        assert server.process.returncode == 0
        time.sleep(LOAD_SECONDS / 2)
    loads.check()
    os.kill(successor, signal.SIGINT)
    wait_for(lambda: not Path(f"/proc/{successor}").exists(), "end of the successor")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@load
def test_swaps_of_the_model_lose_no_request(
    shared: Server, under_load: UnderLoad, tmp_path: Path
) -> None:
    """The commands activate and roll back; every worker has the other version within 2 seconds."""
    model_dir = Path(shared.settings["IRIS_MODEL_DIR"])
    other = reseal(shutil.copytree(model_dir, tmp_path / "other"), name="other").manifest.version
    old = Bundle.load(model_dir).manifest.version
    log_size = shared.log_size
    swaps: list[tuple[float, str]] = []
    with under_load(shared) as loads:
        end = time.monotonic() + LOAD_SECONDS
        run_command(model_dir, "activate", str(tmp_path / "other"))
        swaps.append((time.monotonic(), other))
        while time.monotonic() < end:
            time.sleep(2.5)
            run_command(model_dir, "rollback")
            swaps.append((time.monotonic(), old if swaps[-1][1] == other else other))
        time.sleep(2.5)
    loads.check()
    for (began, version), (ended, _) in zip(
        swaps, [*swaps[1:], (time.monotonic(), "")], strict=True
    ):
        between = [r.version for r in loads.results if began + 2 < r.sent < ended - 1.5]
        assert set(between) <= {version}
    assert {result.version for result in loads.results} == {old, other}
    assert shared.log_since(log_size).count('"event":"model_activated"') == len(swaps)


@load
def test_many_swaps_in_a_row_leave_nothing_behind(
    start: Callable[..., Server], model_dir: Path, tmp_path: Path
) -> None:
    """Under load no request fails, memory does not grow, and every version is served."""
    old = Bundle.load(model_dir)
    other = reseal(shutil.copytree(model_dir, tmp_path / "other"), name="other")
    copy = Bundle.load(shutil.copytree(model_dir, tmp_path / "copy"))
    assert copy.manifest == old.manifest
    server = start(IRIS_MODEL_DIR=str(model_dir))
    memory = []
    with Load(server.url, server.headers, rate=50) as load:
        for number in range(SWAPS):
            bundle = (other, copy)[number % 2]
            began = time.monotonic()
            bundle.activate(model_dir)
            wait_for(partial(all_workers_serve, server, bundle.manifest.version), "version")
            assert time.monotonic() - began < 2
            memory.append(pss_mebibytes(server))
    assert not load.faults, load.faults[:5]
    assert server.log_text.count('"event":"model_activated"') == SWAPS
    # A leaked model would add a mebibyte for each swap; warm threads add a few in all.
    early, late = memory[SWAPS // 5 : SWAPS // 2], memory[-SWAPS // 5 :]
    assert statistics.median(late) < statistics.median(early) + 9
    server.stop()


def all_workers_serve(server: Server, version: str) -> bool:
    """Whether a dozen new connections all reach a worker that has this version."""
    bodies = [json.loads(server.ask("GET", "/v1/model")[2]) for _ in range(12)]
    return {body["version"] for body in bodies} == {version}


@pytest.mark.parametrize("damage", ["half written", "gone"])
def test_a_server_whose_bundle_breaks_serves_on(
    start: Callable[..., Server], model_dir: Path, tmp_path: Path, damage: str
) -> None:
    """It logs the fault once; new workers too serve the version from before."""
    other = reseal(shutil.copytree(model_dir, tmp_path / "other"), name="other")
    server = start(IRIS_MODEL_DIR=str(model_dir))
    other.activate(model_dir)
    wait_for(partial(all_workers_serve, server, other.manifest.version), "version")
    with Load(server.url, server.headers, rate=50) as load:
        if damage == "gone":
            shutil.rmtree(model_dir)
        else:
            artefact = model_dir / other.manifest.served.path
            content = artefact.read_bytes()
            for size in range(0, len(content), len(content) // 20):
                artefact.write_bytes(content[:size])
                time.sleep(0.05)
        wait_for(lambda: "model_refused" in server.log_text, "log line")
        os.kill(server.workers()[0], signal.SIGKILL)
        wait_for(lambda: len(server.workers()) == 2, "new worker")
        time.sleep(1)
        assert all_workers_serve(server, other.manifest.version)
    versions = {result.version for result in load.results if not result.fault}
    assert versions == {other.manifest.version}
    assert server.log_text.count("model_refused") == 1
    assert server.metrics()['iris_model_swaps_total{outcome="refused"}'] == 1
    server.stop()


def run_command(model_dir: Path, *command: str) -> None:
    """Run `flask --app wsgi model ...` as an operator does."""
    ended = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", "model", *command],
        cwd=ROOT,
        env=environment(IRIS_MODEL_DIR=str(model_dir)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


@load
def test_log_rotation_loses_no_line(shared: Server, under_load: UnderLoad) -> None:
    """SIGUSR1 makes Gunicorn reopen its log files; this log is stdout, and its reader rotates."""
    time.sleep(0.5)  # Log lines of earlier requests may still be on their way.
    log_size = shared.log_size
    with under_load(shared) as loads:
        end = time.monotonic() + LOAD_SECONDS
        while time.monotonic() < end:
            shared.process.send_signal(signal.SIGUSR1)
            time.sleep(0.2)
    loads.check()
    requests = len(loads.parts) * len(ROWS) + len(loads.results)

    def count_lines() -> int:
        return shared.log_since(log_size).count(PREDICTION_LINE)

    wait_for(lambda: count_lines() >= requests, "log line for each request")
    assert count_lines() == requests


@load
def test_a_killed_worker_loses_only_its_own_requests(
    shared: Server, capacities: list[float]
) -> None:
    """The next request is answered within a second."""
    with Load(shared.url, shared.headers, rate=LOAD_SHARE * capacities[0]) as load:
        for _ in range(3):
            time.sleep(LOAD_SECONDS / 4)
            os.kill(shared.workers()[0], signal.SIGKILL)
            time.sleep(0.05)
            began = time.monotonic()
            assert shared.predicts()
            assert time.monotonic() - began < 1
        time.sleep(1)
    assert len(load.faults) <= 3 * 12, "at most one for each client and kill"
    assert all("connection" in fault for fault in load.faults)
    assert len(load.results) - len(load.faults) > LOAD_SECONDS * 20


def test_a_stuck_worker_is_replaced(start: Callable[..., Server]) -> None:
    """Also when only one of its threads blocks for ever; the other worker serves on."""
    server = start("tests.system.apps.stuck:app", GUNICORN_CMD_ARGS="--timeout 3")
    before = set(server.workers())
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET /stuck HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for(lambda: before != set(server.workers()), "end of a worker")
        wait_for(lambda: len(server.workers()) == 2, "new worker")
    assert all(server.predicts() for _ in range(8))
    assert "WORKER TIMEOUT" in server.log_text
    server.stop()
