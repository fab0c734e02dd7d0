"""Counters and log lines of a real server while its workers die, recycle and reload."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from functools import partial
from http.client import HTTPException
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
from prometheus_client.parser import text_string_to_metric_families

from iris_api.monitoring.counter_directory import directory_for
from iris_api.settings import Settings
from tests.constants import FLOWER, ROOT

from .conftest import Server, environment, free_port, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.system

ONE = json.dumps(FLOWER).encode()
BATCH = json.dumps([FLOWER] * 7).encode()
WRONG = b"{}"


def scrape(server: Server) -> dict[tuple[str, ...], float]:
    """Values of one scrape by name and label values."""
    status, _, body = server.ask("GET", "/metrics")
    assert status == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


class Load:
    """Clients that count the responses they get and the requests without a response."""

    def __init__(self, server: Server, clients: int) -> None:
        self.server = server
        self.statuses: Counter[int] = Counter()
        self.rows = 0
        self.lost: Counter[bytes] = Counter()
        self.going = threading.Event()
        self.ended = threading.Event()
        self.resting = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._client) for _ in range(clients)]

    def __enter__(self) -> Self:
        self.going.set()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.going.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, responses: int) -> None:
        """Wait for this many more responses."""
        enough = self.statuses.total() + responses
        wait_for(lambda: self.statuses.total() > enough, f"{responses} responses")

    def pause(self) -> None:
        """Pause all clients, and wait until they have their responses."""
        self.going.clear()
        for _ in self._threads:
            self.resting.acquire()

    def resume(self) -> None:
        self.going.set()

    def _client(self) -> None:
        bodies = (ONE, BATCH, WRONG)
        number = 0
        while not self.ended.is_set():
            if not self.going.is_set():
                self.resting.release()
                self.going.wait()
            body = bodies[number % 3]
            number += 1
            try:
                status, _, _ = self.server.ask("POST", "/v1/predict", body)
            except (OSError, HTTPException):
                with self._lock:
                    self.lost[body] += 1
                continue
            with self._lock:
                self.statuses[status] += 1
                self.rows += {ONE: 1, BATCH: 7, WRONG: 0}[body]


def check_totals(server: Server, load: Load) -> None:
    """Server and clients count the same, except for requests without a response."""
    scraped = scrape(server)
    lost_rows = load.lost[ONE] + 7 * load.lost[BATCH]
    for status, lost in ((200, load.lost[ONE] + load.lost[BATCH]), (422, load.lost[WRONG])):
        counted = scraped["iris_requests_total", "/v1/predict", str(status)]
        assert load.statuses[status] <= counted <= load.statuses[status] + lost
    for name in ("iris_predictions_total", "iris_feature_rows_total"):
        rows = sum(value for key, value in scraped.items() if key[0] == name)
        each = 4 if name == "iris_feature_rows_total" else 1
        assert each * load.rows <= rows <= each * (load.rows + lost_rows)
    assert load.statuses.keys() == {200, 422}
    for key, value in scraped.items():
        if key[0] == "iris_prediction_confidence_count":
            assert value == scraped["iris_request_rows_sum",]


def test_totals_are_what_clients_counted(start: Callable[..., Server]) -> None:
    """To the last unit, while workers recycle, reload and are killed between requests."""
    server = start(
        WEB_CONCURRENCY="3", GUNICORN_CMD_ARGS="--max-requests 150 --max-requests-jitter 50"
    )
    directory = counter_directory(server)
    scrapes: list[dict[tuple[str, ...], float]] = []
    with Load(server, clients=6) as load:
        for disturbance in ("kill", "reload", "kill", "none"):
            load.wait_for_more(900)
            scrapes.append(scrape(server))
            load.pause()
            if disturbance == "kill":
                # A worker buffers log lines for ten milliseconds, and kill -9 loses the buffer.
                wait_for(partial(has_logged, server, load.statuses.total()), "log lines so far")
                before = server.workers()
                os.kill(before[0], signal.SIGKILL)
                wait_for(partial(has_ended, server, before[0]), "end of the worker")
                wait_for(lambda: len(server.workers()) == 3, "new worker")
            elif disturbance == "reload":
                server.process.send_signal(signal.SIGHUP)
            check_totals(server, load)
            load.resume()
    check_totals(server, load)
    assert load.lost.total() <= 0.001 * load.statuses.total()
    wait_for(partial(has_logged, server, load.statuses.total()), "log line for each response")
    scrapes.append(scrape(server))
    for earlier, later in pairwise(scrapes):
        for key, value in earlier.items():
            if key[0].endswith(("_total", "_count", "_sum", "_bucket")):
                assert later[key] >= value, f"{key} went backwards"
    assert scrapes[-1]["iris_worker_starts_total",] >= 3 + 2 + 3 + 10
    slots = {path.stem.rpartition("_")[2] for path in directory.glob("*.db")}
    assert len(slots) <= 1 + 2 * 3, "one for the server, and two for each worker in a reload"
    assert server.stop() == 0
    assert not directory.exists()


def has_logged(server: Server, responses: int) -> bool:
    """Whether there is a log line for each response."""
    predictions = [line for line in server.log_lines if line.get("route") == "/v1/predict"]
    return len(predictions) >= responses


def has_ended(server: Server, pid: int) -> bool:
    return pid not in server.workers()


def counter_directory(server: Server) -> Path:
    """The directory of the server's counters."""
    return directory_for(Settings()).with_name(
        f"iris-api-{os.geteuid()}-127.0.0.1-any-{server.process.pid}"
    )


