"""Small requests that wait for the main loop, and whether it has the time to answer them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from iris_api.server.connection import RequestState

if TYPE_CHECKING:
    from iris_api.server.connection import Connection

MAX_SECONDS_AT_ONCE = 0.005
"""What answers by the main loop may take, on the average of the last few: so long the interpreter
leaves a thread alone."""
LAST_FEW = 8
POOL_AFTER_SLOW = 100
"""Small requests that threads answer where it was more."""


class RequestQueue:
    """Connections with a small request each, in the order in which they are answered."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Connection, bool]] = deque()
        self._wary = 0
        self._average = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, conn: Connection, seen: RequestState) -> None:
        """Have a connection wait for its turn.

        A probe passes all others, but one at a time: many must not keep all else waiting.
        """
        probe = seen is RequestState.PROBE
        if probe and not (self._waiting and self._waiting[0][1]):
            self._waiting.appendleft((conn, probe))
        else:
            self._waiting.append((conn, probe))

    def next(self) -> tuple[Connection, bool]:
        """Whose turn it is, and whether the main loop answers: a probe always, others if quick."""
        conn, probe = self._waiting.popleft()
        if probe or not self._wary:
            return conn, True
        self._wary -= 1
        return conn, False

    def record_latency(self, seconds: float) -> None:
        """An answer by the main loop took so long; where many do, leave the next to threads."""
        self._average += (seconds - self._average) / LAST_FEW
        if self._average > MAX_SECONDS_AT_ONCE:
            self._wary, self._average = POOL_AFTER_SLOW, 0.0
