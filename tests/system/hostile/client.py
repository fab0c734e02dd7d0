"""Raw clients: they send bytes, parse what comes back, and check that it is right."""

from __future__ import annotations

import http.client
import itertools
import json
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import pytest

from .attacks import ATTACKER_ROW, KEY, LABELS, NEXT_ROW, SMUGGLED_ID, request

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.system.conftest import Server

REFUSED = {*range(400, 500), 501, 505}
"""RFC 9110 asks for 501 for an unknown transfer coding and for 505 for an unknown version."""
QUIET_SECONDS = 0.5
"""Seconds without a response after which a client shuts down its sending direction."""
HANG_SECONDS = 8.0
"""Seconds after which a missing response is a hang."""


@dataclass(frozen=True)
class Response:
    """One response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def row(self) -> Any:
        """The row that was predicted. Fails if its class is wrong."""
        document = json.loads(self.body)
        assert document["prediction"] == LABELS.get(document["input"]["sepal_length"], "virginica")
        return document["input"]


@dataclass
class Route:
    """A way to the server: directly, or through nginx."""

    server: Server
    port: int

    @property
    def direct(self) -> bool:
        return self.port == self.server.port

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=HANG_SECONDS)

    def exchange(self, *parts: bytes) -> bytes:
        """Send bytes and return all that comes back. The other side must close in time."""
        deadline = time.monotonic() + HANG_SECONDS
        received, half_closed = b"", False
        with self.connect() as connection, suppress(ConnectionError):
            with suppress(ConnectionError):
                for part in parts:
                    connection.sendall(part)
            connection.settimeout(QUIET_SECONDS)
            while time.monotonic() < deadline:
                try:
                    piece = connection.recv(65536)
                except TimeoutError:
                    if not half_closed:
                        connection.shutdown(socket.SHUT_WR)
                    half_closed = True
                    continue
                if not piece:
                    return received
                received += piece
            pytest.fail(f"a hang after {parts[0][:200]!r}: {received[:500]!r}")
        return received

    def attack(self, *parts: bytes) -> list[Response]:
        """Send an attack with a good request behind it, and check every response.

        A neighbour on a connection from before the attack gets its own answers, and so does one
        on a new connection.
        """
        log_size = self.server.log_size
        with Neighbour(self.port) as neighbour:
            neighbour.predict()
            good = request(NEXT_ROW, "Connection: close")
            responses = list(parse_responses(self.exchange(*parts, good)))
            neighbour.predict()
        self.neighbour_gets_answer()
        rows = [response.row for response in responses if response.status == 200]
        assert rows in ([], [ATTACKER_ROW], [NEXT_ROW], [ATTACKER_ROW, NEXT_ROW]), responses
        assert all(response.status in REFUSED | {200} for response in responses), responses
        assert SMUGGLED_ID not in self.server.log_since(log_size)
        return responses

    def neighbour_gets_answer(self) -> float:
        """Another client gets its answer on a new connection; returns the seconds it took."""
        with Neighbour(self.port) as neighbour:
            return neighbour.predict()


class Neighbour:
    """Another client with its own rows on its own connection."""

    numbers = itertools.count()

    def __init__(self, port: int, patience: float = HANG_SECONDS) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def predict(self) -> float:
        """Send a row and check that the answer is to that row; returns the seconds it took."""
        number = next(self.numbers)
        row = NEXT_ROW | {"sepal_length": 6.8 + number % 1000 / 10_000, "sepal_width": 3.0}
        headers = {
            "X-API-Key": KEY,
            "Content-Type": "application/json",
            "X-Request-ID": f"n{number}",
        }
        began = time.perf_counter()
        self._connection.request("POST", "/v1/predict", json.dumps(row), headers)
        response = self._connection.getresponse()
        body = response.read()
        seconds = time.perf_counter() - began
        assert Response(response.status, {}, body).row == row
        assert response.headers["X-Request-ID"] == f"n{number}"
        return seconds


def parse_responses(stream: bytes, heads: Iterable[int] = ()) -> Iterator[Response]:
    """The complete responses in a stream; those at the positions `heads` have no body."""
    without_body, number = set(heads), 0
    while stream:
        head, end, stream = stream.partition(b"\r\n\r\n")
        assert end, head
        first, *lines = head.decode("latin-1").split("\r\n")
        assert first.startswith("HTTP/1."), first
        headers = {n.lower(): v for n, _, v in (line.partition(": ") for line in lines)}
        length = 0 if number in without_body else int(headers.get("content-length", 0))
        assert len(stream) >= length
        status = int(first.split()[1])
        if status >= 200:
            yield Response(status, headers, stream[:length])
            number += 1
        stream = stream[length:]


def read_until_close(connection: socket.socket, seconds: float) -> list[Response]:
    """The responses before the other side closes, which it must do in time."""
    connection.settimeout(seconds)
    received = b""
    with connection, suppress(ConnectionError):
        while piece := connection.recv(1_000_000):
            received += piece
    responses = list(parse_responses(received))
    assert all(response.status in REFUSED | {200} for response in responses)
    return responses
