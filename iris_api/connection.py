"""A client's connection: what is there to be read, and how it is written to without waiting."""

from __future__ import annotations

import errno
import re
import socket
import time
from typing import TYPE_CHECKING, Any, Self

from gunicorn.workers.gthread import TConn

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

NOTHING_YET = {errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED}
MOST_SECONDS_TO_SEND = 10.0
"""What a client may take to send a request once it has begun, and a thread waits for it."""
MOST_BYTES_TO_DRAIN = 128 * 1024 * 1024
"""Of a body that was refused, before its client closes."""
LARGEST_LOOK = 64 * 1024
"""Bytes of a request that the main loop waits for; a thread waits for what is larger."""
LARGEST_AT_ONCE = 16 * 1024
"""Bytes of a request that the main loop answers itself."""
PROBE = b"GET /health"
HEAD_END = b"\r\n\r\n"
DECLARED = re.compile(rb"\r\nContent-Length:[ \t]*0*(\d{1,9})", re.IGNORECASE)
OTHERWISE = re.compile(rb"\r\n(Expect|Transfer-Encoding)[ \t]*:", re.IGNORECASE)
"""Of a body that is sent when the client was told to go on, or of a length that is not declared."""


class ClientSocket(socket.socket):
    """A client's socket. It can keep what is written, for who must not wait until it is taken."""

    __slots__ = ("_kept",)

    def __init__(self, accepted: socket.socket) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
        self._kept: list[Any] | None = None

    def keep(self) -> None:
        """From now on keep what is written, and wait for nothing."""
        self._kept = []

    def setblocking(self, flag: bool) -> None:
        """Wait for the client or not; who keeps what is written does not."""
        if self._kept is None:
            super().setblocking(flag)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Write, or keep."""
        if self._kept is None:
            super().sendall(data, flags)
        else:
            self._kept.append(data)

    def send_kept(self) -> bytes:
        """Write what was kept, as far as it is taken now; returns the rest."""
        kept, self._kept = b"".join(self._kept or ()), None
        try:
            return kept[self.send(kept) :]
        except BlockingIOError:
            return kept
        except OSError:
            return b""


class Connection(TConn):  # type: ignore[misc]
    """A client's connection, which is left to the worker's main loop to be closed with grace."""

    sock: ClientSocket
    ready: float
    """When its last request was there to be answered."""
    among: deque[Connection] | None = None
    """Who it waits with, for a first request or for another; none while one is answered."""
    watched = False
    """Whether the poller looks out for what it sends."""
    small = False
    """Whether its request is there as a whole, and so small that the main loop answers it."""
    gone = False
    """Whether its client has closed it, and said nothing."""
    seen = 0
    """Bytes of it that were there at the last look."""
    probe = False
    """Whether it asks for the service's health, and so is not to wait behind predictions."""
    endless = False
    """Whether its head is larger than any that is taken."""
    left = MOST_BYTES_TO_DRAIN

    def __init__(
        self, cfg: Any, accepted: socket.socket, *addresses: Any, linger: Callable[[Self], None]
    ) -> None:
        super().__init__(cfg, ClientSocket(accepted), *addresses)
        self._linger = linger

    def has_request(self) -> bool:
        """Whether a request is there, with its body if that is small: a thread need not wait.

        What is there is looked at and left there. Until there is more, the kernel is told not to
        wake the main loop for it (SO_RCVLOWAT).
        """
        there = held = self.held()
        try:
            there += self.sock.recv(LARGEST_LOOK, socket.MSG_PEEK)
        except OSError as error:
            if error.errno not in NOTHING_YET:
                return True
            if not held:
                return False
        self.probe = there.startswith(PROBE)
        needed = _length_of_request(there)
        self.small = 0 < needed <= min(len(there), LARGEST_AT_ONCE)
        ended = len(there) <= self.seen
        self.gone = not there
        self.endless = len(there) >= LARGEST_LOOK and HEAD_END not in there
        if self.endless:
            self.seen = len(there)
            return False
        if needed <= len(there) or needed > LARGEST_LOOK or ended:
            if self.seen:
                self.seen = 0
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            return True
        if not self.seen:
            self.timeout = time.monotonic() + MOST_SECONDS_TO_SEND
        self.seen = len(there)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, needed - len(held))
        return False

    def held(self) -> bytes:
        """What was read along with the request before."""
        return self.parser.unreader.buf.getvalue() if self.parser else b""

    def close(self, graceful: bool = False) -> None:
        """Close it; with grace, when its client has read the answer and closes too."""
        if graceful:
            self._linger(self)
        else:
            super().close()


def _length_of_request(there: bytes) -> int:
    """How many bytes it needs, or one more where its head has not ended; 0 if that is not told."""
    end = there.find(HEAD_END)
    if end < 0:
        return len(there) + 1
    lengths = DECLARED.findall(there, 0, end)
    if len(lengths) > 1 or OTHERWISE.search(there, 0, end):
        return 0
    return end + len(HEAD_END) + sum(map(int, lengths))
