from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from iris_api.connection import LARGEST_LOOK, Connection

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
        arguments = (SimpleNamespace(), accepted, address, listener.getsockname())
        connection = Connection(*arguments, linger=lambda _: None)
        yield client, connection
        connection.close()


@pytest.mark.parametrize(
    "there",
    [
        HEAD + b"\r\n",
        HEAD + b"Content-Length: 3\r\n\r\n{} ",
        HEAD + b"content-length:3\r\n\r\n{} GET / HTTP/1.1",
        HEAD + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
        HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n",
        HEAD + b"Content-Length: 65537\r\n\r\n",
        HEAD + b"Content-Length: ten\r\n\r\n",
    ],
)
def test_a_thread_is_asked_for_what_needs_no_waiting(
    ends: tuple[socket.socket, Connection], there: bytes
) -> None:
    """A whole request, a large one, one that the client has to be told about."""
    client, connection = ends
    client.sendall(there)
    assert connection.has_request()
    assert connection.sock.recv(len(there)) == there, "it was only looked at"


@pytest.mark.parametrize(
    "there",
    [b"G", HEAD, HEAD + b"Content-Length: 3\r\n\r\n", HEAD + b"Content-Length: 3\r\n\r\n{}"],
)
def test_a_part_of_a_request_is_waited_for(
    ends: tuple[socket.socket, Connection], there: bytes
) -> None:
    """Until there is more, or the client ends it; then a thread finds out what it is."""
    client, connection = ends
    client.sendall(there)
    assert not connection.has_request()
    assert connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) > len(there)
    client.shutdown(socket.SHUT_WR)
    assert connection.has_request()
    assert connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1


def test_a_head_without_end_is_told_from_a_large_body(
    ends: tuple[socket.socket, Connection],
) -> None:
    """No thread is asked to read the one; the other is a thread's."""
    client, connection = ends
    connection.sock.setblocking(True)
    client.sendall(b"x" * LARGEST_LOOK)
    connection.sock.recv(LARGEST_LOOK, socket.MSG_PEEK | socket.MSG_WAITALL)
    connection.sock.setblocking(False)
    assert not connection.has_request()
    assert connection.endless
    connection.sock.recv(LARGEST_LOOK)
    connection.seen = 0
    client.sendall(HEAD + b"Content-Length: 100000\r\n\r\n" + b"x" * LARGEST_LOOK)
    assert connection.has_request()
    assert not connection.endless


def test_nothing_is_no_request(ends: tuple[socket.socket, Connection]) -> None:
    """A wake-up for nothing is waited through, and a client that left is a thread's."""
    client, connection = ends
    assert not connection.has_request()
    client.close()
    connection.sock.setblocking(True)
    connection.sock.recv(1, socket.MSG_PEEK)
    assert connection.has_request()
