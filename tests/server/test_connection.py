from __future__ import annotations

import select
import socket
import time
from typing import TYPE_CHECKING

import pytest
from gunicorn.config import Config

from iris_api.server.connection import MAX_PEEK_BYTES, Connection, RequestState

if TYPE_CHECKING:
    from collections.abc import Iterator

    Ends = tuple[socket.socket, Connection]

HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\n"
COMPLETE = HEAD + b"Content-Length: 3\r\n\r\n{} "
PROBE = b"GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def ends() -> Iterator[Ends]:
    """A client's end of a connection, and the server's."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        accepted, address = listener.accept()
        connection = Connection(
            Config(),
            accepted,
            address,
            listener.getsockname(),
            read_timeout=10.0,
            skip_timeout=0.1,
        )
        yield client, connection
        connection.close()


def reset(client: socket.socket) -> None:
    """Close a connection by a reset."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()


@pytest.mark.parametrize(
    ("data", "state"),
    [
        (HEAD + b"\r\n", RequestState.SMALL),
        (COMPLETE, RequestState.SMALL),
        (COMPLETE.lower() + b" GET / HTTP/1.1", RequestState.SMALL),
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
def test_a_request_is_classified_without_reading_it(
    ends: Ends, data: bytes, state: RequestState
) -> None:
    """A large one, or one that waits for a 100 Continue, is recognized by its head."""
    client, connection = ends
    client.sendall(data)
    assert connection.look() is state
    assert connection.sock.recv(len(data)) == data


@pytest.mark.parametrize("data", [b"G", HEAD, COMPLETE[:-3], COMPLETE[:-1]])
def test_the_rest_of_an_incomplete_request_is_waited_for(ends: Ends, data: bytes) -> None:
    """Until more has come, or the client ends: then a thread reads what there is."""
    client, connection = ends
    client.sendall(data)
    assert connection.look() is RequestState.INCOMPLETE
    assert connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) > len(data)
    client.shutdown(socket.SHUT_WR)
    assert connection.look() is RequestState.LARGE
    assert connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1


def test_what_was_read_ahead_belongs_to_the_next_request(ends: Ends) -> None:
    """A complete request is found without the kernel; of a part, the rest is waited for."""
    client, connection = ends
    connection.sock.setblocking(True)
    client.sendall(COMPLETE + COMPLETE + COMPLETE[:-2])
    for expected in (RequestState.SMALL, RequestState.SMALL):
        assert connection.look() is expected
        assert next(connection.parser).body.read() == b"{} "
    connection.sock.setblocking(False)
    assert connection.read_ahead() == COMPLETE[:-2]
    for _ in range(2):
        assert connection.look() is RequestState.INCOMPLETE, "no new data is not the end"
    client.sendall(b"} ")
    assert connection.look() is RequestState.SMALL
    assert connection.partial_bytes == 0


def test_a_head_without_end_is_not_a_large_body(ends: Ends) -> None:
    """The first is refused without a thread; the second needs one."""
    client, connection = ends
    connection.sock.setblocking(True)
    client.sendall(b"x" * MAX_PEEK_BYTES)
    connection.sock.recv(MAX_PEEK_BYTES, socket.MSG_PEEK | socket.MSG_WAITALL)
    connection.sock.setblocking(False)
    assert connection.look() is RequestState.HEAD_TOO_LARGE
    connection.sock.recv(MAX_PEEK_BYTES)
    connection.partial_bytes = 0
    client.sendall(HEAD + b"Content-Length: 100000\r\n\r\n" + b"x" * MAX_PEEK_BYTES)
    assert connection.look() is RequestState.LARGE


@pytest.mark.parametrize("close", [socket.socket.close, reset])
def test_a_closed_connection_is_recognized(ends: Ends, close: object) -> None:
    """Whether it was closed or reset; before that, a look at an idle connection finds nothing."""
    client, connection = ends
    assert connection.look() is RequestState.INCOMPLETE
    close(client)  # type: ignore[operator]
    select.select([connection.sock], [], [], 5)
    assert connection.look() is RequestState.CLOSED


def test_buffered_writes_are_sent_as_far_as_the_kernel_takes_them(ends: Ends) -> None:
    """In order, and without copying a large body."""
    client, connection = ends
    parts = [bytes([number]) * 100_000 for number in range(128)]
    total = sum(map(len, parts))
    connection.sock.buffer_writes()
    connection.sock.setblocking(True)
    for part in parts:
        connection.sock.sendall(part)
    assert not connection.sock.send_buffered()
    assert 0 < connection.sock.unsent_bytes() < total
    received, all_sent = b"", False
    while not all_sent:
        received += client.recv(1_000_000)
        all_sent = connection.sock.send_buffered()
    client.settimeout(5)
    while len(received) < total:
        received += client.recv(1_000_000)
    assert received == b"".join(parts)
    assert connection.sock.unsent_bytes() == 0
    assert connection.sock.send_buffered(), "nothing is left to send"
    connection.sock.sendall(b"at once")
    assert client.recv(100) == b"at once"


def test_the_response_to_a_client_that_left_is_dropped(ends: Ends) -> None:
    """Sending it ends, and the connection can't be used again."""
    client, connection = ends
    reset(client)
    select.select([connection.sock], [], [], 5)
    connection.sock.buffer_writes()
    connection.sock.sendall(b"answer")
    assert connection.sock.send_buffered()
    assert connection.sock.unsent_bytes() == 0
    assert connection.sock.broken


def test_the_read_timeout_covers_all_reads_of_a_request(ends: Ends) -> None:
    """A client that keeps sending a little does not extend it. Afterwards reads find the end."""
    client, connection = ends
    connection.sock.buffer_writes(read_timeout=0.1)
    connection.sock.setblocking(True)
    began = time.monotonic()
    for _ in range(2):
        client.sendall(b"x")
        assert connection.sock.recv(10) == b"x"
    assert connection.sock.recv(10) == b""
    client.sendall(b"y")
    assert connection.sock.recv(10) == b"y", "what has arrived is read"
    assert connection.sock.recv(10) == b""
    assert 0.09 < time.monotonic() - began < 2


@pytest.mark.parametrize("read_timeout", [0.0, 10.0])
def test_reads_on_the_event_loop_do_not_wait(ends: Ends, read_timeout: float) -> None:
    """Without a read timeout, or on a socket that was set not to block since."""
    _, connection = ends
    connection.sock.buffer_writes(read_timeout=read_timeout)
    connection.sock.setblocking(not read_timeout)
    connection.sock.renew_read_timeout(10)
    with pytest.raises(BlockingIOError):
        connection.sock.recv(10)


def test_urgent_data_closes_the_connection(ends: Ends) -> None:
    """It hides what follows it, and no thread is used to find that out."""
    client, connection = ends
    client.sendall(HEAD + b"X")
    client.send(b"-", socket.MSG_OOB)
    client.sendall(b"y: z")
    assert connection.look() is RequestState.INCOMPLETE
    assert connection.look() is RequestState.CLOSED
