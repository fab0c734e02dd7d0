"""Gunicorn's threaded worker, but no client keeps it from the others, and none is lost at its end.

What Gunicorn 27's own worker does in each case, and how it was seen, is in `deploy/README.md`.
"""

from __future__ import annotations

import selectors
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any

import gunicorn.util
from gunicorn.http.errors import ParseException
from gunicorn.workers.base import Worker
from gunicorn.workers.gthread import ThreadWorker

from .connection import LARGEST_LOOK, MOST_SECONDS_TO_SEND, NOTHING_YET, Connection
from .lines import STDOUT
from .queueing import note_wait

SECONDS_BETWEEN_SCANS = 0.5


class PatientWorker(ThreadWorker):  # type: ignore[misc]
    """A worker whose main loop does all the waiting that Gunicorn's leaves to a thread.

    A connection costs a thread only once its request is there, or the head of a large one, and
    then no longer than `MOST_SECONDS_TO_SEND` for what the client has yet to send. When the worker
    stops it takes what waits to be accepted, and from then on the kernel refuses what comes.
    """

    alive: bool

    def init_process(self) -> None:
        """Hold the requests' log lines: the main loop below writes them."""
        STDOUT.hold()
        self.prepare()
        super().init_process()

    def prepare(self) -> None:
        """Have nothing at work yet."""
        self._at_work: dict[Connection, float] = {}
        self._refusing = False
        self._next_scan = self._next_notice = 0.0
        self._for_probes = ThreadPoolExecutor(1)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Also write the log lines of the requests that were finished, many together under load."""
        super().wait_for_and_dispatch_events(min(timeout, max(STDOUT.seconds_left(), 0.0)))
        if STDOUT.seconds_left() <= 0:
            STDOUT.flush()

    def notify(self) -> None:
        """Show that all is well, unless a thread is stuck: then let Gunicorn replace the worker.

        Gunicorn asks in each round of the loop, which under load are some thousand a second.
        """
        now = time.monotonic()
        if now < self._next_notice:
            return
        self._next_notice = now + SECONDS_BETWEEN_SCANS
        for connection, began in list(self._at_work.items()):
            if now - began > self.cfg.timeout > 0:
                return
            late = (now - began) / MOST_SECONDS_TO_SEND
            if late > 1:  # It reads as if the client had ended there, and then writes to nobody.
                with suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RD if late < 2 else socket.SHUT_RDWR)
        super().notify()

    def set_accept_enabled(self, enabled: bool) -> None:
        """Accept, or not; when the worker stops, take what waits and let no more come."""
        if self._refusing:
            return
        if not self.alive and not enabled:
            self._refusing = True
            for listener in self.sockets:
                while self.nr_conns < self.worker_connections and self.accept(listener):
                    pass
        super().set_accept_enabled(enabled)
        if self._refusing:
            for listener in self.sockets:
                listener.close()

    def is_parent_alive(self) -> bool:
        """Whether the server is; without it this worker stops as it would at a SIGTERM."""
        self.alive = self.alive and super().is_parent_alive()
        return bool(self.alive)

    def accept(self, listener: socket.socket) -> bool:
        """Take a connection if one waits, and look at it when there is something to read."""
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno not in NOTHING_YET:
                self.log.warning("Can't accept connections: %s", error)
                time.sleep(SECONDS_BETWEEN_SCANS)
            return False
        connection = Connection(
            self.cfg, client, address, listener.getsockname(), linger=self.linger
        )
        self.nr_conns += 1
        self._wait_for(connection, self.on_pending_socket_readable)
        return True

    def on_pending_socket_readable(self, conn: Connection, client: socket.socket) -> None:
        """Have a request answered once it is there."""
        if conn.has_request():
            super().on_pending_socket_readable(conn, client)
        elif conn.endless:
            self._give_up(conn, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The head has no end.")

    def on_client_socket_readable(self, conn: Connection, client: socket.socket) -> None:
        """The same on a connection that was kept alive; one that only began waits with the new."""
        if conn.has_request():
            super().on_client_socket_readable(conn, client)
            return
        self.poller.modify(
            client, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn)
        )
        self.keepalived_conns.remove(conn)
        self.pending_conns.append(conn)

    def finish_request(self, conn: Connection, fs: Any) -> None:
        """Have what came along with the last request wait like any other until it is there."""
        if not fs.cancelled() and fs.exception() is None and fs.result() and conn.held():
            conn.sock.setblocking(False)
            self._wait_for(conn, self.on_pending_socket_readable)
            self.on_pending_socket_readable(conn, conn.sock)
            return
        super().finish_request(conn, fs)

    def enqueue_req(self, conn: Connection) -> None:
        """Have a thread answer it; probes have one of their own, and pass the queue."""
        conn.ready = time.monotonic()
        pool = self._for_probes if conn.probe else self.tpool
        answered = pool.submit(self.handle, conn)
        answered.add_done_callback(partial(self.method_queue.defer, self.finish_request, conn))

    def handle(self, conn: Connection) -> Any:
        """Answer a request, on a thread that is known to be at it."""
        began = self._at_work[conn] = time.monotonic()
        note_wait(began - conn.ready)
        try:
            return super().handle(conn)
        finally:
            del self._at_work[conn]

    def _keepalive_after(self, conn: Connection, keepalive: bool) -> bool:
        """Whether another request can follow: not after a body that is not there to its end."""
        try:
            conn.sock.settimeout(0)
            return keepalive and conn.parser.finish_body(max_bytes=LARGEST_LOOK)
        except BlockingIOError:  # It is not all there, and nobody wants it.
            return False
        except ParseException:  # It has its answer; Gunicorn would send a second one.
            return False

    def murder_pending(self) -> None:
        """Close what has waited too long; who sent a part of a request is told so."""
        now = time.monotonic()
        if now < self._next_scan:
            return
        self._next_scan = now + SECONDS_BETWEEN_SCANS
        why = f"The request was not there after {MOST_SECONDS_TO_SEND:.0f} seconds."
        for connection in [each for each in self.pending_conns if each.timeout <= now]:
            self._give_up(connection, HTTPStatus.REQUEST_TIMEOUT, why)

    def _give_up(self, connection: Connection, status: HTTPStatus, why: str) -> None:
        """Wait for a request no longer; who sent a part of it is told why."""
        self._forget(connection)
        began, connection.seen = connection.seen > 0, 0
        if began:
            with suppress(OSError):
                gunicorn.util.write_error(connection.sock, status, "", why)
        connection.close(graceful=began)

    def _forget(self, connection: Connection) -> None:
        with suppress(KeyError, ValueError):
            self.poller.unregister(connection.sock)
        self.pending_conns.remove(connection)
        self.nr_conns -= 1

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Stop at once, without the pool's lock, which this may have interrupted the taking of."""
        Worker.handle_quit(self, sig, frame)

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
        self.poller.register(connection.sock, selectors.EVENT_READ, partial(then, connection))
        self.pending_conns.append(connection)

    def _drain(self, connection: Connection, client: socket.socket) -> None:
        """Read what nobody wants until the client closes: a reset could overtake the answer."""
        with suppress(OSError):
            read = len(client.recv(65536))
            connection.left -= read
            if read and connection.left > 0:
                return
        self._forget(connection)
        connection.close()

    def _cap_keepalive(self, deadline: float) -> None:
        """A worker that stops waits for silent clients no longer than for kept-alive ones."""
        super()._cap_keepalive(deadline)
        for connection in self.pending_conns:
            if not connection.seen:
                connection.timeout = min(connection.timeout, deadline)
