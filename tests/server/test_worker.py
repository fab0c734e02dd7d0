from __future__ import annotations

import logging
import selectors
import socket
import sys
import threading
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import pytest
from gunicorn import sock
from gunicorn.config import Config

from iris_api.server import connection, scheduling
from iris_api.server.connection import MAX_PEEK_BYTES, ClientSocket
from iris_api.server.worker import EventLoopWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"
EMPTY = HEAD + b"Content-Length: 0\r\n\r\n"


class Running(EventLoopWorker):
    """A worker on a thread of this process, which has no server above it and no signals."""

    scan_interval = 0.05
    read_timeout = 0.5

    def is_parent_alive(self) -> bool:
        return True

    def set_up(self, answer: Callable[..., Iterable[bytes]]) -> None:
        self.wsgi = answer
        self.tpool = self.get_thread_pool()
        self.poller = selectors.DefaultSelector()
        self.method_queue.init()
        self.prepare()

    def start(self, answer: Callable[..., Iterable[bytes]]) -> None:
        self.set_up(answer)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()


def made() -> Running:
    config = Config()
    for name, value in {"threads": 2, "keepalive": 1, "bind": "127.0.0.1:0"}.items():
        config.set(name, value)
    log = logging.getLogger("gunicorn.test")
    log.access = lambda *_: None  # type: ignore[attr-defined]
    return Running(1, 1, sock.create_sockets(config, log), None, 30, config, log)


@pytest.fixture
def running() -> Iterator[Running]:
    """It answers with the body that it was sent, and looks after its clients ten times as often."""
    running = made()
    running.start(echo)
    yield running
    running.alive = False
    running.thread.join(10)
    running.tmp.close()
    assert not running.thread.is_alive()
    assert running.nr_conns == 0, "a connection was forgotten"


def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    body = b"unread" if environ["PATH_INFO"] == "/unread" else environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def connect(running: Running) -> socket.socket:
    client = socket.create_connection(running.sockets[0].getsockname())
    client.settimeout(5)
    return client


def answer(client: socket.socket) -> bytes:
    """The body of one answer, and the status of it."""
    read = b""
    while b"\r\n\r\n" not in read:
        chunk = client.recv(1)  # Another answer may follow.
        if not chunk:
            return read
        read += chunk
    head, _, body = read.partition(b"\r\n\r\n")
    length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += client.recv(length - len(body))
    return head[9:12] + b" " + body


def test_a_request_in_pieces_and_another_behind_it_are_answered(running: Running) -> None:
    """On one connection: the second begins where the first ends, and comes whole later."""
    whole = HEAD + b"Content-Length: 2\r\n\r\nab"
    with connect(running) as client:
        for part in (whole[:5], whole[5:-1], whole[-1:] + whole[:9], whole[9:]):
            client.sendall(part)
            time.sleep(0.05)
        assert answer(client) == b"200 ab"
        assert answer(client) == b"200 ab"
        client.sendall(whole)
        assert answer(client) == b"200 ab"
        time.sleep(0.1)
        client.sendall(whole[:7])
        time.sleep(0.1)
        client.sendall(whole[7:])
        assert answer(client) == b"200 ab"


def test_who_stops_in_the_middle_is_told_and_who_says_nothing_is_closed(running: Running) -> None:
    """After their time; a head that has no end is not waited for."""
    with connect(running) as stopped, connect(running) as silent, connect(running) as endless:
        stopped.sendall(HEAD)
        endless.sendall(HEAD + b"X: y\r\n" * MAX_PEEK_BYTES)
        assert b"431" in endless.recv(100)
        assert b"408" in stopped.recv(100)
        assert silent.recv(100) == b""


def test_a_body_that_nobody_wants_ends_the_connection_and_not_a_thread(running: Running) -> None:
    """The answer comes first, and is not overtaken by a reset."""
    unread = HEAD.replace(b"/ ", b"/unread ", 1) + b"Content-Length: 1000000\r\n\r\n"
    with connect(running) as client:
        client.sendall(unread + b"x" * 500_000)
        assert answer(client) == b"200 unread"
        client.sendall(b"x" * 500_000)
        assert client.recv(100) == b""
    with connect(running) as client:
        bad = HEAD.replace(b"/ ", b"/unread ", 1) + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"
        client.sendall(bad)
        assert answer(client) == b"200 unread"
        assert client.recv(100) == b"", "and no second answer"


