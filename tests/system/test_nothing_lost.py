"""Whatever an operator does to it, no request is lost: under load, every answer checked."""

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
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from iris_api.bundle.store import Bundle
from tests.conftest import FLOWER, ROOT, reseal

from .conftest import environment, pss_mebibytes, wait_for
from .open_loop import ROWS, Load, capacity

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Server

pytestmark = [pytest.mark.system, pytest.mark.load]

STEADY = 20.0 if os.environ.get("CI") else 3.0
"""Seconds of load for each thing that is done to the server."""
GOOD = json.dumps(FLOWER).encode()
SWAPS = 100 if os.environ.get("CI") else 20
PREDICTED = '"route":"/v1/predict"'
SHARE = 0.5
"""Of what the server can do."""


@pytest.fixture(params=["straight", "nginx"])
def url_of(request: pytest.FixtureRequest, nginx: Callable[..., str]) -> Callable[[Server], str]:
    """Where clients find a server: itself, or nginx before it."""
    if request.param == "straight":
        return lambda server: server.url
    return lambda server: nginx(server.port)


def under(url: str, server: Server) -> Load:
    """A load of half of what there can be."""
    return Load(url, server.headers, rate=SHARE * capacity(url, server.headers))


def check(load: Load) -> None:
    """Every request had its right answer, and there were many."""
    assert not load.faults, f"{len(load.faults)} of {len(load.results)}: {load.faults[:5]}"
    assert len(load.results) > STEADY * 20


def test_a_stop_answers_all_that_came(
    start: Callable[..., Server], url_of: Callable[[Server], str]
) -> None:
    """Readiness says 503 first; who sends on until then, and a moment longer, is answered."""
    server = start(IRIS_DRAIN_SECONDS="2")
    url = url_of(server)
    told: list[float] = []

    def balancer_knows() -> bool:
        """It asks every 100 ms, and sends nothing more when it has been told."""
        return bool(told) and time.monotonic() - told[0] > 0.1

    load = under(url, server)
    load.stops = balancer_knows
    with load:
        time.sleep(STEADY)
        asked = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: server.ask("GET", "/health/ready")[0] == 503, "the drain")
        told.append(time.monotonic())
        assert told[0] - asked < 0.5
        assert server.ask("GET", "/health/live")[0] == 200
        assert server.predicts(), "draining is not refusing"
        assert server.process.wait(20) == 0
    assert time.monotonic() - asked < 2 + 8
    check(load)


def test_a_stop_answers_what_waits_to_be_accepted(start: Callable[..., Server]) -> None:
    """Without a drain too: whatever the kernel has taken is answered, and then it takes no more."""
    server = start("tests.system.apps.slow_model:app", IRIS_DRAIN_SECONDS="0")
    asked = (
        f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nX-API-Key: {server.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(GOOD)}\r\n\r\n"
    ).encode() + GOOD
    os.kill(server.workers()[0], signal.SIGSTOP)
    os.kill(server.workers()[1], signal.SIGSTOP)
    waiting = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(60)]
    for client in waiting:
        client.sendall(asked)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    for worker in server.workers():
        os.kill(worker, signal.SIGCONT)
    answers = []
    for client in waiting:
        client.settimeout(10)
        with client:
            answers.append(client.recv(65536)[:12])
    assert answers == [b"HTTP/1.1 200"] * 60
    assert server.process.wait(10) == 0


def test_idle_clients_do_not_hold_up_a_stop(start: Callable[..., Server]) -> None:
    """Neither kept-alive nor silent connections; and then nothing listens."""
    server = start(IRIS_DRAIN_SECONDS="0")
    kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    kept.request("GET", "/health")
    assert kept.getresponse().read()
    with socket.create_connection(("127.0.0.1", server.port)):
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 4
    kept.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))


def test_a_reload_loses_nothing(
    start: Callable[..., Server], url_of: Callable[[Server], str]
) -> None:
    """New workers take over from old ones, again and again."""
    server = start()
    with under(url_of(server), server) as load:
        until = time.monotonic() + STEADY
        while time.monotonic() < until:
            before = set(server.workers())
            server.process.send_signal(signal.SIGHUP)
            wait_for(partial(replaced, server, before), "other workers")
    check(load)
    server.stop()


