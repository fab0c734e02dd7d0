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
from contextlib import contextmanager, suppress
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import gunicorn.util
from gunicorn.http.errors import ParseException
from gunicorn.workers.base import Worker
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, ThreadWorker

from .connection import LARGEST_LOOK, MOST_SECONDS_TO_SEND, NOTHING_YET, Connection
from .lines import STDOUT
from .queueing import note_wait

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS_BETWEEN_SCANS = 0.5
SECONDS_BETWEEN_LOOKS = 0.002
"""For which the main loop answers before it looks what else has come."""
MOST_SECONDS_AT_ONCE = 0.005
"""What answers by the main loop may take, on the average of the last few: so long the interpreter
leaves a thread alone."""
LAST_FEW = 8
WARY = 100
"""Small requests that threads answer where it was more."""


class PatientWorker(ThreadWorker):  # type: ignore[misc]
    """A worker whose main loop does all the waiting, and answers what is small.

    A connection costs a thread only for a request that is large or slow, once the head of it is
    there, and then no longer than `MOST_SECONDS_TO_SEND` for what the client has yet to send. When
    the worker stops it takes what waits to be accepted, and from then on the kernel refuses what
    comes.
    """

    alive: bool

    def init_process(self) -> None:
        """Hold the requests' log lines: the main loop below writes them."""
        STDOUT.hold()
        self.prepare()
        super().init_process()

    def prepare(self) -> None:
        """Have nothing at work yet."""
        self._turns: deque[Connection] = deque()
        self._closed = self._wary = 0
        self._average = 0.0
        self._at_work: dict[Connection, float] = {}
        self._refusing = False
        self._next_scan = self._next_notice = 0.0

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
                time.sleep(SECONDS_BETWEEN_SCANS)
            return False
        connection = Connection(
            self.cfg, client, address, listener.getsockname(), linger=self.linger
        )
        connection.set_timeout()
        self.nr_conns += 1
        self._watch(connection, self.look)
        self._wait(connection, self.pending_conns)
        return True

    def look(self, conn: Connection, _client: socket.socket) -> None:
        """Have a request answered once it is there; one that only began waits with the new."""
        if conn.among is None:  # It has been seen, and its turn will come.
            return
        if conn.has_request():
            self._wait_no_more(conn)
            if conn.gone:
                self._close(conn)
            else:
                self.enqueue_req(conn)
        elif conn.endless:
            self._give_up(conn, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The head has no end.")
        elif conn.among is self.keepalived_conns:
            self._wait_no_more(conn)
            self._wait(conn, self.pending_conns)

    def enqueue_req(self, conn: Connection) -> None:
        """Have a request answered in its turn if it is small, else by a thread; probes first."""
        conn.ready = time.monotonic()
        conn.data_ready = True  # Or Gunicorn would wait for it, with a poller of its own.
        if not conn.small:
            self._submit(conn, self.handle)
        elif conn.probe and not (self._turns and self._turns[0].probe):
            self._turns.appendleft(conn)  # One at a time: many must not keep all else waiting.
        else:
            self._turns.append(conn)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Also answer what is small, and write the log lines of that, many together under load."""
        wait = 0.0 if self._turns else min(timeout, max(STDOUT.seconds_left(), 0.0))
        super().wait_for_and_dispatch_events(wait)
        if self._turns:
            self._take_turns()
        if STDOUT.seconds_left() <= 0:
            STDOUT.flush()

    def _take_turns(self) -> None:
        """Answer for a while, then send the answers.

        To send wakes a client, after which this processor is slow until it has warmed up again:
        sent one by one, answers cost a fifth more.
        """
        until = time.monotonic() + SECONDS_BETWEEN_LOOKS
        answered = []
        while self._turns and time.monotonic() < until:
            conn = self._turns.popleft()
            if self._wary and not conn.probe:
                self._wary -= 1
                self._submit(conn, self.handle)
            else:
                answered.append((conn, self._answer(conn)))
        for conn, keep in answered:
            rest = conn.sock.send_kept()
            if rest:
                self._submit(conn, self._send, rest, keep)
            else:
                self._finish(conn, keep)

    def _answer(self, conn: Connection) -> Any:
        """Answer a request here and now, waiting for nothing; where that is slow, have threads."""
        began = time.monotonic()
        note_wait(began - conn.ready)
        conn.sock.keep()
        keep = super().handle(conn)
        self._average += (time.monotonic() - began - self._average) / LAST_FEW
        if self._average > MOST_SECONDS_AT_ONCE:
            self._wary, self._average = WARY, 0.0
        return keep

    def _submit(self, conn: Connection, work: Any, *arguments: Any) -> None:
        """Have a thread do something for a connection, which until then sends to nobody."""
        self._watch(conn, None)
        done = self.tpool.submit(work, conn, *arguments)
        done.add_done_callback(partial(self.method_queue.defer, self.finish_request, conn))

    def handle(self, conn: Connection) -> Any:
        """Answer a request, on a thread that is known to be at it."""
        with self._known(conn) as began:
            note_wait(began - conn.ready)
            return super().handle(conn)

    def _send(self, conn: Connection, rest: bytes, keep: Any) -> Any:
        """Send what a client did not take at once, on a thread; then go on as was meant."""
        with self._known(conn):
            conn.sock.setblocking(True)
            conn.sock.sendall(rest)
            return keep

    @contextmanager
    def _known(self, conn: Connection) -> Iterator[float]:
        """Have it known since when a thread is at work for a connection."""
        began = self._at_work[conn] = time.monotonic()
        try:
            yield began
        finally:
            del self._at_work[conn]

    def finish_request(self, conn: Connection, fs: Any) -> None:
        """Go on with a connection that a thread is done with."""
        with suppress(OSError):  # Gunicorn may have closed it.
            conn.sock.setblocking(False)
        self._finish(conn, not fs.cancelled() and fs.exception() is None and fs.result())

    def _finish(self, conn: Connection, keep: Any) -> None:
        """Close a connection, or wait for another request, which may have come with the last."""
        if not keep:
            self._closed += 1
            self._close(conn, graceful=True)
            return
        conn.set_timeout()
        if not self.alive:
            conn.timeout = min(conn.timeout, time.monotonic() + STOP_KEEPALIVE_LINGER)
        if not conn.watched:
            self._watch(conn, self.look)
        if conn.held():
            self._wait(conn, self.pending_conns)
            self.look(conn, conn.sock)
        else:
            self._wait(conn, self.keepalived_conns)

    def _keepalive_after(self, conn: Connection, keepalive: bool) -> bool:
        """Whether another request can follow: not after a body that is not there to its end."""
        try:
            conn.sock.setblocking(False)
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

    def _give_up(self, conn: Connection, status: HTTPStatus, why: str) -> None:
        """Wait for a request no longer; who sent a part of it is told why."""
        self._wait_no_more(conn)
        began, conn.seen = conn.seen > 0, 0
        if began:
            with suppress(OSError):
                gunicorn.util.write_error(conn.sock, status, "", why)
        self._close(conn, graceful=began)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Stop at once, without the pool's lock, which this may have interrupted the taking of."""
        Worker.handle_quit(self, sig, frame)

    def linger(self, conn: Connection) -> None:
        """Wait in the poller, and not in the main loop, for a client to close in its turn."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            conn.close()
            return
        self.nr_conns += 1
        conn.sock.setblocking(False)
        conn.set_timeout()
        self._watch(conn, self._drain)
        self._wait(conn, self.pending_conns)

    def _drain(self, conn: Connection, client: socket.socket) -> None:
        """Read what nobody wants until the client closes: a reset could overtake the answer."""
        with suppress(OSError):
            read = len(client.recv(65536))
            conn.left -= read
            if read and conn.left > 0:
                return
        self._wait_no_more(conn)
        self._close(conn)

    def _close(self, conn: Connection, *, graceful: bool = False) -> None:
        self._watch(conn, None)
        self.nr_conns -= 1
        conn.close(graceful=graceful)

    def _wait(self, conn: Connection, among: deque[Connection]) -> None:
        """Wait for a request among others that do, the first to be given up first."""
        conn.among = among
        among.append(conn)

    def _wait_no_more(self, conn: Connection) -> None:
        if conn.among is not None:
            conn.among.remove(conn)
            conn.among = None

    def _watch(self, conn: Connection, then: Any) -> None:
        """Have something done whenever a client sends something, or nothing any more."""
        if conn.watched:
            with suppress(KeyError, ValueError):
                self.poller.unregister(conn.sock)
        if then is not None:
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(then, conn))
        conn.watched = then is not None

    def _cap_keepalive(self, deadline: float) -> None:
        """A worker that stops waits for silent clients no longer than for kept-alive ones."""
        super()._cap_keepalive(deadline)
        for connection in self.pending_conns:
            if not connection.seen:
                connection.timeout = min(connection.timeout, deadline)
