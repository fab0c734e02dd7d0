from __future__ import annotations

import json
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from iris_api.server.connection import MAX_PEEK_BYTES, ClientSocket, Connection

from .running import (
    EMPTY,
    HEAD,
    RunningWorker,
    connect,
    echo,
    large,
    read_all,
    reset,
    response,
    small,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable

LARGE = 8_000_000
UNREAD = HEAD.replace(b"/ ", b"/unread ", 1)


def answer_largely(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answer one path with more than the buffers between client and server hold."""
    if environ["PATH_INFO"] != "/large":
        return echo(environ, start_response)
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(LARGE))])
    return [b"y" * LARGE]


def test_waiting_for_a_client_ends_after_its_timeout(worker: RunningWorker) -> None:
    """A part of a request gets a 408, a head without end a 431, and silence no response."""
    with connect(worker) as partial, connect(worker) as silent, connect(worker) as endless:
        partial.sendall(HEAD)
        endless.sendall(HEAD + b"X: y\r\n" * MAX_PEEK_BYTES)
        status, _, body = response(endless).partition(b" ")
        assert status == b"431"
        assert json.loads(body)["detail"] == "The head has no end."
        status, _, body = response(partial).partition(b" ")
        assert status == b"408"
        assert json.loads(body)["title"] == "Request Timeout"
        assert silent.recv(100) == b""


def test_an_unread_body_ends_the_connection(worker: RunningWorker) -> None:
    """The response is not overtaken by a reset, and a broken body gets no second response."""
    with connect(worker) as client:
        client.sendall(UNREAD + b"Content-Length: 1000000\r\n\r\n" + b"x" * 500_000)
        assert response(client) == b"200 unread"
        client.sendall(b"x" * 500_000)
        assert client.recv(100) == b""
    with connect(worker) as client:
        client.sendall(UNREAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
        assert response(client) == b"200 unread"
        assert client.recv(100) == b""


def test_the_rest_of_an_unread_body_is_discarded_if_it_comes_soon(worker: RunningWorker) -> None:
    """Then the connection is kept, as the response has announced."""
    with connect(worker) as client:
        for _ in range(2):
            client.sendall(UNREAD + b"Content-Length: 200000\r\n\r\n" + b"x" * 150_000)
            time.sleep(0.02)
            client.sendall(b"x" * 50_000)
            assert response(client) == b"200 unread"
        client.sendall(EMPTY)
        assert response(client) == b"200 "


def test_a_thread_waits_no_longer_than_the_read_timeout(worker: RunningWorker) -> None:
    """The app reads as if the client had ended. What the client sends later is no request."""
    with connect(worker) as client:
        client.sendall(HEAD + b"Content-Length: 1000000\r\n\r\nx")
        assert response(client) == b"200 x"
        client.sendall(EMPTY)
        assert client.recv(100) == b""


@pytest.mark.parametrize("request_", [small("/large"), large("/large")], ids=["loop", "thread"])
def test_an_unread_response_delays_nobody(worker: RunningWorker, request_: bytes) -> None:
    """Neither the event loop nor a thread waits for it. It arrives whole, and so does the next."""
    worker.wsgi = answer_largely
    with ExitStack() as stack:
        readers = [stack.enter_context(connect(worker)) for _ in range(5)]
        other = stack.enter_context(connect(worker))
        for reader in readers:
            reader.sendall(request_ + small())
        for _ in range(3):
            other.sendall(small())
            assert response(other) == b"200 ab"
            time.sleep(0.05)
        assert not worker.busy_since
        for reader in readers:
            assert response(reader) == b"200 " + b"y" * LARGE
            assert response(reader) == b"200 ab"


def test_a_client_that_stops_reading_is_closed(worker: RunningWorker) -> None:
    """After the write timeout. A slow client that goes on reading is not."""
    worker.write_timeout = 0.3
    worker.wsgi = answer_largely
    with connect(worker) as stalled, connect(worker) as slow:
        for client in (stalled, slow):
            client.sendall(small("/large"))
        received = 0
        while received < LARGE:
            received += len(slow.recv(800_000))
            time.sleep(0.05)
        wait_until(lambda: not worker.unsent_conns)
        assert len(read_all(stalled)) < LARGE


def test_unsent_responses_are_bounded(worker: RunningWorker) -> None:
    """Above the limit, the connection that stalled longest is closed."""
    worker.max_unsent_bytes = 2 * LARGE
    worker.wsgi = answer_largely
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(worker)) for _ in range(4)]
        for client in clients:
            client.sendall(small("/large"))
            time.sleep(0.03)
        complete = [len(read_all(client)) > LARGE for client in clients]
        assert complete[-2:] == [True, True]
        assert not complete[0]


def test_events_of_a_closed_connection_are_ignored(
    worker: RunningWorker, caplog: pytest.LogCaptureFixture
) -> None:
    """Its client may do something in the same round of the loop in which it is closed."""
    worker.wsgi = answer_largely
    with connect(worker) as client:
        client.sendall(small("/large"))
        wait_until(lambda: worker.unsent_conns)
        conn = worker.unsent_conns[0]
        event = worker.poller.get_key(conn.sock).data

        def close_and_dispatch() -> None:
            worker.max_unsent_bytes = 0
            worker.close_stalled()
            event(conn.sock)

        worker.call(close_and_dispatch)
        assert worker.nr_conns == 0
    assert not caplog.records


def test_the_time_of_an_answer_does_not_count_as_reading(worker: RunningWorker) -> None:
    """After an answer that took longer than the read timeout, the connection is kept."""

    def answer_slowly(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        time.sleep(0.5 if environ["PATH_INFO"] == "/slow" else 0)
        return echo(environ, start_response)

    worker.wsgi = answer_slowly
    with connect(worker) as client:
        client.sendall(large("/slow"))
        assert len(response(client)) == 70_004
        client.sendall(small())
        assert response(client) == b"200 ab"


FAILING = [
    (Connection, "look", b""),
    (ClientSocket, "send_buffered", b""),
    (RunningWorker, "enqueue_req", b""),
    (RunningWorker, "await_first_request", b""),
    (RunningWorker, "finish", b"200"),
]


@pytest.mark.parametrize(("owner", "method", "status"), FAILING, ids=[each[1] for each in FAILING])
def test_an_error_closes_the_connection_that_it_is_about(
    worker: RunningWorker,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    method: str,
    status: bytes,
) -> None:
    """Whether its request is read, answered or sent. It is logged, and the worker goes on."""

    def fail(*_arguments: object, **_named: object) -> None:
        raise OSError(5, "no more")

    with monkeypatch.context() as patch:
        patch.setattr(owner, method, fail)
        with connect(worker) as client:
            client.sendall(large() if method == "enqueue_req" else small())
            assert read_all(client)[9:12] == status
    with connect(worker) as client:
        client.sendall(small())
        assert response(client) == b"200 ab"
    assert "connection_failed" in caplog.text


@pytest.mark.parametrize("last", [b"", small(), small() * 50], ids=["read", "one", "many"])
def test_a_reset_connection_is_closed(worker: RunningWorker, last: bytes) -> None:
    """Whether its request was read or not; other connections are served."""
    with connect(worker) as client:
        client.sendall(small() + last)
        reset(client)
    with connect(worker) as client:
        client.sendall(small())
        assert response(client) == b"200 ab"


def test_pipelined_requests_of_a_client_that_left_are_not_answered(worker: RunningWorker) -> None:
    """However many it had sent."""
    answered: list[str] = []
    worker.wsgi = recording(answered)
    with connect(worker) as client:
        client.sendall(small() * 90)
        reset(client)
    wait_until(lambda: not worker.nr_conns)
    assert len(answered) < 30


def recording(paths: list[str]) -> Callable[..., list[bytes]]:
    def answer(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        paths.append(environ["PATH_INFO"])
        time.sleep(0.001)
        return echo(environ, start_response)

    return answer


def test_pipelined_requests_are_answered_in_order(worker: RunningWorker) -> None:
    """However many a client sends before it reads."""
    with connect(worker) as client:
        bodies = [b"%02d" % number for number in range(60)]
        client.sendall(b"".join(small()[:-2] + body for body in bodies))
        assert [response(client)[4:] for _ in bodies] == bodies


def test_a_stopping_worker_does_not_wait_for_silent_clients(worker: RunningWorker) -> None:
    """It closes them after `stop_linger`, though their keep-alive time is longer."""
    worker.stop_linger = 0.1
    worker.cfg.__dict__["keepalive"] = 60
    with connect(worker) as silent, connect(worker) as idle:
        idle.sendall(small())
        assert response(idle) == b"200 ab"
        began = time.monotonic()
        worker.handle_exit(None, None)
        assert (silent.recv(10), idle.recv(10)) == (b"", b"")
        worker.thread.join(5)
    assert time.monotonic() - began < 2
