"""A worker on a thread of the test's own process, and clients that speak to it."""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from gunicorn import sock
from gunicorn.config import Config

from iris_api.server.unreadable import answer_errors_of
from iris_api.server.worker import EventLoopWorker
from iris_api.settings import Settings
from iris_api.web.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"
EMPTY = HEAD + b"Content-Length: 0\r\n\r\n"


def small(path: str = "/") -> bytes:
    """A request that the event loop answers."""
    return HEAD.replace(b"/ ", path.encode() + b" ", 1) + b"Content-Length: 2\r\n\r\nab"


def large(path: str = "/") -> bytes:
    """A request that a thread answers."""
    body = b"x" * 70_000
    return small(path).replace(b"Length: 2\r\n\r\nab", b"Length: 70000\r\n\r\n" + body)


def reset(client: socket.socket) -> None:
    """Have the connection reset when it is closed."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


class RunningWorker(EventLoopWorker):
    """A worker without a server above it and without signals, which waits little for requests."""

    scan_interval = 0.05
    read_timeout = 0.3

    @classmethod
    def make(cls, app: Callable[..., Iterable[bytes]]) -> RunningWorker:
        """A worker that listens, but whose loop does not run yet."""
        config = Config()
        for name, value in {"threads": 2, "keepalive": 1, "bind": "127.0.0.1:0"}.items():
            config.set(name, value)
        log = logging.getLogger("gunicorn.test")
        log.access = lambda *_: None  # type: ignore[attr-defined]
        worker = cls(1, 1, sock.create_sockets(config, log), None, 30, config, log)
        worker.wsgi = app
        worker.service = Service(Settings())
        answer_errors_of(worker, worker.service)
        worker.tpool = worker.get_thread_pool()
        worker.poller = selectors.DefaultSelector()
        worker.method_queue.init()
        worker.prepare()
        return worker

    def is_parent_alive(self) -> bool:
        return True

    def start(self) -> None:
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def stop(self) -> None:
        """Stop as at a SIGTERM, and wait for the end."""
        self.handle_exit(None, None)
        self.thread.join(10)
        self.tmp.close()
        assert not self.thread.is_alive()
        assert self.nr_conns == 0, "a connection was never closed"

    def close_all(self) -> None:
        """End a worker whose loop was never started."""
        while self.nr_conns:
            self.wait_for_and_dispatch_events(0)
        self.set_accept_enabled(False)
        for each in (*self.sockets, self.poller, self.method_queue, self.tmp):
            each.close()

    def call(self, action: Callable[..., Any], *arguments: Any) -> None:
        """Call on the event-loop thread, and wait for its end."""
        done = threading.Event()

        def run() -> None:
            action(*arguments)
            done.set()

        self.method_queue.defer(run)
        assert done.wait(5)


def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answer with the request's body, except for one path where it is left unread."""
    body = b"unread" if environ["PATH_INFO"] == "/unread" else environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def connect(worker: RunningWorker) -> socket.socket:
    client = socket.create_connection(worker.sockets[0].getsockname())
    client.settimeout(5)
    return client


def response(client: socket.socket) -> bytes:
    """Read one response: its status, a space and its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = client.recv(1)  # Another response may follow.
        if not chunk:
            return data
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        chunk = client.recv(length - len(body))
        assert chunk, "the response was cut"
        body += chunk
    return head[9:12] + b" " + body


def read_all(client: socket.socket) -> bytes:
    """Read until the other side closes, resets, or is silent for a while."""
    data = b""
    client.settimeout(0.5)
    with suppress(TimeoutError, ConnectionResetError):
        while chunk := client.recv(1_000_000):
            data += chunk
    return data


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
