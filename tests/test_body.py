from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from gunicorn.http.errors import InvalidChunkSize

from iris_api import body

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client's end of a connection, and the server's."""
    client, server = socket.socketpair()
    with client, server:
        yield client, server


def environ(server: socket.socket) -> dict[str, Any]:
    return {"gunicorn.socket": server, "wsgi.input": server.makefile("rb", buffering=0)}


def test_what_is_sent_is_read_to_its_end(pair: tuple[socket.socket, socket.socket]) -> None:
    """And the connection is as it was."""
    client, server = pair
    client.sendall(b"x" * 100_000)
    client.shutdown(socket.SHUT_WR)
    body.drain(environ(server))
    assert server.recv(1) == b""
    assert server.gettimeout() is None


def test_an_idle_client_is_not_waited_for(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not in the middle of sending."""
    monkeypatch.setattr(body, "IDLE_SECONDS", 0.05)
    began = time.monotonic()
    body.drain(environ(pair[1]))
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(("limit", "value"), [("MOST_BYTES", 1000), ("MOST_SECONDS", 0.0)])
def test_a_client_without_end_is_left(
    pair: tuple[socket.socket, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    value: float,
) -> None:
    """After so many bytes, or so long."""
    client, server = pair
    monkeypatch.setattr(body, limit, value)
    client.sendall(b"x" * 150_000)
    body.drain(environ(server))
    server.setblocking(False)
    assert server.recv(1) == b"x"


def test_a_broken_body_ends_it(pair: tuple[socket.socket, socket.socket]) -> None:
    """The framing is Gunicorn's to judge."""

    class Broken:
        def read(self, _size: int) -> bytes:
            raise InvalidChunkSize(b"zz")

    body.drain({"gunicorn.socket": pair[1], "wsgi.input": Broken()})
    assert pair[1].gettimeout() is None
