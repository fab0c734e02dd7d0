"""Gunicorn's threaded worker, but no client keeps it from the others, and none is lost at its end.

What is small is answered by the main loop itself: to hand it to a thread costs more than most
answers do (`benchmarks/README.md`). What Gunicorn 27's own worker does in each case, and how it was
seen, is in `deploy/README.md`.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import deque
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import gunicorn.util
from gunicorn.http.errors import ParseException
from gunicorn.workers.base import Worker
from gunicorn.workers.gthread import ThreadWorker

from iris_api.monitoring.logs import STDOUT
from iris_api.server.connection import (
    MAX_PEEK_BYTES,
    NOTHING_YET,
    Connection,
    RequestState,
)
from iris_api.server.scheduling import RequestQueue
from iris_api.web.queueing import note_wait

if TYPE_CHECKING:
    from concurrent.futures import Future

MAX_SKIPPED_BYTES = 2 * 1024 * 1024
"""Most bytes of an unread request body to discard so that its connection can be kept."""


class EventLoopWorker(ThreadWorker):  # type: ignore[misc]
    """A worker whose main loop does all the waiting, and answers what is small.

    A connection costs a thread only for a request that is large or slow, once the head of it is
    there, and then no longer than `read_timeout` for what the client has yet to send. When
    the worker stops it takes what waits to be accepted, and from then on the kernel refuses what
    comes.

    Of a connection it is known what the poller looks out for (`_watch`), and which others it waits
    with (`_wait`): `pending_conns` for a request, `keepalived_conns` for another one,
    `unread_conns` for its client to read, `lingering_conns` for its client to close. With none of
    them its request has a turn (`RequestQueue`), or a thread (`_at_work`).
    """

    read_timeout = 10.0
    """Longest time from the first byte of a request to its last, in seconds."""
    write_timeout = 10.0
    """Longest time in which a client reads nothing of its response, in seconds."""
    skip_timeout = 0.1
    """Longest time that a thread reads the unread rest of a request body, in seconds."""
    stop_linger = 2.0
    """Longest time that a stopping worker keeps idle connections open, in seconds."""
    scan_interval = 0.5
    """Time between checks for expired connections, and between heartbeats, in seconds."""
    batch_time = 0.002
    """Longest time to answer requests before polling again, in seconds."""
    max_unsent_bytes = 128 * 1024 * 1024
    """Above this many unsent response bytes, close the connection that has stalled longest."""

    alive: bool

    def init_process(self) -> None:
        """Hold the requests' log lines: the main loop below writes them."""
        STDOUT.hold()
        self.prepare()
        super().init_process()

    def prepare(self) -> None:
        """Have nothing at work yet, and the settings at hand."""
        self._fix_settings()
        self.unread_conns: deque[Connection] = deque()
        self.lingering_conns: deque[Connection] = deque()
        self._turns = RequestQueue()
        self._closed = 0
        self._at_work: dict[Connection, float] = {}
        self._refusing = False
        self._next_scan = self._next_notice = self._next_accept = 0.0

    def _fix_settings(self) -> None:
        """Make Gunicorn's settings plain attributes: it asks twenty times a request, by two calls.

        What is set later in this worker does not count; a reload makes other workers.
        """
        cfg: Any = self.cfg
        cfg.__dict__.update((name, setting.get()) for name, setting in cfg.settings.items())

    def notify(self) -> None:
        """Show that all is well, unless a thread is stuck: then let Gunicorn replace the worker.

        Gunicorn asks in each round of the loop, which under load are some thousand a second.
        """
        now = time.monotonic()
        if now < self._next_notice:
            return
        self._next_notice = now + self.scan_interval
        if any(now - began > self.cfg.timeout > 0 for began in list(self._at_work.values())):
            return
        super().notify()

    def set_accept_enabled(self, enabled: bool) -> None:
        """Accept, or not; when the worker stops, take what waits and let no more come."""
        if self._refusing or (enabled and time.monotonic() < self._next_accept):
            return
        if not self.alive and not enabled:
            self._refusing = True
            for listener in self.sockets:
                while self.accept(listener):
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
        """Take as many connections as were closed since, and one; returns whether all came.

        With more the worker that is awake would take all of a burst that stays, and one that sleeps
        none; with fewer there would be little to answer together where each has one request.
        """
        most, self._closed = self._closed + 1, 0
        for _ in range(most):
            if self.nr_conns >= self.worker_connections or not self._take(listener):
                return False
        return True

    def _take(self, listener: socket.socket) -> bool:
        """Take a connection if one waits, and look at it when there is something to read."""
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno not in NOTHING_YET:
                self.log.warning("Can't accept connections: %s", error)
                self._next_accept = time.monotonic() + self.scan_interval
                self.set_accept_enabled(False)
            return False
        self.nr_conns += 1
        connection = Connection(
            self.cfg, client, address, listener.getsockname(), read_timeout=self.read_timeout
        )
        self._step(connection, self._welcome)
        return True

    def _step(self, conn: Connection, go: Any, *arguments: Any) -> Any:
        """Go on with a connection: an error costs that connection, and not the worker."""
        if conn.closed:  # In the very round in which its client did something.
            return None
        try:
            return go(conn, *arguments)
        except Exception:
            self.log.exception("Error with a connection")
            self._wait_no_more(conn)
            self._close(conn)
            return None

    def _welcome(self, conn: Connection) -> None:
        """Wait for the first request."""
        conn.set_timeout()
        self._watch(conn, self.look)
        self._wait(conn, self.pending_conns)

    def look(self, conn: Connection, _client: socket.socket | None = None) -> None:
        """Have a request answered once it is there; one that only began waits with the new."""
        if conn.among is None:  # It has been seen, and its turn will come.
            return
        seen = conn.look()
        if seen is RequestState.HEAD_TOO_LARGE:
            self._give_up(conn, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The head has no end.")
        elif seen is not RequestState.INCOMPLETE:
            self._wait_no_more(conn)
            self._take_on(conn, seen)
        elif conn.begun and conn.among is self.keepalived_conns:
            self._wait_no_more(conn)
            self._wait(conn, self.pending_conns)

    def _take_on(self, conn: Connection, seen: RequestState) -> None:
        """Have a request answered in its turn if it is small, else by a thread."""
        conn.ready = time.monotonic()
        if seen is RequestState.CLOSED:
            self._close(conn)
        elif seen is RequestState.LARGE:
            self.enqueue_req(conn)
        else:
            self._turns.add(conn, seen)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Also answer what is small, and write the log lines of that, many together under load."""
        wait = 0.0 if self._turns else min(timeout, max(STDOUT.seconds_left(), 0.0))
        super().wait_for_and_dispatch_events(wait)
        if self._turns:
            self._take_turns()
        if STDOUT.seconds_left() <= 0:
            STDOUT.flush(wait=False)

    def _take_turns(self) -> None:
        """Answer for a while, then send the answers.

        To send wakes a client, after which this processor is slow until it has warmed up again:
        sent one by one, answers cost a fifth more.
        """
        until = time.monotonic() + self.batch_time
        answered = []
        while self._turns and time.monotonic() < until:
            conn, here = self._turns.next()
            if here:
                self._answer(conn)
                answered.append(conn)
            else:
                self._step(conn, self.enqueue_req)
        for conn in answered:
            self._step(conn, self._send)

    def _answer(self, conn: Connection) -> None:
        """Answer a request here and now, waiting for nothing."""
        began = time.monotonic()
        note_wait(began - conn.ready)
        conn.sock.keep()
        conn.kept_alive = super().handle(conn)
        self._turns.record_latency(time.monotonic() - began)

    def enqueue_req(self, conn: Connection) -> None:
        """Have a thread answer a request."""
        self._watch(conn, None)
        super().enqueue_req(conn)

    def handle(self, conn: Connection) -> Any:
        """Answer a request, on a thread that is known to be at it; what it writes is kept."""
        began = self._at_work[conn] = time.monotonic()
        try:
            note_wait(began - conn.ready)
            conn.sock.keep(seconds_to_read=self.read_timeout)
            return super().handle(conn)
        finally:
            del self._at_work[conn]

    def finish_request(self, conn: Connection, fs: Future[Any]) -> None:
        """Send the answer of a thread."""
        self._step(conn, self._finish_request, fs)

    def _finish_request(self, conn: Connection, fs: Future[Any]) -> None:
        conn.sock.setblocking(False)
        conn.kept_alive = not fs.cancelled() and fs.exception() is None and fs.result()
        self._send(conn)

    def _send(self, conn: Connection, _client: socket.socket | None = None) -> None:
        """Send an answer as far as it is taken, and the rest when its client takes more."""
        waited = conn.among is not None
        if conn.sock.send_kept():
            if waited:
                self._wait_no_more(conn)
                self._watch(conn, None)
            self._finish(conn)
            return
        conn.timeout = time.monotonic() + self.write_timeout
        if not waited:
            self._watch(conn, self._send, selectors.EVENT_WRITE)
            self._wait(conn, self.unread_conns)
            self._let_go_of_idle()

    def _let_go_of_idle(self) -> None:
        """Where answers that are not read are too much, close who has taken nothing for longest."""
        left = {conn: conn.sock.bytes_left() for conn in self.unread_conns}
        for conn in sorted(left, key=lambda each: each.timeout):
            if sum(left.values()) <= self.max_unsent_bytes:
                break
            del left[conn]
            self._wait_no_more(conn)
            self._close(conn)

    def _finish(self, conn: Connection) -> None:
        """Close a connection, or wait for another request, which may have come with the last.

        Not after a read that was given up: to Gunicorn it was the end of the body.
        """
        if not conn.kept_alive or conn.sock.cut:
            self._closed += 1
            self._close(conn, graceful=True)
            return
        conn.set_timeout()
        if not self.alive:
            conn.timeout = min(conn.timeout, time.monotonic() + self.stop_linger)
        if not conn.watched:
            self._watch(conn, self.look)
        if conn.held():
            self._wait(conn, self.pending_conns)
            self.look(conn)
        else:
            self._wait(conn, self.keepalived_conns)

    def _keepalive_after(self, conn: Connection, keepalive: bool) -> bool:
        """Whether another request can follow: not after a body that does not come to its end.

        One that nobody wanted is read to it, where a thread can wait a moment for the rest.
        """
        if not keepalive:
            return False
        # No deadline of Gunicorn's, which may have passed before what is there is read.
        conn.sock.read_within(self.skip_timeout if conn in self._at_work else 0)
        try:
            return bool(conn.parser.finish_body(max_bytes=MAX_SKIPPED_BYTES))
        except BlockingIOError:
            return False
        except ParseException:  # It has its answer; Gunicorn would send a second one.
            return False

    def murder_pending(self) -> None:
        """Close what has waited too long; who sent a part of a request is told so."""
        now = time.monotonic()
        if now < self._next_scan:
            return
        self._next_scan = now + self.scan_interval
        why = f"The request was not there after {self.read_timeout:.0f} seconds."
        for conn in [*self.pending_conns, *self.unread_conns, *self.lingering_conns]:
            if conn.timeout <= now:
                self._step(conn, self._give_up, HTTPStatus.REQUEST_TIMEOUT, why)

    def _give_up(self, conn: Connection, status: HTTPStatus, why: str) -> None:
        """Wait for a client no longer; who sent a part of a request is told why."""
        self._wait_no_more(conn)
        began, conn.begun = conn.begun > 0, 0
        if began:
            with suppress(OSError):
                gunicorn.util.write_error(conn.sock, status, "", why)
        self._close(conn, graceful=began)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Stop at once, without the pool's lock, which this may have interrupted the taking of."""
        Worker.handle_quit(self, sig, frame)

    def _close(self, conn: Connection, *, graceful: bool = False) -> None:
        """Close a connection; with grace, when its client has read the answer and closes too."""
        self._watch(conn, None)
        if graceful and self._linger(conn):
            return
        self.nr_conns -= 1
        conn.close()

    def _linger(self, conn: Connection) -> bool:
        """Wait in the poller, and not in the main loop, for a client to close in its turn."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
        except OSError:
            return False
        conn.set_timeout()
        self._watch(conn, self._drain)
        self._wait(conn, self.lingering_conns)
        return True

    def _drain(self, conn: Connection, client: socket.socket) -> None:
        """Read what nobody wants until the client closes: a reset could overtake the answer."""
        try:
            read = len(client.recv(MAX_PEEK_BYTES))
        except BlockingIOError:
            return
        except OSError:
            read = 0
        conn.left -= read
        if read and conn.left > 0:
            return
        self._wait_no_more(conn)
        self._close(conn)

    def _wait(self, conn: Connection, among: deque[Connection]) -> None:
        """Wait for a request among others that do, the first to be given up first."""
        conn.among = among
        among.append(conn)

    def _wait_no_more(self, conn: Connection) -> None:
        if conn.among is not None:
            conn.among.remove(conn)
            conn.among = None

    def _watch(self, conn: Connection, then: Any, events: int = selectors.EVENT_READ) -> None:
        """Go on whenever a client sends something, or takes something; or look out no more."""
        if conn.watched:
            with suppress(KeyError, ValueError):
                self.poller.unregister(conn.sock)
        if then is not None:
            self.poller.register(conn.sock, events, partial(self._step, conn, then))
        conn.watched = then is not None

    def _cap_keepalive(self, deadline: float) -> None:
        """A worker that stops waits for silent clients no longer than for kept-alive ones."""
        deadline = min(deadline, time.monotonic() + self.stop_linger)
        super()._cap_keepalive(deadline)
        for connection in [*self.pending_conns, *self.lingering_conns]:
            if not connection.begun:
                connection.timeout = min(connection.timeout, deadline)