def test_a_body_that_nobody_wants_is_read_to_its_end(running: Running) -> None:
    """If it is there in a moment: the connection was promised to be kept."""
    unread = HEAD.replace(b"/ ", b"/unread ", 1) + b"Content-Length: 200000\r\n\r\n"
    with connect(running) as client:
        for _ in range(2):
            client.sendall(unread + b"x" * 150_000)
            time.sleep(0.02)
            client.sendall(b"x" * 50_000)
            assert answer(client) == b"200 unread"
        client.sendall(EMPTY)
        assert answer(client) == b"200 "


def test_a_thread_that_waits_for_a_body_is_not_waited_for(running: Running) -> None:
    """It reads as if the client had ended, and may say so."""
    with connect(running) as client:
        client.sendall(HEAD + b"Content-Length: 1000000\r\n\r\nx")
        assert answer(client) == b"200 x"
        client.sendall(EMPTY)
        assert client.recv(100) == b"", (
            "what follows is no request, but may be the rest of the body"
        )


def test_a_heart_stops_while_a_thread_is_stuck(running: Running) -> None:
    """So that Gunicorn replaces the worker; and beats on when it is not."""
    running.cfg.__dict__["timeout"] = 1
    running._at_work[object()] = time.monotonic() - 2  # type: ignore[index]
    time.sleep(1.5)
    stopped = running.tmp.last_update()
    time.sleep(2.5)
    assert running.tmp.last_update() == stopped
    running._at_work.clear()
    time.sleep(2.5)
    assert running.tmp.last_update() != stopped


def test_a_worker_that_stops_takes_what_waits_and_nothing_more(running: Running) -> None:
    """Whoever comes after is refused by the kernel, while it still answers."""
    with connect(running) as late:
        time.sleep(0.1)
        address = running.sockets[0].getsockname()
        running.alive = False
        late.sendall(EMPTY)
        assert answer(late) == b"200 "
        running.thread.join(5)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
    running.set_accept_enabled(False)


def test_trouble_with_accepting_is_told_and_survived(
    running: Running, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No descriptor is left, say: who is connected does not wait until there is one."""

    class Full:
        def accept(self) -> None:
            raise OSError(24, "Too many open files")

    class Idle:
        def accept(self) -> None:
            raise BlockingIOError(11, "nothing")

    with connect(running) as client:
        client.sendall(small())
        assert answer(client) == b"200 ab"
        monkeypatch.setattr(running, "scan_interval", 2.0)
        for listener in (Idle(), Full()):
            running.method_queue.defer(running.accept, listener)
        began = time.monotonic()
        while not caplog.records:
            client.sendall(small())
            assert answer(client) == b"200 ab"
        client.sendall(small())
        assert answer(client) == b"200 ab"
        assert time.monotonic() - began < 1.0
        assert [record.getMessage() for record in caplog.records] == [
            "Can't accept connections: [Errno 24] Too many open files"
        ]
        with connect(running) as later:
            later.sendall(small())
            assert answer(later) == b"200 ab"
        assert time.monotonic() - began > 1.5, "it is not tried again and again"


def small(path: str = "/") -> bytes:
    return HEAD.replace(b"/ ", path.encode() + b" ", 1) + b"Content-Length: 2\r\n\r\nab"


def test_the_main_loop_answers_what_is_small_until_that_is_slow(running: Running) -> None:
    """Then threads do for a while; probes, and what is large, have their ways all the same."""
    answered = []

    def slow(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        answered.append((environ["PATH_INFO"], threading.current_thread() is running.thread))
        if environ["PATH_INFO"] == "/slow":
            time.sleep(scheduling.MAX_SECONDS_AT_ONCE * scheduling.LAST_FEW * 1.5)
        return echo(environ, start_response)

    running.wsgi = slow
    with connect(running) as client:
        for path in ("/a", "/slow", *["/b"] * scheduling.POOL_AFTER_SLOW, "/c"):
            client.sendall(small(path))
            assert answer(client) == b"200 ab"
        client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer(client) == b"200 "
        client.sendall(HEAD + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000)
        assert len(answer(client)) == 100_004
    by_the_loop = {path for path, loop in answered if loop}
    by_threads = {path for path, loop in answered if not loop}
    assert by_the_loop == {"/a", "/slow", "/c", "/health"}
    assert by_threads == {"/b", "/"}


LARGE = 8_000_000


def largely(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """An answer that no client's buffers take at once, for whoever asks for it."""
    if environ["PATH_INFO"] != "/large":
        return echo(environ, start_response)
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(LARGE))])
    return [b"y" * LARGE]


