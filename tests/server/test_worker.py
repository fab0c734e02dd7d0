from __future__ import annotations

import math
import socket
import sys
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from iris_api.server import scheduling
from iris_api.server.connection import ClientSocket
from iris_api.server.scheduling import MAX_MEAN_SECONDS, MEAN_OVER, POOL_AFTER_SLOW

from .running import (
    EMPTY,
    HEAD,
    RunningWorker,
    connect,
    echo,
    large,
    response,
    small,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

CLIENTS = 16
CALLS = 335
"""Most function calls, in Python and C, for a small request on a kept connection, from one poll to
the next, without the application. Measured: 318 on Python 3.11."""


def test_a_request_may_arrive_in_parts(worker: RunningWorker) -> None:
    """The next request on the connection begins where the last one ended."""
    request = HEAD + b"Content-Length: 2\r\n\r\nab"
    with connect(worker) as client:
        for part in (request[:5], request[5:-1], request[-1:] + request[:9], request[9:]):
            client.sendall(part)
            time.sleep(0.02)
        assert response(client) == b"200 ab"
        assert response(client) == b"200 ab"
        client.sendall(request)
        assert response(client) == b"200 ab"
        time.sleep(0.05)
        client.sendall(request[:7])
        time.sleep(0.05)
        client.sendall(request[7:])
        assert response(client) == b"200 ab"


def test_heartbeats_stop_while_a_thread_is_stuck(worker: RunningWorker) -> None:
    """Then Gunicorn replaces the worker. They go on when the thread does."""
    worker.cfg.__dict__["timeout"] = 0.1
    stuck = threading.Event()

    def wait(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        stuck.wait(10)
        return echo(environ, start_response)

    worker.wsgi = wait
    with connect(worker) as client:
        client.sendall(large())
        time.sleep(0.3)
        last = worker.tmp.last_update()
        time.sleep(0.3)
        assert worker.tmp.last_update() == last
        stuck.set()
        assert len(response(client)) == 70_004
        wait_until(lambda: worker.tmp.last_update() != last)


def test_a_stopping_worker_serves_the_backlog_and_refuses_later_connections(
    worker: RunningWorker,
) -> None:
    """The kernel refuses them while the worker still answers."""
    with connect(worker) as late:
        time.sleep(0.05)
        address = worker.sockets[0].getsockname()
        worker.handle_exit(None, None)
        late.sendall(EMPTY)
        assert response(late) == b"200 "
        worker.thread.join(5)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
    worker.set_accept_enabled(False)


class FullListener:
    """A listener of a process that has no descriptor left."""

    def accept(self) -> None:
        raise OSError(24, "Too many open files")


class IdleListener:
    """A listener without a connection to accept."""

    def accept(self) -> None:
        raise BlockingIOError(11, "nothing")


def test_a_failure_to_accept_is_logged_and_delays_no_client(
    worker: RunningWorker, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker tries again after the scan interval, not at once."""
    with connect(worker) as client:
        client.sendall(small())
        assert response(client) == b"200 ab"
        worker.scan_interval = 0.5
        for listener in (IdleListener(), FullListener()):
            worker.method_queue.defer(worker.accept, listener)
        began = time.monotonic()
        wait_until(lambda: caplog.records)
        client.sendall(small())
        assert response(client) == b"200 ab"
        assert time.monotonic() - began < 0.4
        (record,) = caplog.records
        assert record.msg == {
            "event": "accept_failed",
            "reason": "[Errno 24] Too many open files",
        }
        with connect(worker) as later:
            later.sendall(small())
            assert response(later) == b"200 ab"
        assert time.monotonic() - began > 0.4


def test_small_requests_are_answered_on_the_event_loop_until_they_are_slow(
    worker: RunningWorker,
) -> None:
    """Then threads answer for a while. Health checks and large requests are not affected."""
    on_loop: dict[bool, set[str]] = {True: set(), False: set()}

    def answer(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        on_loop[threading.current_thread() is worker.thread].add(environ["PATH_INFO"])
        if environ["PATH_INFO"] == "/slow":
            time.sleep(MAX_MEAN_SECONDS * MEAN_OVER * 1.5)
        return echo(environ, start_response)

    worker.wsgi = answer
    with connect(worker) as client:
        for path in ("/a", "/slow", *["/b"] * POOL_AFTER_SLOW, "/c"):
            client.sendall(small(path))
            assert response(client) == b"200 ab"
        client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert response(client) == b"200 "
        client.sendall(large())
        assert len(response(client)) == 70_004
    assert on_loop == {True: {"/a", "/slow", "/c", "/health"}, False: {"/b", "/"}}


def test_an_unreadable_request_gets_a_problem_document(
    worker: RunningWorker, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged without what the client sent, and the connection is closed."""
    caplog.set_level("INFO")
    with connect(worker) as client:
        client.sendall(b"GET / HTTP/1.1\r\nX-API-Key iris_secret\r\n\r\n")
        answer = response(client)
        assert answer.startswith(b'400 {"type":"about:blank"')
        assert client.recv(10) == b""
    assert "unreadable_request" in caplog.text
    assert "iris_secret" not in caplog.text


class BatchingWorker(RunningWorker):
    """A worker that answers everything that has arrived before it sends."""

    batch_time = 60.0


def test_the_worker_stays_within_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Function calls per request are limited, and responses of one round are sent together."""
    events: list[str] = []
    calls = 0

    def answer(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        events.append("answered")
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    def send(self: socket.socket, data: bytes) -> int:
        events.append("sent")
        return socket.socket.send(self, data)

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    monkeypatch.setattr(ClientSocket, "send", send)
    # On a busy machine the answers would seem slow, and go to threads that nobody waits for here.
    monkeypatch.setattr(scheduling, "MAX_MEAN_SECONDS", math.inf)
    worker = BatchingWorker.make(answer)
    worker.set_accept_enabled(True)
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(worker)) for _ in range(CLIENTS)]
        for _ in range(2):  # In the first round they are accepted too.
            for client in clients:
                client.sendall(small())
            events.clear()
            calls = 0
            sys.setprofile(count)
            try:
                until = time.monotonic() + 20
                while len(events) < 2 * CLIENTS and time.monotonic() < until:
                    worker.wait_for_and_dispatch_events(0)
            finally:
                sys.setprofile(None)
            assert [response(client) for client in clients] == [b"200 ok"] * CLIENTS
    assert events == ["answered"] * CLIENTS + ["sent"] * CLIENTS
    assert calls / CLIENTS <= CALLS
    worker.close_all()
