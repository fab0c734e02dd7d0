"""The order in which small requests are answered, and by which thread."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from .connection import RequestState

if TYPE_CHECKING:
    from .connection import Connection

MAX_MEAN_SECONDS = 0.005
"""Longest mean time of an answer on the event loop: the interpreter's own thread switch interval.
"""
MEAN_OVER = 8
"""Number of answers in the moving average."""
POOL_AFTER_SLOW = 100
"""Number of small requests that threads answer after the mean was longer."""


class RequestQueue:
    """Connections with a small request each, in the order in which they are answered."""

    def __init__(self) -> None:
        self._queue: deque[tuple[Connection, bool]] = deque()
        self._pool_next = 0
        self._mean_seconds = 0.0

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, conn: Connection, state: RequestState) -> None:
        """Add a connection.

        A health check goes to the front, unless another one is there: many of them must not delay
        everything else.
        """
        probe = state is RequestState.PROBE
        if probe and not (self._queue and self._queue[0][1]):
            self._queue.appendleft((conn, probe))
        else:
            self._queue.append((conn, probe))

    def next(self) -> tuple[Connection, bool]:
        """Remove the next connection.

        Returns:
            The connection, and whether the event loop answers it, rather than a thread.
        """
        conn, probe = self._queue.popleft()
        if probe or not self._pool_next:
            return conn, True
        self._pool_next -= 1
        return conn, False

    def record_latency(self, seconds: float) -> None:
        """Record the time of an answer on the event loop. If they are slow, use threads next."""
        self._mean_seconds += (seconds - self._mean_seconds) / MEAN_OVER
        if self._mean_seconds > MAX_MEAN_SECONDS:
            self._pool_next, self._mean_seconds = POOL_AFTER_SLOW, 0.0
