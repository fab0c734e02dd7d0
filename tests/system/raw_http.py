"""HTTP written by hand on a socket, for requests that no client library would send."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .conftest import Server


def exchange(server: Server, content: bytes) -> bytes:
    """Send bytes as they are, and read until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(content)
        received = b""
        while piece := connection.recv(65536):
            received += piece
        return received


def head(server: Server, *lines: str, request_line: str = "POST /v1/predict HTTP/1.1") -> bytes:
    """The head of a request with the key."""
    key = f"X-API-Key: {server.key}"
    lines = (request_line, "Host: iris", key, "Content-Type: application/json", *lines, "", "")
    return "\r\n".join(lines).encode()
