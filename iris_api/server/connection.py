"""A client's connection: what has arrived on it, and responses written to it without waiting."""

from __future__ import annotations

import errno
import re
import select
import socket
import time
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from gunicorn.workers.gthread import TConn

from .parser import ConnectionParser

if TYPE_CHECKING:
    from collections import deque

NOT_READY = {errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED}
MAX_DRAINED_BYTES = 128 * 1024 * 1024
"""Most bytes of an unwanted request body to discard before the connection is closed."""
MAX_PEEK_BYTES = 64 * 1024
"""Largest request to wait for on the event loop. A thread waits for a larger one."""
MAX_SMALL_BYTES = 16 * 1024
"""Largest request to answer on the event loop."""
PROBE = re.compile(rb"GET /health[/ ?]")
HEAD_END = b"\r\n\r\n"
CONTENT_LENGTH = re.compile(rb"\r\nContent-Length:[ \t]*0*(\d{1,9})", re.IGNORECASE)
UNKNOWN_LENGTH = re.compile(rb"\r\n(Expect|Transfer-Encoding)[ \t]*:", re.IGNORECASE)
"""Headers of a body whose length isn't declared, or that comes only after a 100 Continue."""


class RequestState(Enum):
    """How much of a request has arrived on a connection."""

    INCOMPLETE = auto()
    """Nothing yet, or a part of a request that may still be small."""
    SMALL = auto()
    """A complete request that the event loop answers."""
    PROBE = auto()
    """A complete health check. It does not wait behind predictions."""
    LARGE = auto()
    """A request for a thread, which also waits for the rest of it."""
    HEAD_TOO_LARGE = auto()
    """A head of `MAX_PEEK_BYTES` or more that has not ended."""
    CLOSED = auto()
    """The client has closed the connection."""


class ClientSocket(socket.socket):
    """A client's socket that can buffer what is written, so that no thread waits for the client."""

    __slots__ = ("_buffer", "_read_deadline", "broken")

    def __init__(self, accepted: socket.socket) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
        self._buffer: list[Any] | None = None
        self._read_deadline: float | None = None
        self.broken = False
        """Whether the client has gone, or its body came too late: then no request can follow."""

    def buffer_writes(self, *, read_timeout: float = 0.0) -> None:
        """Buffer what is written from now on, and wait this long in total for reads.

        Args:
            read_timeout: In seconds. Without it reads do not wait.
        """
        self._buffer = []
        self._read_deadline = time.monotonic() + read_timeout if read_timeout else None

    def renew_read_timeout(self, seconds: float) -> None:
        """Replace the time left for reads, if reads may wait at all."""
        if self._read_deadline is not None:
            self._read_deadline = time.monotonic() + seconds

    def setblocking(self, flag: bool) -> None:
        """Set whether reads and writes wait. While writes are buffered, True has no effect."""
        if not flag:
            self._read_deadline = None
            super().setblocking(False)
        elif self._buffer is None:
            super().setblocking(True)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Read. After the time for reads, act as if the client had closed the connection."""
        if self._read_deadline is None:
            return super().recv(size, flags)
        self.settimeout(max(self._read_deadline - time.monotonic(), 0.001))
        try:
            return super().recv(size, flags)
        except TimeoutError:
            self.broken = True
            return b""

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Write, or append to the buffer."""
        if self._buffer is None:
            super().sendall(data, flags)
        else:
            self._buffer.append(data)

    def send_buffered(self) -> bool:
        """Send as much of the buffer as the kernel takes now.

        A large body is not copied, because many connections may send the same one.

        Returns:
            Whether nothing is left to send, also because the client has gone.
        """
        buffer, self._buffer = self._buffer or [], None
        if buffer and len(buffer[-1]) <= MAX_PEEK_BYTES:
            buffer = [b"".join(buffer)]
        try:
            while buffer:
                sent = self.send(buffer[0])
                if sent == len(buffer[0]):
                    del buffer[0]
                else:
                    buffer[0] = memoryview(buffer[0])[sent:]
        except BlockingIOError:
            self._buffer = buffer
        except OSError:
            self.broken = True
            return True
        return not buffer

    def unsent_bytes(self) -> int:
        """Number of bytes in the buffer."""
        return sum(map(len, self._buffer or ()))


