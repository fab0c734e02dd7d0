"""Gunicorn's threaded worker, but no client keeps it from the others, and none is lost at its end.

What Gunicorn 27's own worker does in each case, and how it was seen, is in `deploy/README.md`.
"""

from __future__ import annotations

import errno
import logging
import selectors
import socket
import time
from contextlib import suppress
from functools import partial
from threading import local
from typing import Any

from gunicorn.http.errors import ParseException
from gunicorn.workers.gthread import TConn, ThreadWorker

from .lines import StdoutHandler

NOTHING_TO_ACCEPT = {errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED}
MOST_SECONDS_TO_SEND = 10.0
"""What a client may take to send a request once it has begun, and a thread waits for it."""
MOST_BYTES_TO_DRAIN = 1024 * 1024

_thread = local()


def seconds_in_queue() -> float:
    """How long the request of this thread was ready before a thread was. 0 outside a worker."""
    waited: float = getattr(_thread, "waited", 0.0)
    return waited


class Connection(TConn):  # type: ignore[misc]
    """A client's connection, which is left to the worker's main loop to be closed with grace."""

    ready: float
    """When its last request began to arrive."""
    left = MOST_BYTES_TO_DRAIN

    def __init__(self, worker: PatientWorker, client: socket.socket, address: Any, at: Any) -> None:
        super().__init__(worker.cfg, client, address, at)
        self._worker = worker

    def close(self, graceful: bool = False) -> None:
        """Close it; with grace, when its client has read the answer and closes too."""
        if graceful:
            self._worker.linger(self)
        else:
            super().close()


class PatientWorker(ThreadWorker):  # type: ignore[misc]
    """A worker whose main loop does all the waiting that Gunicorn's leaves to a thread.

    A connection costs a thread only from its request's first byte to its answer's last, and then
    no longer than `MOST_SECONDS_TO_SEND` for what the client has to do. When the worker stops it
    takes what waits to be accepted, and from then on the kernel refuses what comes.
    """

    def init_process(self) -> None:
        """Hold the requests' log lines: the main loop below writes them."""
        self._at_work: dict[Connection, float] = {}
        self._log = [
            handler
            for handler in logging.getLogger("iris_api").handlers
            if isinstance(handler, StdoutHandler)
        ]
        for handler in self._log:
            handler.hold()
        super().init_process()

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Write the log lines of the requests that were finished meanwhile.

        Each finished request wakes this loop, so that lines wait for no longer than it takes to
        come round: at once when there is little to do, and several together under load.
        """
        super().wait_for_and_dispatch_events(timeout)
        for handler in self._log:
            handler.flush()

    def notify(self) -> None:
        """Show that all is well, unless a thread is stuck: then let Gunicorn replace the worker."""
        now = time.monotonic()
        for connection, began in list(self._at_work.items()):
            if now - began > self.cfg.timeout > 0:
                return
            if now - began > MOST_SECONDS_TO_SEND:
                with suppress(OSError):  # It reads as if the client had ended there.
                    connection.sock.shutdown(socket.SHUT_RD)
        super().notify()

    def set_accept_enabled(self, enabled: bool) -> None:
        """Accept, or not; when the worker stops, take what waits and let no more come."""
        if self.alive or enabled:
            super().set_accept_enabled(enabled)
            return
        for listener in self.sockets:
            while self.accept(listener):
                pass
        super().set_accept_enabled(enabled)
        for listener in self.sockets:
            listener.close()

    def accept(self, listener: socket.socket) -> bool:
        """Take a connection if one waits, and look at it when there is something to read."""
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno in NOTHING_TO_ACCEPT:
                return False
            raise
        connection = Connection(self, client, address, listener.getsockname())
        self.nr_conns += 1
        self._wait_for(connection, self.on_pending_socket_readable)
        return True

    def enqueue_req(self, conn: Connection) -> None:
        """Have a thread answer it."""
        conn.ready = time.monotonic()
        super().enqueue_req(conn)

    def handle(self, conn: Connection) -> Any:
        """Answer a request, on a thread that is known to be at it."""
        began = self._at_work[conn] = time.monotonic()
        _thread.waited = began - conn.ready
        try:
            return super().handle(conn)
        finally:
            del self._at_work[conn]

    def _keepalive_after(self, conn: Connection, keepalive: bool) -> bool:
        """Whether another request can follow: not after a body that can't be read to its end."""
        try:
            return bool(super()._keepalive_after(conn, keepalive))
        except ParseException:  # It has its answer; Gunicorn would send a second one.
            return False

    def linger(self, connection: Connection) -> None:
        """Wait in the poller, and not in the main loop, for a client to close in its turn."""
        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            connection.close()
            return
        self.nr_conns += 1
        connection.sock.setblocking(False)
        self._wait_for(connection, self._drain)

    def _wait_for(self, connection: Connection, then: Any) -> None:
        connection.timeout = time.monotonic() + self.cfg.keepalive
        self.pending_conns.append(connection)
        self.poller.register(connection.sock, selectors.EVENT_READ, partial(then, connection))

    def _drain(self, connection: Connection, client: socket.socket) -> None:
        """Read what nobody wants until the client closes: a reset could overtake the answer."""
        with suppress(OSError):
            read = len(client.recv(65536))
            connection.left -= read
            if read and connection.left > 0:
                return
        self.poller.unregister(client)
        self.pending_conns.remove(connection)
        self.nr_conns -= 1
        connection.close()

    def _cap_keepalive(self, deadline: float) -> None:
        """A worker that stops waits for silent clients no longer than for kept-alive ones."""
        super()._cap_keepalive(deadline)
        for connection in self.pending_conns:
            connection.timeout = min(connection.timeout, deadline)