@pytest.mark.parametrize("by_thread", [False, True])
def test_an_answer_that_is_not_taken_keeps_nobody_waiting(
    running: Running, by_thread: bool
) -> None:
    """Not the main loop, and no thread; it comes whole, and then the next."""
    running.wsgi = largely
    asked = small("/large")
    if by_thread:
        asked = asked.replace(b"Length: 2\r\n\r\nab", b"Length: 70000\r\n\r\n" + b"x" * 70_000)
    with ExitStack() as stack:
        readers = [stack.enter_context(connect(running)) for _ in range(5)]
        other = stack.enter_context(connect(running))
        for reader in readers:
            reader.sendall(asked + small())
        for _ in range(3):
            other.sendall(small())
            assert answer(other) == b"200 ab"
            time.sleep(0.05)
        assert not running._at_work
        for reader in readers:
            assert answer(reader) == b"200 " + b"y" * LARGE
            assert answer(reader) == b"200 ab"


def test_who_does_not_read_is_closed(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a time in which it took nothing; who goes on reading is not, however slowly."""
    monkeypatch.setattr(running, "write_timeout", 0.5)
    running.wsgi = largely
    with connect(running) as silent, connect(running) as slow:
        for client in (silent, slow):
            client.sendall(small("/large"))
        read = 0
        while read < LARGE:
            read += len(slow.recv(400_000))
            time.sleep(0.06)
        until = time.monotonic() + 5
        while running.unread_conns and time.monotonic() < until:
            time.sleep(0.05)
        assert len(read_all(silent)) < LARGE


def test_answers_that_nobody_reads_are_bounded(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has taken nothing for longest is let go of."""
    monkeypatch.setattr(running, "max_unsent_bytes", 2 * LARGE)
    running.wsgi = largely
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(running)) for _ in range(4)]
        for client in clients:
            client.sendall(small("/large"))
            time.sleep(0.05)
        taken = [len(read_all(client)) > LARGE for client in clients]
        assert taken[-2:] == [True, True]
        assert not taken[0]


