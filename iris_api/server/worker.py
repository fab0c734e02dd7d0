"""Gunicorn's threaded worker with an event loop: slow clients delay nobody, and none is dropped.

Small requests run on the event-loop thread: handing one to another thread costs more than most
answers do (`benchmarks/README.md`).
"""

from __future__ import annotations

import logging
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from gunicorn.workers.base import Worker

from iris_api.monitoring.logs import STDOUT
from iris_api.web.request import record_queue_wait

from .connection import NOT_READY, Connection, RequestState
from .connection_worker import ConnectionWorker
from .scheduling import RequestQueue

if TYPE_CHECKING:
    import socket
    from concurrent.futures import Future

logger = logging.getLogger(__name__)


class EventLoopWorker(ConnectionWorker):
    """A worker whose event loop accepts, reads ahead, answers small requests and sends.

    A large or slow request gets a thread once its head has arrived, for `read_timeout` at most
    while the rest of it arrives. A stopping worker accepts the connections that wait in the
    backlog; the kernel refuses later ones.
    """

    batch_time = 0.002
    """Longest time to answer requests before polling again, in seconds."""

    def init_process(self) -> None:
        """Hold back log lines: the event loop writes them between requests."""
        STDOUT.hold()
        self.prepare()
        super().init_process()

    def prepare(self) -> None:
        """Set up the state of a worker process. Called before its loop."""
        super().prepare()
        self.requests = RequestQueue()
        self.busy_since: dict[Connection, float] = {}
        """Connections whose request has a thread, and when that began."""
        self._stopped_accepting = False
        self._next_heartbeat = self._next_accept = 0.0

    def notify(self) -> None:
        """Send a heartbeat, unless a thread is stuck: then Gunicorn replaces the worker.

        Gunicorn calls this in each round of the loop, a thousand times a second under load.
        """
        now = time.monotonic()
        if now < self._next_heartbeat:
            return
        self._next_heartbeat = now + self.scan_interval
        if any(now - since > self.cfg.timeout > 0 for since in list(self.busy_since.values())):
            return
        super().notify()

    def is_parent_alive(self) -> bool:
        """Whether the server lives. Without it the worker stops as at a SIGTERM."""
        self.alive = self.alive and super().is_parent_alive()
        return bool(self.alive)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Start or stop accepting. A stopping worker accepts what waits, then closes listeners."""
        if self._stopped_accepting or (enabled and time.monotonic() < self._next_accept):
            return
        if not self.alive and not enabled:
            self._stopped_accepting = True
            for listener in self.sockets:
                while self.accept(listener):
                    pass
            self.cap_timeouts()
        super().set_accept_enabled(enabled)
        if self._stopped_accepting:
            for listener in self.sockets:
                listener.close()

    def accept(self, listener: socket.socket) -> bool:
        """Accept as many connections as were closed since the last time, and one more.

        With more, a worker that is awake would take all of a burst of lasting connections, and
        idle workers none. With fewer, there would be few requests to answer together where each
        connection has one.

        Returns:
            Whether all of them came.
        """
        most, self._recently_closed = self._recently_closed + 1, 0
        for _ in range(most):
            if self.nr_conns >= self.worker_connections or not self._accept_one(listener):
                return False
        return True

    def _accept_one(self, listener: socket.socket) -> bool:
        try:
            accepted, address = listener.accept()
        except OSError as error:
            if error.errno not in NOT_READY:
                logger.warning({"event": "accept_failed", "reason": str(error)})
                self._next_accept = time.monotonic() + self.scan_interval
                self.set_accept_enabled(False)
            return False
        self.nr_conns += 1
        conn = Connection(
            self.cfg,
            accepted,
            address,
            listener.getsockname(),
            read_timeout=self.read_timeout,
            skip_timeout=self.skip_timeout,
        )
        self.guard(conn, self.await_first_request)
        return True

    def await_first_request(self, conn: Connection) -> None:
        """Wait for the first request of a connection."""
        conn.set_timeout()
        self.watch(conn, self.client_readable)
        self.join_queue(conn, self.pending_conns)

    def client_readable(self, conn: Connection, _client: socket.socket | None = None) -> None:
        """Dispatch a request that has arrived; the rest of an incomplete one is waited for."""
        if conn.queue is None:  # Its request already waits to be answered.
            return
        state = conn.look()
        if state is RequestState.HEAD_TOO_LARGE:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            self.expire(conn, status, "The head has no end.")
        elif state is not RequestState.INCOMPLETE:
            self.leave_queue(conn)
            self._dispatch(conn, state)
        elif conn.partial_bytes and conn.queue is self.keepalived_conns:
            self.leave_queue(conn)
            self.join_queue(conn, self.pending_conns)

    def _dispatch(self, conn: Connection, state: RequestState) -> None:
        conn.ready_at = time.monotonic()
        if state is RequestState.CLOSED:
            self.close(conn)
        elif state is RequestState.LARGE:
            self.enqueue_req(conn)
        else:
            self.requests.add(conn, state)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Poll, answer small requests, and write log lines, many at once under load."""
        if self.requests:
            timeout = 0.0
        else:
            timeout = min(timeout, self.scan_interval, max(STDOUT.seconds_left(), 0.0))
        super().wait_for_and_dispatch_events(timeout)
        if self.requests:
            self._answer_small()
        if STDOUT.seconds_left() <= 0:
            STDOUT.flush(wait=False)

    def _answer_small(self) -> None:
        """Answer requests for `batch_time`, then send the responses together.

        Sending wakes a client, which leaves this processor slow until its caches are warm again:
        sent one by one, responses cost a fifth more.
        """
        until = time.monotonic() + self.batch_time
        answered = []
        while self.requests and time.monotonic() < until:
            conn, here = self.requests.next()
            if here:
                self._answer_here(conn)
                answered.append(conn)
            else:
                self.guard(conn, self.enqueue_req)
        for conn in answered:
            self.guard(conn, self.send)

    def _answer_here(self, conn: Connection) -> None:
        """Answer a request on this thread, without waiting for the client."""
        began = time.monotonic()
        record_queue_wait(began - conn.ready_at)
        conn.sock.buffer_writes()
        conn.keep_alive = super().handle(conn)
        self.requests.record_latency(time.monotonic() - began)

    def enqueue_req(self, conn: Connection) -> None:
        """Have a thread answer a request."""
        self.unwatch(conn)
        super().enqueue_req(conn)

    def handle(self, conn: Connection) -> Any:
        """Answer a request, on a thread of the pool."""
        began = self.busy_since[conn] = time.monotonic()
        try:
            record_queue_wait(began - conn.ready_at)
            conn.sock.buffer_writes(read_timeout=self.read_timeout)
            return super().handle(conn)
        finally:
            del self.busy_since[conn]

    def finish_request(self, conn: Connection, fs: Future[Any]) -> None:
        """Send the response of a thread; called on the event-loop thread."""
        self.guard(conn, self._send_result, fs)

    def _send_result(self, conn: Connection, future: Future[Any]) -> None:
        conn.sock.setblocking(False)
        answered = not future.cancelled() and future.exception() is None
        conn.keep_alive = answered and future.result()
        self.send(conn)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Stop at once, without the pool's lock: this signal may have interrupted its holder."""
        Worker.handle_quit(self, sig, frame)