def replaced(server: Server, before: set[int]) -> bool:
    return not before & set(server.workers())


def test_workers_that_are_recycled_lose_nothing(
    start: Callable[..., Server], url_of: Callable[[Server], str]
) -> None:
    """Each serves a few hundred requests and makes room for another."""
    server = start(GUNICORN_CMD_ARGS="--max-requests 200 --max-requests-jitter 100")
    first = set(server.workers())
    with under(url_of(server), server) as load:
        time.sleep(STEADY)
    check(load)
    assert not first & set(server.workers())
    server.stop()


def test_a_server_that_replaces_another_loses_nothing(
    start: Callable[..., Server], url_of: Callable[[Server], str], tmp_path: Path
) -> None:
    """The new one is ready before the old one is told to leave, and never says that it is not."""
    pid = tmp_path / "pid"
    server = start(GUNICORN_CMD_ARGS=f"--pid {pid}")
    url = url_of(server)
    with under(url, server) as load:
        time.sleep(STEADY / 2)
        server.process.send_signal(signal.SIGUSR2)
        successor = tmp_path / "pid.2"
        wait_for(lambda: successor.exists() and successor.read_text(), "the successor")
        new = int(successor.read_text())
        wait_for(lambda: len(children(new)) == 2, "its workers")
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        while server.process.poll() is None:
            assert server.ask("GET", "/health/ready")[0] == 200
            time.sleep(0.02)
        assert server.process.returncode == 0
        time.sleep(STEADY / 2)
    check(load)
    os.kill(new, signal.SIGTERM)
    wait_for(lambda: not Path(f"/proc/{new}").exists(), "its end")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_swap_of_the_model_loses_nothing(
    start: Callable[..., Server], url_of: Callable[[Server], str], model_dir: Path, tmp_path: Path
) -> None:
    """By the commands; every worker has the other version within two seconds of it."""
    other = reseal(shutil.copytree(model_dir, tmp_path / "other"), name="other").manifest.version
    old = Bundle.load(model_dir).manifest.version
    server = start(IRIS_MODEL_DIR=str(model_dir))
    swapped: list[tuple[float, str]] = []
    with under(url_of(server), server) as load:
        until = time.monotonic() + STEADY
        model(model_dir, "activate", str(tmp_path / "other"))
        swapped.append((time.monotonic(), other))
        while time.monotonic() < until:
            time.sleep(2.5)
            model(model_dir, "rollback")
            swapped.append((time.monotonic(), old if swapped[-1][1] == other else other))
        time.sleep(2.5)
    check(load)
    for (began, version), (ended, _) in zip(
        swapped, [*swapped[1:], (time.monotonic(), "")], strict=True
    ):
        between = [a.version for a in load.results if began + 2 < a.sent < ended - 1.5]
        assert set(between) <= {version}
    assert {answer.version for answer in load.results} == {old, other}
    assert server.log_text.count('"event":"model_activated"') == len(swapped)
    server.stop()


