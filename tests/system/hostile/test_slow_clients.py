"""Clients that stop, leave or send slowly do not delay others, and leave nothing behind."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pytest

from iris_api.server.worker import EventLoopWorker
from iris_api.web.keys import digest_of
from tests.system.conftest import QUICK_TIMEOUTS, wait_for
from tests.system.quick import QuickWorker

from .attacks import ATTACKER_ROW, BODY, KEY, NEXT_ROW, chunk, chunked, request
from .client import HANG_SECONDS, REFUSED, Neighbour, Route, read_until_close
from .conftest import check_nothing_is_left

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.conftest import Server

pytestmark = pytest.mark.system

PHASES = {
    "nothing": b"",
    "a word": b"POST",
    "half a head": request(ATTACKER_ROW)[:60],
    "a head": request(ATTACKER_ROW)[: -len(BODY)],
    "half a body": request(ATTACKER_ROW)[:-9],
    "half a chunk": chunked(chunk(BODY))[:-9],
    "no last chunk": chunked(chunk(BODY)),
    "half a large body": request(b" " * 1_000_000)[:500_000],
    "told to go on": request(ATTACKER_ROW, "Expect: 100-continue")[: -len(BODY)],
    "a request": request(ATTACKER_ROW),
    "a large answer": request(json.dumps([ATTACKER_ROW] * 10_000).encode()),
    "a request and a half": request(ATTACKER_ROW) + request(NEXT_ROW)[:60],
    "a hundred requests": request(ATTACKER_ROW) * 100,
}
"""What a client has sent when it stops or leaves."""
PARTS = ("header", "body")
"""Parts of a request for which nginx has a timeout."""


@pytest.mark.parametrize("how", ["close", "reset", "half"])
@pytest.mark.parametrize("sent", PHASES.values(), ids=PHASES.keys())
def test_clients_that_leave_do_not_disturb_others(
    route: Route, sent: bytes, how: Literal["close", "reset", "half"]
) -> None:
    """Six clients leave with FIN, RST or a half-close; neighbours get their answers."""
    connections = [route.connect() for _ in range(6)]
    for connection in connections:
        with suppress(ConnectionError):
            connection.sendall(sent)
        if how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how == "half":
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        else:
            connection.close()
    for _ in range(3):
        route.neighbour_gets_answer()
    for connection in connections:
        if how == "half":
            read_until_close(connection, HANG_SECONDS)


def test_nothing_stays_of_clients_that_left(target: Server) -> None:
    """Neither requests in flight nor connections; each worker is the one that started."""
    check_nothing_is_left(target)


def test_the_timeouts_for_slow_clients_are_ten_seconds() -> None:
    """The other tests set shorter ones: these are the values that are shipped."""
    assert (EventLoopWorker.read_timeout, EventLoopWorker.write_timeout) == (10, 10)


def test_a_client_that_stops_is_disconnected_in_time(
    start: Callable[..., Server], nginx: Callable[..., str]
) -> None:
    """Directly and by nginx, in each phase of a request; neighbours do not wait meanwhile."""
    entry = f"hostile:{digest_of(KEY)}"
    server = replace(start(**QUICK_TIMEOUTS, IRIS_API_KEYS=entry), key=KEY)
    timeout = QuickWorker.read_timeout
    changes = {f"client_{part}_timeout 10s": f"client_{part}_timeout 2s" for part in PARTS}
    nginx_port = int(nginx(server.port, **changes).rpartition(":")[2])
    routes = [Route(server, port) for port in (server.port, nginx_port)]
    connections, began = [], time.monotonic()
    for route in routes:
        for phase in ("a word", "half a head", "half a body", "half a chunk", "half a large body"):
            connections.append(route.connect())
            connections[-1].sendall(PHASES[phase])
    while time.monotonic() - began < timeout / 2:
        for route in routes:
            assert route.neighbour_gets_answer() < 3
        time.sleep(0.1)
    for connection in connections:
        left = began + timeout + 4 - time.monotonic()
        responses = read_until_close(connection, left)
        assert all(response.status in REFUSED for response in responses)
    assert server.stop() == 0


@pytest.mark.parametrize("rest", [b"G", b"\r\n"])
def test_the_start_of_a_second_request_occupies_no_thread(target: Server, rest: bytes) -> None:
    """24 clients send a few bytes behind a good request; neighbours get answers within 2 s."""
    route = Route(target, target.port)
    connections = [route.connect() for _ in range(24)]
    for connection in connections:
        connection.sendall(request(ATTACKER_ROW) + rest)
    time.sleep(0.3)
    try:
        for _ in range(6):
            with Neighbour(route.port, patience=2) as neighbour:
                neighbour.predict()
    finally:
        for connection in connections:
            connection.close()
        wait_for(lambda: route.neighbour_gets_answer() < 1, "free thread")


def test_a_slow_body_behind_a_probe_delays_no_probe(target: Server) -> None:
    """The service does not read a body that a probe has no use for, however slowly it comes."""
    route, end = Route(target, target.port), threading.Event()
    connections = [route.connect() for _ in range(8)]
    for connection in connections:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")

    def send_bytes() -> None:
        while not end.wait(0.003):
            for connection in connections:
                with suppress(OSError):
                    connection.send(b"x")

    with ThreadPoolExecutor(1) as pool:
        pool.submit(send_bytes)
        time.sleep(0.3)
        try:
            for _ in range(6):
                with route.connect() as probe:
                    probe.settimeout(2)
                    probe.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                    assert probe.recv(100).startswith(b"HTTP/1.1 200")
        finally:
            end.set()
            for connection in connections:
                connection.close()