class Connection(TConn):  # type: ignore[misc]
    """A client's connection and its state in the event loop.

    Args:
        cfg: Gunicorn's configuration.
        accepted: The socket.
        addresses: The client's address, and the server's.
        read_timeout: Longest time from the first byte of a request to its last, in seconds.
        skip_timeout: Longest time for a thread to discard the rest of a body, in seconds.
    """

    sock: ClientSocket
    ready_at: float
    """When its last request was ready to be answered, by the monotonic clock."""
    queue: deque[Connection] | None = None
    """The queue that it waits in. None while its request is answered or waits to be."""
    keep_alive = False
    """Whether another request may follow the last one."""
    registered = False
    """Whether the poller watches it."""
    closed = False
    """Whether the worker has closed it, so that queued events are ignored."""
    partial_bytes = 0
    """Number of bytes of an incomplete request at the last look."""
    drain_bytes_left = MAX_DRAINED_BYTES

    def __init__(
        self,
        cfg: Any,
        accepted: socket.socket,
        *addresses: Any,
        read_timeout: float,
        skip_timeout: float,
    ) -> None:
        super().__init__(cfg, ClientSocket(accepted), *addresses)
        self.read_timeout = read_timeout
        self.parser = ConnectionParser(cfg, self.sock, self.client, skip_timeout=skip_timeout)
        self.data_ready = True  # Otherwise Gunicorn waits for data with a poller of its own.

    def look(self) -> RequestState:
        """See what has arrived, without reading it.

        While a request is incomplete, SO_RCVLOWAT keeps the kernel from waking the event loop for
        each further part.
        """
        buffered = self.read_ahead()
        peeked = self._peek() if _request_size(buffered) > len(buffered) else b""
        data = buffered + (peeked or b"")
        if not data:
            return RequestState.INCOMPLETE if peeked is None else RequestState.CLOSED
        size = _request_size(data)
        no_more = peeked is not None and len(data) <= self.partial_bytes
        if no_more and self._has_urgent_byte():
            return RequestState.CLOSED
        if len(data) >= MAX_PEEK_BYTES and HEAD_END not in data:
            self.partial_bytes = len(data)
            return RequestState.HEAD_TOO_LARGE
        if len(data) < size <= MAX_PEEK_BYTES and not no_more:
            self._await_bytes(size - len(buffered), len(data))
            return RequestState.INCOMPLETE
        if self.partial_bytes:
            self.partial_bytes = 0
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        if 0 < size <= min(len(data), MAX_SMALL_BYTES):
            return RequestState.PROBE if PROBE.match(data) else RequestState.SMALL
        return RequestState.LARGE

    def read_ahead(self) -> bytes:
        """What was read of the next request along with the last one."""
        data: bytes = self.parser.unreader.buf.getvalue()
        return data

    def close(self, graceful: bool = False) -> None:
        """Close it and mark it closed, so that events of the same round are ignored."""
        self.closed = True
        super().close(graceful)

    def _peek(self) -> bytes | None:
        """What the kernel has received: empty after the client's end, None if more may come."""
        try:
            return self.sock.recv(MAX_PEEK_BYTES, socket.MSG_PEEK)
        except OSError as error:
            return None if error.errno in NOT_READY else b""

    def _has_urgent_byte(self) -> bool:
        """Whether the client sent TCP urgent data, which hides what follows. HTTP has none."""
        poll = select.poll()
        poll.register(self.sock, select.POLLPRI)
        return any(event & select.POLLPRI for _, event in poll.poll(0))

    def _await_bytes(self, wanted: int, arrived: int) -> None:
        if not self.partial_bytes:
            self.timeout = time.monotonic() + self.read_timeout
        self.partial_bytes = arrived
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wanted)


def _request_size(data: bytes) -> int:
    """Size of the request that data begins with, in bytes.

    Returns:
        One more than there are if the head has not ended; 0 if the length is not declared.
    """
    end = data.find(HEAD_END)
    if end < 0:
        return len(data) + 1
    lengths = CONTENT_LENGTH.findall(data, 0, end)
    if len(lengths) > 1 or UNKNOWN_LENGTH.search(data, 0, end):
        return 0
    return end + len(HEAD_END) + sum(map(int, lengths))