def test_a_hundred_swaps_in_a_row_leave_nothing_behind(
    start: Callable[..., Server], model_dir: Path, tmp_path: Path
) -> None:
    """Under load: no failure, no growth of memory, and all of them were taken up."""
    old = Bundle.load(model_dir)
    other = reseal(shutil.copytree(model_dir, tmp_path / "other"), name="other")
    kept = Bundle.load(shutil.copytree(model_dir, tmp_path / "kept"))
    assert kept.manifest == old.manifest
    server = start(IRIS_MODEL_DIR=str(model_dir))
    memory = []
    with Load(server.url, server.headers, rate=50) as load:
        for number in range(SWAPS):
            bundle = (other, kept)[number % 2]
            began = time.monotonic()
            bundle.activate(model_dir)
            wait_for(partial(serves, server, bundle.manifest.version), "its version")
            assert time.monotonic() - began < 2
            memory.append(pss_mebibytes(server))
    assert not load.faults, load.faults[:5]
    assert server.log_text.count('"event":"model_activated"') == SWAPS
    # Each swap that leaked its model would add a mebibyte; what threads warm up is a few in all.
    early, late = memory[SWAPS // 5 : SWAPS // 2], memory[-SWAPS // 5 :]
    assert statistics.median(late) < statistics.median(early) + 9
    server.stop()


def serves(server: Server, version: str) -> bool:
    """Whether every worker has it, as far as a dozen new connections tell."""
    answers = [json.loads(server.ask("GET", "/v1/model")[2]) for _ in range(12)]
    return {answer["version"] for answer in answers} == {version}


@pytest.mark.parametrize("harm", ["half written", "gone"])
def test_a_bundle_that_breaks_is_told_and_serves_on(
    start: Callable[..., Server], model_dir: Path, tmp_path: Path, harm: str
) -> None:
    """While it is read and after; also workers that start then have the one before."""
    other = reseal(shutil.copytree(model_dir, tmp_path / "other"), name="other")
    server = start(IRIS_MODEL_DIR=str(model_dir))
    other.activate(model_dir)
    wait_for(partial(serves, server, other.manifest.version), "its version")
    with Load(server.url, server.headers, rate=50) as load:
        if harm == "gone":
            shutil.rmtree(model_dir)
        else:
            artefact = model_dir / other.manifest.served.path
            whole = artefact.read_bytes()
            for size in range(0, len(whole), len(whole) // 20):
                artefact.write_bytes(whole[:size])
                time.sleep(0.05)
        wait_for(lambda: "model_refused" in server.log_text, "the line")
        os.kill(server.workers()[0], signal.SIGKILL)
        wait_for(lambda: len(server.workers()) == 2, "its successor")
        time.sleep(1)
        assert serves(server, other.manifest.version)
    assert {answer.version for answer in load.results if not answer.fault} == {
        other.manifest.version
    }
    assert server.log_text.count("model_refused") == 1
    scraped = server.ask("GET", "/metrics")[2].decode()
    assert 'iris_model_swaps_total{outcome="refused"} 1.0' in scraped
    server.stop()


def model(directory: Path, *command: str) -> None:
    """`flask --app wsgi model ...`, as an operator runs it."""
    ended = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", "model", *command],
        cwd=ROOT,
        env=environment(IRIS_MODEL_DIR=str(directory)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def test_a_rotation_of_the_log_loses_nothing(
    start: Callable[..., Server], url_of: Callable[[Server], str]
) -> None:
    """Gunicorn reopens its files at SIGUSR1; ours is stdout, and its reader rotates."""
    server = start()
    load = under(url_of(server), server)
    time.sleep(0.5)  # Lines of what measured the capacity may still be on their way.
    before = server.log_text.count(PREDICTED)
    with load:
        until = time.monotonic() + STEADY
        while time.monotonic() < until:
            server.process.send_signal(signal.SIGUSR1)
            time.sleep(0.2)
    check(load)
    of_all = len(ROWS) + len(load.results)
    wait_for(lambda: server.log_text.count(PREDICTED) - before >= of_all, "a line for each")
    assert server.log_text.count(PREDICTED) - before == of_all
    server.stop()


def test_a_killed_worker_loses_what_it_held_and_no_more(start: Callable[..., Server]) -> None:
    """The next requests are answered within a second."""
    server = start()
    with under(server.url, server) as load:
        for _ in range(3):
            time.sleep(STEADY / 4)
            os.kill(server.workers()[0], signal.SIGKILL)
            time.sleep(0.05)
            began = time.monotonic()
            assert server.predicts()
            assert time.monotonic() - began < 1
        time.sleep(1)
    assert len(load.faults) <= 3 * 12, "at most one for each client and kill"
    assert all("connection" in fault for fault in load.faults)
    quiet = [a for a in load.results if not a.fault]
    assert len(quiet) > STEADY * 20
    server.stop()


def test_a_worker_that_is_stuck_is_replaced(start: Callable[..., Server]) -> None:
    """Though only a thread of it is, in a call that never comes back; the other one serves on."""
    server = start("tests.system.apps.stuck:app", GUNICORN_CMD_ARGS="--timeout 3")
    before = set(server.workers())
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET /stuck HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for(lambda: before != set(server.workers()), "a worker's end")
        wait_for(lambda: len(server.workers()) == 2, "its successor")
    assert all(server.predicts() for _ in range(8))
    assert "WORKER TIMEOUT" in server.log_text
    server.stop()
