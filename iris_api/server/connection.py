"""A client's connection: what is there to be read, and how it is written to without waiting."""

from __future__ import annotations

import errno
import re
import select
import socket
import time
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from gunicorn.workers.gthread import TConn

from iris_api.server.parser import ConnectionParser

if TYPE_CHECKING:
    from collections import deque

NOTHING_YET = {errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED}
MAX_DRAINED_BYTES = 128 * 1024 * 1024
"""Of a body that was refused, before its client closes."""
MAX_PEEK_BYTES = 64 * 1024
"""Bytes of a request that the main loop waits for; a thread waits for what is larger."""
MAX_SMALL_BYTES = 16 * 1024
"""Bytes of a request that the main loop answers itself."""
PROBE = re.compile(rb"GET /health[/ ?]")
HEAD_END = b"\r\n\r\n"
DECLARED = re.compile(rb"\r\nContent-Length:[ \t]*0*(\d{1,9})", re.IGNORECASE)
OTHERWISE = re.compile(rb"\r\n(Expect|Transfer-Encoding)[ \t]*:", re.IGNORECASE)
"""Of a body that is sent when the client was told to go on, or of a length that is not declared."""


class RequestState(Enum):
    """What a look at a connection found to be there."""

    INCOMPLETE = auto()
    """Nothing yet, or the beginning of a request."""
    SMALL = auto()
    """A request, as a whole, so small that the main loop answers it."""
    PROBE = auto()
    """One that asks for the service's health, and so is not to wait behind predictions."""
    LARGE = auto()
    """One that a thread answers, and waits for what is yet to come of it."""
    HEAD_TOO_LARGE = auto()
    """A head larger than any that is taken."""
    CLOSED = auto()
    """No more: the client has closed it."""


class ClientSocket(socket.socket):
    """A client's socket that keeps what is written, so that nobody waits until it is taken."""

    __slots__ = ("_kept", "_until", "cut")

    def __init__(self, accepted: socket.socket) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
        self._kept: list[Any] | None = None
        self._until: float | None = None
        self.cut = False
        """Whether its client has gone, or sent something too late, the rest of which may follow."""

    def keep(self, *, seconds_to_read: float = 0.0) -> None:
        """Keep what is written from now on, and wait so long in all for what is to be read."""
        self._kept = []
        self.read_within(seconds_to_read)

    def read_within(self, seconds: float) -> None:
        """Wait so long in all for what is to be read from now on, or not at all."""
        self._until = time.monotonic() + seconds if seconds else None

    def setblocking(self, flag: bool) -> None:
        """Wait for the client or not, unless `keep` has told how long."""
        if not flag:
            self._until = None
            super().setblocking(False)
        elif self._kept is None:
            super().setblocking(True)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Read. When the time for that is over, it is as if the client had ended."""
        if self._until is None:
            return super().recv(size, flags)
        self.settimeout(max(self._until - time.monotonic(), 0.001))
        try:
            return super().recv(size, flags)
        except TimeoutError:
            self.cut = True
            return b""

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Write, or keep."""
        if self._kept is None:
            super().sendall(data, flags)
        else:
            self._kept.append(data)

    def send_kept(self) -> bool:
        """Write what was kept as far as it is taken now; returns whether nothing is left.

        Nothing is, too, when the client has gone. What is large is not copied: many connections may
        be sent the same.
        """
        kept, self._kept = self._kept or [], None
        if kept and len(kept[-1]) <= MAX_PEEK_BYTES:
            kept = [b"".join(kept)]
        try:
            while kept:
                sent = self.send(kept[0])
                if sent == len(kept[0]):
                    del kept[0]
                else:
                    kept[0] = memoryview(kept[0])[sent:]
        except BlockingIOError:
            self._kept = kept
        except OSError:
            self.cut = True
            return True
        return not kept

    def bytes_left(self) -> int:
        """Of what was kept."""
        return sum(map(len, self._kept or ()))


class Connection(TConn):  # type: ignore[misc]
    """A client's connection."""

    sock: ClientSocket
    ready: float
    """When its last request was there to be answered."""
    among: deque[Connection] | None = None
    """Those it waits with; none while its request has a turn, or a thread."""
    kept_alive = False
    """Whether another request may follow the one that was answered."""
    watched = False
    """Whether the poller looks out for it."""
    closed = False
    """By the worker, which counts it no more: Gunicorn may have closed the socket before."""
    begun = 0
    """Bytes that were there of a request at the last look, if it was not whole."""
    left = MAX_DRAINED_BYTES

    def __init__(
        self, cfg: Any, accepted: socket.socket, *addresses: Any, read_timeout: float
    ) -> None:
        super().__init__(cfg, ClientSocket(accepted), *addresses)
        self.read_timeout = read_timeout
        self.parser = ConnectionParser(cfg, self.sock, self.client)
        self.data_ready = True  # Or Gunicorn would wait for it, with a poller of its own.

    def look(self) -> RequestState:
        """See what of a request is there, and leave it there.

        Until there is more than a part, the kernel is told not to wake the main loop for it
        (SO_RCVLOWAT).
        """
        held = self.held()
        peeked = self._peek() if _length_of_request(held) > len(held) else b""
        there = held + (peeked or b"")
        if not there:
            return RequestState.INCOMPLETE if peeked is None else RequestState.CLOSED
        needed = _length_of_request(there)
        ended = peeked is not None and len(there) <= self.begun
        if ended and self._is_urgent():
            return RequestState.CLOSED
        if len(there) >= MAX_PEEK_BYTES and HEAD_END not in there:
            self.begun = len(there)
            return RequestState.HEAD_TOO_LARGE
        if len(there) < needed <= MAX_PEEK_BYTES and not ended:
            self._wait_for(needed, len(there), len(held))
            return RequestState.INCOMPLETE
        if self.begun:
            self.begun = 0
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        if 0 < needed <= min(len(there), MAX_SMALL_BYTES):
            return RequestState.PROBE if PROBE.match(there) else RequestState.SMALL
        return RequestState.LARGE

    def _peek(self) -> bytes | None:
        """What the kernel has of it; nothing at all after its end, None where more may come."""
        try:
            return self.sock.recv(MAX_PEEK_BYTES, socket.MSG_PEEK)
        except OSError as error:
            return None if error.errno in NOTHING_YET else b""

    def _is_urgent(self) -> bool:
        """Whether its client sent an urgent byte, behind which nothing is seen; HTTP has none."""
        poll = select.poll()
        poll.register(self.sock, select.POLLPRI)
        return any(event & select.POLLPRI for _, event in poll.poll(0))

    def _wait_for(self, needed: int, there: int, held: int) -> None:
        if not self.begun:
            self.timeout = time.monotonic() + self.read_timeout
        self.begun = there
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, needed - held)

    def close(self, graceful: bool = False) -> None:
        """Close it, and know it: what its client did in the same moment is nobody's any more."""
        self.closed = True
        super().close(graceful)

    def held(self) -> bytes:
        """What was read along with the request before."""
        found: bytes = self.parser.unreader.buf.getvalue()
        return found


def _length_of_request(there: bytes) -> int:
    """How many bytes it needs, or one more where its head has not ended; 0 if that is not told."""
    end = there.find(HEAD_END)
    if end < 0:
        return len(there) + 1
    lengths = DECLARED.findall(there, 0, end)
    if len(lengths) > 1 or OTHERWISE.search(there, 0, end):
        return 0
    return end + len(HEAD_END) + sum(map(int, lengths))