def test_who_was_let_go_of_is_gone(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    """What its client does in that very round of the loop is nobody's any more."""
    running.wsgi = largely
    with connect(running) as client:
        client.sendall(small("/large"))
        while not running.unread_conns:
            time.sleep(0.01)
        conn = running.unread_conns[0]
        then = running.poller.get_key(conn.sock).data
        done = threading.Event()

        def in_one_round() -> None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(running, "max_unsent_bytes", 0)
                running._let_go_of_idle()
            then(conn.sock)
            done.set()

        running.method_queue.defer(in_one_round)
        assert done.wait(5)
        assert running.nr_conns == 0
    assert not caplog.records


def test_an_answer_that_took_long_leaves_the_connection_open(running: Running) -> None:
    """Time to read is not time to answer."""

    def slow(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        time.sleep(1.0 if environ["PATH_INFO"] == "/slow" else 0)
        return echo(environ, start_response)

    running.wsgi = slow
    large = HEAD.replace(b"/ ", b"/slow ", 1) + b"Content-Length: 70000\r\n\r\n" + b"x" * 70_000
    with connect(running) as client:
        client.sendall(large)
        assert len(answer(client)) == 70_004
        client.sendall(small())
        assert answer(client) == b"200 ab"


def read_all(client: socket.socket) -> bytes:
    """What comes until the other side is silent or closes."""
    read = b""
    client.settimeout(0.5)
    with suppress(TimeoutError, ConnectionResetError):
        while chunk := client.recv(1_000_000):
            read += chunk
    return read


def test_an_error_costs_the_connection_it_is_of(
    running: Running, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it comes from: when it is looked at, answered or sent; the worker goes on."""

    def fail(*_arguments: object, **_named: object) -> None:
        raise OSError(5, "no more")

    for where, method in (
        (connection.Connection, "look"),
        (ClientSocket, "send_kept"),
        (Running, "enqueue_req"),
        (Running, "_welcome"),
        (Running, "_finish"),
    ):
        running._turns._wary = 1 if method == "enqueue_req" else 0
        with monkeypatch.context() as patch:
            patch.setattr(where, method, fail)
            with connect(running) as client:
                client.sendall(small())
                assert (read_all(client) == b"") == (method != "_finish"), method
        with connect(running) as client:
            client.sendall(small())
            assert answer(client) == b"200 ab", method
    assert caplog.text.count("Error with a connection") >= 5, "each is told"


def test_who_left_before_the_answer_is_forgotten(running: Running) -> None:
    """Whether the client closed before it was read, or its connection was reset."""
    for last in (b"", small(), small() * 50):
        with connect(running) as client:
            client.sendall(small() + last)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    with connect(running) as client:
        client.sendall(small())
        assert answer(client) == b"200 ab"


def test_who_left_is_not_answered_any_more(running: Running) -> None:
    """However many requests it had sent."""
    answered = []

    def slow(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        answered.append(environ["PATH_INFO"])
        time.sleep(0.001)
        return echo(environ, start_response)

    running.wsgi = slow
    with connect(running) as client:
        client.sendall(small() * 90)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    until = time.monotonic() + 5
    while running.nr_conns and time.monotonic() < until:
        time.sleep(0.01)
    assert not running.nr_conns
    assert len(answered) < 30


def test_many_requests_in_one_piece_are_answered_in_their_order(running: Running) -> None:
    """However many a client sends before it reads."""
    with connect(running) as client:
        bodies = [b"%02d" % number for number in range(60)]
        client.sendall(b"".join(small()[:-2] + body for body in bodies))
        assert [answer(client)[4:] for _ in bodies] == bodies


CALLS = 335
"""Functions that a small request on a kept connection may call in worker and Gunicorn, in Python
and C, from the poller to the poller. Measured: 318 on Python 3.11."""
CLIENTS = 16


def test_the_worker_stays_within_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls per request; and answers are sent together, after all that could be made at once."""
    monkeypatch.setattr(Running, "batch_time", 60.0)
    done: list[str] = []
    calls = 0

    def ok(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        done.append("made")
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    def send(self: socket.socket, data: bytes) -> int:
        done.append("sent")
        return socket.socket.send(self, data)

    def counting(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    monkeypatch.setattr(ClientSocket, "send", send)
    still = made()
    still.set_up(ok)
    still.set_accept_enabled(True)
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(still)) for _ in range(CLIENTS)]
        for turn in ("the first, which are accepted too", "further ones"):
            for client in clients:
                client.sendall(small())
            done.clear()
            calls = 0
            sys.setprofile(counting)
            try:
                while len(done) < 2 * CLIENTS:
                    still.wait_for_and_dispatch_events(0)
            finally:
                sys.setprofile(None)
            assert [answer(client) for client in clients] == [b"200 ok"] * CLIENTS, turn
    assert done == ["made"] * CLIENTS + ["sent"] * CLIENTS
    assert calls / CLIENTS <= CALLS
    while still.nr_conns:
        still.wait_for_and_dispatch_events(0)
    still.set_accept_enabled(False)
    for each in (*still.sockets, still.poller, still.method_queue, still.tmp):
        each.close()
