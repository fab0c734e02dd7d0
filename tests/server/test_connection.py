from __future__ import annotations

import io
import select
import socket
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from iris_api.server.connection import MAX_PEEK_BYTES, Connection, RequestState

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Connection]]:
    """A client's end of a connection, and the server's."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        accepted, address = listener.accept()
        connection = Connection(
            SimpleNamespace(), accepted, address, listener.getsockname(), read_timeout=10.0
        )
        yield client, connection
        connection.close()


WHOLE = HEAD + b"Content-Length: 3\r\n\r\n{} "
PROBE = b"GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("there", "seen"),
    [
        (HEAD + b"\r\n", RequestState.SMALL),
        (WHOLE, RequestState.SMALL),
        (WHOLE.lower() + b" GET / HTTP/1.1", RequestState.SMALL),
        (PROBE, RequestState.PROBE),
        (PROBE.replace(b"/ready", b"?x"), RequestState.PROBE),
        (PROBE.replace(b"/ready", b"z"), RequestState.SMALL),
        (HEAD + b"Content-Length: %d\r\n\r\n" % 20_000 + b"x" * 20_000, RequestState.LARGE),
        (HEAD + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n", RequestState.LARGE),
        (HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", RequestState.LARGE),
        (HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n", RequestState.LARGE),
        (HEAD + b"Content-Length: 65537\r\n\r\n", RequestState.LARGE),
        (HEAD + b"Content-Length: ten\r\n\r\n", RequestState.SMALL),
    ],
)
def test_a_request_is_seen_for_what_it_is(
    ends: tuple[socket.socket, Connection], there: bytes, seen: RequestState
) -> None:
    """A small one as a whole; a large one, and one that the client has to be told about."""
    client, connection = ends
    client.sendall(there)
    assert connection.look() is seen
    assert connection.sock.recv(len(there)) == there, "it was only looked at"


@pytest.mark.parametrize("there", [b"G", HEAD, WHOLE[:-3], WHOLE[:-1]])
def test_a_part_of_a_request_is_waited_for(
    ends: tuple[socket.socket, Connection], there: bytes
) -> None:
    """Until there is more, or the client ends it; then a thread finds out what it is."""
    client, connection = ends
    client.sendall(there)
    assert connection.look() is RequestState.INCOMPLETE
    assert connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) > len(there)
    client.shutdown(socket.SHUT_WR)
    assert connection.look() is RequestState.LARGE
    assert connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1


def test_what_was_read_along_is_seen_with_what_is_there(
    ends: tuple[socket.socket, Connection],
) -> None:
    """A whole request needs no look at the kernel; of a part the rest is waited for."""
    client, connection = ends
    buffer = io.BytesIO(WHOLE)
    connection.parser.unreader.buf = buffer
    assert connection.look() is RequestState.SMALL
    buffer.truncate(len(WHOLE) - 2)
    for _ in range(2):
        assert connection.look() is RequestState.INCOMPLETE, "nothing new is no end"
    client.sendall(b"} ")
    assert connection.look() is RequestState.SMALL
    assert connection.begun == 0


def test_a_head_without_end_is_told_from_a_large_body(
    ends: tuple[socket.socket, Connection],
) -> None:
    """No thread is asked to read the one; the other is a thread's."""
    client, connection = ends
    connection.sock.setblocking(True)
    client.sendall(b"x" * MAX_PEEK_BYTES)
    connection.sock.recv(MAX_PEEK_BYTES, socket.MSG_PEEK | socket.MSG_WAITALL)
    connection.sock.setblocking(False)
    assert connection.look() is RequestState.HEAD_TOO_LARGE
    connection.sock.recv(MAX_PEEK_BYTES)
    connection.begun = 0
    client.sendall(HEAD + b"Content-Length: 100000\r\n\r\n" + b"x" * MAX_PEEK_BYTES)
    assert connection.look() is RequestState.LARGE


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_nothing_is_no_request(ends: tuple[socket.socket, Connection], how: str) -> None:
    """A wake-up for nothing is waited through, and a client that left is seen to have left."""
    client, connection = ends
    assert connection.look() is RequestState.INCOMPLETE
    if how == "reset":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    select.select([connection.sock], [], [], 5)
    assert connection.look() is RequestState.CLOSED


def test_what_is_kept_is_sent_as_far_as_it_is_taken(
    ends: tuple[socket.socket, Connection],
) -> None:
    """In order, piece by piece, and what many are sent is not copied for each."""
    client, connection = ends
    parts = [bytes([number]) * 100_000 for number in range(128)]
    connection.sock.keep()
    connection.sock.setblocking(True)
    for part in parts:
        connection.sock.sendall(part)
    assert not connection.sock.send_kept()
    left = connection.sock.bytes_left()
    assert 0 < left < sum(map(len, parts))
    read, all_sent = b"", False
    while not all_sent:
        read += client.recv(1_000_000)
        all_sent = connection.sock.send_kept()
    client.settimeout(5)
    while len(read) < sum(map(len, parts)):
        read += client.recv(1_000_000)
    assert read == b"".join(parts)
    assert connection.sock.bytes_left() == 0
    assert connection.sock.send_kept(), "there is nothing to send"
    connection.sock.sendall(b"at once")
    assert client.recv(100) == b"at once"


def test_who_left_is_not_written_to(ends: tuple[socket.socket, Connection]) -> None:
    """What was kept for it is let go of."""
    client, connection = ends
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    select.select([connection.sock], [], [], 5)
    connection.sock.keep()
    connection.sock.sendall(b"answer")
    assert connection.sock.send_kept()
    assert connection.sock.bytes_left() == 0
    assert connection.sock.cut


def test_what_does_not_come_in_time_is_an_end(ends: tuple[socket.socket, Connection]) -> None:
    """For all that is read together, however often a little comes; or there is no waiting."""
    client, connection = ends
    connection.sock.keep(seconds_to_read=0.3)
    connection.sock.setblocking(True)
    began = time.monotonic()
    for _ in range(2):
        client.sendall(b"x")
        assert connection.sock.recv(10) == b"x"
    assert connection.sock.recv(10) == b""
    client.sendall(b"y")
    assert connection.sock.recv(10) == b"y", "what is there is taken"
    assert connection.sock.recv(10) == b""
    assert 0.2 < time.monotonic() - began < 2
    connection.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        connection.sock.recv(10)
    connection.sock.keep()
    connection.sock.setblocking(True)
    with pytest.raises(BlockingIOError):
        connection.sock.recv(10)


def test_an_urgent_byte_is_no_request(ends: tuple[socket.socket, Connection]) -> None:
    """What comes behind it can't be looked at: no thread is given to find that out."""
    client, connection = ends
    client.sendall(HEAD + b"X")
    client.send(b"-", socket.MSG_OOB)
    client.sendall(b"y: z")
    assert connection.look() is RequestState.INCOMPLETE
    assert connection.look() is RequestState.CLOSED
