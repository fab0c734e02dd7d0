"""How a worker waits for its clients in the poller: registering, sending, expiring, closing.

What Gunicorn 27's own worker does in each case, and how that was found, is in `deploy/README.md`.
"""

from __future__ import annotations

import logging
import selectors
import socket
import time
from collections import deque
from contextlib import suppress
from functools import cached_property, partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from gunicorn.workers.gthread import ThreadWorker

from .connection import MAX_PEEK_BYTES
from .unreadable import answer_unreadable

if TYPE_CHECKING:
    from collections.abc import Callable

    from iris_api.web.service import Service

    from .connection import Connection

logger = logging.getLogger(__name__)


class ConnectionWorker(ThreadWorker):  # type: ignore[misc]
    """A threaded worker that waits for its clients in the poller, never in a thread.

    A connection waits in one of four queues: `pending_conns` for the rest of its first request,
    `keepalived_conns` for another request, `unsent_conns` for its client to read the response,
    `lingering_conns` for its client to close. It is in none of them while its request is answered.
    """

    read_timeout = 10.0
    """Longest time from the first byte of a request to its last, in seconds."""
    write_timeout = 10.0
    """Longest time in which a client reads nothing of its response, in seconds."""
    skip_timeout = 0.1
    """Longest time for a thread to discard the rest of a request body, in seconds."""
    stop_linger = 2.0
    """Longest time that a stopping worker keeps idle connections open, in seconds."""
    scan_interval = 0.5
    """Time between checks for expired connections, and between heartbeats, in seconds."""
    max_unsent_bytes = 128 * 1024 * 1024
    """Above this many unsent response bytes, close the connection that has stalled longest."""

    alive: bool

    @cached_property
    def service(self) -> Service:
        """The application's service, whose log and metrics have the requests answered here."""
        service: Service = self.wsgi.extensions["iris_api"]
        return service

    def prepare(self) -> None:
        """Set up the state of a worker process. Called before its loop."""
        self._fix_settings()
        self.unsent_conns: deque[Connection] = deque()
        self.lingering_conns: deque[Connection] = deque()
        self._recently_closed = 0
        self._next_scan = 0.0

    def _fix_settings(self) -> None:
        """Make Gunicorn's settings plain attributes: each request reads twenty, by two calls each.

        Changes after this are ignored; a reload starts other workers.
        """
        cfg: Any = self.cfg
        cfg.__dict__.update((name, setting.get()) for name, setting in cfg.settings.items())

    def client_readable(self, conn: Connection, client: socket.socket | None = None) -> None:
        """Handle what a client has sent."""
        raise NotImplementedError

    def guard(self, conn: Connection, action: Callable[..., Any], *arguments: Any) -> None:
        """Call an action on an open connection; an error closes that connection only."""
        if conn.closed:  # Closed earlier in the round in which its client did something.
            return
        try:
            action(conn, *arguments)
        except Exception:
            logger.exception({"event": "connection_failed"})
            self.leave_queue(conn)
            self.close(conn)

    def watch(
        self, conn: Connection, action: Callable[..., Any], events: int = selectors.EVENT_READ
    ) -> None:
        """Have the poller call an action whenever a client sends, or reads, something."""
        self.unwatch(conn)
        self.poller.register(conn.sock, events, partial(self.guard, conn, action))
        conn.registered = True

    def unwatch(self, conn: Connection) -> None:
        """Have the poller ignore a connection."""
        if conn.registered:
            with suppress(KeyError, ValueError):
                self.poller.unregister(conn.sock)
            conn.registered = False

    def join_queue(self, conn: Connection, queue: deque[Connection]) -> None:
        """Have a connection wait in a queue, behind those that expire earlier."""
        conn.queue = queue
        queue.append(conn)

    def leave_queue(self, conn: Connection) -> None:
        """Take a connection out of the queue that it waits in, if any."""
        if conn.queue is not None:
            conn.queue.remove(conn)
            conn.queue = None

    def send(self, conn: Connection, _client: socket.socket | None = None) -> None:
        """Send a response as far as the kernel takes it, and the rest when the client reads."""
        waiting = conn.queue is not None
        if conn.sock.send_buffered():
            if waiting:
                self.leave_queue(conn)
                self.unwatch(conn)
            self.finish(conn)
            return
        conn.timeout = time.monotonic() + self.write_timeout
        if not waiting:
            self.watch(conn, self.send, selectors.EVENT_WRITE)
            self.join_queue(conn, self.unsent_conns)
            self.close_stalled()

    def close_stalled(self) -> None:
        """Bound the memory of unsent responses: close the connections that stalled longest."""
        unsent = {conn: conn.sock.unsent_bytes() for conn in self.unsent_conns}
        for conn in sorted(unsent, key=lambda conn: conn.timeout):
            if sum(unsent.values()) <= self.max_unsent_bytes:
                break
            del unsent[conn]
            self.leave_queue(conn)
            self.close(conn)

    def finish(self, conn: Connection) -> None:
        """After a response, close the connection or wait for another request.

        The next request may have arrived with the last one. None can follow a body that was cut
        off by the read timeout, which Gunicorn takes for its end.
        """
        if not conn.keep_alive or conn.sock.broken:
            self._recently_closed += 1
            self.close_gracefully(conn)
            return
        conn.set_timeout()
        if not self.alive:
            conn.timeout = min(conn.timeout, time.monotonic() + self.stop_linger)
        if not conn.registered:
            self.watch(conn, self.client_readable)
        if conn.read_ahead():
            self.join_queue(conn, self.pending_conns)
            self.client_readable(conn)
        else:
            self.join_queue(conn, self.keepalived_conns)

    def murder_pending(self) -> None:
        """Close connections that have waited too long; Gunicorn calls this in each round."""
        now = time.monotonic()
        if now < self._next_scan:
            return
        self._next_scan = now + self.scan_interval
        detail = f"The request did not arrive within {self.read_timeout:.0f} seconds."
        for conn in [*self.pending_conns, *self.unsent_conns, *self.lingering_conns]:
            if conn.timeout <= now:
                self.guard(conn, self.expire, HTTPStatus.REQUEST_TIMEOUT, detail)

    def expire(self, conn: Connection, status: HTTPStatus, detail: str) -> None:
        """Stop waiting for a client. One that has sent a part of a request gets a response."""
        self.leave_queue(conn)
        if not conn.partial_bytes:
            self.close(conn)
            return
        conn.partial_bytes = 0
        answer_unreadable(self.service, conn.sock, status, detail, reason=status.phrase)
        self.close_gracefully(conn)

    def cap_timeouts(self) -> None:
        """Limit how long a stopping worker waits for clients that have sent nothing."""
        deadline = time.monotonic() + self.stop_linger
        for conn in [*self.pending_conns, *self.keepalived_conns, *self.lingering_conns]:
            if not conn.partial_bytes:
                conn.timeout = min(conn.timeout, deadline)

    def close(self, conn: Connection) -> None:
        """Close a connection at once."""
        self.unwatch(conn)
        self.nr_conns -= 1
        conn.close()

    def close_gracefully(self, conn: Connection) -> None:
        """Close our side, and the connection once the client has read its response and closed.

        Closing at once would reset the connection if the client is still sending, and the reset
        could overtake the response.
        """
        self.unwatch(conn)
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
        except OSError:
            self.close(conn)
            return
        conn.set_timeout()
        self.watch(conn, self._drain)
        self.join_queue(conn, self.lingering_conns)

    def _drain(self, conn: Connection, client: socket.socket) -> None:
        """Discard what a client still sends, until it closes."""
        try:
            read = len(client.recv(MAX_PEEK_BYTES))
        except BlockingIOError:
            return
        except OSError:
            read = 0
        conn.drain_bytes_left -= read
        if read == 0 or conn.drain_bytes_left <= 0:
            self.leave_queue(conn)
            self.close(conn)