def test_a_worker_killed_under_load_loses_at_most_its_own_requests(
    start: Callable[..., Server],
) -> None:
    """Every answered request is counted, and none twice."""
    server = start(WEB_CONCURRENCY="3")
    with Load(server, clients=6) as load:
        for _ in range(3):
            load.wait_for_more(300)
            os.kill(server.workers()[0], signal.SIGKILL)
            wait_for(lambda: len(server.workers()) == 3, "new worker")
    check_totals(server, load)
    assert load.lost.total() <= 3 * 6
    assert scrape(server)["iris_requests_in_flight",] == 1, "the scrape itself"
    server.stop()


def test_the_next_start_begins_at_zero(start: Callable[..., Server]) -> None:
    """Also after a server that was killed and left its counters."""
    port = str(free_port())
    first = start(PORT=port)
    assert first.predicts()
    workers = first.workers()
    first.process.kill()
    wait_for(
        lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "end of its workers"
    )
    second = start(PORT=port)
    assert not any(value for key, value in scrape(second).items() if "predictions" in key[0][:16])
    second.stop()


def test_the_drift_command_agrees_with_the_route(start: Callable[..., Server]) -> None:
    """It reads the counters of the server with the same settings; without one it says so."""
    port = str(free_port())
    server = start(PORT=port)
    body = json.dumps([FLOWER] * 300).encode()
    assert server.ask("POST", "/v1/predict", body)[0] == 200
    report: Any = json.loads(server.ask("GET", "/v1/drift")[2])
    model_dir = server.settings["IRIS_MODEL_DIR"]
    printed = drift_command(PORT=port, IRIS_MODEL_DIR=model_dir)
    assert printed.stdout.startswith(f"drifted: 300 rows (100 are needed) since {report['since']}")
    for feature in report["features"]:
        assert f"{feature['feature']} (cm): {feature['verdict']}, PSI" in printed.stdout
        assert f"PSI {feature['psi']:.3f}" in printed.stdout
    assert "virginica  32.7 ░" in printed.stdout
    server.stop()
    without_server = drift_command(PORT=port, IRIS_MODEL_DIR=model_dir)
    assert without_server.returncode == 1
    assert without_server.stderr.startswith("Error: no server of this user runs on")


def drift_command(**settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", "drift"],
        cwd=ROOT,
        env=environment(**settings),
        capture_output=True,
        text=True,
        check=False,
    )


def test_stdout_holds_only_json_lines(start: Callable[..., Server]) -> None:
    """Gunicorn's own messages, broken requests, a killed worker and the stop among them."""
    server = start(WEB_CONCURRENCY="2")
    hostile = [
        b"GET / HTTP/1.1\r\nbad \x1b[31m header\r\n\r\n",
        b"\x16\x03\x01\"'\xff\x00\r\n\r\n",
        b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n",
        b"GET /\xe2\x80\xae\xff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n",
    ]
    for sent in hostile:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.settimeout(10)
            try:
                client.sendall(sent)
                client.recv(65536)
            except OSError:
                pass
    assert server.predicts()
    time.sleep(0.2)  # A worker buffers its log lines, and a kill would lose them.
    os.kill(server.workers()[0], signal.SIGKILL)
    wait_for(
        lambda: "SIGKILL" in server.log_text or "was sent" in server.log_text,
        "log line of the kill",
    )
    time.sleep(0.5)
    assert server.stop() == 0
    raw = server.log.read_bytes().splitlines()
    lines = [json.loads(line) for line in raw if not line.startswith((b"curl ", b"KEY is "))]
    assert all({"time", "level", "event", "process"} <= line.keys() for line in lines)
    assert max(map(len, raw)) < 4096
    events = [line["event"] for line in lines]
    assert any("Booting worker" in event for event in events)
    assert any("Shutting down" in event for event in events)
    assert events.count("unreadable_request") >= 3
    ready = next(line for line in lines if line["event"] == "ready")
    assert ready["address"] == server.url
